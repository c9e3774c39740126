//! No operator works on for long after its query has ended, or keeps other queries waiting.

use std::time::Duration;

use bytes::Bytes;
use merge::{ChunkBytes, ChunkContent, Dedup, Series, SeriesChunk};
use model::histogram::BucketSpan;
use model::{Clock, FloatHistogram, Labels, STALE_NAN, Sample, SampleValue, SystemClock};
use promql::value::Grid;
use tsdb::chunk::{Encoding, XorEncoder};

use super::tests::{counters, query};
use super::*;
use crate::plan::PromOp;
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
/// Of operators that do not take long for as much as fits in memory.
const DEPTH: usize = 50;

/// Every operator, by the kind of node that it is planned for: a new kind does not compile without
/// a name here.
macro_rules! operators {
    ($($kind:ident => $name:literal),+ $(,)?) => {
        const OPERATORS: &[&str] = &[$($name),+];

        #[expect(dead_code, reason = "the compiler sees that no kind is missing")]
        fn name_of(op: &PromOp) -> &'static str {
            match op {
                $(PromOp::$kind { .. } => $name),+
            }
        }
    };
}

operators! {
    Number => "Source",
    Time => "Source",
    Empty => "Empty",
    Selector => "Window",
    Subquery => "SubqueryWindow",
    RawSelector => "RawSelector",
    RawSubquery => "RawSubquery",
    Map => "Map",
    Aggregate => "Aggregate",
    Quantile => "Quantile",
    CountValues => "CountValues",
    SelectK => "SelectK",
    Histogram => "HistogramStatistic",
    Join => "Join",
    Set => "SetOperation",
    Info => "Info",
    Absent => "Absent",
    Scalar => "Scalar",
    Repeat => "Repeat",
    Distinct => "Distinct",
}

/// They have no input, and give one row or none.
const WITHOUT_INPUT: [&str; 2] = ["Source", "Empty"];

fn now() -> Duration {
    SystemClock::new(|_| Box::pin(std::future::pending())).monotonic()
}

/// What an operator is given so that it would work for many seconds, mostly minutes.
struct Endless {
    operator: &'static str,
    text: String,
    steps: i64,
    step_ms: i64,
    data: Data,
    dedup: Option<Dedup>,
}

/// What a query reads.
#[derive(Clone, Copy)]
enum Data {
    Plain,
    /// Chunks that overlap, and are deduplicated.
    Overlapping,
    /// Labels of megabytes.
    LongLabels,
    /// Series and many info series of each.
    Info,
}

fn endless(operator: &'static str, text: &str) -> Endless {
    let text = text.to_owned();
    Endless { operator, text, steps: STEPS, step_ms: 200, data: Data::Plain, dedup: None }
}

fn of_overlapping(operator: &'static str, text: &str, dedup: Dedup) -> Endless {
    Endless { dedup: Some(dedup), data: Data::Overlapping, ..endless(operator, text) }
}

/// An operator that does not take long for as much as fits in memory, many times.
fn of_long_labels(operator: &'static str, joined_by: &str) -> Endless {
    let text = ["l"; 4 * DEPTH].join(joined_by);
    Endless { steps: 1, data: Data::LongLabels, ..endless(operator, &text) }
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
        of_long_labels("SetOperation", " and "),
        of_long_labels("SetOperation", " or "),
        of_long_labels("SetOperation", " unless ignoring(n) "),
        endless("Distinct", &nested(r#", scalar(sum(-{__name__=~"d|e"})))"#)),
        endless("Absent", &nested(", scalar(absent(c)))")),
        endless("Repeat", &nested(", scalar(absent(c @ 0 > time())))")),
        endless("Scalar", &nested(", scalar(c))")),
        Endless {
            steps: HISTOGRAM_STEPS,
            data: Data::Info,
            ..endless("Info", r#"info(s, {__name__=~"i.*", v=~".+"})"#)
        },
        Endless { steps: 1, ..of_overlapping("RawSelector", "o[100d]", Dedup::Penalty) },
        Endless {
            steps: 1,
            ..endless("RawSubquery", r#"{__name__=~"[bc]"}[2200s:200ms] offset -2200s"#)
        },
        of_overlapping("Window", "last_over_time(o[100d])", Dedup::Penalty),
        of_overlapping("Window", "rate(o[100d])", Dedup::Chain),
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
/// and `h` of native histograms with many buckets; and `d`, each of which ends where an `e` begins.
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
        let change = STEPS / 2 * 200;
        let samples = [[(0, 1.0), (change, STALE_NAN)], [(change, 1.0), (change + 1, 1.0)]];
        for (name, samples) in ["d", "e"].into_iter().zip(samples) {
            let samples = samples.map(|(t, v)| Sample { t, value: SampleValue::Float(v) });
            series.push((Labels::from_pairs([("__name__", name), ("i", &number)]), samples.into()));
        }
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

/// Many calls within each other, whose second arguments are evaluated one after the other.
fn nested(second: &str) -> String {
    ["clamp_min(".repeat(DEPTH), "vector(0)".to_owned(), second.repeat(DEPTH)].concat()
}

/// `l` and `m`, whose labels are megabytes long.
fn with_long_labels() -> Arc<MemorySource> {
    let long = "x".repeat(4 << 20);
    let sample = || vec![Sample { t: 0, value: SampleValue::Float(1.0) }];
    let one = |i: usize| {
        let (name, number) = (["l", "m"][i % 2], i.to_string());
        let pairs = [("__name__", name), ("long", &long), ("n", &number)];
        (Labels::from_pairs(pairs), sample())
    };
    Arc::new(MemorySource::new((0..32).map(one)).unwrap())
}

/// `s`, and info metrics with several series, each the newest for a while.
fn with_info() -> Arc<MemorySource> {
    let pairs = |name: &str, number: usize| {
        let (job, number) = ("j".to_owned(), number.to_string());
        let pairs = [("__name__", name.to_owned()), ("job", job), ("n", number)];
        Labels::from_pairs(pairs.into_iter().chain([("v", "1".to_owned())]))
    };
    let sample = |t| vec![Sample { t, value: SampleValue::Float(1.0) }];
    let mut series: Vec<_> =
        (0..2 * SERIES).map(|i| (pairs("s", i).without(&["v"]), sample(0))).collect();
    for metric in 0..100 {
        for i in 0..10 {
            let t = (i * 100 + metric) * 200;
            series.push((pairs(&format!("i{metric}"), i as usize), sample(t)));
        }
    }
    Arc::new(MemorySource::new(series).unwrap())
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
        let step_ms = if self.steps == 1 { 0 } else { self.step_ms };
        let grid = Grid { start_ms: 0, end_ms, step_ms };
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
    let engine = Engine::new(settings);
    let all = [series(), overlapping(), with_long_labels(), with_info()];
    let mut failed = Vec::new();
    for row in table() {
        let data = &all[row.data as usize];
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

#[test]
fn no_operator_is_left_out() {
    let rows = table();
    let has_row = |name: &&&str| rows.iter().any(|row| row.operator == **name);
    let (with_row, without): (Vec<&str>, Vec<&str>) = OPERATORS.iter().partition(has_row);
    assert!(without.iter().all(|name| WITHOUT_INPUT.contains(name)), "{without:?}");
    assert!(rows.iter().all(|row| with_row.contains(&row.operator)));
}
