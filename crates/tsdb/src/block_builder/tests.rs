use std::sync::Arc;

use model::histogram::{BucketSpan, Histogram};

use super::*;
use crate::chunk::{decode_floats, decode_histograms, decode_integer_histograms};
use crate::index::Index;
use crate::segment::{ChunkRef, check_header, parse_record};

fn description() -> BlockIdentity {
    BlockIdentity {
        id: BlockId::from_parts(7_200_000, 42),
        range: TimeRange::new(0, 7_200_000),
        external_labels: Some(Labels::from_pairs([("cluster", "eu"), ("replica", "a")])),
    }
}

fn histogram(count: i64) -> Histogram {
    Histogram {
        schema: 1,
        count: 2 * count as u64,
        sum: count as f64 * 1.5,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![count, 0],
        ..Histogram::default()
    }
}

fn float_series() -> (Labels, Vec<i64>, Vec<f64>) {
    let ts: Vec<i64> = (0..300).map(|i| i * 15_000 + i % 3).collect();
    let values = ts.iter().map(|t| (*t as f64).sqrt()).collect();
    (Labels::from_pairs([("__name__", "a"), ("job", "x")]), ts, values)
}

fn histogram_series() -> (Labels, Vec<i64>, Vec<Histogram>) {
    let ts: Vec<i64> = (0..300).map(|i| i * 15_000).collect();
    let histograms = (0..300).map(|i| histogram(if i < 200 { 1000 + i } else { i })).collect();
    (Labels::from_pairs([("__name__", "b"), ("job", "x")]), ts, histograms)
}

fn build() -> BlockFiles {
    let mut builder = BlockBuilder::new();
    let (labels, ts, values) = float_series();
    builder.push_floats(&labels, &ts, &values).unwrap();
    builder.push_floats(&Labels::from_pairs([("__name__", "aa")]), &[], &[]).unwrap();
    let (labels, ts, histograms) = histogram_series();
    builder.push_histograms(&labels, &ts, &histograms).unwrap();
    assert_eq!(builder.samples(), 600);
    builder.finish(description()).unwrap()
}

#[test]
fn what_was_pushed_is_read_back() {
    let files = build();
    let index = Index::open(files.index.clone().into()).unwrap();
    let all: Vec<_> = index.all_series().unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 2, "the series without samples is left out");
    check_header(&files.segments[0]).unwrap();
    let record = |chunk: &ChunkMeta| {
        let at = ChunkRef::from_raw(chunk.reference);
        parse_record(&files.segments[at.segment as usize][at.offset as usize..]).unwrap()
    };
    let (labels, ts, values) = float_series();
    assert_eq!((&all[0].labels, all[0].chunks.len()), (&labels, 3));
    let (mut read_ts, mut read_values) = (Vec::new(), Vec::new());
    for chunk in &all[0].chunks {
        let from = read_ts.len();
        let record = record(chunk);
        decode_floats(record.encoding, record.data, &mut read_ts, &mut read_values).unwrap();
        assert_eq!((chunk.min_time, chunk.max_time), (read_ts[from], read_ts[read_ts.len() - 1]));
    }
    assert_eq!((read_ts, read_values), (ts, values));
    let (labels, ts, histograms) = histogram_series();
    assert_eq!(
        (&all[1].labels, all[1].chunks.len()),
        (&labels, 3),
        "a reset at the 200th begins a chunk"
    );
    let (mut read_ts, mut read) = (Vec::new(), Vec::new());
    for chunk in &all[1].chunks {
        let record = record(chunk);
        decode_integer_histograms(record.encoding, record.data, &mut read_ts, &mut read).unwrap();
    }
    assert_eq!(read_ts, ts);
    assert!(
        read.iter()
            .zip(&histograms)
            .all(|(a, b)| a.sum == b.sum && a.positive_buckets == b.positive_buckets)
    );
}

#[test]
fn the_meta_says_what_is_there() {
    let files = build();
    let BlockMeta { stats, thanos, compaction, .. } = &files.meta;
    assert_eq!(
        (stats.num_samples, stats.num_float_samples, stats.num_histogram_samples),
        (600, 300, 300)
    );
    assert_eq!((stats.num_series, stats.num_chunks), (2, 6));
    assert_eq!((compaction.level, &compaction.sources[..]), (1, &[files.meta.ulid][..]));
    let thanos = thanos.as_ref().unwrap();
    assert_eq!(thanos.labels["cluster"], "eu");
    let paths: Vec<(&str, u64)> =
        thanos.files.iter().map(|f| (f.rel_path.as_str(), f.size_bytes)).collect();
    let sizes = (files.segments[0].len() as u64, files.index.len() as u64);
    assert_eq!(paths, [("chunks/000001", sizes.0), ("index", sizes.1), ("meta.json", 0)]);
    assert_eq!(files.bytes(), sizes.0 + sizes.1);
    assert_eq!(BlockMeta::from_json(&files.meta.to_json()).unwrap(), files.meta);
}

#[test]
fn a_saved_block_is_a_folder_with_a_meta() {
    let folder = std::env::temp_dir().join(format!("drumlin-block-builder-{}", std::process::id()));
    let files = build();
    files.save(&folder).unwrap();
    let block = folder.join(files.meta.ulid.to_string());
    assert_eq!(std::fs::read(block.join("index")).unwrap(), files.index);
    assert_eq!(std::fs::read(block.join("chunks/000001")).unwrap(), files.segments[0]);
    assert_eq!(std::fs::read(block.join("meta.json")).unwrap(), files.meta.to_json());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn series_out_of_order_are_refused() {
    let mut builder = BlockBuilder::new();
    for name in ["b", "a"] {
        builder.push_floats(&Labels::from_pairs([("__name__", name)]), &[1], &[1.0]).unwrap();
    }
    assert!(builder.finish(description()).is_err());
}

/// Floats and float histograms in turn; the second run of floats fills more than one chunk.
#[test]
fn mixed_samples_are_read_back() {
    let value = |i: i64| match i {
        10..40 => SampleValue::Histogram(Arc::new(histogram(i).to_float())),
        _ => SampleValue::Float(i as f64),
    };
    let samples: Vec<Sample> =
        (0..200).map(|i| Sample { t: i * 15_000, value: value(i) }).collect();
    let mut builder = BlockBuilder::new();
    builder.push_samples(&Labels::from_pairs([("__name__", "a")]), &samples).unwrap();
    let files = builder.finish(description()).unwrap();
    let stats = &files.meta.stats;
    assert_eq!(
        (stats.num_samples, stats.num_float_samples, stats.num_histogram_samples),
        (200, 170, 30)
    );
    let index = Index::open(files.index.clone().into()).unwrap();
    let series = index.all_series().unwrap().next().unwrap().unwrap();
    let mut read = Vec::new();
    for chunk in &series.chunks {
        let at = ChunkRef::from_raw(chunk.reference);
        let record =
            parse_record(&files.segments[at.segment as usize][at.offset as usize..]).unwrap();
        if record.encoding == Encoding::Xor {
            let (mut ts, mut values) = (Vec::new(), Vec::new());
            decode_floats(record.encoding, record.data, &mut ts, &mut values).unwrap();
            read.extend(ts.into_iter().zip(values));
        } else {
            let (mut ts, mut histograms) = (Vec::new(), Vec::new());
            decode_histograms(record.encoding, record.data, &mut ts, &mut histograms).unwrap();
            read.extend(ts.into_iter().zip(histograms.iter().map(|h| h.sum / 1.5)));
        }
    }
    let pushed: Vec<(i64, f64)> = (0..200).map(|i| (i * 15_000, i as f64)).collect();
    assert_eq!(read, pushed);
    assert_eq!(series.chunks.len(), 4);
}
