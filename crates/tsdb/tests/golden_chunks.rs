//! Chunks, segments and tombstones that Prometheus and Thanos wrote, decoded and written again.

use std::path::{Path, PathBuf};

use model::histogram::{Histogram, ResetHint, bucket_indices, spans_of};
use tsdb::chunk::{self, Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder};
use tsdb::segment::{self, SegmentWriter};
use tsdb::tombstones::Tombstones;

/// Folders of blocks: the committed ones, and the full set if it lies beside the repository.
fn block_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("tests/data/raw"), root.join("tests/data/aggr")];
    let full = root.join("../../../shared/data/golden");
    let sets = ["raw/eu-0", "raw/eu-1", "raw/us-0", "raw/us-1", "downsampled"];
    folders.extend(sets.iter().map(|set| full.join(set)).filter(|folder| folder.is_dir()));
    folders
}

fn blocks() -> Vec<PathBuf> {
    let folders = block_folders();
    let entries =
        folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder of blocks"));
    entries.map(|entry| entry.expect("a block").path()).collect()
}

fn segments() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for block in blocks() {
        for file in std::fs::read_dir(block.join("chunks")).expect("chunks of a block") {
            all.push(std::fs::read(file.expect("a segment").path()).expect("a readable segment"));
        }
    }
    all
}

fn reencode(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let mut ts = Vec::new();
    match encoding {
        Encoding::Xor => {
            let mut values = Vec::new();
            chunk::decode_floats(encoding, data, &mut ts, &mut values).unwrap();
            assert_eq!(chunk::num_samples(encoding, data).unwrap(), ts.len());
            let mut encoder = XorEncoder::new();
            ts.iter().zip(&values).for_each(|(t, value)| encoder.push(*t, *value));
            encoder.finish()
        }
        Encoding::Histogram => {
            let mut values: Vec<Histogram> = Vec::new();
            chunk::decode_integer_histograms(encoding, data, &mut ts, &mut values).unwrap();
            let mut encoder = HistogramEncoder::new(chunk::reset_hint(encoding, data).unwrap());
            for (t, histogram) in ts.iter().zip(&values) {
                assert_eq!(encoder.push(*t, histogram).unwrap(), Pushed::Appended);
                assert!(histogram.is_stale() || histogram.to_float().validate().is_ok());
            }
            encoder.finish()
        }
        Encoding::FloatHistogram => {
            let mut values = Vec::new();
            chunk::decode_histograms(encoding, data, &mut ts, &mut values).unwrap();
            let mut encoder =
                FloatHistogramEncoder::new(chunk::reset_hint(encoding, data).unwrap());
            for (t, histogram) in ts.iter().zip(&values) {
                assert_eq!(encoder.push(*t, histogram).unwrap(), Pushed::Appended);
            }
            encoder.finish()
        }
        Encoding::Aggregate => {
            let parts = chunk::split_aggregates(data).unwrap();
            let again =
                parts.map(|part| part.map(|(encoding, sub)| (encoding, reencode(encoding, sub))));
            let borrowed =
                [0, 1, 2, 3, 4].map(|i| again[i].as_ref().map(|(e, sub)| (*e, sub.as_slice())));
            chunk::join_aggregates(&borrowed)
        }
        other => panic!("the golden blocks have no {other} chunks"),
    }
}

#[test]
fn every_golden_chunk_and_segment_is_written_again_byte_for_byte() {
    let mut seen = std::collections::BTreeMap::<Encoding, usize>::new();
    for bytes in segments() {
        segment::check_header(&bytes).unwrap();
        let mut writer = SegmentWriter::new();
        let mut at = segment::HEADER_LEN;
        while at < bytes.len() {
            let record = segment::parse_record(&bytes[at..]).unwrap();
            let again = reencode(record.encoding, record.data);
            assert!(again == record.data, "{} chunk at offset {at}", record.encoding);
            assert_eq!(writer.push(record.encoding, &again).unwrap().to_raw(), at as u64);
            *seen.entry(record.encoding).or_default() += 1;
            at += record.len;
        }
        let written = writer.take().unwrap().bytes;
        assert!(written == bytes && writer.take().is_none());
    }
    for encoding in
        [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram, Encoding::Aggregate]
    {
        assert!(seen.get(&encoding).is_some_and(|n| *n > 10), "{encoding}: {seen:?}");
    }
}

#[test]
fn histograms_of_golden_chunks_say_what_is_known_of_resets() {
    let mut gauges = 0;
    for bytes in segments() {
        let mut at = segment::HEADER_LEN;
        while at < bytes.len() {
            let record = segment::parse_record(&bytes[at..]).unwrap();
            at += record.len;
            if !record.encoding.is_histogram() {
                continue;
            }
            let (mut ts, mut values) = (Vec::new(), Vec::new());
            chunk::decode_histograms(record.encoding, record.data, &mut ts, &mut values).unwrap();
            let gauge =
                chunk::reset_hint(record.encoding, record.data).unwrap() == ResetHint::Gauge;
            gauges += usize::from(gauge);
            for (i, histogram) in values.iter().enumerate().filter(|(_, h)| !h.is_stale()) {
                let expected = match i {
                    _ if gauge => ResetHint::Gauge,
                    0 => ResetHint::Unknown,
                    _ => ResetHint::NotReset,
                };
                assert_eq!(histogram.hint, expected);
            }
            for pair in values.windows(2).filter(|pair| !gauge && !pair[1].is_stale()) {
                let unhinted =
                    model::FloatHistogram { hint: ResetHint::Unknown, ..pair[1].clone() };
                assert!(
                    !unhinted.detect_reset(&pair[0]),
                    "a chunk of counters has no resets inside"
                );
            }
        }
    }
    assert!(gauges > 0);
}

#[test]
fn golden_tombstones_are_written_again_byte_for_byte() {
    let files =
        blocks().into_iter().filter_map(|block| std::fs::read(block.join("tombstones")).ok());
    let mut count = 0;
    for bytes in files {
        let tombstones = Tombstones::parse(&bytes).unwrap();
        assert!(tombstones.is_empty());
        assert_eq!(tombstones.to_bytes(), bytes);
        count += 1;
    }
    assert!(count > 0);
}

/// Drops empty buckets, as a client that has not observed them yet would not send them.
fn without_empty_buckets(histogram: &Histogram) -> Histogram {
    let mut sparse = histogram.clone();
    for (spans, deltas) in [
        (&mut sparse.positive_spans, &mut sparse.positive_buckets),
        (&mut sparse.negative_spans, &mut sparse.negative_buckets),
    ] {
        let mut count = 0;
        let mut absolute = Vec::new();
        for (index, delta) in bucket_indices(spans).zip(deltas.iter()) {
            count += delta;
            absolute.extend((count != 0).then_some((index, count)));
        }
        *spans = spans_of(absolute.iter().map(|bucket| bucket.0));
        let before = std::iter::once(0).chain(absolute.iter().map(|bucket| bucket.1));
        *deltas = absolute.iter().zip(before).map(|(bucket, before)| bucket.1 - before).collect();
    }
    sparse
}

#[test]
fn chunks_that_gain_buckets_are_recoded_as_prometheus_does() {
    let (mut grown, mut chunks) = (0, 0);
    for bytes in segments() {
        let mut at = segment::HEADER_LEN;
        while at < bytes.len() {
            let record = segment::parse_record(&bytes[at..]).unwrap();
            at += record.len;
            let mut ts = Vec::new();
            let again = match record.encoding {
                Encoding::Histogram => {
                    let mut values = Vec::new();
                    chunk::decode_integer_histograms(
                        record.encoding,
                        record.data,
                        &mut ts,
                        &mut values,
                    )
                    .unwrap();
                    let mut encoder = HistogramEncoder::new(
                        chunk::reset_hint(record.encoding, record.data).unwrap(),
                    );
                    for (t, histogram) in ts.iter().zip(&values) {
                        let sparse = without_empty_buckets(histogram);
                        grown += usize::from(
                            sparse.positive_buckets.len() < histogram.positive_buckets.len(),
                        );
                        assert_eq!(encoder.push(*t, &sparse).unwrap(), Pushed::Appended);
                    }
                    encoder.finish()
                }
                Encoding::FloatHistogram => {
                    let mut values = Vec::new();
                    chunk::decode_histograms(record.encoding, record.data, &mut ts, &mut values)
                        .unwrap();
                    let header = chunk::reset_hint(record.encoding, record.data).unwrap();
                    let mut encoder = FloatHistogramEncoder::new(header);
                    for (t, histogram) in ts.iter().zip(&mut values) {
                        histogram.compact(0);
                        assert_eq!(encoder.push(*t, histogram).unwrap(), Pushed::Appended);
                    }
                    encoder.finish()
                }
                _ => continue,
            };
            chunks += 1;
            assert!(again == record.data, "{} chunk that ends at offset {at}", record.encoding);
        }
    }
    assert!(grown > 0 && chunks > 0);
}
