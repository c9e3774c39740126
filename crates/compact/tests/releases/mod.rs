//! Two releases of the compactor at one bucket at the same time, as during an upgrade: they write
//! other bytes, so their outputs have other ids. Of each output exactly one copy survives, no input
//! is lost, and nobody ever counts a sample twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use block::sync::{Deduplicate, IgnoreDeletionMark, Synced, SyncedBlock};
use compact::{DownsampleFormat, FormatVersion, Release, Settings};
use model::{BlockId, Labels, Resolution, TimeRange};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

use crate::support::turns::Turns;
use crate::support::{HOUR_MS, World};

const SLOT_MS: i64 = 2 * HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Blocks per stream: the first 2 days, which become one block, and some of the next.
const SLOTS: i64 = 29;

const OLD_FORMATS: &[&str] = &["parquet/1"];
const NEW_FORMATS: &[&str] = &["parquet/1", "parquet/2"];

fn settings(release: Release) -> Settings {
    Settings { consistency_delay: Duration::ZERO, release, ..Settings::default() }
}

/// The release whose encoder has the next version.
fn next_release() -> Release {
    let this = Release::default();
    Release { encoder_version: this.encoder_version + 1, ..this }
}

/// Two streams, long enough ago that all of them is downsampled.
async fn world() -> World {
    let world = World::empty();
    for cluster in ["a", "b"] {
        for slot in 0..SLOTS {
            upload(&world, cluster, slot).await;
        }
    }
    world.reach(20 * DAY_MS);
    world
}

async fn upload(world: &World, cluster: &str, slot: i64) {
    let range = TimeRange::new(slot * SLOT_MS, (slot + 1) * SLOT_MS);
    let ts: Vec<i64> = (range.start..range.end).step_by(600_000).collect();
    let values: Vec<f64> = ts.iter().map(|t| *t as f64).collect();
    let mut builder = BlockBuilder::new();
    for series in 0..2 {
        let labels = Labels::from_pairs([("__name__", format!("m{series}"))]);
        builder.push_floats(&labels, &ts, &values).unwrap();
    }
    let id = BlockId::from_parts(range.end as u64, u128::from(cluster.as_bytes()[0]));
    let external_labels = Some(Labels::from_pairs([("cluster", cluster)]));
    world.upload(&builder.finish(BlockIdentity { id, range, external_labels }).unwrap()).await;
}

/// Blocks that stand for each other: labels, resolution, whether they are Parquet.
type Group = (String, Resolution, bool);

fn group(block: &SyncedBlock) -> Group {
    (block.labels.to_string(), block.resolution(), block.location.is_parquet())
}

/// What is asked of a bucket after every change of its blocks.
struct Watch {
    world: World,
    /// The blocks that were there at first.
    inputs: BTreeSet<BlockId>,
    /// Whether what is in the older format may go for what is in the newer one.
    retires: bool,
    /// What some unmarked block held at some time, by who reads it.
    held: Mutex<BTreeMap<usize, BTreeSet<(Group, BlockId)>>>,
}

impl Watch {
    fn look(&self) -> Result<(), String> {
        // apart from the runtime of the compactor that is looked at
        std::thread::scope(|scope| scope.spawn(|| self.look_alone()).join().unwrap())
    }

    fn look_alone(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for formats in [OLD_FORMATS, NEW_FORMATS] {
                let live = self.world.synced(formats, &[]).await;
                if formats == NEW_FORMATS || !self.retires {
                    self.nothing_is_lost(formats.len(), &live)?;
                }
                // as the gateway reads the bucket
                let deletion = IgnoreDeletionMark { delay: Duration::from_secs(24 * 3600) };
                let served = self.world.synced(formats, &[&deletion, &Deduplicate]).await;
                self.is_counted_once(&served)?;
            }
            Ok(())
        })
    }

    /// The inputs are in unmarked blocks, and what once was downsampled stays so.
    fn nothing_is_lost(&self, readers: usize, synced: &Synced) -> Result<(), String> {
        let unmarked = synced.blocks.iter().filter(|b| b.deletion_mark.is_none());
        let held: BTreeSet<(Group, BlockId)> =
            unmarked.flat_map(|b| b.sources().iter().map(|s| (group(b), *s))).collect();
        let raw = held.iter().filter(|((_, resolution, _), _)| *resolution == Resolution::Raw);
        let raw: BTreeSet<BlockId> = raw.map(|(_, source)| *source).collect();
        if let Some(lost) = self.inputs.difference(&raw).next() {
            return Err(format!("{lost} is in no unmarked block"));
        }
        let mut before = self.held.lock().unwrap();
        let before = before.entry(readers).or_default();
        if let Some(lost) = before.difference(&held).next() {
            return Err(format!("{lost:?} was held for {readers} formats and is not any more"));
        }
        *before = held;
        Ok(())
    }

    fn is_counted_once(&self, served: &Synced) -> Result<(), String> {
        let mut holders: BTreeMap<(Group, BlockId), &SyncedBlock> = BTreeMap::new();
        for block in &served.blocks {
            for source in block.sources() {
                if let Some(other) = holders.insert((group(block), *source), block) {
                    let (one, two) = (&other.location, &block.location);
                    return Err(format!(
                        "{source} at {:?} is served from {one} and from {two}",
                        group(block)
                    ));
                }
            }
        }
        let raw = holders.keys().filter(|((_, resolution, _), _)| *resolution == Resolution::Raw);
        let served: BTreeSet<BlockId> = raw.map(|(_, source)| *source).collect();
        let missing = self.inputs.difference(&served).next();
        missing.map_or(Ok(()), |missing| Err(format!("{missing} is not served")))
    }
}

/// Lets two compactors work on a bucket at the same time, one of which may be killed.
async fn meet(world: &World, seed: u64, both: [Settings; 2]) {
    let inputs = world.live().await.values().map(|meta| meta.ulid).collect();
    let retires = both.iter().any(|settings| settings.allow_retire);
    let watch = Watch { world: world.clone(), inputs, retires, held: Mutex::default() };
    let turns = Turns::new(seed, move || watch.look());
    // a quarter of them are killed at some time
    let alive = |player: u64| match synthetic::Rng::new(seed * 2 + player).next_u64() {
        drawn if drawn % 4 == 0 => drawn / 4 % 1500,
        _ => u64::MAX,
    };
    std::thread::scope(|scope| {
        for (player, settings) in both.iter().enumerate() {
            let (turns, world) = (turns.clone(), world.clone());
            let plan = turns.plan(player, alive(player as u64));
            scope.spawn(move || {
                let compactor = world.compactor_under(plan, settings.clone());
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                for _ in 0..3 {
                    // one may find blocks that the other is just deleting
                    let _ = runtime.block_on(compactor.run_once());
                }
                turns.end(player);
            });
        }
    });
    if let Some(defect) = turns.defect() {
        panic!("seed {seed}: {defect}");
    }
}

/// Lets one after the other work until neither finds anything to do.
async fn settle(world: &World, both: &[Settings; 2]) {
    let mut before = world.state().await;
    for _ in 0..5 {
        for settings in both {
            world.compactor(settings.clone()).run_once().await.unwrap();
        }
        let after = world.state().await;
        if after == before {
            return;
        }
        before = after;
    }
    panic!("they never come to rest");
}

/// The blocks that are left, by labels, resolution and span.
async fn left(world: &World) -> Vec<(Group, TimeRange)> {
    let synced = world.synced(NEW_FORMATS, &[]).await;
    let live = synced.blocks.iter().filter(|b| b.deletion_mark.is_none());
    let mut left: Vec<_> = live.map(|b| (group(b), b.range())).collect();
    left.sort_by_key(|(group, range)| (group.clone(), range.start, range.end));
    left
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match number("HISTORY") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HISTORIES").unwrap_or(12),
    }
}

/// Every seed is a meeting; `HISTORIES=<n>` runs more of them, `HISTORY=<seed>` one.
#[tokio::test]
async fn of_two_encoder_versions_exactly_one_copy_survives() {
    let fresh = world().await;
    let samples = fresh.contents().await;
    for seed in seeds() {
        let formats = [DownsampleFormat::Parquet, DownsampleFormat::Thanos, DownsampleFormat::Both];
        let downsample_format = formats[seed as usize % formats.len()];
        let both = [Release::default(), next_release()]
            .map(|release| Settings { downsample_format, ..settings(release) });
        let alone = fresh.copied().await;
        settle(&alone, &[both[0].clone(), both[0].clone()]).await;

        let world = fresh.copied().await;
        meet(&world, seed, both.clone()).await;
        settle(&world, &both).await;
        assert_eq!(left(&world).await, left(&alone).await, "seed {seed}");
        assert!(world.contents().await == samples, "seed {seed}");
    }
}

/// What a compactor is told about the versions of Parquet.
fn writing(formats: &'static [&'static str], parquet_version: FormatVersion) -> Settings {
    let encoder_version = Release::default().encoder_version + formats.len() as u32 - 1;
    Settings { parquet_version, ..settings(Release { encoder_version, formats }) }
}

/// A release that writes the newer format meets one that does not know it, or another process of
/// its own that writes the older one.
#[tokio::test]
async fn of_two_formats_exactly_one_copy_survives() {
    let fresh = world().await;
    let samples = fresh.contents().await;
    let old = writing(OLD_FORMATS, FormatVersion::V1);
    let newer = writing(NEW_FORMATS, FormatVersion::V2);
    let older = writing(NEW_FORMATS, FormatVersion::V1);
    let retiring = Settings { allow_retire: true, ..newer.clone() };
    let alone = fresh.copied().await;
    settle(&alone, &[old.clone(), old.clone()]).await;
    let meetings = [[old, newer], [older.clone(), retiring.clone()], [retiring, older]];
    for seed in seeds() {
        let both = meetings[seed as usize % meetings.len()].clone();
        let world = fresh.copied().await;
        meet(&world, seed, both.clone()).await;
        settle(&world, &both).await;
        assert_eq!(left(&world).await, left(&alone).await, "seed {seed}");
        assert!(world.contents().await == samples, "seed {seed}");
    }
}
