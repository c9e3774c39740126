//! The compactor over buckets of synthetic blocks: what it leaves, what it must never lose, what a
//! kill at any instant and a second compactor may not change.

mod cases;
mod catalog;
mod choice;
mod covers;
mod formats;
mod histories;
mod releases;
#[path = "../../merge/tests/support/resets.rs"]
mod resets;
mod statistics;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact::{Dedup, DownsampleFormat, Retention, Settings};
use merge::SeriesChunk;
use model::{Resolution, TimeRange};
use resets::begins_after_reset;
use support::{Blocks, HOUR_MS, World};
use testkit::{Fault, FaultPlan, Op};

const DAY_MS: i64 = 24 * HOUR_MS;

#[tokio::test]
async fn two_hour_blocks_grow_and_lose_no_sample() {
    let world = World::with_days(3, 1).await;
    let before = world.samples().await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let after = Blocks::of(&world).await;
    assert_eq!(world.samples().await, before, "samples per series");
    // the 2d range is closed, and so are the ranges after it that have newer blocks behind them
    assert_eq!(after.raw_spans_hours("eu", "a"), [48, 8, 8, 2, 2, 2, 2]);
    assert_eq!(
        after.copies("eu", "a", Resolution::FiveMinutes),
        after.copies("eu", "a", Resolution::OneHour)
    );
    assert_eq!(after.copies("eu", "a", Resolution::FiveMinutes), [TimeRange::new(0, 2 * DAY_MS)]);
    let again = Blocks::of(&world).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert_eq!(Blocks::of(&world).await, again, "a second run finds nothing to do");
}

#[tokio::test]
async fn replicas_are_merged_when_told_to() {
    let world = World::with_days(1, 2).await;
    let replica_labels = vec!["replica".to_owned()];
    for dedup in [Dedup::Chain, Dedup::Penalty] {
        let world = world.copied().await;
        let settings =
            Settings { replica_labels: replica_labels.clone(), dedup, ..Settings::default() };
        world.compactor(settings).run_once().await.unwrap();
        let blocks = Blocks::of(&world).await;
        assert!(
            blocks.raw.keys().all(|labels| !labels.contains("replica")),
            "{:?}",
            blocks.raw.keys()
        );
        let merged = world.samples().await;
        let count: u64 = merged.values().sum();
        let single: u64 = World::with_days(1, 1).await.samples().await.values().sum();
        match dedup {
            Dedup::Chain => assert!(count > single * 3 / 2, "{count} of both replicas"),
            Dedup::Penalty => {
                assert!(count < single * 11 / 10, "{count} is about one replica's {single}")
            }
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_instant_changes_nothing_in_the_end() {
    let world = World::with_days(3, 1).await;
    let unkilled = world.copied().await;
    let calls = unkilled.run_counting().await;
    let expected = unkilled.state().await;
    for step in 0..24 {
        let killed = world.copied().await;
        let alive = calls * (2 * step + 1) / 48;
        killed.run_with(FaultPlan::killed_after(alive)).await;
        killed.compactor(Settings::default()).run_once().await.unwrap();
        assert_eq!(killed.state().await, expected, "killed after {alive} of {calls} operations");
    }
}

#[tokio::test]
async fn faults_of_the_store_lose_and_double_nothing() {
    let world = World::with_days(3, 1).await;
    let calm = world.copied().await;
    calm.compactor(Settings::default()).run_once().await.unwrap();
    let (expected, samples) = (calm.state().await, calm.samples().await);
    for seed in 0..8 {
        let stormy = world.copied().await;
        for round in 0..3 {
            stormy.run_with(FaultPlan::seeded(seed * 10 + round, 30)).await;
        }
        stormy.compactor(Settings::default()).run_once().await.unwrap();
        assert_eq!(stormy.samples().await, samples, "seed {seed}");
        assert_eq!(stormy.state().await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn two_compactors_at_once_make_the_same_blocks() {
    let world = World::with_days(3, 1).await;
    let alone = world.copied().await;
    alone.compactor(Settings::default()).run_once().await.unwrap();
    let (one, two) = (world.compactor(Settings::default()), world.compactor(Settings::default()));
    let (a, b) = tokio::join!(one.run_once(), two.run_once());
    // one may find blocks that the other is just deleting; the next run settles it
    drop((a, b));
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert_eq!(world.state().await, alone.state().await);
    assert_eq!(world.samples().await, alone.samples().await);
}

#[tokio::test]
async fn a_broken_block_is_marked_and_the_others_go_on() {
    let world = World::with_days(3, 1).await;
    let victim = world.blocks_of("eu", "a").await[1];
    world.corrupt(&format!("{victim}/chunks/000001")).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let blocks = Blocks::of(&world).await;
    assert_eq!(blocks.raw_spans_hours("us", "a"), [48, 8, 8, 2, 2, 2, 2]);
    let mark = world.text(&format!("{victim}/no-compact-mark.json")).await;
    assert!(mark.contains("corrupt-block") && mark.contains(&victim.to_string()), "{mark}");
    assert!(world.exists(&format!("{victim}/meta.json")).await, "nothing is deleted");
    assert!(!world.exists(&format!("{victim}/deletion-mark.json")).await);
    let spans = blocks.raw_spans_hours("eu", "a");
    assert_eq!(spans, [2, 2, 44, 8, 8, 2, 2, 2, 2], "what lies around it is compacted");
}

#[tokio::test]
async fn a_sound_block_with_one_bad_read_is_not_marked() {
    let world = World::with_days(1, 1).await;
    let calm = world.copied().await;
    calm.compactor(Settings::default()).run_once().await.unwrap();
    let victim = world.blocks_of("eu", "a").await[1];
    let chunks = format!("{victim}/chunks/000001");
    let read = AtomicBool::new(false);
    let once = FaultPlan::new(move |call| {
        let first = call.op == Op::Get && call.key == chunks && !read.swap(true, Ordering::Relaxed);
        first.then_some(Fault::Flipped)
    });
    let ended = world.run_under(once, Settings::default()).await;
    assert!(ended.is_err(), "a block was left out");
    assert!(!world.exists(&format!("{victim}/no-compact-mark.json")).await);
    assert_ne!(world.state().await, calm.state().await, "without the block nothing is complete");
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert_eq!(world.samples().await, calm.samples().await);
}

#[tokio::test]
async fn downsampled_blocks_of_replicas_are_no_damage() {
    let world = World::with_days(3, 2).await;
    let thanos = Settings { downsample_format: DownsampleFormat::Thanos, ..Settings::default() };
    world.compactor(thanos.clone()).run_once().await.unwrap();
    let replica_labels = vec!["replica".to_owned()];
    let merging = Settings { replica_labels, dedup: Dedup::Penalty, ..thanos };
    world.compactor(merging).run_once().await.unwrap();
    let live = world.live().await;
    let five_minutes: Vec<_> =
        live.values().filter(|m| m.resolution() == Resolution::FiveMinutes).collect();
    assert_eq!(five_minutes.len(), 4, "of each replica of each cluster, as they were");
    let mut marks = 0;
    for meta in five_minutes {
        let path = format!("{}/no-compact-mark.json", meta.ulid);
        if world.exists(&path).await {
            let mark = world.text(&path).await;
            assert!(
                mark.contains("downsample-vertical-compaction") && !mark.contains("delete"),
                "{mark}"
            );
            marks += 1;
        }
    }
    assert_eq!(marks, 4);
}

#[tokio::test]
async fn raw_data_stays_while_a_copy_is_damaged() {
    let world = World::with_days(3, 1).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let before = world.samples().await;
    let live = world.live().await;
    let (folder, copy) = live.iter().find(|(_, m)| m.resolution() == Resolution::OneHour).unwrap();
    let file = &copy.thanos.as_ref().unwrap().files[0].rel_path;
    world.delete(&format!("{folder}/{file}")).await;
    world.advance(Duration::from_secs(41 * 3600));
    let retention = Retention { raw: Duration::from_secs(40 * 3600), ..Retention::default() };
    let settings = Settings { retention, allow_retire: true, ..Settings::default() };
    world.compactor(settings).run_once().await.unwrap();
    let after = world.samples().await;
    let cluster = copy
        .external_labels()
        .get("cluster")
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .unwrap();
    let has_all = |cluster: &str| {
        let of_cluster = |labels: &str| labels.contains(&format!("cluster=\"{cluster}\""));
        before
            .iter()
            .filter(|(labels, _)| of_cluster(labels))
            .all(|(labels, n)| after.get(labels) == Some(n))
    };
    assert!(has_all(&cluster), "{file} of the 1h copy of {cluster} is gone");
    assert!(
        !has_all(if cluster == "eu" { "us" } else { "eu" }),
        "the other cluster's copies are whole"
    );
}

#[tokio::test]
async fn blocks_that_are_not_to_be_downsampled_expire() {
    let world = World::with_days(1, 1).await;
    for id in world.blocks_of("eu", "a").await {
        let mark =
            format!(r#"{{"id":"{id}","version":1,"no_downsample_time":1,"reason":"manual"}}"#);
        world.put_bytes(&format!("{id}/no-downsample-mark.json"), mark.into_bytes()).await;
    }
    world.advance(Duration::from_secs(50 * 3600));
    let retention = Retention { raw: Duration::from_secs(40 * 3600), ..Retention::default() };
    world.compactor(Settings { retention, ..Settings::default() }).run_once().await.unwrap();
    let blocks = Blocks::of(&world).await;
    assert_eq!(blocks.raw.keys().filter(|labels| labels.contains("eu")).count(), 0);
    assert_eq!(
        blocks.raw.keys().filter(|labels| labels.contains("us")).count(),
        1,
        "these wait for their copies"
    );
}

#[tokio::test]
async fn a_broken_meta_is_left_alone() {
    let world = World::with_days(1, 1).await;
    let victim = world.blocks_of("eu", "a").await[0];
    world.put(&format!("{victim}/meta.json"), b"{\"ulid\": 1").await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert!(world.exists(&format!("{victim}/index")).await);
    assert_eq!(Blocks::of(&world).await.raw_spans_hours("us", "a"), [8, 8, 2, 2, 2, 2]);
}

#[tokio::test]
async fn retention_waits_for_the_copies() {
    let world = World::with_days(3, 1).await;
    let retention = Retention { raw: Duration::from_secs(40 * 3600), ..Retention::default() };
    let (delete_delay, allow_retire) = (Duration::ZERO, true);
    let settings = Settings { retention, delete_delay, allow_retire, ..Settings::default() };
    // the clock stands just after the last block: the 2d block expires only 40 h later
    world.advance(Duration::from_secs(41 * 3600));
    world.compactor(settings.clone()).run_once().await.unwrap();
    let first = Blocks::of(&world).await;
    assert!(
        first.raw_spans_hours("eu", "a").contains(&48),
        "no copies existed when retention was applied"
    );
    world.compactor(settings).run_once().await.unwrap();
    let second = Blocks::of(&world).await;
    assert!(!second.raw_spans_hours("eu", "a").contains(&48));
    assert_eq!(second.copies("eu", "a", Resolution::FiveMinutes), [TimeRange::new(0, 2 * DAY_MS)]);
}

#[tokio::test]
async fn old_leftovers_are_downsampled_although_nothing_completes_them() {
    let world = World::with_days(1, 1).await;
    world.advance(Duration::from_secs(10 * 24 * 3600));
    world.compactor(Settings::default()).run_once().await.unwrap();
    let blocks = Blocks::of(&world).await;
    let covered: i64 =
        blocks.copies("eu", "a", Resolution::OneHour).iter().map(|r| r.duration_ms()).sum();
    assert_eq!(covered, DAY_MS);
}

#[tokio::test]
async fn abandoned_uploads_and_marked_blocks_are_cleaned() {
    let world = World::with_days(1, 1).await;
    world.put("01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001", b"half").await;
    let settings = || Settings { consistency_delay: Duration::ZERO, ..Settings::default() };
    world.compactor(settings()).run_once().await.unwrap();
    assert!(
        world.exists("01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001").await,
        "it may still be under way"
    );
    let marked = world.marked().await;
    assert!(!marked.is_empty());
    world.advance_past_uploads(Duration::from_secs(49 * 3600));
    world.compactor(settings()).run_once().await.unwrap();
    assert!(!world.exists("01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001").await);
    for id in marked {
        assert_eq!(world.objects(&id).await, [""; 0], "block {id} was marked two days ago");
    }
}

#[tokio::test]
async fn thanos_blocks_and_both_formats() {
    let world = World::with_days(3, 1).await;
    for (format, parquet, tsdb) in
        [(DownsampleFormat::Thanos, 0, 1), (DownsampleFormat::Both, 1, 1)]
    {
        let world = world.copied().await;
        world
            .compactor(Settings { downsample_format: format, ..Settings::default() })
            .run_once()
            .await
            .unwrap();
        let blocks = Blocks::of(&world).await;
        assert_eq!(blocks.copies("eu", "a", Resolution::FiveMinutes).len(), parquet, "{format:?}");
        assert_eq!(
            blocks.thanos_copies("eu", "a", Resolution::FiveMinutes).len(),
            tsdb,
            "{format:?}"
        );
        assert_eq!(blocks.thanos_copies("eu", "a", Resolution::OneHour), [], "below ten days");
    }
}

/// Thanos' compactor made these blocks of the same raw block; only ids differ. The blocks are too
/// large for this repository, so this runs where the golden data lies beside it.
#[tokio::test]
async fn downsampled_blocks_have_the_chunks_that_thanos_writes() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/golden/downsampled");
    if !golden.exists() {
        println!("skipped: no golden data at {}", golden.display());
        return;
    }
    let world = World::of_folder(&golden, &["01M81HXWNC0A0S5M3B3JFKCXKR"]).await;
    world
        .compactor(Settings { downsample_format: DownsampleFormat::Thanos, ..Settings::default() })
        .run_once()
        .await
        .unwrap();
    let theirs = [
        ("01M81HXWQFQ2GBAYGTHD5KSMEG", Resolution::FiveMinutes),
        ("01M81HXX0GS6A2F69HCM1Y84FY", Resolution::OneHour),
    ];
    for (id, resolution) in theirs {
        let ours = world.downsampled(resolution).await;
        let read = |file: &str| std::fs::read(golden.join(id).join(file)).unwrap();
        let own = |file: &str| format!("{}/{file}", ours.ulid);
        let (index, segment) =
            (world.bytes(&own("index")).await, world.bytes(&own("chunks/000001")).await);
        let chunks = chunks_of(index.into(), segment.into());
        let expected = chunks_of(read("index").into(), read("chunks/000001").into());
        assert!(chunks.keys().eq(expected.keys()), "{resolution}");
        let differing: Vec<_> =
            chunks.iter().filter(|(labels, chunks)| expected[*labels] != **chunks).collect();
        assert!(
            differing.iter().all(|(_, chunks)| begins_after_reset(chunks)),
            "{resolution}: {differing:?}"
        );
        assert!(differing.len() < 5, "{resolution}: {}", differing.len());
        let expected = tsdb::meta::BlockMeta::from_json(&read("meta.json")).unwrap();
        assert_eq!(
            (ours.stats.num_series, ours.compaction),
            (expected.stats.num_series, expected.compaction)
        );
        // Thanos takes the distance between chunks of one series as their size, which leaves out
        // the last of each series
        let largest = chunks.values().flatten().map(SeriesChunk::size).max().unwrap();
        assert!(
            ours.thanos.unwrap().index_stats.unwrap().chunk_max_size >= largest as u64,
            "{resolution}"
        );
    }
}

/// The chunks of a block by the labels of their series.
fn chunks_of(index: Bytes, segment: Bytes) -> BTreeMap<String, Vec<SeriesChunk>> {
    let chunk = |meta: &tsdb::index::ChunkMeta| {
        let record =
            tsdb::segment::parse_record(&segment[(meta.reference & 0xffff_ffff) as usize..])
                .unwrap();
        let data = segment.slice_ref(record.data);
        SeriesChunk::from_stored(meta.min_time, meta.max_time, record.encoding, data).unwrap()
    };
    let index = tsdb::index::Index::open(index).unwrap();
    let series = index.all_series().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.labels.to_string(), entry.chunks.iter().map(chunk).collect())
    });
    series.collect()
}

#[tokio::test]
async fn settings_and_groups_are_kept_apart() {
    let world = World::with_days(1, 2).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let blocks = Blocks::of(&world).await;
    let labels: BTreeMap<_, _> =
        blocks.raw.iter().map(|(labels, spans)| (labels.as_str(), spans.len())).collect();
    assert_eq!(labels.len(), 4, "two clusters of two replicas: {labels:?}");
    assert!(labels.values().all(|n| *n == 6), "{labels:?}");
}

#[tokio::test]
async fn the_bucket_is_listed_again_only_after_changes() {
    let fresh = World::with_days(3, 1).await;
    // at first, after compaction, and after each kind of copies; and, as no time passes, the folder
    // of catalogs once
    for (downsample_format, busy) in
        [(DownsampleFormat::Parquet, 4), (DownsampleFormat::Thanos, 4), (DownsampleFormat::Both, 5)]
    {
        let world = fresh.copied().await;
        let settings = Settings { downsample_format, ..Settings::default() };
        assert_eq!(
            world.run_counting_listings(settings.clone()).await,
            busy,
            "{downsample_format:?}"
        );
        assert_eq!(
            world.run_counting_listings(settings).await,
            2,
            "{downsample_format:?}: nothing is left to do"
        );
    }
}

#[tokio::test]
async fn without_a_delay_nothing_that_is_marked_outlives_the_run() {
    let world = World::with_days(1, 1).await;
    let settings = Settings { delete_delay: Duration::ZERO, ..Settings::default() };
    world.compactor(settings).run_once().await.unwrap();
    assert_eq!(Blocks::of(&world).await.raw_spans_hours("eu", "a"), [8, 8, 2, 2, 2, 2]);
    assert_eq!(world.marked().await, [""; 0]);
}
