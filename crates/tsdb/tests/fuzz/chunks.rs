use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{Histogram, MAX_SCHEMA, ResetHint};
use tsdb::chunk::{
    self, Aggregate, Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, Transcoded,
    XorEncoder,
};
use tsdb::segment::{self, Record, SegmentWriter};
use tsdb::tombstones::{Interval, covers};
use tsdb::{Error, Kind};

use super::{meter, seal};

/// A segment and the chunks in it. What is read comes back when it is written again, and what is
/// cut out is gone.
///
/// What came of each record, and in place of it the error of the segment where one ends; the parts
/// of an AggrChunk count as chunks.
pub(crate) fn chunks(bytes: &[u8]) -> Vec<Result<Encoding, Error>> {
    read(bytes);
    read(&seal::segment(bytes))
}

fn read(bytes: &[u8]) -> Vec<Result<Encoding, Error>> {
    let mut results = Vec::new();
    if let Err(error) = segment::check_header(bytes) {
        return vec![Err(error)];
    }
    let mut at = segment::HEADER_LEN;
    while at < bytes.len() {
        let record = meter::within(1024, || segment::parse_record(&bytes[at..]));
        assert_eq!(record, segment::parse_record(&bytes[at..]), "the same bytes give the same");
        let Record { encoding, data, len } = match record {
            Ok(record) => record,
            // its end is known
            Err(error) if error.kind() == Kind::Unsupported => {
                results.push(Err(error));
                at += segment::record_len(&bytes[at..]).expect("a record with a length");
                continue;
            }
            Err(error) => {
                results.push(Err(error));
                break;
            }
        };
        assert_eq!(segment::record_len(&bytes[at..]), Ok(len));
        at += len;
        check(encoding, data, &mut results);
        let mut writer = SegmentWriter::new();
        let place = writer.push(encoding, data).expect("a chunk that came from a segment");
        let written = writer.take().expect("what was pushed").bytes;
        let again = segment::parse_record(&written[place.offset as usize..]);
        assert!(again.is_ok_and(|again| again.encoding == encoding && again.data == data));
    }
    results
}

fn check(encoding: Encoding, data: &[u8], results: &mut Vec<Result<Encoding, Error>>) {
    let _ = chunk::stored_samples(encoding, data);
    let checked = match encoding {
        Encoding::Xor | Encoding::Xor2 => samples::<f64>(encoding, data).map(drop),
        Encoding::Histogram | Encoding::HistogramSt => integer_histograms(encoding, data),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => float_histograms(encoding, data),
        Encoding::Aggregate => aggregates(data, results),
    };
    if let Err(error) = &checked {
        let cut = chunk::cut(encoding, data, &[Interval { min_time: 0, max_time: i64::MAX }]);
        assert!(cut.is_err() || encoding == Encoding::Aggregate, "cut in spite of {error}");
    }
    results.push(checked.map(|()| encoding));
}

/// What a chunk of one kind is read into.
trait Value: Clone + Sized {
    /// What decoding may take in memory.
    fn most(data: &[u8]) -> usize;
    fn decode(
        encoding: Encoding,
        data: &[u8],
        ts: &mut Vec<i64>,
        values: &mut Vec<Self>,
    ) -> Result<(), Error>;
    /// Chunks that give the values back.
    fn encode(ts: &[i64], values: &[Self]) -> Vec<(Encoding, Vec<u8>)>;
    /// Whether they are the same, bit by bit but for NaNs, and but for the hints.
    fn same(&self, other: &Self) -> bool;
}

impl Value for f64 {
    fn most(data: &[u8]) -> usize {
        // eight samples to a byte, of 16 bytes each
        1024 + 160 * data.len()
    }

    fn decode(
        encoding: Encoding,
        data: &[u8],
        ts: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), Error> {
        chunk::decode_floats(encoding, data, ts, values)
    }

    fn encode(ts: &[i64], values: &[f64]) -> Vec<(Encoding, Vec<u8>)> {
        let mut encoder = XorEncoder::new();
        ts.iter().zip(values).for_each(|(t, value)| encoder.push(*t, *value));
        vec![(Encoding::Xor, encoder.finish())]
    }

    fn same(&self, other: &f64) -> bool {
        self.to_bits() == other.to_bits()
    }
}

/// Two samples to a byte, and eight buckets; beside that spans and bounds are repeated up to a
/// number that the reader sets, for each sample once more.
fn most_of_histograms(data: &[u8]) -> usize {
    (40 << 20) + 2048 * data.len()
}

impl Value for FloatHistogram {
    fn most(data: &[u8]) -> usize {
        most_of_histograms(data)
    }

    fn decode(
        encoding: Encoding,
        data: &[u8],
        ts: &mut Vec<i64>,
        values: &mut Vec<FloatHistogram>,
    ) -> Result<(), Error> {
        chunk::decode_histograms(encoding, data, ts, values)
    }

    fn encode(ts: &[i64], values: &[FloatHistogram]) -> Vec<(Encoding, Vec<u8>)> {
        let mut done = Vec::new();
        let mut encoder = FloatHistogramEncoder::default();
        for (t, value) in ts.iter().zip(values) {
            if let Pushed::NewChunk(header) = encoder.push(*t, value).expect("spans and buckets") {
                let full = std::mem::replace(&mut encoder, FloatHistogramEncoder::new(header));
                done.push((Encoding::FloatHistogram, full.finish()));
                assert_eq!(encoder.push(*t, value), Ok(Pushed::Appended));
            }
        }
        done.push((Encoding::FloatHistogram, encoder.finish()));
        done
    }

    fn same(&self, other: &FloatHistogram) -> bool {
        // chunks may hold what a histogram cannot be, such as a NaN for a bound
        let values = |h: &FloatHistogram| [&[h.zero_threshold], &h.custom_values[..]].concat();
        let alike = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        let (ours, others) = (values(self), values(other));
        let possible = |h: &FloatHistogram| FloatHistogram {
            zero_threshold: 0.0,
            custom_values: Vec::new(),
            ..h.clone()
        };
        ours.len() == others.len()
            && ours.iter().zip(&others).all(alike)
            && self.is_stale() == other.is_stale()
            && possible(self).same_data(&possible(other))
    }
}

impl Value for Histogram {
    fn most(data: &[u8]) -> usize {
        most_of_histograms(data)
    }

    fn decode(
        encoding: Encoding,
        data: &[u8],
        ts: &mut Vec<i64>,
        values: &mut Vec<Histogram>,
    ) -> Result<(), Error> {
        chunk::decode_integer_histograms(encoding, data, ts, values)
    }

    fn encode(ts: &[i64], values: &[Histogram]) -> Vec<(Encoding, Vec<u8>)> {
        let mut done = Vec::new();
        let mut encoder = HistogramEncoder::default();
        for (t, value) in ts.iter().zip(values) {
            if let Pushed::NewChunk(header) = encoder.push(*t, value).expect("spans and buckets") {
                let full = std::mem::replace(&mut encoder, HistogramEncoder::new(header));
                done.push((Encoding::Histogram, full.finish()));
                assert_eq!(encoder.push(*t, value), Ok(Pushed::Appended));
            }
        }
        done.push((Encoding::Histogram, encoder.finish()));
        done
    }

    fn same(&self, other: &Histogram) -> bool {
        self.to_float().same(&other.to_float())
            && self.positive_buckets == other.positive_buckets
            && self.negative_buckets == other.negative_buckets
            && (self.count, self.zero_count) == (other.count, other.zero_count)
    }
}

fn decode<V: Value>(encoding: Encoding, data: &[u8]) -> Result<(Vec<i64>, Vec<V>), Error> {
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    match V::decode(encoding, data, &mut ts, &mut values) {
        Ok(()) => {
            assert_eq!(ts.len(), values.len());
            assert_eq!(chunk::num_samples(encoding, data), Ok(ts.len()));
            Ok((ts, values))
        }
        Err(error) => {
            assert!(ts.is_empty() && values.is_empty(), "samples beside an error");
            Err(error)
        }
    }
}

fn assert_same<V: Value>(one: (&[i64], &[V]), other: (&[i64], &[V]), what: &str) {
    assert_eq!(one.0, other.0, "times {what}");
    assert_eq!(one.1.len(), other.1.len());
    let differs = one.1.iter().zip(other.1).position(|(a, b)| !a.same(b));
    assert_eq!(differs, None, "a value {what}");
}

/// What holds for all kinds of chunks.
fn samples<V: Value>(encoding: Encoding, data: &[u8]) -> Result<(Vec<i64>, Vec<V>), Error> {
    let read = meter::within(V::most(data), || decode::<V>(encoding, data));
    let again = decode::<V>(encoding, data);
    let (ts, values) = read?;
    let (again_ts, again_values) = again?;
    assert_same((&ts, &values), (&again_ts, &again_values), "read twice");
    let written = V::encode(&ts, &values);
    let (written_ts, written_values) = decode_all::<V>(&written);
    assert_same((&ts, &values), (&written_ts, &written_values), "written again");
    if encoding.needs_transcoding() {
        let chunks = chunk::transcode(encoding, data).expect("what is read is transcoded");
        let (transcoded_ts, transcoded_values) = decode_all::<V>(&parts(chunks));
        assert_same((&ts, &values), (&transcoded_ts, &transcoded_values), "transcoded");
    }
    check_cut(encoding, data, (&ts, &values));
    Ok((ts, values))
}

fn parts(chunks: Vec<Transcoded>) -> Vec<(Encoding, Vec<u8>)> {
    chunks.into_iter().map(|chunk| (chunk.encoding, chunk.data)).collect()
}

fn decode_all<V: Value>(chunks: &[(Encoding, Vec<u8>)]) -> (Vec<i64>, Vec<V>) {
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    for (encoding, data) in chunks {
        V::decode(*encoding, data, &mut ts, &mut values).expect("what was written is read");
    }
    (ts, values)
}

/// Deletes from the sample in the middle on.
fn check_cut<V: Value>(encoding: Encoding, data: &[u8], (ts, values): (&[i64], &[V])) {
    let Some(middle) = ts.get(ts.len() / 2) else { return };
    let deleted = [Interval { min_time: *middle, max_time: i64::MAX }];
    let cut = chunk::cut(encoding, data, &deleted).expect("what is read is cut");
    let cut = parts(cut.expect("a sample is deleted"));
    let (cut_ts, cut_values) = decode_all::<V>(&cut);
    let kept = |i: &usize| !covers(&deleted, ts[*i]);
    let kept: Vec<usize> = (0..ts.len()).filter(kept).collect();
    let kept_ts: Vec<i64> = kept.iter().map(|i| ts[*i]).collect();
    let kept_values: Vec<V> = kept.iter().map(|i| values[*i].clone()).collect();
    assert_same((&cut_ts, &cut_values), (&kept_ts, &kept_values), "after the cut");
}

fn integer_histograms(encoding: Encoding, data: &[u8]) -> Result<(), Error> {
    let integers = samples::<Histogram>(encoding, data);
    let floats = decode::<FloatHistogram>(encoding, data);
    check_shared(encoding, data, &floats);
    let ((ts, values), floats) = (integers?, floats?);
    assert_eq!(ts, floats.0);
    // of finer schemas buckets were added up, integers without rounding
    let as_stored = |histogram: &Histogram| histogram.schema < MAX_SCHEMA;
    let mut both = values.iter().zip(&floats.1).filter(|(integers, _)| as_stored(integers));
    assert!(both.all(|(integers, floats)| integers.to_float().same(floats)));
    Ok(())
}

fn float_histograms(encoding: Encoding, data: &[u8]) -> Result<(), Error> {
    let floats = samples::<FloatHistogram>(encoding, data);
    check_shared(encoding, data, &floats);
    floats.map(drop)
}

/// Decoding into pointers gives the same, and the header may forget a reset.
fn check_shared(
    encoding: Encoding,
    data: &[u8],
    expected: &Result<(Vec<i64>, Vec<FloatHistogram>), Error>,
) {
    let (mut ts, mut shared) = (Vec::new(), Vec::<Arc<FloatHistogram>>::new());
    let mut spare = Vec::new();
    let read = chunk::decode_shared_histograms(
        encoding,
        data,
        &mut ts,
        &mut shared,
        &mut spare,
        |_, _| true,
    );
    assert_eq!(read.as_ref().err(), expected.as_ref().err());
    if let Ok((expected_ts, values)) = expected {
        assert_eq!(&ts, expected_ts);
        assert_eq!(shared.len(), values.len());
        assert!(shared.iter().zip(values).all(|(shared, value)| shared.same(value)));
    }
    if let Some(forgotten) = chunk::forget_reset(encoding, data) {
        assert_eq!(chunk::reset_hint(encoding, data), Ok(ResetHint::NotReset));
        assert_eq!(chunk::reset_hint(encoding, &forgotten), Ok(ResetHint::Unknown));
    }
}

/// The parts are checked as chunks of their own.
fn aggregates(data: &[u8], results: &mut Vec<Result<Encoding, Error>>) -> Result<(), Error> {
    let parts = meter::within(1024, || chunk::split_aggregates(data))?;
    let joined = chunk::join_aggregates(&parts);
    assert_eq!(chunk::split_aggregates(&joined), Ok(parts));
    let counted = parts[Aggregate::Count as usize];
    assert_eq!(
        chunk::num_samples(Encoding::Aggregate, data).ok(),
        counted.and_then(|(encoding, data)| chunk::num_samples(encoding, data).ok())
    );
    for (encoding, part) in parts.iter().flatten() {
        check(*encoding, part, results);
    }
    let windows = counted.and_then(|(encoding, data)| decode::<f64>(encoding, data).ok());
    let Some(middle) = windows.and_then(|(ts, _)| ts.get(ts.len() / 2).copied()) else {
        return Ok(());
    };
    let deleted = [Interval { min_time: middle, max_time: i64::MAX }];
    for chunk in chunk::cut(Encoding::Aggregate, data, &deleted)?.unwrap_or_default() {
        chunk::split_aggregates(&chunk.data).expect("what was cut is read");
    }
    Ok(())
}
