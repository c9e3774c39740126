use std::collections::BTreeMap;

use model::{BlockId, Labels};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::Kind;

fn block() -> BlockId {
    BlockId::from_parts(1_768_435_200_000, 7)
}

fn counts(series: u64, samples: u64, bytes: u64) -> Counts {
    Counts { series, samples, bytes }
}

/// The rows as text.
fn shown(ranking: &Ranking<'_>) -> Vec<String> {
    let show = |row: &RankingRow<'_>| {
        let Counts { series, samples, bytes } = row.counts;
        format!("{}={} {series} {samples} {bytes}", row.name, row.value)
    };
    ranking.rows.iter().map(show).collect()
}

/// One series.
struct Given<'a> {
    labels: &'a [(&'a str, &'a str)],
    size: SeriesSize,
}

fn given<'a>(labels: &'a [(&'a str, &'a str)], samples: u64, bytes: u64) -> Given<'a> {
    Given { labels, size: SeriesSize { samples, bytes } }
}

fn of(series: &[Given<'_>]) -> Statistics {
    let mut builder = StatisticsBuilder::default();
    for Given { labels, size } in series {
        builder.push(&Labels::from_pairs(labels.iter().copied()), *size);
    }
    builder.finish()
}

fn decoded(statistics: &Statistics) -> Statistics {
    let bytes = statistics.encode(block()).unwrap();
    Statistics::decode("a/statistics.parquet", bytes.into()).unwrap()
}

#[test]
fn series_samples_and_bytes_are_counted_per_metric_name_and_pair() {
    let statistics = of(&[
        given(&[("__name__", "up"), ("job", "a"), ("pod", "x")], 10, 100),
        given(&[("__name__", "up"), ("job", "b")], 20, 200),
        given(&[("__name__", "down"), ("job", "a")], 1, 7),
        given(&[("job", "a")], 5, 50),
    ]);
    assert_eq!(statistics.totals(), counts(4, 36, 357));
    assert_eq!(
        shown(&statistics.by_metric()),
        ["__name__=up 2 30 300", "__name__= 1 5 50", "__name__=down 1 1 7"]
    );
    assert_eq!(
        shown(&statistics.by_label_name()),
        ["job= 4 36 357", "__name__= 3 31 307", "pod= 1 10 100"]
    );
    assert_eq!(
        shown(&statistics.by_label_pair()),
        ["job=a 3 16 157", "job=b 1 20 200", "pod=x 1 10 100"]
    );
    assert_eq!(statistics.by_label_pair().missing, 0);
    assert_eq!(decoded(&statistics), statistics);
}

#[test]
fn nothing_is_a_file_too() {
    let nothing = Statistics::default();
    assert_eq!(decoded(&nothing), nothing);
}

#[test]
fn names_that_are_no_text_count_once_per_series() {
    let mut builder = StatisticsBuilder::default();
    let size = SeriesSize { samples: 1, bytes: 2 };
    let odd: [(&[u8], &[u8]); 4] =
        [(b"__name__", b"a\xff"), (b"l\xfe", b"1"), (b"l\xff", b"2"), (b"ok", b"\xc3")];
    builder.push(&Labels::from_pairs(odd), size);
    builder.push(&Labels::from_pairs([(&b"__name__"[..], &b"a\xfd"[..])]), size);
    let statistics = builder.finish();
    assert_eq!(shown(&statistics.by_metric()), ["__name__=a\u{fffd} 2 2 4"]);
    assert_eq!(
        shown(&statistics.by_label_name()),
        ["__name__= 2 2 4", "l\u{fffd}= 1 1 2", "ok= 1 1 2"]
    );
    assert_eq!(shown(&statistics.by_label_pair()), ["l\u{fffd}=2 1 1 2", "ok=\u{fffd} 1 1 2"]);
    assert_eq!(decoded(&statistics), statistics);
}

/// Of 1500 pairs the first 1000 by series, name and value are listed.
#[test]
fn a_thousand_pairs_are_listed_and_the_others_bounded() {
    let mut builder = StatisticsBuilder::default();
    for series in 0..4000 {
        // the first 500 values have five series, the next 500 two, and the others one
        let value = if series < 2500 { series % 1500 } else { series % 500 };
        let labels = Labels::from_pairs([("pod", format!("{value:04}"))]);
        builder.push(&labels, SeriesSize::default());
    }
    let statistics = builder.finish();
    let pairs = statistics.by_label_pair();
    assert_eq!(pairs.rows.len(), TOP_PAIRS);
    let series: Vec<u64> = pairs.rows.iter().map(|row| row.counts.series).collect();
    assert!(series.is_sorted_by(|a, b| a >= b));
    assert_eq!(pairs.rows[0].value, "0000");
    assert_eq!((pairs.rows[999].value, pairs.missing), ("0999", series[999]));
    let decoded = decoded(&statistics);
    assert_eq!(decoded.by_label_pair().rows, pairs.rows);
    assert_eq!(decoded.by_label_name(), statistics.by_label_name());
    assert_eq!(decoded.by_label_pair().missing, series[999]);
}

/// A pair that is frequent in one of two blocks and not listed in the other is counted too low, but
/// not by more than is said.
#[test]
fn merged_lists_of_pairs_are_bounded() {
    const VALUES: u64 = 1500;
    let pod = |value: u64| Labels::from_pairs([("pod", format!("{value:04}"))]);
    // one to sixteen series per value, rising in the first block and falling in the second
    let of_first = |value: u64| 1 + value / 100;
    let of_second = |value: u64| 1 + (VALUES - 1 - value) / 100;
    let block = |series_of: &dyn Fn(u64) -> u64| {
        let mut builder = StatisticsBuilder::default();
        for value in 0..VALUES {
            (0..series_of(value)).for_each(|_| builder.push(&pod(value), SeriesSize::default()));
        }
        decoded(&builder.finish())
    };
    let mut merged = block(&of_first);
    merged.merge(&block(&of_second));
    let pairs = merged.by_label_pair();
    let found: BTreeMap<&str, u64> =
        pairs.rows.iter().map(|row| (row.value, row.counts.series)).collect();
    assert_eq!(found.len(), TOP_PAIRS);
    // the least of each list, and of what is listed now
    assert_eq!(pairs.missing, 6 + 6 + pairs.rows[TOP_PAIRS - 1].counts.series);
    let (mut exact, mut low) = (0, 0);
    for value in 0..VALUES {
        let all = of_first(value) + of_second(value);
        let found = found.get(format!("{value:04}").as_str()).copied().unwrap_or(0);
        assert!(found <= all && all <= found + pairs.missing, "{value}: {found} of {all}");
        exact += u64::from(found == all);
        low += u64::from(found < all);
    }
    assert!(exact > 400 && low > 400, "{exact} exact and {low} too low");
}

type Series = (u8, u8, u64);

/// Series of few metrics and pairs.
fn series() -> impl Strategy<Value = Vec<Series>> {
    vec((0..6u8, 0..20u8, 0..1000u64), 0..80)
}

fn labels(series: &Series) -> Labels {
    let (metric, pod) = (format!("metric_{}", series.0), format!("{}", series.1));
    Labels::from_pairs([("__name__", metric.as_str()), ("pod", &pod), ("all", "same")])
}

fn build(all: &[Series], limit: usize) -> Statistics {
    let mut builder = StatisticsBuilder::with_limit(limit);
    for series in all {
        builder.push(&labels(series), SeriesSize { samples: series.2, bytes: 2 * series.2 });
    }
    builder.finish()
}

/// Series by name and value of a label.
fn naive(all: &[Series]) -> BTreeMap<(String, String), u64> {
    let mut counted = BTreeMap::new();
    for series in all {
        for (name, value) in labels(series).to_text() {
            *counted.entry((name, value)).or_default() += 1;
        }
    }
    counted
}

fn key(row: &RankingRow<'_>) -> (String, String) {
    (row.name.to_owned(), row.value.to_owned())
}

proptest! {
    #[test]
    fn counts_are_those_of_a_naive_count(all in series()) {
        let statistics = build(&all, MAX_DISTINCT);
        let mut expected = naive(&all);
        for ranking in [statistics.by_metric(), statistics.by_label_pair()] {
            prop_assert_eq!(ranking.missing, 0);
            for row in &ranking.rows {
                prop_assert_eq!(expected.remove(&key(row)), Some(row.counts.series));
            }
        }
        prop_assert_eq!(expected, BTreeMap::new());
        prop_assert_eq!(&decoded(&statistics), &statistics);
    }

    /// The order of series changes neither counts nor bytes.
    #[test]
    fn equal_series_give_equal_bytes(all in series().prop_shuffle()) {
        let mut sorted = all.clone();
        sorted.sort();
        let encoded = |all: &[Series]| build(all, MAX_DISTINCT).encode(block()).unwrap();
        prop_assert_eq!(encoded(&all), encoded(&sorted));
    }

    #[test]
    fn merged_statistics_are_those_of_all_series(one in series(), other in series()) {
        let (mut merged, second) = (build(&one, MAX_DISTINCT), build(&other, MAX_DISTINCT));
        merged.merge(&decoded(&second));
        prop_assert_eq!(merged, build(&[one, other].concat(), MAX_DISTINCT));
    }

    /// With room for too few, no count is too high and none too low by more than is said.
    #[test]
    fn what_is_dropped_is_bounded(all in series(), limit in 1..12usize) {
        let statistics = build(&all, limit);
        let expected = naive(&all);
        for ranking in [statistics.by_metric(), statistics.by_label_pair()] {
            prop_assert!(ranking.rows.len() <= limit);
            let found: BTreeMap<_, u64> =
                ranking.rows.iter().map(|row| (key(row), row.counts.series)).collect();
            let is_metric = |name: &str| name == "__name__";
            let metrics = ranking == statistics.by_metric();
            for (key, count) in &expected {
                let found = found.get(key).copied().unwrap_or(0);
                if is_metric(&key.0) == metrics {
                    prop_assert!(found <= *count && *count <= found + ranking.missing);
                }
            }
        }
        let totals = build(&all, MAX_DISTINCT).totals();
        prop_assert_eq!(statistics.totals(), totals);
        let decoded = decoded(&statistics);
        prop_assert_eq!(decoded.by_label_pair(), statistics.by_label_pair());
    }
}

#[test]
fn a_common_pair_outlives_many_rare_ones() {
    let mut builder = StatisticsBuilder::with_limit(100);
    for series in 0..10_000 {
        let labels = Labels::from_pairs([("id", series.to_string()), ("job", "a".to_owned())]);
        builder.push(&labels, SeriesSize::default());
    }
    let statistics = builder.finish();
    let pairs = statistics.by_label_pair();
    assert_eq!(pairs.rows[0].counts.series, 10_000);
    // 10,000 ids of one series each were dropped a hundred at a time
    assert!((90..=110).contains(&pairs.missing), "{}", pairs.missing);
}

/// What the columns are by the footer alone: plain Parquet with signed numbers and field ids.
#[test]
fn other_readers_see_six_columns_with_ids() {
    use parquet::basic::Type;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let bytes = of(&[given(&[("__name__", "up")], 1, 2)]).encode(block()).unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let metadata = reader.metadata().file_metadata();
    let columns: Vec<_> = metadata
        .schema_descr()
        .columns()
        .iter()
        .map(|c| (c.name(), c.physical_type(), c.self_type().get_basic_info().id()))
        .collect();
    let expected = [
        ("kind", Type::BYTE_ARRAY, 1),
        ("name", Type::BYTE_ARRAY, 2),
        ("value", Type::BYTE_ARRAY, 3),
        ("series", Type::INT64, 4),
        ("samples", Type::INT64, 5),
        ("bytes", Type::INT64, 6),
    ];
    assert_eq!(columns, expected);
    let pairs: Vec<_> = metadata.key_value_metadata().unwrap().iter().collect();
    let value = |key: &str| pairs.iter().find(|p| p.key == key).unwrap().value.clone().unwrap();
    assert_eq!(value("drumlin.format"), "statistics/1");
    assert_eq!(value("drumlin.block"), block().to_string());
    assert_eq!(value("drumlin.missing.label_pair"), "0");
    let rows: Vec<String> =
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    let metric =
        r#"{kind: "metric", name: "__name__", value: "up", series: 1, samples: 1, bytes: 2}"#;
    assert_eq!(rows[1], metric);
    assert_eq!(rows.len(), 3);
}

fn refused(bytes: Vec<u8>) -> crate::Error {
    Statistics::decode("a/statistics.parquet", bytes.into()).unwrap_err()
}

#[test]
fn cut_files_and_others_are_refused_and_named() {
    let bytes = of(&[given(&[("__name__", "up")], 1, 2)]).encode(block()).unwrap();
    for len in 0..bytes.len() {
        let error = refused(bytes[..len].to_vec());
        assert_eq!(error.kind(), Kind::Corrupt, "cut to {len}: {error}");
        assert!(error.to_string().contains("a/statistics.parquet"), "{error}");
    }
    let newer = replaced(&bytes, b"statistics/1", b"statistics/2");
    let error = refused(newer);
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("\"statistics/2\""), "{error}");
    let error = refused(replaced(&bytes, b"missing.metric", b"missing.metrik"));
    assert!(error.to_string().contains("drumlin.missing.metric is \"\""), "{error}");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
