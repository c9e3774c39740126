//! Random histories of a bucket: uploads, late blocks, replicas, tombstones, marks set and removed,
//! kills, faults, retention, compactions done again, other versions of Parquet. After every run the live samples must be those
//! that were live before it, except for what was deleted on purpose, or is beyond its retention and
//! has coarser copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use compact::{DownsampleFormat, FormatVersion, Release, Retention, Settings};
use model::{BlockId, Labels, Resolution, TimeRange};
use synthetic::Rng;
use testkit::FaultPlan;
use tsdb::block_builder::{BlockBuilder, BlockFiles, BlockIdentity};
use tsdb::meta::BlockMeta;
use tsdb::tombstones::Interval;

use crate::support::{Copy, HOUR_MS, Samples, World};

const SLOT_MS: i64 = 2 * HOUR_MS;
const SCRAPE_MS: i64 = 600_000;
const RETENTION_MS: i64 = 72 * HOUR_MS;

/// Every seed is a history; `HISTORIES=<n>` runs more of them, `HISTORY=<seed>` one.
#[tokio::test]
async fn random_histories_lose_and_revive_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = match number("HISTORY") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HISTORIES").unwrap_or(24),
    };
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds.clone() {
        let mut history = History::new(seed);
        history.live().await;
        for kind in history.done {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    println!("seeds {seeds:?}: {kinds:?}");
    if seeds.end - seeds.start >= 24 {
        let missing: Vec<_> = STEPS.iter().filter(|(kind, _)| !kinds.contains_key(kind)).collect();
        assert!(missing.is_empty(), "these never happened: {missing:?}");
    }
}

/// What may happen, and how often relative to the others.
const STEPS: [(&str, u64); 12] = [
    ("upload", 24),
    ("late block", 6),
    ("mark", 8),
    ("unmark", 8),
    ("redo", 4),
    ("tombstones", 5),
    ("no-downsample", 1),
    ("no-compact", 2),
    ("wait", 6),
    ("run", 12),
    ("killed run", 12),
    ("faulty run", 6),
];

struct History {
    seed: u64,
    rng: Rng,
    world: World,
    settings: Settings,
    slots: BTreeMap<Labels, i64>,
    /// Samples that tombstones deleted somewhere.
    tombstoned: BTreeSet<(String, i64)>,
    done: Vec<&'static str>,
    log: String,
}

impl History {
    fn new(seed: u64) -> History {
        let mut rng = Rng::new(seed);
        let mut pick = |n: u64| rng.next_u64() % n;
        let settings = Settings {
            consistency_delay: Duration::ZERO,
            replica_labels: vec!["replica".into()],
            retention: match pick(2) {
                0 => Retention::default(),
                _ => Retention {
                    raw: Duration::from_millis(RETENTION_MS as u64),
                    ..Retention::default()
                },
            },
            delete_delay: Duration::from_secs([0, 48 * 3600][pick(2) as usize]),
            downsample_format: [
                DownsampleFormat::Parquet,
                DownsampleFormat::Thanos,
                DownsampleFormat::Both,
            ][pick(3) as usize],
            allow_retire: pick(3) == 0,
            release: Release { formats: &["parquet/1", "parquet/2"], ..Release::default() },
            ..Settings::default()
        };
        let log = format!(
            "seed {seed}: retention {:?}, delete delay {:?}, {:?}, allow retire {}\n",
            settings.retention.raw,
            settings.delete_delay,
            settings.downsample_format,
            settings.allow_retire
        );
        let streams = [("a", "0"), ("a", "1"), ("b", "0")];
        let labels =
            |(cluster, replica)| Labels::from_pairs([("cluster", cluster), ("replica", replica)]);
        History {
            seed,
            rng,
            world: World::empty(),
            settings,
            slots: streams.into_iter().map(|s| (labels(s), 0)).collect(),
            tombstoned: BTreeSet::new(),
            done: Vec::new(),
            log,
        }
    }

    fn pick(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n.max(1) as u64) as usize
    }

    async fn live(&mut self) {
        for _ in 0..14 + self.pick(16) {
            self.upload().await;
        }
        let all: u64 = STEPS.iter().map(|(_, weight)| weight).sum();
        for _ in 0..30 {
            let mut left = self.rng.next_u64() % all;
            let drawn = STEPS.iter().find(|(_, weight)| {
                let hit = left < *weight;
                left = left.saturating_sub(*weight);
                hit
            });
            let Some((kind, _)) = drawn else { continue };
            if self.step(kind).await {
                self.done.push(kind);
            }
        }
        self.run("last run", FaultPlan::none()).await;
        self.run("run after the last", FaultPlan::none()).await;
    }

    /// Returns whether the step could be done.
    async fn step(&mut self, kind: &'static str) -> bool {
        match kind {
            "upload" => self.upload().await,
            "late block" => return self.late_block().await,
            "mark" => return self.mark().await,
            "unmark" => return self.unmark().await,
            "redo" => return self.redo().await,
            "tombstones" => return self.tombstones().await,
            "no-downsample" => {
                return self.exclude("no-downsample-mark.json", "no_downsample_time").await;
            }
            "no-compact" => return self.exclude("no-compact-mark.json", "no_compact_time").await,
            "wait" => self.wait(),
            "run" => self.run(kind, FaultPlan::none()).await,
            "killed run" => {
                let alive = self.rng.next_u64() % 400;
                self.run(kind, FaultPlan::killed_after(alive)).await;
            }
            _ => {
                let seed = self.rng.next_u64();
                self.run(kind, FaultPlan::seeded(seed, 30)).await;
            }
        }
        true
    }

    fn note(&mut self, text: impl std::fmt::Display) {
        writeln!(self.log, "  {text}").unwrap();
    }

    /// Uploads the next two hours of a stream, sometimes with a gap before them.
    async fn upload(&mut self) {
        let at = self.pick(self.slots.len());
        let labels = self.slots.keys().nth(at).unwrap().clone();
        let skip = i64::from(self.pick(12) == 0);
        let slot = self.slots[&labels] + skip;
        self.slots.insert(labels.clone(), slot + 1);
        self.world.reach((slot + 1) * SLOT_MS + HOUR_MS);
        self.put(&labels, slot, 0).await;
    }

    /// Uploads samples of a time that other blocks cover already.
    async fn late_block(&mut self) -> bool {
        let at = self.pick(self.slots.len());
        let (labels, next) = self.slots.iter().nth(at).map(|(l, n)| (l.clone(), *n)).unwrap();
        if next == 0 {
            return false;
        }
        let slot = self.pick(next as usize) as i64;
        self.put(&labels, slot, 1).await;
        true
    }

    async fn put(&mut self, labels: &Labels, slot: i64, late: u64) {
        let entropy = u128::from(self.rng.next_u64());
        let id = BlockId::from_parts(((slot + 1) * SLOT_MS) as u64, entropy);
        let range = TimeRange::new(slot * SLOT_MS, (slot + 1) * SLOT_MS);
        let block = Block { id, range, labels, late };
        let files = block.files(&mut self.rng);
        self.note(format_args!("upload {id} of {labels} at slot {slot}, late {late}"));
        self.world.upload(&files).await;
    }

    /// Marks a block for deletion.
    async fn mark(&mut self) -> bool {
        let live = self.world.live().await;
        if live.is_empty() {
            return false;
        }
        let folder = live.keys().nth(self.pick(live.len())).unwrap().clone();
        self.note(format_args!("mark {folder}"));
        self.world.mark(&folder).await;
        true
    }

    /// Removes the mark from a block.
    async fn unmark(&mut self) -> bool {
        let marked = self.world.marked_blocks().await;
        if marked.is_empty() {
            return false;
        }
        let folder = marked.keys().nth(self.pick(marked.len())).unwrap().clone();
        self.note(format_args!("unmark {folder}"));
        self.world.unmark(&folder).await;
        true
    }

    /// A compaction is to be done again: its output is marked and the marks of its sources are
    /// removed.
    async fn redo(&mut self) -> bool {
        let marked = self.world.marked_blocks().await;
        let live = self.world.live().await;
        let parents = |meta: &BlockMeta| -> Vec<BlockId> {
            meta.compaction.parents.iter().map(|p| p.ulid).collect()
        };
        let all_marked = |meta: &BlockMeta| {
            let parents = parents(meta);
            !parents.is_empty() && parents.iter().all(|id| marked.contains_key(&id.to_string()))
        };
        let outputs: Vec<_> = live
            .iter()
            .filter(|(_, meta)| meta.resolution() == Resolution::Raw && all_marked(meta))
            .collect();
        if outputs.is_empty() {
            return false;
        }
        let (folder, meta) = outputs[self.pick(outputs.len())];
        self.note(format_args!("redo {folder}"));
        for id in parents(meta) {
            self.world.unmark(&id.to_string()).await;
        }
        self.world.mark(folder).await;
        true
    }

    /// Deletes a span of some series of a block.
    async fn tombstones(&mut self) -> bool {
        let live = self.world.live().await;
        let raw: Vec<_> =
            live.values().filter(|m| m.resolution() == Resolution::Raw).cloned().collect();
        if raw.is_empty() {
            return false;
        }
        let meta = &raw[self.pick(raw.len())];
        let start = meta.min_time + self.pick(24) as i64 * SCRAPE_MS / 2;
        let interval =
            Interval { min_time: start, max_time: start + self.pick(8) as i64 * SCRAPE_MS };
        let name = format!("m{}", self.pick(3));
        self.note(format_args!("tombstones of {name} in {} {interval:?}", meta.ulid));
        let deleted = self.world.add_tombstones(meta, &name, interval).await;
        self.tombstoned.extend(deleted);
        true
    }

    async fn exclude(&mut self, file: &str, time: &str) -> bool {
        let live = self.world.live().await;
        let tsdb: Vec<_> = live.values().filter(|m| m.format.is_none()).map(|m| m.ulid).collect();
        if tsdb.is_empty() {
            return false;
        }
        let id = tsdb[self.pick(tsdb.len())];
        self.note(format_args!("{file} on {id}"));
        let mark = format!(r#"{{"id":"{id}","version":1,"{time}":1,"reason":"manual"}}"#);
        self.world.put_bytes(&format!("{id}/{file}"), mark.into_bytes()).await;
        true
    }

    fn wait(&mut self) {
        let hours = [3, 30, 60][self.pick(3)];
        self.note(format_args!("wait {hours} h"));
        self.world.advance(Duration::from_secs(hours * 3600));
    }

    async fn run(&mut self, kind: &'static str, plan: FaultPlan) {
        let before = self.world.contents().await;
        self.settings.parquet_version = [FormatVersion::V1, FormatVersion::V2][self.pick(2)];
        self.note(format_args!("{kind}, writes {}", self.settings.parquet_version.as_str()));
        let is_calm = !matches!(kind, "killed run" | "faulty run");
        let ended = self.world.run_under(plan, self.settings.clone()).await;
        if is_calm && let Err(e) = ended {
            panic!("{}  the run failed: {e}", self.log);
        }
        let after = self.world.contents().await;
        self.compare(&before, &after).await;
    }

    /// The rule of this test.
    async fn compare(&self, before: &Samples, after: &Samples) {
        for (key, value) in after {
            let known = before.get(key);
            assert_eq!(known, Some(value), "{}  sample {key:?} came into being", self.log);
        }
        let gone: Vec<&(String, i64)> = before
            .keys()
            .filter(|key| !after.contains_key(*key) && !self.tombstoned.contains(*key))
            .collect();
        if gone.is_empty() {
            return;
        }
        let limit = self.world.now() - RETENTION_MS;
        let copies = self.world.copies().await;
        for (series, t) in gone {
            let expired = !self.settings.retention.raw.is_zero() && *t < limit;
            assert!(expired, "{}  sample {series} at {t} was lost (seed {})", self.log, self.seed);
            let counts = |copy: &&Copy| self.settings.allow_retire || copy.is_common();
            let covered =
                |resolution| copies.iter().filter(counts).any(|c| c.covers(resolution, series, *t));
            let kept = covered(Resolution::FiveMinutes) || self.may_lack_copies();
            assert!(
                kept,
                "{}  sample {series} at {t} went without a copy (seed {})",
                self.log, self.seed
            );
        }
    }

    /// Thanos' blocks are made of long blocks only, and marks can forbid any.
    fn may_lack_copies(&self) -> bool {
        self.settings.downsample_format == DownsampleFormat::Thanos
            || self.done.contains(&"no-downsample")
    }
}

/// What is uploaded: samples whose values depend on series and time alone, so that replicas and
/// late blocks agree.
struct Block<'a> {
    id: BlockId,
    range: TimeRange,
    labels: &'a Labels,
    late: u64,
}

impl Block<'_> {
    fn files(&self, rng: &mut Rng) -> BlockFiles {
        let replica = i64::from(self.labels.get("replica") == Some(b"1"));
        let offset = replica * 7_000 + self.late as i64 * 3_000 * (rng.next_u64() % 2) as i64;
        let mut builder = BlockBuilder::new();
        for series in 0..3u64 {
            if rng.next_u64().is_multiple_of(9) {
                continue;
            }
            let step = SCRAPE_MS as usize;
            let times = (self.range.start + offset..self.range.end).step_by(step);
            let ts: Vec<i64> = times.filter(|_| !rng.next_u64().is_multiple_of(20)).collect();
            let values: Vec<f64> = ts.iter().map(|t| (t / 1000) as f64 + series as f64).collect();
            let labels = Labels::from_pairs([("__name__", format!("m{series}"))]);
            builder.push_floats(&labels, &ts, &values).unwrap();
        }
        let (id, range, external_labels) = (self.id, self.range, Some(self.labels.clone()));
        builder.finish(BlockIdentity { id, range, external_labels }).unwrap()
    }
}
