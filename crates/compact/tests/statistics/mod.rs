//! The file of statistics in blocks that the compactor writes, against a count of what they hold.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use compact::{DownsampleFormat, Settings};
use model::{Labels, Resolution};
use parquet_block::statistics::{Counts, Ranking, STATISTICS_FILE, Statistics, TOP_PAIRS};
use tsdb::index::Index;
use tsdb::meta::BlockMeta;
use tsdb::segment;

use crate::cases;
use crate::support::World;

type Counted = BTreeMap<(String, String), Counts>;

/// What is in a block by its index and its only segment.
#[derive(Default)]
struct Naive {
    totals: Counts,
    metrics: Counted,
    label_names: Counted,
    label_pairs: Counted,
}

impl Naive {
    fn of(index: Bytes, segment: &Bytes) -> Naive {
        let mut naive = Naive::default();
        // the head of the segment counts as a part of the first chunk
        let mut bytes = segment::HEADER_LEN as u64;
        for entry in Index::open(index).unwrap().all_series().unwrap() {
            let entry = entry.unwrap();
            let mut samples = 0;
            for chunk in &entry.chunks {
                assert_eq!(chunk.reference >> 32, 0, "one segment");
                let stored = &segment[chunk.reference as usize..];
                let record = segment::parse_record(stored).unwrap();
                bytes += record.len as u64;
                samples += tsdb::chunk::num_samples(record.encoding, record.data).unwrap() as u64;
            }
            naive.add(&entry.labels, Counts { series: 1, samples, bytes });
            bytes = 0;
        }
        naive
    }

    fn add(&mut self, labels: &Labels, counts: Counts) {
        let name = |name: &str| (name.to_owned(), String::new());
        add(&mut self.totals, counts);
        let metric = labels.get("__name__").unwrap_or_default();
        let metric = ("__name__".to_owned(), String::from_utf8_lossy(metric).into_owned());
        add(self.metrics.entry(metric).or_default(), counts);
        for (label, value) in labels.to_text() {
            add(self.label_names.entry(name(&label)).or_default(), counts);
            if label != "__name__" {
                add(self.label_pairs.entry((label, value)).or_default(), counts);
            }
        }
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.series += counts.series;
    sum.samples += counts.samples;
    sum.bytes += counts.bytes;
}

fn assert_ranked(ranking: &Ranking<'_>, counted: Counted, most: usize) {
    let mut expected: Vec<_> = counted.into_iter().collect();
    expected.sort_by_key(|(pair, counts)| (Reverse(counts.series), pair.clone()));
    expected.truncate(most);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let rows = ranking.rows.iter().map(|row| (pair(row.name, row.value), row.counts));
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

async fn statistics(world: &World, folder: &str) -> Statistics {
    let path = format!("{folder}/{STATISTICS_FILE}");
    Statistics::decode(&path, world.bytes(&path).await.into()).unwrap()
}

fn size_of(meta: &BlockMeta, file: impl Fn(&str) -> bool) -> Option<u64> {
    let files = meta.thanos.iter().flat_map(|t| &t.files);
    files.filter(|f| file(&f.rel_path)).map(|f| f.size_bytes).reduce(|a, b| a + b)
}

/// Looks at all TSDB blocks that have them; returns how many those are.
async fn check(world: &World) -> usize {
    let mut checked = 0;
    for (folder, meta) in world.live().await.into_iter().filter(|(_, m)| m.format.is_none()) {
        let Some(listed) = size_of(&meta, |name| name == STATISTICS_FILE) else { continue };
        let bytes = |file: &str| {
            let path = format!("{folder}/{file}");
            async move { Bytes::from(world.bytes(&path).await) }
        };
        assert_eq!(bytes(STATISTICS_FILE).await.len() as u64, listed);
        let found = statistics(world, &folder).await;
        let naive = Naive::of(bytes("index").await, &bytes("chunks/000001").await);
        assert_eq!(found.totals(), naive.totals);
        assert_eq!(found.totals().series, meta.stats.num_series);
        assert_eq!(found.totals().samples, meta.stats.num_samples);
        let chunks = size_of(&meta, |name| name.starts_with("chunks/"));
        assert_eq!(Some(found.totals().bytes), chunks, "all bytes are some series'");
        assert_ranked(&found.by_metric(), naive.metrics, usize::MAX);
        assert_ranked(&found.by_label_name(), naive.label_names, usize::MAX);
        assert_ranked(&found.by_label_pair(), naive.label_pairs, TOP_PAIRS);
        checked += 1;
    }
    checked
}

#[tokio::test]
async fn they_are_what_a_naive_count_finds() {
    let world = World::with_days(3, 1).await;
    let settings = Settings { downsample_format: DownsampleFormat::Thanos, ..Settings::default() };
    world.compactor(settings).run_once().await.unwrap();
    // of each cluster one of 2d, two of 8h, and the downsampled copy of the first
    assert_eq!(check(&world).await, 2 * 4);
}

#[tokio::test]
async fn deleted_samples_are_not_in_them() {
    let world = cases::case("7-tombstones-file").await;
    world.compactor(cases::settings()).run_once().await.unwrap();
    assert!(check(&world).await > 0);
    let live = world.live().await;
    let is_merged =
        |m: &&BlockMeta| m.compaction.sources.len() > 1 && m.resolution() == Resolution::Raw;
    let compacted: Vec<&BlockMeta> = live.values().filter(is_merged).collect();
    assert_eq!(compacted.len(), 1);
    let found = statistics(&world, &compacted[0].ulid.to_string()).await;
    assert_eq!(found.totals().samples, 2159);
}

/// Thanos' tools copy blocks without them; such a block stands in for its sources all the same.
#[tokio::test]
async fn a_block_without_them_is_whole() {
    let world = World::with_days(1, 1).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let live = world.live().await;
    let marked = world.marked().await;
    let made = live.iter().filter(|(_, m)| size_of(m, |f| f == STATISTICS_FILE).is_some());
    let made: Vec<_> = made.map(|(folder, _)| folder).collect();
    assert_eq!(made.len(), 2 * 2);
    for folder in made {
        world.delete(&format!("{folder}/{STATISTICS_FILE}")).await;
    }
    for folder in &marked {
        world.unmark(folder).await;
    }
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert_eq!(world.live().await, live);
    assert_eq!(world.marked().await, marked, "the sources are marked again");
}

/// Of another length than `meta.json` says they are damage.
#[tokio::test]
async fn a_block_with_cut_ones_is_not() {
    let world = World::with_days(1, 1).await;
    world.compactor(Settings::default()).run_once().await.unwrap();
    let live = world.live().await;
    let marked = world.marked().await;
    let is_made = |m: &BlockMeta| size_of(m, |f| f == STATISTICS_FILE).is_some();
    for (folder, _) in live.iter().filter(|(_, m)| is_made(m)) {
        world.put(&format!("{folder}/{STATISTICS_FILE}"), b"PAR1").await;
    }
    for folder in &marked {
        world.unmark(folder).await;
    }
    world.compactor(Settings::default()).run_once().await.unwrap();
    let sources = world.marked().await.iter().filter(|f| marked.contains(f)).count();
    assert_eq!(sources, 0, "no source is deleted because of them");
}
