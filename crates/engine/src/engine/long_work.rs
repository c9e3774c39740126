//! No operator works on for long after its query has ended, or keeps other queries waiting.

use std::time::Duration;

use bytes::Bytes;
use merge::{ChunkBytes, ChunkContent, Dedup, Series, SeriesChunk};
use model::histogram::BucketSpan;
use model::{Clock, FloatHistogram, Labels, Sample, SampleValue, SystemClock};
use promql::value::Grid;
use tsdb::chunk::{Encoding, XorEncoder};

use super::tests::{counters, query};
use super::*;
use crate::testing::MemorySource;
use crate::{Select, SeriesSource, SourceStream};

/// How long a query runs before it ends or is left.
const RUNS: Duration = Duration::from_millis(300);
/// The time in which work has to end. It takes a hundredth of it, but tests run beside others.
const SOON: Duration = Duration::from_secs(2);

/// The most steps that a query may have.
const STEPS: i64 = 11_000;
/// The most steps where every value is a large histogram.
const HISTOGRAM_STEPS: i64 = 1_000;
const SERIES: usize = 800;

fn now() -> Duration {
    SystemClock::new(|_| Box::pin(std::future::pending())).monotonic()
}

/// What an operator is given so that it would work for many seconds, mostly minutes.
struct Endless {
    operator: &'static str,
    text: String,
    steps: i64,
    step_ms: i64,
    dedup: Option<Dedup>,
}

fn endless(operator: &'static str, text: &str) -> Endless {
    Endless { operator, text: text.to_owned(), steps: STEPS, step_ms: 200, dedup: None }
}

fn of_histograms(operator: &'static str, text: &str) -> Endless {
    Endless { steps: HISTOGRAM_STEPS, ..endless(operator, text) }
}

fn table() -> Vec<Endless> {
    let separator = "ab".repeat(10_000);
    let quantiles: String = (1..10).map(|q| format!(", 0.{q}")).collect();
    vec![
        endless("SubqueryWindow", "quantile_over_time(0.5, vector(time())[4m:1ms])"),
        endless("SubqueryWindow", "mad_over_time(vector(time())[4m:1ms])"),
        endless("SubqueryWindow", "deriv(vector(time())[4m:1ms])"),
        endless("SubqueryWindow", "predict_linear(vector(time())[4m:1ms], 60)"),
        endless("SubqueryWindow", "double_exponential_smoothing(vector(1)[4m:1ms], 0.5, 0.5)"),
        endless("SubqueryWindow", "stdvar_over_time(vector(1)[4m:1ms])"),
        endless("SubqueryWindow", "sum_over_time(vector(1/0)[4m:1ms])"),
        endless("SubqueryWindow", "avg_over_time(vector(1/0)[4m:1ms])"),
        endless("SubqueryWindow", "increase((vector(time() % 2) - 1)[20d:1s])"),
        of_histograms("SubqueryWindow", "sum_over_time(h[1m:100ms])"),
        of_histograms("SubqueryWindow", "avg_over_time(h[1m:100ms])"),
        of_histograms("SubqueryWindow", "rate(h[10m:10ms])"),
        of_histograms("SubqueryWindow", "irate(h[10m:10ms])"),
        of_histograms("SubqueryWindow", "changes(h[10m:10ms])"),
        endless("Quantile", "quantile(0.5, c)"),
        endless("SelectK", &format!("topk({SERIES}, c)")),
        endless("SelectK", &format!("bottomk({SERIES}, c)")),
        endless("CountValues", "count_values('v', c)"),
        of_histograms("CountValues", "count_values('v', h)"),
        endless("HistogramStatistic", &format!("histogram_quantiles(b, 'q'{quantiles})")),
        of_histograms("HistogramStatistic", "histogram_quantile(0.9, h)"),
        of_histograms("HistogramStatistic", "histogram_fraction(1, 1e300, h)"),
        of_histograms("Map", "histogram_stddev(h)"),
        of_histograms("Aggregate", "sum(h)"),
        of_histograms("Aggregate", "avg(h)"),
        endless("Join", "c + on() c"),
        endless("Join", "c + on() group_left() c"),
        of_histograms("Join", "h == bool on(i) h"),
        Endless { dedup: Some(Dedup::Penalty), ..endless("Window", "last_over_time(o[100d])") },
        Endless { dedup: Some(Dedup::Chain), ..endless("Window", "rate(o[100d])") },
        Endless {
            steps: 1,
            ..endless(
                "Map",
                &format!(
                    "label_replace(label_join(c, 'l', '{separator}', 'i', 'i', 'i', 'i', 'i'), \
                     'm', '$1', 'l', '((a|b|[0-9])*)(x|y)?((a|b|[0-9])*)')"
                ),
            )
        },
    ]
}

/// Series of one sample each that is current at all steps: `c` of floats, `b` of classic buckets
/// and `h` of native histograms with many buckets.
fn series() -> Arc<MemorySource> {
    let buckets = 500;
    let histogram = FloatHistogram {
        count: buckets as f64,
        positive_spans: vec![BucketSpan { offset: 0, length: buckets }],
        positive_buckets: vec![1.0; buckets as usize],
        ..FloatHistogram::default()
    };
    let one = |pairs: [(&str, &str); 2], value: SampleValue| {
        (Labels::from_pairs(pairs), vec![Sample { t: 0, value }])
    };
    let mut series = Vec::new();
    for i in 0..SERIES {
        let (number, float) = (i.to_string(), SampleValue::Float(i as f64));
        let le = if i + 1 == SERIES { "+Inf" } else { &number };
        series.push(one([("__name__", "c"), ("i", &number)], float.clone()));
        series.push(one([("__name__", "b"), ("le", le)], float));
        let histogram = SampleValue::Histogram(Arc::new(histogram.clone()));
        series.push(one([("__name__", "h"), ("i", &number)], histogram));
    }
    Arc::new(MemorySource::new(series).unwrap())
}

/// `o`, of which each chunk overlaps all others.
fn overlapping() -> Arc<MemorySource> {
    let chunk = |i: i64| {
        let (first, last) = (i * 100 - 5_000_000, i);
        let mut encoder = XorEncoder::new();
        encoder.push(first, 1.0);
        encoder.push(last, 2.0);
        let data = Bytes::from(encoder.finish());
        let content = ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor, data });
        SeriesChunk::new(first, last, content)
    };
    let series = Series {
        labels: Labels::from_pairs([("__name__", "o")]),
        chunks: (0..40_000).map(chunk).collect(),
    };
    Arc::new(MemorySource::from_series(vec![series]))
}

/// A source that is held as long as any part of its query runs.
#[derive(Debug)]
struct Lent(Arc<MemorySource>);

impl SeriesSource for Lent {
    fn select(&self, select: Select) -> SourceStream {
        self.0.select(select)
    }
}

impl Endless {
    fn query(&self, source: &Arc<Lent>, timeout: Duration) -> Query {
        let end_ms = (self.steps - 1) * self.step_ms;
        let grid = Grid { start_ms: 0, end_ms, step_ms: self.step_ms };
        let lookback_ms = 1_000_000_000;
        let lent: Arc<dyn SeriesSource> = Arc::<Lent>::clone(source);
        Query { grid, lookback_ms, timeout, dedup: self.dedup, ..query(&self.text, lent) }
    }

    /// Waits until no part of a query holds the source; an error if that takes long.
    fn ended(&self, source: &Arc<Lent>, since: Duration) -> Result<(), String> {
        while Arc::strong_count(source) > 1 {
            if now().saturating_sub(since) > SOON {
                return Err(format!("works on for more than {SOON:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Its caller leaves.
    fn left(&self, engine: &Engine, data: &Arc<MemorySource>) -> Result<(), String> {
        let source = Arc::new(Lent(Arc::clone(data)));
        let mut running = Box::pin(engine.query(self.query(&source, 1000 * RUNS)));
        let waker = futures::task::noop_waker();
        assert!(running.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        std::thread::sleep(RUNS);
        if Arc::strong_count(&source) == 1 {
            return Err(format!("ended within {RUNS:?}"));
        }
        drop(running);
        self.ended(&source, now())
    }

    /// Its time is over, if it takes as long; meanwhile another query comes.
    fn timed_out(&self, engine: &Engine, data: &Arc<MemorySource>) -> Result<(), String> {
        let source = Arc::new(Lent(Arc::clone(data)));
        let began = now();
        let (errors, answered) = futures::executor::block_on(async {
            let heavy = || engine.query(self.query(&source, 3 * RUNS));
            let small = async {
                let pause = async { tokio::time::sleep(RUNS / 3).await };
                engine.handle().spawn(pause).await.unwrap();
                let asked = now();
                engine.query(query("sum(c_total)", counters(10))).await.unwrap();
                now() - asked
            };
            let (a, b, answered) = futures::join!(heavy(), heavy(), small);
            ([a, b].map(Result::err), answered)
        });
        let mut errors = errors.into_iter().flatten();
        if let Some(error) = errors.find(|error| error.kind() != Kind::Timeout) {
            return Err(format!("failed: {error}"));
        }
        self.ended(&source, began + 3 * RUNS)?;
        match answered < 2 * RUNS {
            true => Ok(()),
            false => Err(format!("keeps others waiting for {answered:?}")),
        }
    }
}

#[test]
fn every_operator_ends_soon_and_lets_other_queries_be_answered() {
    let settings = EngineSettings {
        threads: 2,
        max_samples: 0,
        language: promql::ParserOptions::ALL,
        ..EngineSettings::default()
    };
    let (engine, plain, overlapping) = (Engine::new(settings), series(), overlapping());
    let mut failed = Vec::new();
    for row in table() {
        let data = if row.dedup.is_some() { &overlapping } else { &plain };
        let plan = engine.explain(row.query(&Arc::new(Lent(Arc::clone(data))), RUNS));
        let plan = futures::executor::block_on(plan).unwrap();
        assert!(plan.iter().any(|o| o.name.starts_with(row.operator)), "{}", row.operator);
        let ends = || row.left(&engine, data).and_then(|()| row.timed_out(&engine, data));
        // on a machine that does much else, once is no proof
        let ends = ends().or_else(|_| ends()).or_else(|_| ends());
        failed.extend(ends.err().map(|why| format!("{} of {:.60}: {why}", row.operator, row.text)));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
