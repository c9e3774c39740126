//! An upgrade and its rollback with the binary of the state before: which of the two serves what the
//! other one wrote, and what is left of a bucket that both compacted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::Resolution;
use serde_json::Value;
use tsdb::meta::BlockMeta;

use crate::harness::binaries::Binaries;
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, compact_args, query, store_args};
use crate::harness::previous::previous_drumlin;
use crate::harness::synthetic_blocks::Blocks;
use crate::harness::{files_below, http, scratch};

const LIMIT: Duration = Duration::from_secs(180);

/// Writes the newer version of Parquet.
const NEWER: &str = "--downsample.parquet-version=2";

/// All raw data is older than this.
const EXPIRED: [&str; 2] = ["--retention.resolution-raw=40h", "--delete-delay=0s"];

struct Releases {
    old: Binaries,
    new: Binaries,
}

fn releases() -> Releases {
    let new = Binaries::of_this_state();
    Releases { old: Binaries::of_program(previous_drumlin().to_owned()), new }
}

/// A bucket with raw blocks of 2 h that nothing will complete any more.
struct History {
    folder: tempfile::TempDir,
    bucket: Bucket,
    blocks: Blocks,
    steps: std::cell::Cell<u32>,
}

impl History {
    fn new() -> History {
        let folder = scratch();
        let blocks = Blocks::write(&folder.path().join("made"), 21, 30, &["a"]);
        let bucket = Bucket::folder(folder.path());
        bucket.fill(&blocks.folders);
        History { folder, bucket, blocks, steps: Default::default() }
    }

    /// A folder for the next process, with a log of its own.
    fn step(&self) -> std::path::PathBuf {
        self.steps.set(self.steps.get() + 1);
        self.folder.path().join(self.steps.get().to_string())
    }

    /// Compacts once, which has to succeed; returns the log.
    #[track_caller]
    fn compact(&self, release: &Binaries, args: &[&str]) -> String {
        let folder = self.step();
        let mut all = compact_args(&folder, &self.bucket.config);
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut compactor =
            Component::start_unready(release, Maker::Drumlin, &folder, "compact", &all);
        let status = compactor.process.wait(LIMIT);
        let log = compactor.process.log();
        assert!(status.success(), "compact {args:?}: {status}\n{log}");
        log
    }

    /// What a querier answers over a store, each of some release.
    fn ask(&self, store: &Binaries, querier: &Binaries) -> Answer {
        let folder = self.step();
        let args = store_args(&folder, &self.bucket.config);
        let store = Component::start(store, Maker::Drumlin, &folder, "store", &args);
        let querier = query(querier, Maker::Drumlin, &folder, &[&store.grpc], &[]);
        let time = self.blocks.end().to_string();
        let fields = [
            ("query", "max by (job) (max_over_time(node_load1[60h]))"),
            ("time", time.as_str()),
            ("max_source_resolution", "5m"),
        ];
        let body = http::api(&querier.http, "/api/v1/query", &fields).expect("an answer");
        assert_eq!(body["status"], "success", "{body}");
        Answer { result: body["data"]["result"].clone(), warnings: body["warnings"].to_string() }
    }

    /// How many raw blocks are there, and the formats of the live copies of each span.
    fn living(&self) -> Living {
        let mut living = Living::default();
        let root = self.bucket.path();
        let metas = files_below(root).into_iter().filter(|file| file.ends_with("meta.json"));
        for file in metas {
            let folder = root.join(file.parent().expect("the folder of a block"));
            if folder.join("deletion-mark.json").exists() {
                continue;
            }
            let meta = read_meta(&folder);
            let (range, resolution) = (meta.range(), meta.resolution());
            match &meta.format {
                None => living.raw += 1,
                Some(format) => living
                    .copies
                    .entry((resolution, range.start, range.end))
                    .or_default()
                    .push(format.clone()),
            }
        }
        living
    }
}

fn read_meta(folder: &Path) -> BlockMeta {
    let bytes = std::fs::read(folder.join("meta.json")).expect("a block has a meta.json");
    BlockMeta::from_json(&bytes).expect("a sound meta.json")
}

#[derive(Debug, PartialEq)]
struct Answer {
    result: Value,
    /// As JSON, `null` where there are none.
    warnings: String,
}

#[derive(Debug, Default, PartialEq)]
struct Living {
    raw: usize,
    copies: BTreeMap<(Resolution, i64, i64), Vec<String>>,
}

impl Living {
    #[track_caller]
    fn assert_one_copy_each(&self, what: &str) {
        assert!(!self.copies.is_empty(), "{what}: nothing is downsampled");
        for (span, formats) in &self.copies {
            assert_eq!(formats.len(), 1, "{what}: {span:?} is there as {formats:?}");
        }
    }

    fn are_all(&self, format: &str) -> bool {
        self.copies.values().flatten().all(|found| found == format)
    }
}

#[test]
fn an_old_store_names_what_it_cannot_read_and_keeps_what_it_can() {
    let Releases { old, new } = releases();
    let history = History::new();
    history.compact(&new, &[NEWER]);
    let known = history.ask(&new, &new);
    assert!(known.result.as_array().is_some_and(|all| !all.is_empty()), "{known:?}");
    assert_eq!(known.warnings, "null");
    let copied = history.living();
    assert!(copied.raw > 0 && copied.are_all("parquet/2"), "{copied:?}");

    // past its retention, raw data stays for old stores, which answer from it
    let log = history.compact(&new, &[NEWER, EXPIRED[0], EXPIRED[1]]);
    assert!(log.contains("--allow-retire"), "{log}");
    assert_eq!(history.living(), copied);
    assert_eq!(history.ask(&old, &old), known);

    history.compact(&new, &[NEWER, EXPIRED[0], EXPIRED[1], "--allow-retire"]);
    let retired = history.living();
    assert_eq!((retired.raw, &retired.copies), (0, &copied.copies));
    for querier in [&old, &new] {
        let told = history.ask(&old, querier);
        assert!(told.warnings.contains("block=parquet/v1/"), "it names a block: {told:?}");
        assert!(told.warnings.contains("parquet/2"), "and its format: {told:?}");
        assert!(told.warnings.contains("upgrade"), "and what to do: {told:?}");
        assert_eq!(told.result, serde_json::json!([]), "and nothing is made up");
    }
    assert_eq!(history.ask(&new, &new), known);
}

#[test]
fn a_new_store_reads_what_the_old_compactor_wrote() {
    let Releases { old, new } = releases();
    let history = History::new();
    history.compact(&old, &[]);
    let known = history.ask(&old, &old);
    assert_eq!(history.ask(&new, &new), known);
    let written = history.living();
    assert!(written.are_all("parquet/1"), "{written:?}");

    // the new compactor finds nothing to do, and retires raw data for copies that all stores read
    history.compact(&new, &[NEWER]);
    assert_eq!(history.living(), written);
    history.compact(&new, &[NEWER, EXPIRED[0], EXPIRED[1]]);
    assert_eq!(history.living(), Living { raw: 0, ..written });
    for (store, querier) in [(&new, &new), (&new, &old), (&old, &new)] {
        assert_eq!(history.ask(store, querier), known);
    }
}

/// Upgrade, rollback and upgrade again, from both beginnings.
#[test]
fn old_and_new_compactors_after_each_other_leave_one_copy() {
    let Releases { old, new } = releases();
    for begins_new in [true, false] {
        let history = History::new();
        if begins_new {
            history.compact(&new, &[NEWER]);
            assert!(history.living().are_all("parquet/2"));
        }
        history.compact(&old, &[]);
        history.compact(&new, &[NEWER]);
        let settled = history.living();
        settled.assert_one_copy_each("after the upgrade");
        assert!(settled.are_all("parquet/1"), "what all stores read stays: {settled:?}");
        for (release, args) in [(&old, &[][..]), (&new, &[NEWER][..]), (&old, &[][..])] {
            history.compact(release, args);
            assert_eq!(history.living(), settled, "neither undoes what the other did");
        }
    }
}
