use engine::{Point, PointValue};
use model::histogram::Span;
use model::{FloatHistogram, Labels};
use serde_json::Value as Json;

use super::super::tests::{Fixture, answer};
use super::*;
use crate::Settings;

fn point(value: &Json) -> Point {
    let t_ms = (value[0].as_f64().unwrap() * 1000.0).round() as i64;
    let text = value[1].as_str().unwrap();
    let number = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        other => other.parse().unwrap(),
    };
    Point { t_ms, value: PointValue::Float(number) }
}

fn series(value: &Json) -> ResultSeries {
    let metric = value["metric"].as_object().unwrap();
    let labels = Labels::from_pairs(metric.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())));
    let points = match value.get("values") {
        Some(values) => values.as_array().unwrap().iter().map(point).collect(),
        None => vec![point(&value["value"])],
    };
    ResultSeries { labels, points: points.into() }
}

fn strings(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The answer an engine must have given for this body.
fn answer_of(body: &Json) -> Answer {
    let result = &body["data"]["result"];
    let all = || result.as_array().unwrap().iter().map(series).collect();
    let mut answer = answer(match body["data"]["resultType"].as_str().unwrap() {
        "vector" => Value::Vector(all()),
        "matrix" => Value::Matrix(all()),
        "scalar" => {
            let point = point(result);
            let PointValue::Float(value) = point.value else { unreachable!("made above") };
            Value::Scalar { t_ms: point.t_ms, value }
        }
        _ => Value::String { t_ms: point_time(result), value: result[1].as_str().unwrap().to_owned() },
    });
    answer.warnings = strings(&body["warnings"]);
    answer.infos = strings(&body["infos"]);
    answer
}

fn point_time(value: &Json) -> i64 {
    (value[0].as_f64().unwrap() * 1000.0).round() as i64
}

/// Bodies recorded from a running Prometheus come back as they were, every digit.
#[tokio::test]
async fn answers_are_written_as_prometheus_writes_them() {
    let recorded = include_str!("../../../tests/data/answers.jsonl");
    let mut compared = 0;
    for line in recorded.lines() {
        let line: Json = serde_json::from_str(line).unwrap();
        if line["code"] != 200 {
            continue;
        }
        let body = &line["body"];
        let fixture = Fixture::new(Settings::default(), Ok(answer_of(body))).await;
        let (status, written) = fixture.get("/api/v1/query?query=x").await;
        assert_eq!(status.as_u16(), 200);
        assert_eq!(&serde_json::from_str::<Json>(&written).unwrap(), body, "{}", line["params"]["query"]);
        compared += 1;
    }
    assert!(compared >= 15, "{compared}");
}

/// Errors of the evaluation keep their texts on the way through.
#[tokio::test]
async fn errors_are_written_as_prometheus_writes_them() {
    let recorded = include_str!("../../../tests/data/answers.jsonl");
    let mut compared = 0;
    for line in recorded.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let body = &line["body"];
        let Some(text) = body["error"].as_str() else { continue };
        let error = match body["errorType"].as_str().unwrap() {
            "bad_data" => {
                let reason = text.strip_prefix("invalid parameter \"query\": ").unwrap();
                engine::QueryError::BadData(reason.to_owned())
            }
            _ => engine::QueryError::Execution(text.to_owned()),
        };
        let fixture = Fixture::new(Settings::default(), Err(error)).await;
        let (status, written) = fixture.get("/api/v1/query?query=x").await;
        assert_eq!(status.as_u16(), line["code"].as_u64().unwrap() as u16);
        assert_eq!(&serde_json::from_str::<Json>(&written).unwrap(), body);
        compared += 1;
    }
    assert_eq!(compared, 2);
}

fn histogram() -> FloatHistogram {
    FloatHistogram {
        schema: 0,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 7.0,
        sum: 18.5,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 0.0, 3.0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_buckets: vec![1.0],
        ..FloatHistogram::default()
    }
}

#[tokio::test]
async fn histograms_stand_beside_floats() {
    let points = vec![
        Point { t_ms: 1000, value: PointValue::Float(1.0) },
        Point { t_ms: 2000, value: PointValue::Histogram(Arc::new(histogram())) },
    ];
    let mixed = ResultSeries { labels: Labels::empty(), points: points.into() };
    let fixture = Fixture::new(Settings::default(), Ok(answer(Value::Matrix(vec![mixed])))).await;
    let (_, written) = fixture.get("/api/v1/query?query=x").await;
    let expected = concat!(
        r#""result":[{"metric":{},"values":[[1,"1"]],"histograms":[[2,{"count":"7","sum":"18.5","buckets":["#,
        r#"[1,"-2","-1","1"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"2","4","3"]]}]]}]"#
    );
    assert!(written.contains(expected), "{written}");
}

/// Rows of the engine are written another way than lists of points, to the same end.
#[tokio::test]
async fn rows_of_the_engine_are_written_as_their_points() {
    use engine::testing::MemorySource;
    use model::{Sample, SampleValue};
    let series = |i: i64| {
        let kept = move |k: &i64| (k * 7 + i) % 5 != 0;
        let value = move |k: i64| match (k + i) % 4 {
            0 => SampleValue::Histogram(Arc::new(histogram())),
            _ if i == 1 => SampleValue::Float(f64::NAN),
            _ => SampleValue::Float(k as f64 / 3.0),
        };
        let float = move |k: i64| if i < 3 { SampleValue::Float(k as f64 / 3.0) } else { value(k) };
        let samples = (0..200).filter(kept).map(|k| Sample { t: k * 1500, value: float(k) }).collect();
        (Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]), samples)
    };
    let engine = engine::Engine::new(engine::EngineSettings::default());
    let query = Query {
        text: "last_over_time(m[1s])".to_owned(),
        grid: Grid { start_ms: 0, end_ms: 300_000, step_ms: 500 },
        lookback_ms: 300_000,
        dynamic_lookback: true,
        dedup: None,
        max_resolution_ms: 0,
        timeout: Duration::from_secs(30),
        source: Arc::new(MemorySource::new((0..6).map(series)).unwrap()),
        detail: Detail::default(),
    };
    let Value::Matrix(rows) = engine.query(query).await.unwrap().value else { panic!("not a matrix") };
    assert_eq!(rows.len(), 6);
    let mut writer = SeriesWriter::default();
    for row in rows {
        let listed = ResultSeries { labels: row.labels.clone(), points: row.points.iter().collect() };
        let (mut one, mut other) = (super::Json::default(), super::Json::default());
        writer.write(&mut one, &row);
        SeriesWriter::default().write(&mut other, &listed);
        assert!(one.0.len() > 1000);
        assert_eq!(String::from_utf8(one.0).unwrap(), String::from_utf8(other.0).unwrap());
    }
}

#[test]
fn big_answers_come_in_pieces_that_join_to_one_document() {
    let labels = |i: usize| Labels::from_pairs([("i", i.to_string())]);
    let points = || (0..200).map(|t| Point { t_ms: t * 1000, value: PointValue::Float(t as f64) }).collect();
    let series: Vec<_> = (0..100).map(|i| ResultSeries { labels: labels(i), points: points() }).collect();
    let mut tail = super::Json::default();
    tail.raw("}}");
    let mut head = super::Json::default();
    head.raw(r#"{"data":{"result":["#);
    let pieces = Pieces {
        buffer: head,
        series: series.into_iter(),
        vector: false,
        writer: SeriesWriter::default(),
        first: true,
        tail: Some(tail),
    };
    let pieces: Vec<Bytes> = pieces.collect();
    assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() < 2 * PIECE));
    let document: Json = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(document["data"]["result"].as_array().unwrap().len(), 100);
}
