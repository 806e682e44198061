//! The compile child on files that are no plugins, and on one that is cut short at many places.

use crate::stage::{compile, guest};
use windlass_wire::plugin::Compiled;

/// The words with which it is refused.
fn refused(bytes: &[u8]) -> String {
    match compile(bytes, &[]) {
        Ok((Compiled::Refused { reason }, _)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_compiler_says_what_a_wrong_file_is() {
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"#!/bin/sh\necho", "23 21 2f 62"),
        (b"(component)", "text"),
        (b"\0asm\x01\0\0\0", "core WebAssembly module"),
        (b"\0asm\x0d\0\x01\0", "exports nothing of windlass:plugin"),
        (b"\0asm\x0d\0\x01\0\xff\xff\xff\xff\xff\xff", "not valid"),
        (b"\0asm\x63\0\x01\0", "version 99"),
    ] {
        let reason = refused(bytes);
        assert!(reason.contains(words), "{reason}");
        assert!(!reason.contains('\n') && reason.len() <= 1024);
    }
}

#[test]
fn plugin_compiler_notices_a_file_that_is_cut_short() {
    let whole = std::fs::read(guest("plugins/local")).unwrap();
    for length in [5, 9, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let reason = refused(&whole[..length]);
        assert!(reason.contains("cut short"), "{length} of {}: {reason}", whole.len());
    }
}

#[test]
fn plugin_compiler_survives_flipped_bytes() {
    let whole = std::fs::read(guest("plugins/local")).unwrap();
    for place in (8..whole.len()).step_by(whole.len() / 24) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        // Whatever it is now, the answer is an answer: compiled (a byte of data), or refused in a line.
        match compile(&bytes, &[]) {
            Ok((Compiled::Ok(_), _)) => {}
            Ok((Compiled::Refused { reason }, _)) => assert!(!reason.is_empty() && reason.len() <= 1024 && !reason.contains('\n'), "{reason}"),
            Err(status) => panic!("byte {place}: {status}"),
        }
    }
}
