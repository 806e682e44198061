//! Writes the one function that Rust cannot express, `table.grow`, as a WebAssembly object file, and links it in.

use std::{env, fs, path::PathBuf};

/// Numbers of sections in a module.
const CUSTOM: u8 = 0;
const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const CODE: u8 = 10;

const FUNCREF: u8 = 0x70;
const I32: u8 = 0x7f;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("wasm") {
        return;
    }
    let path = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("table.o");
    fs::write(&path, object()).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-arg-cdylib={}", path.display());
}

/// `windlass_grow_table(i32) -> i32` over a table of its own that begins empty and has no maximum.
fn object() -> Vec<u8> {
    let instructions = [
        &[0xd0, FUNCREF][..],                        // ref.null func
        &[0x20, 0],                                  // local.get 0
        &[0xfc, 0x0f, 0x80, 0x80, 0x80, 0x80, 0x00], // table.grow, of the table that the linker numbers
        &[0x0b],                                     // end
    ]
    .concat();
    let body = [&[0][..], &instructions].concat();
    let code = [vec![1], sized(&body)].concat();
    // Where the table's number is: it begins six bytes before the end.
    let number_at = u8::try_from(code.len() - 6).expect("the code is short");

    let function = [&[0, 0, 0][..], &sized(b"windlass_grow_table")].concat();
    let table = [&[5, 0, 0][..], &sized(b"windlass_table")].concat();
    let symbols = [vec![2], function, table].concat();
    let linking = [vec![2, 8], sized(&symbols)].concat();

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [
        (TYPE, vec![1, 0x60, 1, I32, 1, I32]),
        (FUNCTION, vec![1, 0]),
        (TABLE, vec![1, FUNCREF, 0, 0]),
        (CODE, code),
        (CUSTOM, [sized(b"linking"), linking].concat()),
        // In section 3 one relocation: the number (kind 20) of the table that is symbol 1.
        (CUSTOM, [sized(b"reloc.CODE"), vec![3, 1, 20, number_at, 1]].concat()),
    ] {
        module.push(id);
        module.extend(sized(&content));
    }
    module
}

/// The length in one byte, which is enough here, then the bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("everything here is short");
    [&[length][..], bytes].concat()
}
