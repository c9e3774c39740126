use model::Resolution;
use proptest::prelude::*;
use tsdb::chunk::{Aggregate, Encoding, XorEncoder};

use super::*;
use crate::replicas::read_replicas;
use crate::series::{ChunkBytes, ChunkContent};
use crate::{ChunkSelection, DownsampledSeries, Downsampler, cut, merge_series_chunks};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn xor(samples: &[(i64, f64)]) -> ChunkBytes {
    let mut encoder = XorEncoder::new();
    samples.iter().for_each(|(t, v)| encoder.push(*t, *v));
    ChunkBytes { encoding: Encoding::Xor, data: Bytes::from(encoder.finish()) }
}

fn raw(samples: &[(i64, f64)]) -> SeriesChunk {
    let (first, last) = (samples[0].0, samples[samples.len() - 1].0);
    SeriesChunk::new(first, last, ChunkContent::Raw(xor(samples)))
}

/// Entries that say when the last sample of a window was taken, and how long they span.
fn entries(windows: &[(i64, i64)]) -> Bytes {
    let mut out = Vec::new();
    let (mut before, mut step_before, mut length_before) = (0, 0, 0);
    for (last, length) in windows {
        let step = last.wrapping_sub(before);
        put_varint(&mut out, step.wrapping_sub(step_before));
        put_varint(&mut out, length.wrapping_sub(length_before));
        (before, step_before, length_before) = (*last, step, *length);
    }
    Bytes::from(out)
}

/// Ones at these times.
fn ones(times: &[i64]) -> Vec<(i64, f64)> {
    times.iter().map(|t| (*t, 1.0)).collect()
}

fn windows(samples: &[(i64, f64)], resolution: Resolution) -> DownsampledSeries {
    let (mut fine, mut coarse) = (DownsampledSeries::default(), DownsampledSeries::default());
    Downsampler::new(Resolution::FiveMinutes).raw(&[raw(samples)], &mut fine).unwrap();
    if resolution == Resolution::FiveMinutes {
        return fine;
    }
    Downsampler::new(resolution).coarser(Resolution::FiveMinutes, &fine, &mut coarse).unwrap();
    coarse
}

/// Downsampled chunks with times, as a store that knows the replica sends them.
fn chunks(samples: &[(i64, f64)], resolution: Resolution, replica: u64) -> Vec<SeriesChunk> {
    let selection =
        ChunkSelection { range: TimeRange::ALL, aggregates: &Aggregate::ALL, times: true };
    let chunks = windows(samples, resolution).chunks_within(selection).unwrap();
    let sent = |c: SeriesChunk| c.with_resolution(resolution).with_replica(Some(replica));
    chunks.into_iter().map(sent).collect()
}

fn reading(value: ValueOf) -> ReplicaReading {
    ReplicaReading { value, range: TimeRange::ALL, dedup: Some(Dedup::Penalty) }
}

/// The times in the column, and what is known of each.
fn read(chunks: &[SeriesChunk], value: ValueOf) -> Vec<(i64, Option<SampleTime>)> {
    let column = read_replicas(chunks, reading(value), &|_| true).unwrap();
    let times = sample_times(chunks, &column, reading(value), &|_| true).unwrap();
    assert_eq!(times.len(), column.len());
    column.times().into_iter().zip(times).collect()
}

fn known(t: i64, first: i64, last: i64) -> Option<SampleTime> {
    Some(SampleTime { t, span: TimeRange::from_closed(first, last) })
}

/// The chunks of several replicas, as they arrive.
fn together(replicas: &[Vec<SeriesChunk>]) -> Vec<SeriesChunk> {
    merge_series_chunks(replicas.concat())
}

#[test]
fn times_are_sent_where_all_are_known_and_they_are_asked_for() {
    let mut series = windows(&ones(&[10_000, 290_000, 310_000]), Resolution::FiveMinutes);
    let times = |series: &DownsampledSeries, times: bool| {
        let selection =
            ChunkSelection { range: TimeRange::ALL, aggregates: &[Aggregate::Sum], times };
        let [chunk] = &series.chunks_within(selection).unwrap()[..] else { panic!("one batch") };
        chunk.times.as_deref().cloned()
    };
    assert_eq!(times(&series, true), Some(entries(&[(290_000, 280_000), (310_000, 0)])));
    assert_eq!(times(&series, false), None);
    series.floats.first_t[1] = NO_TIME;
    assert_eq!(times(&series, true), None);
    // a block that has none
    (series.floats.first_t, series.floats.last_t) = (Vec::new(), Vec::new());
    assert_eq!(times(&series, true), None);
}

#[test]
fn blocks_hold_no_times() {
    let samples = ones(&[10_000, 290_000, 310_000]);
    let [with] = &chunks(&samples, Resolution::FiveMinutes, 1)[..] else { panic!("one batch") };
    let without = with.clone().with_times(None);
    assert!(with.times.is_some());
    assert_eq!(with.stored_form(), without.stored_form());
    assert_eq!(with.size(), without.size() + with.times.as_ref().unwrap().len());
}

#[test]
fn every_sample_has_its_time_and_the_span_of_its_window() {
    let samples = [10_000, 290_000, 310_000, 320_000, 901_000].map(|t| (t, t as f64));
    let chunks = chunks(&samples, Resolution::FiveMinutes, 1);
    let expected = vec![
        (299_999, known(290_000, 10_000, 290_000)),
        (599_999, known(320_000, 310_000, 320_000)),
        (901_000, known(901_000, 901_000, 901_000)),
    ];
    for value in [ValueOf::Average, ValueOf::Count, ValueOf::Max] {
        assert_eq!(read(&chunks, value), expected);
    }
    // a counter begins with its first sample
    let front = (10_000, known(10_000, 10_000, 290_000));
    assert_eq!(read(&chunks, ValueOf::Counter), [vec![front], expected].concat());
}

#[test]
fn raw_samples_have_their_own_times() {
    let mut all = chunks(&ones(&[10_000, 290_000]), Resolution::FiveMinutes, 1);
    all.push(raw(&ones(&[310_000, 320_000])).with_replica(Some(1)));
    let expected = [
        (290_000, known(290_000, 10_000, 290_000)),
        (310_000, known(310_000, 310_000, 310_000)),
        (320_000, known(320_000, 320_000, 320_000)),
    ];
    assert_eq!(read(&all, ValueOf::Average), expected);
    let column = read_replicas(&all[1..], reading(ValueOf::Average), &|_| true).unwrap();
    let times = sample_times(&all[1..], &column, reading(ValueOf::Average), &|_| true).unwrap();
    assert!(times.is_empty());
}

/// A sample every minute from `first` to `last`, a few seconds after the minute.
fn minutes(first: i64, last: i64, seconds: i64) -> Vec<(i64, f64)> {
    (first..=last).map(|m| (m * MINUTE + seconds * 1000, m as f64)).collect()
}

#[test]
fn a_window_spans_the_samples_of_all_replicas() {
    // the first ended in its first hour and came back in the third
    let first = [minutes(0, 20, 1), minutes(130, 170, 1)].concat();
    let second = minutes(0, 170, 3);
    let replicas = [&first, &second].map(|samples| chunks(samples, Resolution::OneHour, 1));
    let [a, b] = replicas;
    let b: Vec<_> = b.into_iter().map(|chunk| chunk.with_replica(Some(2))).collect();
    let at = |minute: i64, second: i64| minute * MINUTE + second * 1000;
    let found = read(&together(&[a, b]), ValueOf::Average);
    let expected = [
        (HOUR - 1, known(at(20, 1), at(0, 1), at(59, 3))),
        (2 * HOUR - 1, known(at(119, 3), at(60, 3), at(119, 3))),
        (at(170, 1), known(at(170, 1), at(120, 3), at(170, 3))),
    ];
    assert_eq!(found, expected);
}

#[test]
fn finer_samples_of_another_replica_belong_to_the_window() {
    let hours = chunks(&minutes(5, 50, 0), Resolution::OneHour, 1);
    let other = raw(&minutes(2, 70, 1)).with_replica(Some(2));
    let found = read(&together(&[hours, vec![other]]), ValueOf::Average);
    let (_, window) = found.iter().find(|(t, _)| *t == 50 * MINUTE).unwrap();
    assert_eq!(*window, known(50 * MINUTE, 2 * MINUTE + 1000, 59 * MINUTE + 1000));
}

#[test]
fn where_one_replica_does_not_say_nothing_is_known() {
    let [a, b] = [0, 3].map(|s| chunks(&minutes(0, 100, s), Resolution::OneHour, 1));
    let b: Vec<_> = b.into_iter().map(|c| c.with_replica(Some(2)).with_times(None)).collect();
    assert!(read(&together(&[a, b]), ValueOf::Average).iter().all(|(_, time)| time.is_none()));
}

#[test]
fn a_merged_counter_has_the_times_of_the_replicas_it_is_of() {
    let [a, b] = [0, 30].map(|s| chunks(&minutes(5, 300, s), Resolution::OneHour, 1));
    let b: Vec<_> = b.into_iter().map(|c| c.with_replica(Some(2))).collect();
    let found = read(&together(&[a, b]), ValueOf::Counter);
    let times: Vec<i64> = found.iter().map(|(_, time)| time.unwrap().t).collect();
    // both begin with their first sample
    let expected = [5.0, 5.5, 59.0, 119.0, 179.0, 239.0, 299.0, 300.0];
    assert_eq!(times, expected.map(|minute| (minute * MINUTE as f64) as i64));
}

#[test]
fn equal_chunks_keep_the_times_that_one_of_them_has() {
    let with = chunks(&minutes(0, 100, 0), Resolution::OneHour, 1);
    let without: Vec<_> = with.iter().map(|c| c.clone().with_times(None)).collect();
    assert_eq!(together(&[without, with.clone()]), with);
}

#[test]
fn a_cut_keeps_the_times_of_whole_windows() {
    let [chunk] = &chunks(&minutes(5, 290, 0), Resolution::OneHour, 1)[..] else {
        panic!("one batch")
    };
    let range = TimeRange::new(70 * MINUTE, 210 * MINUTE);
    let [part] = &cut(chunk, range, &[]).unwrap()[..] else { panic!("one part") };
    let found = read(std::slice::from_ref(part), ValueOf::Average);
    let at = |minute: i64| minute * MINUTE;
    let expected = [
        (2 * HOUR - 1, None),
        (3 * HOUR - 1, known(at(179), at(120), at(179))),
        (210 * MINUTE - 1, None),
    ];
    assert_eq!(found, expected);
    let inside = TimeRange::new(70 * MINUTE, 80 * MINUTE);
    let [part] = &cut(chunk, inside, &[]).unwrap()[..] else { panic!("one part") };
    assert_eq!(part.times, None);
}

#[test]
fn impossible_times_are_not_believed() {
    let [chunk] = &chunks(&ones(&[10_000, 290_000, 310_000]), Resolution::FiveMinutes, 1)[..]
    else {
        panic!("one batch")
    };
    let read = |times: Bytes| {
        let chunk = chunk.clone().with_times(Some(times));
        read(&[chunk], ValueOf::Average).into_iter().filter(|(_, time)| time.is_some()).count()
    };
    assert_eq!(read(entries(&[(290_000, 280_000), (310_000, 0)])), 2);
    for length in [-1, i64::MIN] {
        assert_eq!(read(entries(&[(290_000, length), (310_000, 0)])), 0, "{length}");
    }
    // longer than its window
    assert_eq!(read(entries(&[(290_000, i64::MAX), (310_000, 0)])), 1);
    // each begins after the one before it has ended
    assert_eq!(read(entries(&[(290_000, 280_000), (310_000, 20_000)])), 0);
    assert_eq!(read(Bytes::from_static(b"\x02\x04\xff")), 0, "half an entry");
}

#[test]
fn regular_scrapes_take_two_bytes_a_window() {
    let first: Vec<i64> = (0..100).map(|i| 1_767_225_600_000 + i * 300_000).collect();
    let last: Vec<i64> = first.iter().map(|t| t + 285_000).collect();
    assert!(encode_times(&first, &last).unwrap().len() < 2 * 100 + 20);
}

fn life() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let steps = prop::collection::vec((1..900_000i64, 0..100u8), 1..300);
    (0..10_000_000i64, steps).prop_map(|(begin, steps)| {
        let mut at = begin;
        let mut next = |(step, v): (i64, u8)| {
            at += step;
            (at, f64::from(v))
        };
        steps.into_iter().map(&mut next).collect()
    })
}

proptest! {
    #[test]
    fn times_are_those_of_the_samples(samples in life()) {
        for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
            let all = chunks(&samples, resolution, 1);
            let selected = windows(&samples, resolution);
            prop_assert_eq!(&DownsampledSeries::from_chunks(&all, resolution).unwrap(), &selected);
            let mut start = 0;
            for (t, time) in read(&all, ValueOf::Average) {
                let end = samples.partition_point(|s| s.0 <= t);
                let last = samples[end - 1].0;
                prop_assert_eq!(time, known(last, samples[start].0, last));
                start = end;
            }
        }
    }

    #[test]
    fn hostile_times_do_no_harm(
        samples in life(),
        times in prop::collection::vec((any::<i64>(), any::<i64>()), 0..20),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        for times in [entries(&times), Bytes::from(bytes)] {
            let all: Vec<_> = chunks(&samples, Resolution::FiveMinutes, 1)
                .into_iter()
                .map(|c| c.with_times(Some(times.clone())))
                .collect();
            let column = read_replicas(&all, reading(ValueOf::Average), &|_| true).unwrap();
            let ts = column.times();
            let reading = reading(ValueOf::Average);
            if let Ok(found) = sample_times(&all, &column, reading, &|_| true) {
                for (time, t) in found.iter().zip(ts).filter_map(|(f, t)| Some(((*f)?, t))) {
                    prop_assert!(time.t <= t && time.span.start <= time.t);
                }
            }
            let _ = DownsampledSeries::from_chunks(&all, Resolution::FiveMinutes);
            let _ = cut(&all[0], TimeRange::new(0, 5_000_000), &[]);
        }
    }
}

#[test]
fn one_replica_is_read_as_several_are() {
    let samples: Vec<(i64, f64)> = (0..80).map(|i| (11_823_000 + i * 15_000, i as f64)).collect();
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        let run = chunks(&samples, resolution, 1);
        for value in [ValueOf::Average, ValueOf::Counter] {
            let column = read_replicas(&run, reading(value), &|_| true).unwrap();
            let ts = column.times();
            let replica = ReplicaTimes::new(&run, &ts);
            let slow: Vec<_> =
                (0..ts.len()).map(|i| time_of(std::slice::from_ref(&replica), 0, i)).collect();
            assert_eq!(times_of_run(&run, &ts), slow, "{resolution} {value:?} {ts:?}");
            assert!(slow.iter().all(Option::is_some), "{slow:?} {ts:?}");
        }
    }
}
