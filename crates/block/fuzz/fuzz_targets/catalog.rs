//! A catalog of whatever bytes; what holds of it stands in `tests/fuzz`.

#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = fuzz::catalog(bytes);
});
