use std::error::Error as _;
use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};
use model::{FloatHistogram, Labels};
use proptest::prelude::*;

use super::*;
use crate::{ApiError, Json, stream_result};

fn bytes(body: HttpBody) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.collect()).unwrap().to_bytes().to_vec()
}

fn written(answer: &ApiAnswer) -> Vec<u8> {
    let mut tail = Json::default();
    tail.raw("}");
    answer.notes.write(&mut tail);
    tail.raw("}");
    bytes(stream_result(answer.value.clone(), tail))
}

fn read_back(value: Value) -> Value {
    let answer = ApiAnswer { value, notes: AnswerNotes::default() };
    read_answer(&written(&answer)).unwrap().value
}

fn refused(body: &str) -> String {
    let error = read_answer(body.as_bytes()).unwrap_err();
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Answers of Prometheus are written as they were read.
#[test]
fn recorded_answers_are_read() {
    let recorded = include_str!("../../tests/data/answers.jsonl");
    let (mut answers, mut errors) = (0, 0);
    for line in recorded.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let body = &line["body"];
        match read_answer(body.to_string().as_bytes()) {
            Ok(answer) => {
                let again: serde_json::Value = serde_json::from_slice(&written(&answer)).unwrap();
                assert_eq!(&again, body, "{}", line["params"]["query"]);
                answers += 1;
            }
            Err(ReadError::Refused { kind, message }) => {
                assert_eq!(
                    (body["errorType"].as_str(), body["error"].as_str()),
                    (Some(&*kind), Some(&*message))
                );
                errors += 1;
            }
            Err(other) => panic!("{other:?}: {body}"),
        }
    }
    assert!(answers >= 15 && errors >= 2, "{answers} answers, {errors} errors");
}

#[test]
fn errors_are_read_as_they_were_written() {
    for (error, expected) in [
        (
            ApiError::parameter("query", "nothing \"there\""),
            "bad_data: invalid parameter \"query\": nothing \"there\"",
        ),
        (ApiError::timeout("too late"), "timeout: too late"),
        (ApiError::execution("no\nsense"), "execution: no\nsense"),
        (ApiError::not_found(), "not_found: 404 page not found"),
    ] {
        let body = bytes(error.into_response().into_body());
        assert_eq!(refused(std::str::from_utf8(&body).unwrap()), expected);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let series = |points: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},{points}}}]}}}}"#
        )
    };
    let result = |kind: &str, items: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{items}]}}}}"#)
    };
    for (body, expected) in [
        ("<html>".to_owned(), "expected value at line 1 column 1"),
        ("[]".to_owned(), "an answer with status and data"),
        (r#"{"status":"success"}"#.to_owned(), "there is no data"),
        (series(r#""values":[[1,"one"]]"#), "\"one\" is no number at line 1 column "),
        (series(r#""values":[[1]]"#), "a pair of a time and a value"),
        (series(r#""values":[["1","1"]]"#), "expected a time in seconds"),
        (series(r#""values":[[1e300,"1"]]"#), "too far from the epoch"),
        (series(r#""histograms":[[1,{"count":"1"}]]"#), "missing field `sum`"),
        (
            series(
                r#""histograms":[[1,{"count":"1","sum":"1","buckets":[[0,"1","3","1"],[0,"2","4","1"]]}]]"#,
            ),
            "the buckets of a histogram are not those of any schema",
        ),
        (
            series(r#""histograms":[[1,{"count":"1","sum":"1","buckets":[[4,"1","2","1"]]}]]"#),
            "a bucket includes the ends 4",
        ),
        (result("vector", r#"{"metric":{"a":"b"}}"#), r#"{a="b"} has neither value nor histogram"#),
        (result("vector", r#"1,"x""#), "an item of the result is no series"),
        (result("scalar", r#"1,"x""#), "\"x\" is no number"),
        (result("string", "1"), "not a pair of a time and a text"),
        (result("table", ""), "unknown type \"table\""),
    ] {
        let text = refused(&body);
        assert!(text.contains(expected), "{body}\n{text}");
    }
}

#[test]
fn what_else_there_is_is_skipped() {
    let body = r#"{"status":"success","isPartial":true,"data":{"result":[7.5,"x"],"stats":{"a":[1]},"resultType":"string"},
                   "infos":["i"],"warnings":["w","v"]}"#;
    let answer = read_answer(body.as_bytes()).unwrap();
    assert_eq!(answer.value, Value::String { t_ms: 7500, value: "x".to_owned() });
    assert_eq!((answer.notes.warnings.len(), answer.notes.infos), (2, vec!["i".to_owned()]));
}

#[test]
fn the_layout_of_a_histogram_is_found() {
    let base = FloatHistogram { count: 9.0, sum: f64::NAN, ..FloatHistogram::default() };
    let exponential = FloatHistogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 2.0,
        positive_spans: vec![
            BucketSpan { offset: -5, length: 2 },
            BucketSpan { offset: 100, length: 1 },
        ],
        positive_buckets: vec![1.0, 2.5, 1.0],
        negative_spans: vec![BucketSpan { offset: 2, length: 2 }],
        negative_buckets: vec![1.0, 1.5],
        ..base.clone()
    };
    let custom = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: vec![3.0, 2.0, 4.0],
        custom_values: vec![0.5, 1.25],
        ..base.clone()
    };
    // the outermost possible bounds
    let extreme = FloatHistogram {
        schema: 8,
        positive_spans: vec![BucketSpan { offset: 1024 * 256, length: 2 }],
        positive_buckets: vec![4.0, 5.0],
        ..base.clone()
    };
    for histogram in [exponential, custom, extreme, base.clone()] {
        let point = Point { t_ms: 1000, value: PointValue::Histogram(Arc::new(histogram.clone())) };
        let series = ResultSeries { labels: Labels::empty(), points: vec![point].into() };
        let Value::Vector(series) = read_back(Value::Vector(vec![series])) else {
            panic!("a vector")
        };
        let Some(PointValue::Histogram(read)) = series[0].points.first().map(|p| p.value) else {
            panic!("a histogram")
        };
        assert!(read.same_data(&histogram), "{read:?}\n{histogram:?}");
    }
    // an empty zero bucket is not written, only that it reaches into the one next to it
    let cut = FloatHistogram {
        zero_threshold: 0.75,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![4.0, 5.0],
        negative_spans: vec![BucketSpan { offset: 0, length: 2 }],
        negative_buckets: vec![1.0, 5.0],
        ..base
    };
    let point = Point { t_ms: 1000, value: PointValue::Histogram(Arc::new(cut)) };
    let series = ResultSeries { labels: Labels::empty(), points: vec![point].into() };
    let answer = ApiAnswer { value: Value::Matrix(vec![series]), notes: AnswerNotes::default() };
    assert_eq!(written(&read_answer(&written(&answer)).unwrap()), written(&answer));
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        any::<i32>().prop_map(f64::from),
    ]
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let count = || prop_oneof![Just(0.0), 0.5..1e9];
    let side = move || prop::collection::vec((0_i32..4, count()), 0..6);
    let exponential = (-4_i32..=8, side(), side(), (0_u32..3, count()), (any_float(), any_float()));
    let exponential = exponential.prop_map(
        |(schema, positive, negative, (threshold, zero_count), (count, sum))| {
            let spans = |side: &[(i32, f64)]| {
                side.iter().map(|(offset, _)| BucketSpan { offset: *offset, length: 1 }).collect()
            };
            let counts = |side: &[(i32, f64)]| side.iter().map(|(_, count)| *count).collect();
            FloatHistogram {
                schema,
                zero_threshold: [0.0, 1e-128, 0.001][threshold as usize],
                zero_count,
                count,
                sum,
                positive_spans: spans(&positive),
                positive_buckets: counts(&positive),
                negative_spans: spans(&negative),
                negative_buckets: counts(&negative),
                ..FloatHistogram::default()
            }
        },
    );
    let bounds = prop::collection::btree_set(-1000_i32..1000, 0..6);
    let custom = (bounds, prop::collection::vec(count(), 7), any_float()).prop_map(
        |(bounds, counts, sum)| {
            let buckets = bounds.len() + 1;
            FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                sum,
                positive_spans: vec![BucketSpan { offset: 0, length: buckets as u32 }],
                positive_buckets: counts[..buckets].to_vec(),
                custom_values: bounds.into_iter().map(|bound| f64::from(bound) / 8.0).collect(),
                ..FloatHistogram::default()
            }
        },
    );
    prop_oneof![exponential, custom]
}

fn any_value() -> impl Strategy<Value = PointValue> {
    prop_oneof![
        4 => any_float().prop_map(PointValue::Float),
        1 => any_histogram().prop_map(|histogram| PointValue::Histogram(Arc::new(histogram))),
    ]
}

fn any_series(points: std::ops::Range<usize>) -> impl Strategy<Value = Vec<ResultSeries>> {
    let labels = prop::collection::btree_map("[a-z_]{1,8}", "\\PC{1,12}", 0..4);
    let points = prop::collection::vec((1_i64..100_000, any_value()), points);
    let series = (labels, -1_000_000_000_000_i64..4_000_000_000_000, points).prop_map(
        |(labels, mut t_ms, points)| {
            let mut point = |(gap, value): (i64, PointValue)| {
                t_ms += gap;
                Point { t_ms, value }
            };
            ResultSeries {
                labels: Labels::from_pairs(labels),
                points: points.into_iter().map(&mut point).collect(),
            }
        },
    );
    prop::collection::vec(series, 0..5)
}

fn any_answer() -> impl Strategy<Value = ApiAnswer> {
    let time = || any::<i32>().prop_map(|ms| i64::from(ms) * 17);
    let value = prop_oneof![
        (time(), any_float()).prop_map(|(t_ms, value)| Value::Scalar { t_ms, value }),
        (time(), any::<String>()).prop_map(|(t_ms, value)| Value::String { t_ms, value }),
        any_series(1..2).prop_map(Value::Vector),
        any_series(1..9).prop_map(Value::Matrix),
    ];
    let texts = || prop::collection::vec(any::<String>(), 0..3);
    (value, texts(), texts()).prop_map(|(value, warnings, infos)| ApiAnswer {
        value,
        notes: AnswerNotes { warnings, infos },
    })
}

proptest! {
    #[test]
    fn what_is_read_was_written(answer in any_answer()) {
        let body = written(&answer);
        let read = read_answer(&body).map_err(|e| TestCaseError::fail(refused_by(&e)))?;
        prop_assert_eq!(&read.notes, &answer.notes);
        prop_assert_eq!(String::from_utf8(written(&read)).unwrap(), String::from_utf8(body).unwrap());
    }

    #[test]
    fn no_bytes_panic(start in any_answer(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = written(&start);
        let at = cut.index(body.len());
        body[at] = byte;
        let _ = read_answer(&body);
        let _ = read_answer(&body[..at]);
    }
}

fn refused_by(error: &ReadError) -> String {
    format!("{error}: {:?}", error.source())
}
