//! Checksums of whatever bytes; what holds of them stands in `tests/fuzz`.

#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared by all targets, each of which is a program")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = fuzz::checksums(bytes);
});
