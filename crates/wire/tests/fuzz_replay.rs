//! The fuzz targets on stable Rust: the kept seeds, and so many broken variants of each. The run is
//! the same every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod fuzz;
#[path = "../../tsdb/tests/fuzz/replay.rs"]
mod replay;

use std::path::PathBuf;

use replay::{files, variants};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz/seeds", target].iter().collect();
    files(folder)
}

/// Enough variants are read and enough are refused: otherwise the run would hardly test a reader.
fn assert_both_sides(read: usize, refused: usize) {
    println!("{read} read, {refused} refused");
    let all = read + refused;
    assert!(read * 10 > all && refused * 10 > all, "{read} read, {refused} refused");
}

#[test]
fn snappy() {
    let seeds = seeds("snappy");
    seeds.iter().for_each(|seed| fuzz::snappy(seed).expect("a sound seed"));
    let (mut read, mut refused) = (0, 0);
    variants(&seeds, 5000, |variant| match fuzz::snappy(variant) {
        Ok(()) => read += 1,
        Err(_) => refused += 1,
    });
    assert_both_sides(read, refused);
}

#[test]
fn frames() {
    let seeds = seeds("frames");
    seeds.iter().for_each(|seed| fuzz::frames(seed).expect("a sound seed"));
    let (mut read, mut refused, mut unsealed) = (0, 0, 0);
    variants(&seeds, 10_000, |variant| match fuzz::frames(variant) {
        Ok(()) => read += 1,
        Err(error) if error.to_string().contains("frame: checksum") => unsealed += 1,
        Err(_) => refused += 1,
    });
    assert_eq!(unsealed, 0, "a checksum was not put right");
    assert_both_sides(read, refused);
}

#[test]
fn messages() {
    let seeds = seeds("messages");
    seeds.iter().for_each(|seed| assert!(fuzz::messages(seed) > 0, "a sound seed"));
    let (mut read, mut refused) = (0, 0);
    variants(&seeds, 3000, |variant| match fuzz::messages(variant) {
        0 => refused += 1,
        _ => read += 1,
    });
    assert_both_sides(read, refused);
}

#[test]
fn histograms() {
    let seeds = seeds("histograms");
    seeds.iter().for_each(|seed| assert_eq!(fuzz::histograms(seed), Some(true), "a sound seed"));
    let (mut sound, mut other, mut refused) = (0, 0, 0);
    variants(&seeds, 10_000, |variant| match fuzz::histograms(variant) {
        Some(true) => sound += 1,
        Some(false) => other += 1,
        None => refused += 1,
    });
    assert!(other * 10 > sound, "{other} histograms that are not sound");
    assert_both_sides(sound, other + refused);
}
