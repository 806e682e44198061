//! Components that no language makes, of the very shape that the driver serves: each function traps, and the memory is what one likes.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// A component of the world that `local` is of. Of `data` a piece is put at an address when it is started.
pub(super) fn dummy(data: Option<(u32, usize)>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("file-driver")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    if let Some((address, length)) = data {
        append_data(&mut module, address, length);
    }
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// The section of data, which comes last: one piece, of memory 0.
fn append_data(module: &mut Vec<u8>, address: u32, length: usize) {
    let mut section = vec![1, 0, 0x41];
    signed(&mut section, i64::from(address as i32));
    section.push(0x0b);
    unsigned(&mut section, length);
    section.resize(section.len() + length, 0xa5);
    module.push(11);
    unsigned(module, section.len());
    module.extend(section);
}

fn unsigned(to: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn signed(to: &mut Vec<u8>, mut value: i64) {
    while !(-64..64).contains(&value) {
        to.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    to.push(value as u8 & 0x7f);
}
