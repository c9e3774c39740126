//! What our gateway and querier answer over buckets in rare states, before the compactor and after
//! it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::Fault;

use super::made::{DAY_MS, HOUR_MS, Made, mark_deleted, stream};
use super::served::Served;
use super::{case, run};
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, query, store_args};
use crate::harness::{block_ids, copy_folder, http, poll, scratch};

/// The names of all series of all cases, and of blocks made here.
const NAMES: [&str; 9] = ["a", "b", "bad", "c", "lat_total", "reqs_total", "temp", "up", "zz"];

/// A store gateway and a querier over it.
pub(super) struct Reader {
    _store: Component,
    pub(super) querier: Component,
}

impl Reader {
    pub(super) fn start(binaries: &Binaries, folder: &Path, objstore: &Path) -> Reader {
        let store = Component::start(
            binaries,
            Maker::Drumlin,
            folder,
            "store",
            &store_args(folder, objstore),
        );
        let querier = query(binaries, Maker::Drumlin, folder, &[&store.grpc], &[]);
        Reader { _store: store, querier }
    }

    /// How many samples there are in the `hours` up to `end`, in hours since [`DAY_MS`], and the
    /// warnings.
    pub(super) fn count(&self, hours: i64, end: i64, partial: &str) -> Result<(u64, String)> {
        // one by one: without their names, some series have equal labels
        let count = |name: &&str| format!("(sum(count_over_time({name}[{hours}h])) or vector(0))");
        let expression = NAMES.iter().map(count).collect::<Vec<_>>().join(" + ");
        let time = ((DAY_MS + end * HOUR_MS) / 1000).to_string();
        let fields = [
            ("query", expression.as_str()),
            ("time", time.as_str()),
            ("max_source_resolution", "0s"),
            ("partial_response", partial),
        ];
        let body = http::api(&self.querier.http, "/api/v1/query", &fields)?;
        ensure!(body["status"] == "success", "{body}");
        let value = &body["data"]["result"][0]["value"][1];
        let samples = if value.is_null() {
            0
        } else {
            value.as_str().context("a number as text")?.parse()?
        };
        let warnings =
            if body["warnings"].is_null() { String::new() } else { body["warnings"].to_string() };
        Ok((samples, warnings))
    }

    /// All samples.
    pub(super) fn all(&self) -> Result<(u64, String)> {
        self.count(480, 240, "true")
    }
}

/// Cases with the number of samples that answers must hold, with or without a compactor run.
const CASES: &[(&str, u64)] = &[
    // the block between has three chunks that are not in order of time
    ("2-ooo-chunks", 5 * 96 + 120),
    // the block of 4 h to 6 h came back to its sources after the merge was marked
    ("3-redo-compaction", 6 * 96),
    ("4-marked-cover", 7 * 96),
    ("5-null-sources", 7 * 96 + 120),
    // one of seven blocks has lost two stretches
    ("7-tombstones-file", 7 * 384 - 145),
    ("8-partial-with-mark", 2 * 96),
    ("9-series-unsorted", 7 * 96 + 3 * 120),
    ("11-labels-unsorted", 7 * 96 + 2 * 120),
    ("12-label-name-twice", 7 * 96 + 2 * 120),
    ("13-wrong-index-size", 7 * 96 + 120),
];

/// What is wrong with the answers over a case.
fn check_case(binaries: &Binaries, name: &str, want: u64) -> Vec<String> {
    let folder = scratch();
    let bucket = Bucket::folder(folder.path());
    copy_folder(&case(name), bucket.path());
    for id in block_ids(bucket.path()) {
        if bucket.path().join(&id).join("deletion-mark.json").exists() {
            mark_deleted(bucket.path(), id.parse().expect("a block id"), 30);
        }
    }
    let mut defects = Vec::new();
    let mut ask = |when: &str| {
        let reader = Reader::start(binaries, &folder.path().join(when), &bucket.config);
        match reader.all() {
            Ok((samples, warnings)) if samples == want && warnings.is_empty() => {}
            got => defects.push(format!("{name}, {when}: {got:?}, not {want}")),
        }
    };
    ask("raw");
    let compact = |args: &[&str]| {
        run(binaries, Maker::Drumlin, &folder.path().join("compact"), &bucket.config, args);
    };
    compact(&["--downsampling.disable"]);
    compact(&["--downsampling.disable"]);
    ask("compacted");
    // marked blocks are served for a while; once they are gone, nothing may be missing
    compact(&["--downsampling.disable", "--delete-delay=0s"]);
    ask("cleaned");
    defects
}

#[test]
fn a_gateway_answers_every_sample_of_blocks_in_rare_states() {
    let Some(binaries) = binaries() else { return };
    let half = CASES.len() / 2;
    let check = |cases: &[(&str, u64)]| -> Vec<String> {
        cases.iter().flat_map(|(name, want)| check_case(binaries, name, *want)).collect()
    };
    let defects: Vec<String> = std::thread::scope(|scope| {
        let first = scope.spawn(|| check(&CASES[..half]));
        let mut defects = check(&CASES[half..]);
        defects.extend(first.join().expect("the other half"));
        defects
    });
    assert!(defects.is_empty(), "{defects:#?}");
}

/// Six blocks of 96 samples; the one of 4 h to 6 h cannot be looked at.
fn check_hidden(binaries: &Binaries, fault: Fault) {
    let folder = scratch();
    let filled = folder.path().join("filled");
    let hidden = stream(&filled, &Made::new(0..2), 6)[2].ulid.to_string();
    let bucket = Served::start(folder.path(), &filled, fault, Duration::ZERO);
    bucket.hidden.hide([hidden.clone()]);
    let reader = Reader::start(binaries, folder.path(), &bucket.config);

    let (samples, warnings) = reader.all().expect("an answer");
    assert_eq!(samples, 5 * 96, "{fault:?}: what can be seen");
    assert!(warnings.contains(&hidden), "{fault:?}: the answer does not name {hidden}: {warnings}");
    let strict = reader.count(480, 240, "false");
    let refusal = strict.expect_err("a strict answer that lacks a block").to_string();
    assert!(refusal.contains(&hidden), "{fault:?}: the refusal does not name {hidden}: {refusal}");
    // its data is older than its id, which has the time 6 h
    for partial in ["true", "false"] {
        let (samples, warnings) = reader.count(3, 12, partial).expect("an answer about later data");
        assert_eq!(
            (samples, warnings.as_str()),
            (3 * 12 * 4 - 4, ""),
            "{fault:?}: after the hidden block"
        );
    }

    bucket.hidden.show_all();
    poll("the block is looked at again", Duration::from_secs(60), || {
        let all = reader.all()?;
        ensure!(all == (6 * 96, String::new()), "{all:?}");
        Ok(())
    });
}

#[test]
fn a_block_that_cannot_be_looked_at_is_named_in_the_answers_it_concerns() {
    let Some(binaries) = binaries() else { return };
    check_hidden(binaries, Fault::Unavailable);
    check_hidden(binaries, Fault::Denied);
}
