use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use object_store::path::Path;
use prometheus::Registry;
use tsdb::meta::{Compaction, Downsample, Thanos};

use super::*;
use crate::marker::Marker;
use crate::testing::{self, FailingReads};
use crate::{Bucket, Kind, SyncMetrics};

fn id(n: u64) -> BlockId {
    BlockId::from_parts(1_769_000_000_000 + n, u128::from(n))
}

fn meta(n: u64, labels: &[(&str, &str)], sources: &[u64]) -> BlockMeta {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let hours = i64::try_from(n).unwrap() * 7_200_000;
    BlockMeta {
        ulid: id(n),
        min_time: hours,
        max_time: hours + 7_200_000,
        stats: Default::default(),
        compaction: Compaction {
            level: 1,
            sources: sources.iter().map(|s| id(*s)).collect(),
            ..Compaction::default()
        },
        version: 1,
        thanos: Some(Thanos { labels, source: "sidecar".into(), ..Thanos::default() }),
        format: None,
        unknown: Default::default(),
    }
}

async fn put(bucket: &Bucket, meta: &BlockMeta) -> BlockLocation {
    let location = match meta.format {
        Some(_) => BlockLocation::parquet(&meta.external_labels(), meta.resolution(), meta.ulid),
        None => BlockLocation::tsdb(meta.ulid),
    };
    bucket.put(&location.index(), "i".into()).await.unwrap();
    bucket.put(&location.meta(), meta.to_json().into()).await.unwrap();
    location
}

fn fetcher(bucket: &Bucket, settings: FetcherSettings) -> (MetaFetcher, Registry) {
    let registry = Registry::new();
    (MetaFetcher::new(bucket.clone(), settings, SyncMetrics::new(&registry).unwrap()), registry)
}

fn ids(blocks: &[SyncedBlock]) -> Vec<BlockId> {
    blocks.iter().map(SyncedBlock::id).collect()
}

async fn filtered(metas: &[BlockMeta], filter: &dyn Filter) -> Synced {
    let bucket = testing::memory_bucket();
    for meta in metas {
        put(&bucket, meta).await;
    }
    fetcher(&bucket, FetcherSettings::default()).0.fetch(&[filter]).await.unwrap()
}

#[tokio::test]
async fn blocks_partial_and_broken_ones_and_strangers() {
    let bucket = testing::memory_bucket();
    let raw = meta(1, &[("a", "b")], &[1]);
    let mut parquet = meta(2, &[("a", "b")], &[1]);
    parquet.format = Some("parquet".into());
    parquet.thanos.as_mut().unwrap().downsample = Downsample { resolution: 300_000 };
    put(&bucket, &raw).await;
    let parquet_at = put(&bucket, &parquet).await;
    bucket.put(&BlockLocation::tsdb(id(3)).segment(1), "x".into()).await.unwrap();
    let broken = BlockLocation::tsdb(id(4));
    bucket.put(&broken.meta(), "{".into()).await.unwrap();
    let stranger = BlockLocation::tsdb(id(5));
    bucket.put(&stranger.meta(), raw.to_json().into()).await.unwrap();
    bucket.put(&"debug/metas/x.json".into(), "{}".into()).await.unwrap();

    let (fetcher, registry) = fetcher(&bucket, FetcherSettings::default());
    let synced = fetcher.fetch(&[]).await.unwrap();
    assert_eq!(ids(&synced.blocks), [id(1), id(2)]);
    assert_eq!(synced.blocks[1].location, parquet_at);
    assert_eq!(synced.blocks[1].resolution(), Resolution::FiveMinutes);
    assert_eq!(synced.partial.len(), 1);
    assert_eq!(
        (synced.partial[0].location.id(), synced.partial[0].has_deletion_mark),
        (id(3), false)
    );
    assert_eq!(synced.broken.iter().map(|b| b.location.id()).collect::<Vec<_>>(), [id(4), id(5)]);
    assert!(synced.broken.iter().all(|b| b.error.kind() == Kind::Corrupt));
    let expected = [(state::CORRUPTED_META, 2), (state::LOADED, 2), (state::NO_META, 1)];
    for (state, count) in expected {
        assert_eq!(synced.states[state], count, "{state}");
    }
    let families = registry.gather();
    let gauge = families.iter().find(|f| f.name() == "thanos_blocks_meta_synced").unwrap();
    assert_eq!(gauge.get_metric().len(), state::ALL.len());
}

#[tokio::test]
async fn metas_are_fetched_once_and_kept_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = testing::memory_bucket();
    let location = put(&bucket, &meta(1, &[("a", "b")], &[1])).await;
    let settings =
        FetcherSettings { cache_dir: Some(folder.path().to_owned()), ..FetcherSettings::default() };
    let (first, _) = fetcher(&bucket, settings.clone());
    assert_eq!(first.fetch(&[]).await.unwrap().blocks.len(), 1);
    // a change would be noticed only by fetching again
    bucket.put(&location.meta(), "{".into()).await.unwrap();
    assert_eq!(first.fetch(&[]).await.unwrap().blocks.len(), 1);
    let (restarted, _) = fetcher(&bucket, settings);
    assert_eq!(restarted.fetch(&[]).await.unwrap().blocks.len(), 1);
    let (elsewhere, _) = fetcher(&bucket, FetcherSettings::default());
    assert_eq!(elsewhere.fetch(&[]).await.unwrap().broken.len(), 1);
    bucket.delete(&location.meta()).await.unwrap();
    bucket.delete(&location.index()).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(first.fetch(&[]).await.unwrap().blocks.is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn marks_come_and_go() {
    let bucket = testing::memory_bucket();
    let location = put(&bucket, &meta(1, &[("a", "b")], &[1])).await;
    let (fetcher, _) = fetcher(&bucket, FetcherSettings::default());
    assert!(fetcher.fetch(&[]).await.unwrap().blocks[0].deletion_mark.is_none());
    let now = bucket.clock().now();
    let mark = DeletionMark::new(id(1), now, "test");
    mark.write(&bucket, &location).await.unwrap();
    NoCompactMark::new(id(1), now, "manual", "").write(&bucket, &location).await.unwrap();
    bucket.put(&location.file(NoDownsampleMark::FILE), "broken".into()).await.unwrap();
    let filter = IgnoreDeletionMark { delay: Duration::from_secs(60) };
    let synced = fetcher.fetch(&[&filter]).await.unwrap();
    let block = &synced.blocks[0];
    assert_eq!(
        (block.deletion_mark.as_ref(), block.no_downsample_mark.as_ref()),
        (Some(&mark), None)
    );
    assert_eq!(synced.states[state::MARKED_FOR_NO_COMPACT], 1);
    bucket.clock().sleep(Duration::from_secs(61)).await;
    let synced = fetcher.fetch(&[&filter]).await.unwrap();
    assert!(synced.blocks.is_empty());
    assert_eq!(
        (synced.states[state::MARKED_FOR_DELETION], synced.marked_for_deletion.len()),
        (1, 1)
    );
    DeletionMark::remove(&bucket, &location).await.unwrap();
    assert_eq!(fetcher.fetch(&[&filter]).await.unwrap().blocks.len(), 1);
}

#[tokio::test]
async fn deleted_spans_are_seen_where_there_are_any() {
    let bucket = testing::memory_bucket();
    for n in 1..=3 {
        put(&bucket, &meta(n, &[("a", "b")], &[n])).await;
    }
    let file = |n: u64| BlockLocation::tsdb(id(n)).file("tombstones");
    bucket.put(&file(1), vec![0; 9].into()).await.unwrap();
    bucket.put(&file(2), vec![0; 10].into()).await.unwrap();
    let (fetcher, _) = fetcher(&bucket, FetcherSettings::default());
    let first = fetcher.fetch(&[]).await.unwrap();
    let sizes: Vec<Option<u64>> =
        first.blocks.iter().map(|b| b.tombstones.as_ref().map(|t| t.size)).collect();
    assert_eq!(sizes, [None, Some(10), None]);
    bucket.put(&file(2), vec![1; 10].into()).await.unwrap();
    let second = fetcher.fetch(&[]).await.unwrap();
    assert_ne!(
        first.blocks[1].tombstones, second.blocks[1].tombstones,
        "written again, so another version"
    );
    bucket.delete(&file(2)).await.unwrap();
    assert!(fetcher.fetch(&[]).await.unwrap().blocks.iter().all(|b| b.tombstones.is_none()));
}

/// Reads of objects whose path holds one of these words fail.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<Vec<(String, Kind)>>>);

impl Refused {
    fn refuse(&self, words: &[(&str, Kind)]) {
        *self.0.lock().unwrap() =
            words.iter().map(|(word, kind)| ((*word).to_owned(), *kind)).collect();
    }

    fn failure(&self, path: &Path) -> Option<object_store::Error> {
        let words = self.0.lock().unwrap();
        let (_, kind) = words.iter().find(|(word, _)| path.as_ref().contains(word.as_str()))?;
        Some(match kind {
            Kind::Denied => object_store::Error::PermissionDenied {
                path: path.to_string(),
                source: "403".into(),
            },
            _ => object_store::Error::Generic { store: "refusing", source: "503".into() },
        })
    }
}

fn refusing() -> (Bucket, Refused) {
    let refused = Refused::default();
    let told = refused.clone();
    let store = FailingReads::new(move |path| told.failure(path));
    (testing::bucket_over(Arc::new(store)), refused)
}

fn unseen(synced: &Synced) -> Vec<(BlockId, Kind)> {
    synced.unseen.iter().map(|u| (u.location.id(), u.error.kind())).collect()
}

#[tokio::test]
async fn a_block_that_cannot_be_looked_at_is_unseen_and_not_broken() {
    for kind in [Kind::Unavailable, Kind::Denied] {
        let (bucket, reads) = refusing();
        for n in 1..=3 {
            put(&bucket, &meta(n, &[("a", "b")], &[n])).await;
        }
        let (fetcher, _) = fetcher(&bucket, FetcherSettings::default());
        reads.refuse(&[(&id(2).to_string(), kind)]);
        let lines = testing::Lines::default();
        let listening = lines.listen();
        fetcher.fetch(&[]).await.unwrap();
        let synced = fetcher.fetch(&[]).await.unwrap();
        assert_eq!(
            (ids(&synced.blocks), unseen(&synced)),
            (vec![id(1), id(3)], vec![(id(2), kind)])
        );
        assert!(synced.broken.is_empty() && synced.unseen[0].known.is_none());
        assert!(
            synced.unseen[0].error.to_string().contains(&id(2).to_string()),
            "{}",
            synced.unseen[0].error
        );
        assert_eq!((synced.states[state::FAILED], synced.states[state::CORRUPTED_META]), (1, 0));
        reads.refuse(&[]);
        let synced = fetcher.fetch(&[]).await.unwrap();
        assert_eq!(
            (synced.blocks.len(), synced.unseen.len(), synced.states[state::FAILED]),
            (3, 0, 0)
        );
        fetcher.fetch(&[]).await.unwrap();
        drop(listening);
        assert_eq!((lines.warnings(), lines.infos()), (1, 1), "one line per change, not per sync");
        // what was seen once stays known, whatever the bucket says later
        reads.refuse(&[("meta.json", kind)]);
        let synced = fetcher.fetch(&[]).await.unwrap();
        assert_eq!((synced.blocks.len(), synced.unseen.len()), (3, 0));
    }
}

#[tokio::test]
async fn a_mark_that_was_read_stands_in_while_the_bucket_fails() {
    let (bucket, reads) = refusing();
    let location = put(&bucket, &meta(1, &[("a", "b")], &[1])).await;
    let now = bucket.clock().now();
    let mark = DeletionMark::new(id(1), now, "first");
    mark.write(&bucket, &location).await.unwrap();
    let (fetcher, _) = fetcher(&bucket, FetcherSettings::default());
    reads.refuse(&[("deletion-mark", Kind::Denied)]);
    let synced = fetcher.fetch(&[]).await.unwrap();
    assert_eq!((synced.blocks.len(), unseen(&synced)), (0, vec![(id(1), Kind::Denied)]));
    assert!(synced.marked_for_deletion.is_empty(), "nobody knows since when");
    assert_eq!(synced.unseen[0].known.as_ref().unwrap().id(), id(1));

    reads.refuse(&[]);
    assert_eq!(fetcher.fetch(&[]).await.unwrap().blocks[0].deletion_mark.as_ref(), Some(&mark));
    let later = DeletionMark::new(id(1), now, "second");
    bucket
        .put(&location.file(DeletionMark::FILE), tsdb::meta::to_marker_json(&later).into())
        .await
        .unwrap();
    NoCompactMark::new(id(1), now, "manual", "").write(&bucket, &location).await.unwrap();
    reads.refuse(&[("deletion-mark", Kind::Unavailable)]);
    let synced = fetcher.fetch(&[]).await.unwrap();
    assert_eq!(synced.blocks[0].deletion_mark.as_ref(), Some(&mark), "as it was read last");
    assert!(synced.blocks[0].no_compact_mark.is_some() && synced.unseen.is_empty());
    reads.refuse(&[("no-compact", Kind::Unavailable)]);
    let synced = fetcher.fetch(&[]).await.unwrap();
    assert_eq!(synced.blocks[0].deletion_mark.as_ref(), Some(&later));
    assert!(synced.blocks[0].no_compact_mark.is_some());
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_costs_the_cache_alone() {
    let bucket = testing::memory_bucket();
    for n in 1..=2 {
        put(&bucket, &meta(n, &[("a", "b")], &[n])).await;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = FetcherSettings {
        cache_dir: Some(file.path().join("meta-syncer")),
        ..FetcherSettings::default()
    };
    let (fetcher, _) = fetcher(&bucket, settings);
    let lines = testing::Lines::default();
    let _listening = lines.listen();
    for _ in 0..2 {
        assert_eq!(fetcher.fetch(&[]).await.unwrap().blocks.len(), 2);
        put(&bucket, &meta(3, &[("a", "b")], &[3])).await;
        fetcher.fetch(&[]).await.unwrap();
        bucket.delete(&BlockLocation::tsdb(id(3)).meta()).await.unwrap();
    }
    assert_eq!(lines.warnings(), 1, "not one per block and sync");
}

#[tokio::test]
async fn the_time_partition_keeps_what_reaches_in() {
    let metas: Vec<BlockMeta> = (1..=4).map(|n| meta(n, &[("a", "b")], &[n])).collect();
    let range = TimeRange::new(metas[1].min_time + 1, metas[2].min_time);
    let synced = filtered(&metas, &TimePartition { range }).await;
    assert_eq!(ids(&synced.blocks), [id(2)]);
    assert_eq!(synced.states[state::TIME_EXCLUDED], 3);
}

#[tokio::test]
async fn relabelling_sees_labels_and_block_id() {
    let metas = [meta(1, &[("c", "eu"), ("replica", "0")], &[1]), meta(2, &[("c", "us")], &[2])];
    let filter = |yaml: &str| RelabelFilter {
        configs: parse_relabel_configs(yaml).unwrap(),
        without: vec!["replica".into()],
    };
    let synced =
        filtered(&metas, &filter("[{action: keep, source_labels: [c, replica], regex: 'eu;'}]"))
            .await;
    assert_eq!((ids(&synced.blocks), synced.states[state::LABEL_EXCLUDED]), (vec![id(1)], 1));
    let by_id = format!("[{{action: drop, source_labels: [__block_id], regex: {}}}]", id(1));
    assert_eq!(ids(&filtered(&metas, &filter(&by_id)).await.blocks), [id(2)]);
}

#[tokio::test]
async fn fresh_blocks_wait_unless_a_compactor_made_them() {
    let now = testing::TestClock::new();
    let now = model::Clock::now(&*now);
    let mut metas: Vec<BlockMeta> = (1..=3).map(|n| meta(n, &[("a", "b")], &[n])).collect();
    metas[0].thanos.as_mut().unwrap().set_upload_time(now.saturating_add(-60_000));
    metas[1].thanos.as_mut().unwrap().set_upload_time(now.saturating_add(-60_000));
    metas[1].thanos.as_mut().unwrap().source = "compactor".into();
    let synced = filtered(&metas, &ConsistencyDelay { delay: Duration::from_secs(120) }).await;
    // the third has no upload time; its id is old
    assert_eq!((ids(&synced.blocks), synced.states[state::TOO_FRESH]), (vec![id(2), id(3)], 1));
}

#[tokio::test]
async fn replica_labels_go() {
    let metas = [
        meta(1, &[("c", "eu"), ("r", "0")], &[1]),
        meta(2, &[("r", "1")], &[2]),
        meta(3, &[("c", "x")], &[3]),
    ];
    let synced =
        filtered(&metas, &RemoveReplicaLabels { labels: vec!["r".into(), "q".into()] }).await;
    let labels: Vec<String> = synced.blocks.iter().map(|b| b.labels.to_string()).collect();
    assert_eq!(labels, [r#"{c="eu"}"#, r#"{r="deduped"}"#, r#"{c="x"}"#]);
    assert!(!synced.states.contains_key("replica-label-removed"));
}

#[tokio::test]
async fn blocks_whose_sources_are_in_another_are_duplicates() {
    let mut coarse = meta(7, &[("a", "b")], &[1, 2]);
    coarse.thanos.as_mut().unwrap().downsample = Downsample { resolution: 300_000 };
    let metas = [
        meta(1, &[("a", "b")], &[1]),
        meta(2, &[("a", "b")], &[2]),
        meta(3, &[("a", "other")], &[1]),
        meta(4, &[("a", "b")], &[1, 2]),
        meta(5, &[("a", "b")], &[1, 2]),
        meta(6, &[("a", "b")], &[2, 3]),
        coarse,
    ];
    let synced = filtered(&metas, &Deduplicate).await;
    assert_eq!(ids(&synced.blocks), [id(3), id(4), id(6), id(7)]);
    assert_eq!(ids(&synced.duplicates), [id(1), id(2), id(5)]);
    assert_eq!(synced.states[state::DUPLICATE], 3);
}
