//! The fuzz target on stable Rust: the kept seeds, and so many broken variants of each. The run is
//! the same every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod fuzz;
#[path = "../../tsdb/tests/fuzz/replay.rs"]
mod replay;

use replay::{files, variants};

#[test]
fn catalogs() {
    let seeds = files(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/catalog"));
    for seed in &seeds {
        fuzz::catalog(seed).expect("a sound seed");
    }
    let (count, mut read, mut refused) = (20_000, 0, 0);
    variants(&seeds, count, |variant| match fuzz::catalog(variant) {
        Ok(()) => read += 1,
        Err(_) => refused += 1,
    });
    println!("{read} read, {refused} refused");
    // otherwise the run would hardly test a reader
    assert!(read * 20 > count && refused * 20 > count, "{read} read, {refused} refused");
}
