//! `wasi:random`: the kernel's for controller calls, always the same numbers for pure ones.

use crate::call::{Call, Ended, Nature};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

/// Bytes that one call of the import gives at most.
const BYTES: u32 = 64 << 10;

pub(super) fn lay(instance: &mut LinkerInstance<'_, Call>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("random/random", "get-random-bytes") | ("random/insecure", "get-insecure-random-bytes") => {
            instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (length,): (u64,)| Ok((bytes(store.data_mut(), length)?,)))
        }
        ("random/random", "get-random-u64") | ("random/insecure", "get-insecure-random-u64") => {
            instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (): ()| Ok((number(store.data_mut())?,)))
        }
        ("random/insecure-seed", "insecure-seed") => instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (): ()| {
            let call = store.data_mut();
            Ok(((number(call)?, number(call)?),))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn bytes(call: &mut Call, length: u64) -> wasmtime::Result<Vec<u8>> {
    call.alive()?;
    if length > u64::from(BYTES) {
        return Err(Ended::Message { what: "what it asked of the random numbers", size: length, limit: BYTES }.into());
    }
    let mut bytes = vec![0; length as usize];
    match call.nature {
        Nature::Pure => {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&fixed(&mut call.random).to_le_bytes()[..chunk.len()]);
            }
        }
        Nature::Effectful => crate::sys::random(&mut bytes)?,
    }
    Ok(bytes)
}

fn number(call: &mut Call) -> wasmtime::Result<u64> {
    let bytes = bytes(call, 8)?;
    Ok(bytes.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte)))
}

/// The next of a fixed sequence (SplitMix64).
fn fixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::fixed;

    #[test]
    fn the_fixed_sequence_is_the_published_one() {
        let mut state = 0;
        assert_eq!([fixed(&mut state), fixed(&mut state)], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }
}
