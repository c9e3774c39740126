//! Small buckets in rare states, most of them found in public bug reports. What Thanos' compactor
//! does with the same buckets is in the differential table of the peer suite.

use std::path::{Path, PathBuf};
use std::time::Duration;

use compact::{DownsampleFormat, Retention, Settings};
use model::{BlockId, Labels, Resolution, TimeRange};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};
use tsdb::meta::BlockMeta;

use crate::support::{HOUR_MS, World};

const DAY_MS: i64 = 24 * HOUR_MS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../integration/testdata/cases/buckets")
        .join(name)
}

/// A bucket of the collection, three days after its last sample; deletion marks in it are 30 hours
/// old.
pub(crate) async fn case(name: &str) -> World {
    let world = World::of_whole_folder(&folder(name), 0).await;
    let all = world.live().await.into_values().chain(world.marked_blocks().await.into_values());
    let end = all.map(|m| m.max_time).max().unwrap();
    world.reach(end + 3 * DAY_MS - 30 * HOUR_MS);
    for folder in world.marked().await {
        world.mark(&folder).await;
    }
    world.advance(Duration::from_secs(30 * 3600));
    world
}

pub(crate) fn settings() -> Settings {
    Settings { consistency_delay: Duration::ZERO, ..Settings::default() }
}

/// Three runs, with more than the delete delay before the last two.
async fn run_thrice(world: &World) {
    for wait_hours in [0, 50, 50] {
        world.advance(Duration::from_secs(wait_hours * 3600));
        world.compactor(settings()).run_once().await.unwrap();
    }
}

/// Checks that nothing is lost and that there are as many samples as there should be.
async fn keeps_all(name: &str, samples: usize) -> World {
    let world = case(name).await;
    let before = world.contents().await;
    assert_eq!(before.len(), samples, "{name}: at first");
    run_thrice(&world).await;
    assert!(
        world.contents().await == before,
        "{name}: {} samples of {samples} are left",
        world.contents().await.len()
    );
    world
}

/// The live blocks with a no-compact mark, and what it says.
async fn quarantined(world: &World) -> Vec<(BlockId, String)> {
    let mut found = Vec::new();
    for meta in world.live().await.into_values() {
        let mark = format!("{}/no-compact-mark.json", meta.ulid);
        if world.exists(&mark).await {
            found.push((meta.ulid, world.text(&mark).await));
        }
    }
    found
}

#[tokio::test]
async fn a_compaction_whose_output_was_marked_is_done_again() {
    keeps_all("3-redo-compaction", 576).await;
}

#[tokio::test]
async fn a_block_rewritten_for_its_tombstones_stays() {
    keeps_all("1-tombstone-rewrite", 1536).await;
}

#[tokio::test]
async fn a_marked_block_covers_nothing() {
    keeps_all("4-marked-cover", 672).await;
}

#[tokio::test]
async fn chunks_out_of_order_in_a_series_are_merged_whole() {
    let world = keeps_all("2-ooo-chunks", 600).await;
    assert_eq!(quarantined(&world).await, []);
}

#[tokio::test]
async fn a_block_without_sources_is_its_own() {
    keeps_all("5-null-sources", 792).await;
}

#[tokio::test]
async fn a_block_that_gives_less_than_it_says_is_left_alone() {
    let world = keeps_all("6-short-all-postings", 480).await;
    let marks = quarantined(&world).await;
    assert_eq!(marks.len(), 1, "{marks:?}");
    assert_eq!(marks[0].0.to_string(), "01M5H33SR0V3RS3DTR98H6BCFN");
    assert!(marks[0].1.contains("its meta.json says 4"), "{}", marks[0].1);
    assert!(!marks[0].1.contains("delete"), "{}", marks[0].1);
}

#[tokio::test]
async fn a_block_that_gives_more_than_it_says_is_left_alone_and_the_rest_goes_on() {
    let world = keeps_all("10-stats-too-small", 792).await;
    let marks = quarantined(&world).await;
    assert_eq!(marks.len(), 1, "{marks:?}");
    assert_eq!(marks[0].0.to_string(), "01M5H33SR0E89748PQ50XBB8W3");
    assert!(
        world.live().await.values().any(|m| m.compaction.level > 1),
        "the others are compacted"
    );
}

#[tokio::test]
async fn deleted_samples_stay_deleted() {
    let world = keeps_all("7-tombstones-file", 2543).await;
    let live = world.live().await;
    let is_merged =
        |m: &&BlockMeta| m.compaction.sources.len() > 1 && m.resolution() == Resolution::Raw;
    let compacted: Vec<&BlockMeta> = live.values().filter(is_merged).collect();
    assert_eq!(compacted.len(), 1);
    assert_eq!(compacted[0].stats.num_samples, 2159, "2304 were stored, 145 are deleted");
}

#[tokio::test]
async fn the_rest_of_a_deletion_is_cleaned_up() {
    let world = case("8-partial-with-mark").await;
    world.compactor(settings()).run_once().await.unwrap();
    assert!(
        !world.objects("01M5GNE5V062J47AD0T5K545GC").await.is_empty(),
        "it may be an upload under way"
    );
    world.advance_past_uploads(Duration::from_secs(49 * 3600));
    world.compactor(settings()).run_once().await.unwrap();
    assert_eq!(world.objects("01M5GNE5V062J47AD0T5K545GC").await, [""; 0]);
}

#[tokio::test]
async fn odd_blocks_that_can_be_read_are_compacted() {
    for name in
        ["9-series-unsorted", "11-labels-unsorted", "12-label-name-twice", "13-wrong-index-size"]
    {
        let world = case(name).await;
        let before = world.contents().await;
        run_thrice(&world).await;
        assert!(world.contents().await == before, "{name}");
        assert_eq!(quarantined(&world).await, [], "{name}");
    }
}

#[tokio::test]
async fn ended_streams_expire_in_every_format() {
    for format in [DownsampleFormat::Parquet, DownsampleFormat::Thanos, DownsampleFormat::Both] {
        let world = case("14-retention-ended-stream").await;
        let retention = Retention { raw: Duration::from_secs(40 * 3600), ..Retention::default() };
        let allow_retire = true;
        let settings =
            Settings { retention, allow_retire, downsample_format: format, ..settings() };
        world.advance(Duration::from_secs(10 * 24 * 3600));
        for _ in 0..3 {
            world.compactor(settings.clone()).run_once().await.unwrap();
        }
        assert_eq!(world.contents().await.len(), 0, "{format:?}: no raw block is live");
        let copies = world.copies().await.len();
        assert_eq!(copies > 0, format != DownsampleFormat::Thanos, "{format:?}: {copies} copies");
    }
}

/// A block of one series whose values are `value` of the time.
async fn upload(
    world: &World,
    id: u128,
    range: TimeRange,
    value: impl Fn(i64) -> f64,
) -> BlockMeta {
    let ts: Vec<i64> = (range.start..range.end).step_by(60_000).collect();
    let values: Vec<f64> = ts.iter().map(|t| value(*t)).collect();
    let mut builder = BlockBuilder::new();
    for series in 0..10 {
        let labels = Labels::from_pairs([("__name__", format!("m{series}"))]);
        builder.push_floats(&labels, &ts, &values).unwrap();
    }
    let id = BlockId::from_parts(range.end as u64, id);
    let external_labels = Some(Labels::from_pairs([("cluster", "a")]));
    let files = builder.finish(BlockIdentity { id, range, external_labels }).unwrap();
    world.upload(&files).await;
    files.meta
}

#[tokio::test]
async fn two_servers_with_equal_labels_are_not_merged() {
    let world = World::empty();
    let slot = TimeRange::new(0, 2 * HOUR_MS);
    upload(&world, 1, slot, |t| t as f64).await;
    upload(&world, 2, slot, |t| t as f64 + 1.0).await;
    world.reach(10 * HOUR_MS);
    for _ in 0..2 {
        world.compactor(settings()).run_once().await.unwrap();
        let live = world.live().await;
        assert_eq!(live.len(), 2, "nothing is merged");
        let marks = quarantined(&world).await;
        assert_eq!(marks.len(), 2);
        for (_, mark) in &marks {
            assert!(
                mark.contains("conflicting-samples")
                    && mark.contains("--compact.merge-conflicting"),
                "{mark}"
            );
        }
    }
    world.compactor(Settings { merge_conflicting: true, ..settings() }).run_once().await.unwrap();
    assert_eq!(world.live().await.len(), 1, "merged when told to");
}

#[tokio::test]
async fn late_samples_of_one_server_are_merged() {
    let world = World::empty();
    upload(&world, 1, TimeRange::new(0, 2 * HOUR_MS), |t| t as f64).await;
    upload(&world, 2, TimeRange::new(HOUR_MS, 2 * HOUR_MS), |t| t as f64).await;
    world.reach(10 * HOUR_MS);
    world.compactor(settings()).run_once().await.unwrap();
    assert_eq!(world.live().await.len(), 1);
}

#[tokio::test]
async fn what_retention_ends_is_not_compacted_first() {
    let world = World::empty();
    for slot in 0..5 {
        let range = TimeRange::new(slot * 2 * HOUR_MS, (slot + 1) * 2 * HOUR_MS);
        upload(&world, 1, range, |t| t as f64).await;
    }
    world.reach(10 * DAY_MS);
    let retention = Retention { raw: Duration::from_secs(3600), ..Retention::default() };
    let settings = Settings { retention, downsampling: false, ..settings() };
    world.compactor(settings).run_once().await.unwrap();
    assert_eq!(world.live().await.len(), 0);
    assert_eq!(world.marked().await.len(), 5, "the five blocks, and nothing made of them");
}
