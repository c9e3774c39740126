use std::time::Duration;

use futures::StreamExt;
use model::error::in_one_line;
use model::{Clock, Labels, Sample, SampleValue, SystemClock};
use promql::value::{Grid, PointValue};

use super::*;
use crate::testing::MemorySource;
use crate::{Detail, Select, SeriesSource, SourceEvent, SourceStream};

/// A source that never answers, and says when its stream is dropped.
#[derive(Debug)]
struct Hanging(tokio::sync::mpsc::Sender<()>);

impl SeriesSource for Hanging {
    fn select(&self, _: Select) -> SourceStream {
        let dropped = self.0.clone();
        futures::stream::once(async move {
            let _dropped = dropped;
            std::future::pending().await
        })
        .boxed()
    }
}

#[derive(Debug)]
struct Scripted(Vec<Result<SourceEvent, Error>>);

impl SeriesSource for Scripted {
    fn select(&self, _: Select) -> SourceStream {
        futures::stream::iter(self.0.clone()).boxed()
    }
}

pub(super) fn counters(series: usize) -> Arc<dyn SeriesSource> {
    let series = (0..series).map(|i| {
        let labels = Labels::from_pairs([("__name__", "c_total".to_owned()), ("i", i.to_string())]);
        let sample = |k: i64| Sample { t: k * 10_000, value: SampleValue::Float(k as f64) };
        (labels, (0..100).map(sample).collect())
    });
    Arc::new(MemorySource::new(series).unwrap())
}

pub(super) fn query(text: &str, source: Arc<dyn SeriesSource>) -> Query {
    Query {
        text: text.to_owned(),
        grid: Grid { start_ms: 0, end_ms: 900_000, step_ms: 10_000 },
        lookback_ms: 300_000,
        dynamic_lookback: true,
        dedup: None,
        max_resolution_ms: 0,
        timeout: Duration::from_secs(30),
        source,
        detail: Detail::default(),
    }
}

fn engine(settings: EngineSettings) -> Engine {
    Engine::new(EngineSettings { threads: 2, ..settings })
}

fn run(engine: &Engine, query: Query) -> Result<Answer, Error> {
    futures::executor::block_on(engine.query(query))
}

#[test]
fn a_query_over_the_sample_limit_is_refused() {
    let engine = engine(EngineSettings { max_samples: 100, ..EngineSettings::default() });
    let error = run(&engine, query("c_total", counters(10))).unwrap_err();
    let text = "query processing would load too many samples into memory in query execution";
    assert!(
        error.kind() == Kind::Execution && in_one_line(&error).to_string() == text,
        "{error:?}"
    );
    let error = run(&engine, query("sum_over_time(c_total[1d:1s])", counters(1))).unwrap_err();
    assert!(error.kind() == Kind::Execution && in_one_line(&error).to_string() == text);
}

#[test]
fn a_query_over_the_memory_budget_is_refused_and_gives_everything_back() {
    let budget = Budget::new(60_000);
    let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
    let error = run(&engine, query("sum by (i) (c_total)", counters(50))).unwrap_err();
    assert!(
        error.kind() == Kind::Execution
            && in_one_line(&error).to_string().contains("60000 bytes of the memory budget"),
        "{error:?}"
    );
    assert_eq!(budget.used(), 0);
    assert!(run(&engine, query("sum(c_total)", counters(50))).is_ok());
    assert_eq!(budget.used(), 0);
}

/// What a query builds of labels' text is charged before it is built, and stays charged with the
/// answer.
#[test]
fn text_of_labels_that_does_not_fit_is_refused() {
    let budget = Budget::new(8 << 20);
    let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
    let instant = |text: &str| Query { grid: Grid::instant(0), ..query(text, counters(1000)) };
    let joined = |series: &str, length: usize| {
        format!("label_join({series}, 'l', '{}', 'i', 'i')", "-".repeat(length))
    };
    let one = joined("topk(1, c_total)", 100_000);
    let copied = format!("c_total * on() group_left(l) {one}");
    let replaced = format!("label_replace(c_total, 'l', '{}', 'i', '(.*)')", "$1".repeat(100_000));
    for text in [joined("c_total", 200_000), replaced, copied] {
        let error = run(&engine, instant(&text)).unwrap_err();
        let message = in_one_line(&error).to_string();
        assert!(error.kind() == Kind::Execution, "{message}");
        assert!(message.contains("of the 8388608 bytes of the memory budget"), "{message}");
        until(|| budget.used() == 0);
    }
    let answer = run(&engine, instant(&joined("c_total", 1000))).unwrap();
    assert!(budget.used() > 1_000_000, "{}", budget.used());
    drop(answer);
    until(|| budget.used() == 0);
}

/// Labels may be megabytes: those of series, those without a name, and those by which series match.
#[test]
fn labels_of_series_are_charged() {
    let long = "x".repeat(1 << 20);
    let one = |i: usize| {
        let labels = [("__name__", "l"), ("i", &i.to_string()), ("long", &long)];
        let sample = Sample { t: 0, value: SampleValue::Float(1.0) };
        (Labels::from_pairs(labels), vec![sample])
    };
    let source = Arc::new(MemorySource::new((0..10).map(one)).unwrap());
    for (text, megabytes) in [("l", 10), ("-l", 20), ("l and l", 30), ("l * l", 40)] {
        let run_in = |budget: &Budget| {
            let engine =
                engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
            let source: Arc<dyn SeriesSource> = Arc::<MemorySource>::clone(&source);
            run(&engine, Query { grid: Grid::instant(0), ..query(text, source) })
        };
        let error = run_in(&Budget::new((megabytes << 20) - (1 << 19))).unwrap_err();
        assert!(in_one_line(&error).to_string().contains("of the memory budget"), "{text}");
        let budget = Budget::new((megabytes + 2) << 20);
        assert!(run_in(&budget).is_ok(), "{text}: {} bytes", budget.peak());
    }
}

#[test]
fn queries_that_do_not_fit_together_take_turns() {
    let text = "sum by (i) (c_total)";
    let alone = Budget::unlimited();
    let engine_alone =
        engine(EngineSettings { budget: alone.clone(), ..EngineSettings::default() });
    let expected = run(&engine_alone, query(text, counters(200))).unwrap().value;
    let budget = Budget::new(alone.peak() * 3 / 2);
    let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = run(&engine, query(text, counters(200))).unwrap();
                assert_eq!(answer.value, expected);
            });
        }
    });
    assert!(budget.used() == 0 && budget.peak() <= budget.limit());
}

#[test]
fn the_steps_of_subqueries_are_charged() {
    let budget = Budget::new(16 << 20);
    let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
    // 1.2 million steps, which are 10 MB of values and 20 MB of points
    for text in
        ["max_over_time(vector(time())[20m:1ms])", "sum_over_time(vector(scalar(up))[20m:1ms])"]
    {
        let error = run(&engine, query(text, counters(1))).unwrap_err();
        let shown = in_one_line(&error).to_string();
        assert!(shown.contains("of the memory budget are in use"), "{text}: {shown}");
    }
    let few = "max_over_time(vector(time())[20m:10ms])";
    assert!(run(&engine, query(few, counters(1))).is_ok());
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_query_that_waits_for_memory_in_vain_is_told_so() {
    let budget = Budget::new(60_000_000);
    let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
    let mut others = budget.reserve("others");
    others.grow(59_999_000).unwrap();
    let waiting = Query {
        timeout: Duration::from_millis(100),
        ..query("sum by (i) (c_total)", counters(50))
    };
    let error = run(&engine, waiting).unwrap_err();
    let text = in_one_line(&error).to_string();
    assert!(
        error.kind() == Kind::Execution
            && text.contains("59999000 of the 60000000 bytes of the memory budget are in use"),
        "{error:?}"
    );
    drop(others);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_source_that_hangs_ends_with_the_timeout_and_is_let_go() {
    let engine = engine(EngineSettings::default());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let hanging =
        Query { timeout: Duration::from_millis(50), ..query("up", Arc::new(Hanging(sender))) };
    let error = run(&engine, hanging).unwrap_err();
    assert!(
        error.kind() == Kind::Timeout
            && in_one_line(&error).to_string() == "query timed out in expression evaluation",
        "{error:?}"
    );
    // The channel closes once the last sender, inside the stream, is gone.
    assert_eq!(futures::executor::block_on(receiver.recv()), None);
}

#[test]
fn dropping_the_future_ends_the_work() {
    let engine = engine(EngineSettings::default());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let mut running = Box::pin(engine.query(query("up", Arc::new(Hanging(sender)))));
    let waker = futures::task::noop_waker();
    assert!(running.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    drop(running);
    assert_eq!(futures::executor::block_on(receiver.recv()), None);
}

#[test]
fn words_and_failures_of_the_source_reach_the_caller() {
    let engine = engine(EngineSettings::default());
    let words = vec![
        Ok(SourceEvent::Warning("one is down".to_owned())),
        Ok(SourceEvent::Info("5m served".to_owned())),
    ];
    let answer = run(&engine, query("up", Arc::new(Scripted(words)))).unwrap();
    assert_eq!(
        (answer.warnings, answer.infos),
        (vec!["one is down".to_owned()], vec!["5m served".to_owned()])
    );
    let failed = vec![Err(Error::expanding_series(Error::new(Kind::Execution, "store is gone")))];
    let error = run(&engine, query("sum(up)", Arc::new(Scripted(failed)))).unwrap_err();
    assert!(
        error.kind() == Kind::Execution
            && in_one_line(&error).to_string() == "expanding series: store is gone",
        "{error:?}"
    );
}

#[test]
fn a_corrupt_chunk_is_an_error_that_names_the_series() {
    use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
    let data = bytes::Bytes::from_static(&[0, 9, 1, 2, 3]);
    let content = ChunkContent::Raw(ChunkBytes { encoding: tsdb::chunk::Encoding::Xor, data });
    let labels = Labels::from_pairs([("__name__", "broken")]);
    let series = Series { labels, chunks: vec![SeriesChunk::new(0, 1000, content)] };
    let engine = engine(EngineSettings::default());
    let source = Arc::new(MemorySource::from_series(vec![series]));
    let error = run(&engine, query("broken", source)).unwrap_err();
    assert!(
        error.kind() == Kind::Execution
            && in_one_line(&error).to_string().starts_with("series {__name__=\"broken\"}: "),
        "{error:?}"
    );
}

#[test]
fn an_analyzed_query_tells_what_each_operator_did() {
    let engine = engine(EngineSettings::default());
    let analyzed = Query {
        detail: Detail { stats: false, analyze: true },
        ..query("sum by (i) (rate(c_total[5m])) > 1", counters(3))
    };
    let answer = run(&engine, analyzed).unwrap();
    let mut seen = Vec::new();
    for operation in answer.stats.analysis.unwrap() {
        let m = operation.measured.unwrap();
        assert!(m.seconds > 0.0 && (m.series == 0) == (m.bytes == 0), "{operation:?}");
        seen.push((
            operation.name.split(':').next().unwrap_or_default().to_owned(),
            m.series,
            m.points,
            m.samples > 0,
        ));
    }
    // rates of 0.1 are not over 1
    let expected = [
        ("Distinct", 0, 0),
        ("Map", 0, 0),
        ("Aggregate", 3, 3 * 90),
        ("Window", 3, 3 * 90),
        ("Source", 1, 91),
    ];
    let expected: Vec<_> =
        expected.map(|(name, s, p)| (name.to_owned(), s, p, name == "Window")).into();
    assert_eq!(seen, expected);
    let plain = run(&engine, query("c_total", counters(3))).unwrap();
    assert_eq!((plain.stats.analysis, plain.stats.samples), (None, None));
}

#[test]
fn a_query_that_cannot_fit_is_refused_before_it_reads() {
    let budget = Budget::new(1_000_000);
    let settings =
        EngineSettings { budget: budget.clone(), max_samples: 0, ..EngineSettings::default() };
    let engine = engine(settings);
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let text = "max_over_time(sum(c_total)[1d:1s])";
    let error = run(&engine, query(text, Arc::new(Hanging(sender)))).unwrap_err();
    let expected = "(estimated before it ran: at least";
    assert!(
        error.kind() == Kind::Execution
            && in_one_line(&error).to_string().contains(expected)
            && error.to_string().contains("1000000"),
        "{error:?}"
    );
    assert_eq!(budget.used(), 0);
}

/// A source of series without end, and how many batches of them were taken.
#[derive(Debug)]
struct Endless(Arc<std::sync::atomic::AtomicUsize>);

impl SeriesSource for Endless {
    fn select(&self, select: Select) -> SourceStream {
        let taken = Arc::clone(&self.0);
        let batch = counters(64).select(select);
        futures::stream::once(batch.try_collect::<Vec<_>>())
            .flat_map(move |events| {
                let (taken, events) = (Arc::clone(&taken), events.unwrap());
                futures::stream::repeat_with(move || {
                    taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(events[0].clone())
                })
            })
            .boxed()
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = SystemClock::new(|_| Box::pin(std::future::pending())).monotonic()
        + Duration::from_secs(30);
    while !done() {
        assert!(SystemClock::new(|_| Box::pin(std::future::pending())).monotonic() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn work_ends_within_100_ms_after_nobody_waits_for_it() {
    let engine = engine(EngineSettings { max_samples: 0, ..EngineSettings::default() });
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = || taken.load(std::sync::atomic::Ordering::Relaxed);
    for text in ["rate(c_total[5m])", "sum(rate(c_total[5m]))", "quantile(0.5, c_total)"] {
        let mut running =
            Box::pin(engine.query(query(text, Arc::new(Endless(Arc::clone(&taken))))));
        let waker = futures::task::noop_waker();
        let before = count();
        assert!(running.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        until(|| count() > before + 20);
        drop(running);
        std::thread::sleep(Duration::from_millis(100));
        let stopped = count();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(count(), stopped, "{text}");
    }
}

#[test]
fn a_cheap_query_does_not_wait_for_heavy_ones_on_one_thread() {
    let engine =
        Engine::new(EngineSettings { threads: 1, max_samples: 0, ..EngineSettings::default() });
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let waker = futures::task::noop_waker();
    let heavy: Vec<_> = (0..5)
        .map(|_| {
            let endless = Arc::new(Endless(Arc::clone(&taken)));
            let mut running = Box::pin(engine.query(query("sum(rate(c_total[5m]))", endless)));
            assert!(
                running.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending()
            );
            running
        })
        .collect();
    until(|| taken.load(std::sync::atomic::Ordering::Relaxed) > 50);
    assert!(run(&engine, query("sum(rate(c_total[5m]))", counters(100))).is_ok());
    drop(heavy);
}

/// Until names are dropped nothing is wrong with equal series at a single step; at several steps
/// they are noticed.
#[test]
fn a_quantile_asked_for_twice_counts_twice_at_a_single_step() {
    let bucket = |le: &str, count: f64| {
        let sample = Sample { t: 0, value: SampleValue::Float(count) };
        (Labels::from_pairs([("__name__", "b"), ("le", le)]), vec![sample])
    };
    let source = || Arc::new(MemorySource::new([bucket("2", 4.0), bucket("+Inf", 4.0)]).unwrap());
    let settings = |delayed_name_removal| EngineSettings {
        language: promql::ParserOptions::ALL,
        delayed_name_removal,
        ..EngineSettings::default()
    };
    let answer = |delayed, text, end_ms| {
        let grid = Grid { start_ms: 0, end_ms, step_ms: end_ms };
        run(&engine(settings(delayed)), Query { grid, ..query(text, source()) })
            .map(|answer| answer.value)
    };
    let text = r#"sum(histogram_quantiles(b, "q", 0.5, 0.5))"#;
    let Ok(Value::Vector(series)) = answer(true, text, 0) else { panic!("no vector") };
    let value = series[0].points.iter().next().map(|point| point.value);
    assert!(matches!(value, Some(PointValue::Float(2.0))), "{value:?}");
    for failed in [
        answer(true, text, 60_000),
        answer(false, text, 0),
        answer(true, r#"histogram_quantiles(b, "q", 0.5, 0.5)"#, 0),
    ] {
        let text = failed.err().map(|error| error.to_string());
        assert_eq!(text.as_deref(), Some("vector cannot contain metrics with the same labelset"));
    }
}

#[test]
fn the_plan_can_be_shown() {
    let engine = engine(EngineSettings::default());
    let plan = engine.explain(query("sum by (i) (rate(c_total[5m])) > 1", counters(1)));
    let plan = futures::executor::block_on(plan).unwrap();
    assert!(plan.iter().all(|operator| operator.measured.is_none()));
    let shape: Vec<(&str, usize)> = plan
        .iter()
        .map(|operator| (operator.name.split(':').next().unwrap_or_default(), operator.inputs))
        .collect();
    let expected = [("Distinct", 1), ("Map", 2), ("Aggregate", 1), ("Window", 0), ("Source", 0)];
    assert_eq!(shape, expected);
}

#[test]
fn odd_times_are_errors_or_empty_but_no_panic() {
    let engine = engine(EngineSettings::default());
    let backwards =
        Query { grid: Grid { start_ms: 10, end_ms: 0, step_ms: 1 }, ..query("1", counters(0)) };
    assert_eq!(run(&engine, backwards).unwrap_err().kind(), Kind::BadData);
    for t in [i64::MIN, i64::MAX] {
        for text in
            ["c_total", "rate(c_total[5m])", "sum_over_time(c_total[5m:1m] offset 1w)", "time()"]
        {
            let odd = Query { grid: Grid::instant(t), ..query(text, counters(2)) };
            // What matters is that it answers, not what.
            let answer = run(&engine, odd).unwrap();
            assert!(
                matches!(answer.value, Value::Vector(v) if v.is_empty()) || text == "time()",
                "{text} at {t}"
            );
        }
    }
}

#[test]
fn bad_text_and_bad_types_are_bad_data() {
    let engine = engine(EngineSettings::default());
    let error = run(&engine, query("sum(", counters(0))).unwrap_err();
    assert!(
        error.kind() == Kind::BadData
            && in_one_line(&error).to_string() == "1:5: parse error: unclosed left parenthesis",
        "{error:?}"
    );
    let error = run(&engine, query("c_total[5m]", counters(0))).unwrap_err();
    assert!(
        error.kind() == Kind::BadData
            && in_one_line(&error)
                .to_string()
                .starts_with("invalid expression type \"range vector\"")
    );
}

#[test]
fn what_reads_no_series_is_answered_at_once() {
    let engine = Engine::new(EngineSettings { threads: 1, ..EngineSettings::default() });
    let at_once = |text: &str, instant: bool, series| {
        let mut query = query(text, counters(series));
        if instant {
            query.grid = Grid { start_ms: 500_000, end_ms: 500_000, step_ms: 0 };
        }
        engine.query(query).now_or_never().map(|answer| answer.is_ok())
    };
    assert_eq!(at_once("1 + 1", true, 0), Some(true));
    assert_eq!(at_once("absent(c_total)", true, 0), Some(true));
    assert_eq!(at_once("1 +", true, 0), Some(false));
    // series are left to the pool, and so is anything that takes long to plan or evaluate; where
    // this thread has to wait for a processor, the pool may have done it by then
    let is_left = |text: &str, instant: bool, series| {
        (0..100).any(|_| at_once(text, instant, series).is_none())
    };
    assert!(is_left("c_total", true, 1));
    assert!(is_left("c_total", false, 0));
    assert!(is_left("1 + 1", false, 0));
    assert!(is_left("absent(c_total{i=~'x'})", true, 0));
    assert!(is_left("sum_over_time(vector(1)[1h:1s])", true, 0));
    assert!(is_left(&format!("{}1", "1 + ".repeat(40)), true, 0));
}

/// Holds some kilobytes for as long as it answers.
#[derive(Debug)]
struct Holding(Arc<dyn SeriesSource>);

impl SeriesSource for Holding {
    fn select(&self, select: Select) -> SourceStream {
        let mut held = select.memory.reserve("an answer");
        held.grow(300_000).unwrap();
        let events = (self.0.select(select), held);
        futures::stream::unfold(events, |(mut events, held)| async move {
            Some((events.next().await?, (events, held)))
        })
        .boxed()
    }
}

#[test]
fn what_a_source_holds_is_part_of_the_query() {
    let peak = |source: Arc<dyn SeriesSource>| {
        let budget = Budget::new(1 << 20);
        let engine = engine(EngineSettings { budget: budget.clone(), ..EngineSettings::default() });
        run(&engine, query("sum(c_total)", source)).unwrap();
        until(|| budget.used() == 0);
        budget.peak()
    };
    let (alone, held) = (peak(counters(1)), peak(Arc::new(Holding(counters(1)))));
    assert!(held > alone, "{held} {alone}");
}
