//! Two versions of the Parquet format in one bucket: what is written, which copy stays, and what
//! may go while there may be stores that do not read the newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use block::sync::Deduplicate;
use compact::{DownsampleFormat, FormatVersion, Release, Retention, Settings};
use model::{BlockId, Labels, Resolution, TimeRange};
use testkit::{FaultPlan, Op};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

use crate::support::{HOUR_MS, World};

const SLOT_MS: i64 = 2 * HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const OLD_FORMATS: &[&str] = &["parquet/1"];
const NEW_FORMATS: &[&str] = &["parquet/1", "parquet/2"];

/// A release that reads both and writes one of them.
fn writing(parquet_version: FormatVersion) -> Settings {
    let release = Release { formats: NEW_FORMATS, ..Release::default() };
    let consistency_delay = Duration::ZERO;
    Settings { parquet_version, release, consistency_delay, ..Settings::default() }
}

/// Blocks of 2 h, long enough ago that all of them is downsampled.
async fn world(slots: i64) -> World {
    let world = World::empty();
    fill(&world, 0..slots).await;
    world.reach(20 * DAY_MS);
    world
}

async fn fill(world: &World, slots: std::ops::Range<i64>) {
    for slot in slots {
        let range = TimeRange::new(slot * SLOT_MS, (slot + 1) * SLOT_MS);
        let ts: Vec<i64> = (range.start..range.end).step_by(600_000).collect();
        let values: Vec<f64> = ts.iter().map(|t| *t as f64).collect();
        let mut builder = BlockBuilder::new();
        builder.push_floats(&Labels::from_pairs([("__name__", "m")]), &ts, &values).unwrap();
        let id = BlockId::from_parts(range.end as u64, 1);
        let external_labels = Some(Labels::from_pairs([("cluster", "a")]));
        world.upload(&builder.finish(BlockIdentity { id, range, external_labels }).unwrap()).await;
    }
}

async fn run(world: &World, settings: &Settings) {
    world.compactor(settings.clone()).run_once().await.unwrap();
}

/// The formats of the live blocks by resolution; those of Thanos are `tsdb`.
async fn formats(world: &World) -> BTreeMap<Resolution, Vec<String>> {
    let mut formats: BTreeMap<Resolution, Vec<String>> = BTreeMap::new();
    for meta in world.live().await.into_values() {
        let format = meta.format.as_deref().unwrap_or("tsdb").to_owned();
        formats.entry(meta.resolution()).or_default().push(format);
    }
    formats.values_mut().for_each(|formats| formats.sort());
    formats
}

/// The number of raw blocks, and the formats of both kinds of copies if they are the same.
async fn shape(world: &World) -> (usize, Vec<String>) {
    let mut formats = formats(world).await;
    let raw = formats.remove(&Resolution::Raw).unwrap_or_default().len();
    let five_minutes = formats.remove(&Resolution::FiveMinutes).unwrap_or_default();
    let one_hour = formats.remove(&Resolution::OneHour).unwrap_or_default();
    assert_eq!(five_minutes, one_hour);
    (raw, five_minutes)
}

/// A bucket with the copies of one block in both versions, as two compactors leave it that did not
/// see each other.
async fn with_both() -> World {
    let older = world(25).await;
    let newer = older.copied().await;
    run(&older, &writing(FormatVersion::V1)).await;
    run(&newer, &writing(FormatVersion::V2)).await;
    let mut both = vec![];
    for path in newer.objects("parquet").await {
        both.push((path.clone(), newer.bytes(&path).await));
    }
    for (path, bytes) in both {
        older.put_bytes(&path, bytes).await;
    }
    older
}

#[tokio::test]
async fn a_copy_in_either_version_is_not_written_again() {
    for [first, second] in
        [[FormatVersion::V1, FormatVersion::V2], [FormatVersion::V2, FormatVersion::V1]]
    {
        let world = world(29).await;
        run(&world, &writing(first)).await;
        let written = world.state().await;
        let (raw, copies) = shape(&world).await;
        assert!(raw > 1 && copies.iter().all(|format| format == first.as_str()), "{copies:?}");
        for parquet_version in [second, first, second] {
            run(&world, &writing(parquet_version)).await;
            assert_eq!(world.state().await, written, "{first:?} then {second:?}");
        }
    }
}

#[tokio::test]
async fn of_copies_in_two_versions_the_one_stays_that_more_stores_read() {
    let both = with_both().await;
    assert_eq!(shape(&both).await.1, ["parquet/1", "parquet/1", "parquet/2", "parquet/2"]);
    for version in [FormatVersion::V1, FormatVersion::V2] {
        for allow_retire in [false, true] {
            let world = both.copied().await;
            let settings = Settings { allow_retire, ..writing(version) };
            let served = world.synced(NEW_FORMATS, &[&Deduplicate]).await;
            assert_eq!(served.blocks.len(), 6, "one block and its copies, twice");
            run(&world, &settings).await;
            assert_eq!(shape(&world).await, (2, vec!["parquet/1".to_owned(); 2]));
            let rest = world.state().await;
            run(&world, &settings).await;
            assert_eq!(world.state().await, rest);
        }
    }
}

#[tokio::test]
async fn the_other_copy_stays_while_the_better_one_is_damaged() {
    let world = with_both().await;
    for (folder, meta) in world.live().await {
        if meta.format.as_deref() == Some("parquet/1") {
            world.delete(&format!("{folder}/0.samples.parquet")).await;
        }
    }
    run(&world, &writing(FormatVersion::V1)).await;
    let live = shape(&world).await.1;
    assert_eq!(live.iter().filter(|format| *format == "parquet/2").count(), 2, "{live:?}");
}

/// Whoever marked the other copy may have relied on this one.
#[tokio::test]
async fn a_mark_is_taken_back_when_the_block_it_relies_on_was_marked_meanwhile() {
    let world = with_both().await;
    let live = world.live().await;
    let of = |format: &str| -> Vec<String> {
        let of_format = live.iter().filter(|(_, meta)| meta.format.as_deref() == Some(format));
        of_format.map(|(folder, _)| folder.clone()).collect()
    };
    let (older, newer) = (of("parquet/1"), of("parquet/2"));
    let (other, marked) = (world.clone(), newer.clone());
    let meanwhile = FaultPlan::new(move |call| {
        let is_mark = call.op == Op::Put && call.key.ends_with("/deletion-mark.json");
        if is_mark && marked.iter().any(|folder| call.key.starts_with(folder.as_str())) {
            for folder in &older {
                futures::executor::block_on(other.mark(folder));
            }
        }
        None
    });
    let settings = Settings { downsampling: false, ..writing(FormatVersion::V2) };
    world.run_under(meanwhile, settings).await.unwrap();
    let live = world.live().await;
    let gone: Vec<&String> = newer.iter().filter(|folder| !live.contains_key(*folder)).collect();
    assert!(gone.is_empty(), "all copies of some data are marked: {gone:?}");
}

/// Short blocks have copies in the older version; then there is a longer one with a copy in the
/// newer.
async fn with_longer_copy(settings: &Settings) -> World {
    let world = world(12).await;
    run(&world, &writing(FormatVersion::V1)).await;
    fill(&world, 12..25).await;
    run(&world, settings).await;
    world
}

#[tokio::test]
async fn older_parquet_stays_beside_the_newer_until_it_is_allowed_to_go() {
    let settings = writing(FormatVersion::V2);
    let world = with_longer_copy(&settings).await;
    let of_version =
        |formats: &[String], version: &str| formats.iter().filter(|f| *f == version).count();
    let (_, mixed) = shape(&world).await;
    assert_eq!((of_version(&mixed, "parquet/1"), of_version(&mixed, "parquet/2")), (6, 2));
    // old stores find all of it, and new ones none of it twice
    for (formats, blocks) in [(OLD_FORMATS, 6), (NEW_FORMATS, 2)] {
        let served = world.synced(formats, &[&Deduplicate]).await;
        let coarse = served.blocks.iter().filter(|b| b.resolution() == Resolution::FiveMinutes);
        assert_eq!(coarse.count(), blocks, "{formats:?}");
    }
    let rest = world.state().await;
    run(&world, &settings).await;
    assert_eq!(world.state().await, rest, "nothing is left to do");

    run(&world, &Settings { allow_retire: true, ..settings.clone() }).await;
    assert_eq!(shape(&world).await.1, ["parquet/2", "parquet/2"]);
    let replaced = with_longer_copy(&writing(FormatVersion::V1)).await;
    assert_eq!(
        shape(&replaced).await.1,
        ["parquet/1", "parquet/1"],
        "the same version replaces it"
    );
}

/// Runs at a time when the raw retention of all blocks is over, until nothing changes.
async fn expire(world: &World, settings: &Settings) {
    world.reach(40 * DAY_MS);
    let raw = Duration::from_millis((10 * DAY_MS) as u64);
    let retention = Retention { raw, ..settings.retention };
    for _ in 0..3 {
        run(world, &Settings { retention, ..settings.clone() }).await;
    }
}

#[tokio::test]
async fn raw_data_stays_while_its_only_copies_are_in_the_newer_version() {
    for (version, allow_retire, raw_left) in [
        (FormatVersion::V1, false, false),
        (FormatVersion::V2, false, true),
        (FormatVersion::V2, true, false),
    ] {
        let world = world(29).await;
        let before = world.contents().await;
        let settings = Settings { allow_retire, ..writing(version) };
        run(&world, &settings).await;
        expire(&world, &settings).await;
        let left = world.contents().await;
        let expected = if raw_left { before } else { BTreeMap::new() };
        assert!(left == expected, "{version:?}, {allow_retire}: {} samples", left.len());
    }
}

/// It holds for a compactor that does not downsample, and for blocks that are never downsampled
/// again: what an old store misses is missed whoever deletes it.
#[tokio::test]
async fn no_other_setting_retires_what_the_newer_version_alone_covers() {
    let world = world(25).await;
    let before = world.contents().await;
    run(&world, &writing(FormatVersion::V2)).await;
    for meta in world.live().await.into_values().filter(|m| m.resolution() == Resolution::Raw) {
        let id = meta.ulid;
        let mark =
            format!(r#"{{"id":"{id}","version":1,"no_downsample_time":1,"reason":"manual"}}"#);
        world.put_bytes(&format!("{id}/no-downsample-mark.json"), mark.into_bytes()).await;
    }
    expire(&world, &writing(FormatVersion::V2)).await;
    expire(&world, &Settings { downsampling: false, ..writing(FormatVersion::V2) }).await;
    expire(&world, &writing(FormatVersion::V1)).await;
    assert!(world.contents().await == before);
}

#[tokio::test]
async fn raw_data_goes_for_copies_in_thanos_format() {
    let thanos = DownsampleFormat::Thanos;
    for (then, now) in [(DownsampleFormat::Both, DownsampleFormat::Both), (thanos, thanos)] {
        // two days, which are one block and long enough for Thanos' 5m blocks
        let world = world(25).await;
        let settings =
            |downsample_format| Settings { downsample_format, ..writing(FormatVersion::V2) };
        run(&world, &settings(then)).await;
        expire(&world, &settings(now)).await;
        let left = world.live().await;
        let raw = left.values().filter(|m| m.resolution() == Resolution::Raw);
        let long = raw.filter(|m| m.range().duration_ms() == 2 * DAY_MS).count();
        assert_eq!(long, 0, "{then:?}");
        let of_thanos = |m: &tsdb::meta::BlockMeta| {
            m.resolution() == Resolution::FiveMinutes && m.format.is_none()
        };
        assert_eq!(left.values().filter(|m| of_thanos(m)).count(), 1, "{then:?}");
    }
}

/// 5m data goes by a retention of its own, but not if only the newer version has its 1h data.
#[tokio::test]
async fn five_minute_data_stays_while_its_1h_data_is_in_the_newer_version() {
    for (allow_retire, left) in [(false, 2), (true, 0)] {
        let world = with_both().await;
        for (folder, meta) in world.live().await {
            let is_hour = meta.resolution() == Resolution::OneHour;
            let version = if is_hour { "parquet/1" } else { "parquet/2" };
            if meta.format.as_deref() == Some(version) {
                world.mark(&folder).await;
            }
        }
        assert_eq!(formats(&world).await[&Resolution::FiveMinutes], ["parquet/1"; 2]);
        world.reach(60 * DAY_MS);
        let five_minutes = Duration::from_millis((20 * DAY_MS) as u64);
        let retention = Retention { five_minutes, ..Retention::default() };
        // what goes is not to be made again from the raw data that is still there
        let settings = Settings { downsampling: false, ..writing(FormatVersion::V1) };
        run(&world, &Settings { allow_retire, retention, ..settings }).await;
        let copies = formats(&world).await;
        let five_minutes = copies.get(&Resolution::FiveMinutes).map_or(0, Vec::len);
        assert_eq!(five_minutes, left, "{allow_retire}: {copies:?}");
    }
}
