//! Grows a table of WebAssembly's, by the function that `build.rs` links in.
#![allow(unsafe_code)]

/// Asks for so many more elements; `false` where the host says no.
pub(crate) fn grow(elements: i32) -> bool {
    #[cfg(target_family = "wasm")]
    {
        unsafe extern "C" {
            fn windlass_grow_table(elements: i32) -> i32;
        }
        // SAFETY: the function touches nothing but a table of its own.
        unsafe { windlass_grow_table(elements) >= 0 }
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = elements;
        false
    }
}
