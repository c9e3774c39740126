use std::time::Duration;

use http_api::SeriesWriter;
use model::histogram::BucketSpan;
use model::{FloatHistogram, Labels};
use promql::value::{Point, PointValue, ResultSeries};
use serde_json::Value as Json;

use super::super::tests::{Fixture, answer};
use super::*;
use crate::Settings;

/// Bodies recorded from a running Prometheus.
fn recorded() -> impl Iterator<Item = Json> {
    let recorded = include_str!("../../../../http-api/tests/data/answers.jsonl");
    recorded.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// They are written back unchanged, to the last digit.
#[tokio::test]
async fn answers_are_written_as_prometheus_writes_them() {
    let mut compared = 0;
    for line in recorded().filter(|line| line["code"] == 200) {
        let body = &line["body"];
        let read = http_api::read_answer(body.to_string().as_bytes()).unwrap();
        let mut given = answer(read.value);
        (given.warnings, given.infos) = (read.notes.warnings, read.notes.infos);
        let fixture = Fixture::new(Settings::default(), Ok(given)).await;
        let (status, written) = fixture.get("/api/v1/query?query=x").await;
        assert_eq!(status.as_u16(), 200);
        assert_eq!(
            &serde_json::from_str::<Json>(&written).unwrap(),
            body,
            "{}",
            line["params"]["query"]
        );
        compared += 1;
    }
    assert!(compared >= 15, "{compared}");
}

/// Errors of the evaluation keep their texts.
#[tokio::test]
async fn errors_are_written_as_prometheus_writes_them() {
    let mut compared = 0;
    for line in recorded() {
        let body = &line["body"];
        let Some(text) = body["error"].as_str() else { continue };
        let error = match body["errorType"].as_str().unwrap() {
            "bad_data" => {
                let reason = text.strip_prefix("invalid parameter \"query\": ").unwrap();
                engine::Error::new(engine::Kind::BadData, reason)
            }
            _ => engine::Error::new(engine::Kind::Execution, text),
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
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 0.0, 3.0],
        negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
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

/// Rows of the engine are written by other code than lists of points, with the same result.
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
        let samples =
            (0..200).filter(kept).map(|k| Sample { t: k * 1500, value: float(k) }).collect();
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
    let Value::Matrix(rows) = engine.query(query).await.unwrap().value else {
        panic!("not a matrix")
    };
    assert_eq!(rows.len(), 6);
    let mut writer = SeriesWriter::default();
    for row in rows {
        let listed =
            ResultSeries { labels: row.labels.clone(), points: row.points.iter().collect() };
        let (mut one, mut other) = (http_api::Json::default(), http_api::Json::default());
        writer.write(&mut one, &row);
        SeriesWriter::default().write(&mut other, &listed);
        let (one, other) = (one.into_bytes(), other.into_bytes());
        assert!(one.len() > 1000);
        assert_eq!(String::from_utf8(one).unwrap(), String::from_utf8(other).unwrap());
    }
}
