//! The fuzz targets on stable Rust: the golden files and the kept seeds, and so many broken variants
//! of each. The run is the same every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod fuzz;
#[path = "fuzz/replay.rs"]
mod replay;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use replay::{files, variants};
use tsdb::Error;
use tsdb::chunk::Encoding;
use tsdb::segment::{self, SegmentWriter};

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// This file of every golden block.
fn golden(file: &str) -> Vec<Vec<u8>> {
    let blocks = [
        "raw/01M81HXMY0XQF1A6MF7S68NK18",
        "raw/01M81HXTN290NJBH17178YSRJX",
        "aggr/01M81HXX0GS6A2F69HCM1Y84FY",
    ];
    let paths = blocks.map(|block| folder("tests/data").join(block).join(file));
    paths.into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    files(folder("fuzz/seeds").join(target))
}

/// What came of the variants.
#[derive(Debug, Default)]
struct Tally {
    read: usize,
    /// By their checksums.
    unsealed: usize,
    /// For another reason.
    refused: usize,
}

impl Tally {
    fn add<T>(&mut self, result: &Result<T, Error>) {
        *match result {
            Ok(_) => &mut self.read,
            Err(error) if error.to_string().contains(": checksum mismatch at") => {
                &mut self.unsealed
            }
            Err(_) => &mut self.refused,
        } += 1;
    }

    /// Many variants are read, many are not, and few of those for a checksum: otherwise the run
    /// would hardly test a reader. Of a text most changes break the syntax.
    fn assert_both_sides(&self) {
        let all = self.read + self.unsealed + self.refused;
        let most_reach = self.unsealed * 10 < all;
        assert!(most_reach && self.read * 20 > all && self.refused * 20 > all, "{self:?}");
    }
}

/// Reads the seeds, which are sound, and so many variants of them.
fn replay(seeds: &[Vec<u8>], count: usize, target: impl Fn(&[u8]) -> Result<(), Error>) {
    for seed in seeds {
        target(seed).expect("a sound seed");
    }
    let mut tally = Tally::default();
    variants(seeds, count, |variant| tally.add(&target(variant)));
    println!("{tally:?}");
    tally.assert_both_sides();
}

#[test]
fn indexes() {
    replay(&golden("index"), 1000, fuzz::index);
}

#[test]
fn tombstones() {
    replay(&[golden("tombstones"), kept("tombstones")].concat(), 20_000, fuzz::tombstones);
}

#[test]
fn metas() {
    replay(&[golden("meta.json"), files(folder("tests/data/meta"))].concat(), 20_000, fuzz::meta);
}

/// The smallest chunks of each encoding in a segment, each in a segment of its own.
fn small_chunks(segment: &[u8]) -> Vec<Vec<u8>> {
    const OF_EACH: usize = 4;
    let mut chunks = BTreeMap::<Encoding, Vec<&[u8]>>::new();
    let mut at = segment::HEADER_LEN;
    while at < segment.len() {
        let record = segment::parse_record(&segment[at..]).expect("a sound segment");
        chunks.entry(record.encoding).or_default().push(record.data);
        at += record.len;
    }
    let alone = |encoding, data| {
        let mut writer = SegmentWriter::new();
        writer.push(encoding, data).expect("a small chunk");
        writer.take().expect("what was pushed").bytes
    };
    let mut seeds = Vec::new();
    for (encoding, mut of_encoding) in chunks {
        of_encoding.sort_by_key(|data| data.len());
        seeds.extend(of_encoding.into_iter().take(OF_EACH).map(|data| alone(encoding, data)));
    }
    seeds
}

#[test]
fn chunks() {
    let segments = [golden("chunks/000001"), kept("chunks")].concat();
    let seeds: Vec<Vec<u8>> = segments.iter().flat_map(|segment| small_chunks(segment)).collect();
    for seed in &seeds {
        assert!(fuzz::chunks(seed).iter().all(Result::is_ok), "a sound seed");
    }
    let mut tallies = BTreeMap::<Encoding, usize>::new();
    let mut tally = Tally::default();
    variants(&seeds, 20_000, |variant| {
        for result in fuzz::chunks(variant) {
            tally.add(&result);
            *result.ok().map_or(&mut 0, |encoding| tallies.entry(encoding).or_default()) += 1;
        }
    });
    println!("{tally:?} {tallies:?}");
    tally.assert_both_sides();
    assert_eq!(tallies.len(), 7, "{tallies:?}");
    assert!(tallies.values().all(|read| *read > 20), "{tallies:?}");
}
