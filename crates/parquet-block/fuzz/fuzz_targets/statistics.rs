//! Statistics of whatever bytes; what holds of them stands in `tests/fuzz`.

#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared by all targets, each of which is a program")]
mod fuzz;

libfuzzer_sys::fuzz_target!(
    // the reader turns a panic of the decoder into an error; the fuzzer's hook would end the process
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| {
        let _ = fuzz::statistics(bytes);
    }
);
