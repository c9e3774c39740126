//! Runs PromQL test files: our own in `tests/promql`, and the upstream corpus where it lies beside
//! the repository.
//!
//! As upstream's runner does, each instant evaluation is also run with `@` on every selector at
//! other times, and all of those as the middle of a range query. An evaluation passes when all its
//! variants do. Start timestamps are not kept: what does not pass after they were loaded is listed.
//! Everything else that does not pass is a failure.

mod common;

use common::Asked;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::testing::MemorySource;
use engine::{Answer, Engine, SeriesSource};
use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};
use model::{FloatHistogram, Labels, Sample, SampleValue};
use promql::ParserOptions;
use promql::ast::{At, Expr, ExprKind};
use promql::testlang::{
    Command, Eval, EvalTimes, ExpectKind, ExpectText, HistogramValue, Load, SequenceValue,
    parse_test,
};
use promql::value::{Grid, Point, PointValue, ResultSeries, Value};

/// The environment variable that names the folder of the upstream files where they do not lie
/// beside the repository.
const CORPUS_FOLDER: &str = "PROMQL_CORPUS";

/// The file for which names are dropped at once, which is Prometheus' default. For all others they
/// are dropped at the end, which the upstream files are written for.
const DROPPING_AT_ONCE: &str = "names_dropped_at_once.test";

/// How many of the upstream evaluations must pass: all but the ones about start timestamps.
const LEAST_PASSED: usize = 2217;

#[derive(Default)]
struct Storage {
    series: BTreeMap<Labels, BTreeMap<i64, SampleValue>>,
    /// Start timestamps were loaded, which the storage cannot hold.
    incomplete: bool,
}

/// Classic histograms on their way to native ones with custom buckets, by labels without `le` and
/// time.
#[derive(Default)]
struct Classic(BTreeMap<(Labels, i64), ClassicHistogram>);

#[derive(Default)]
struct ClassicHistogram {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn add(&mut self, labels: &Labels, t: i64, v: f64) {
        let name = String::from_utf8(labels.metric_name().unwrap_or_default().to_vec()).unwrap();
        let Some((base, part)) = ["bucket", "count", "sum"]
            .iter()
            .find_map(|part| Some((name.strip_suffix(part)?.strip_suffix('_')?, *part)))
        else {
            return;
        };
        let le = || std::str::from_utf8(labels.get("le").unwrap()).unwrap().parse::<f64>();
        if part == "bucket" && !le().is_ok_and(|le| !le.is_nan()) {
            return;
        }
        let key = (labels.without(&["le"]).with("__name__", base), t);
        let histogram = self.0.entry(key).or_default();
        match part {
            "bucket" => histogram.buckets.push((le().unwrap(), v)),
            "count" => histogram.count = Some(v),
            _ => histogram.sum = v,
        }
    }

    fn histograms(self) -> impl Iterator<Item = (Labels, i64, FloatHistogram)> {
        self.0.into_iter().map(|((labels, t), classic)| (labels, t, classic.native()))
    }
}

impl ClassicHistogram {
    fn native(mut self) -> FloatHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = self.count.unwrap_or_else(|| self.buckets.last().map_or(0.0, |b| b.1));
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let counts = self
            .buckets
            .iter()
            .map(|(_, cumulative)| cumulative - std::mem::replace(&mut below, *cumulative));
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![BucketSpan { offset: 0, length: self.buckets.len() as u32 }],
            positive_buckets: counts.collect(),
            custom_values: self.buckets.iter().map(|b| b.0).filter(|le| le.is_finite()).collect(),
            ..FloatHistogram::default()
        }
    }
}

impl Storage {
    fn load(&mut self, load: &Load) {
        let mut classic = Classic::default();
        for series in &load.series {
            self.incomplete |= series.start_offsets_ms.is_some();
            let samples = self.series.entry(series.description.labels.clone()).or_default();
            for (i, value) in series.description.values.iter().enumerate() {
                let value = match value {
                    SequenceValue::Omitted => continue,
                    SequenceValue::Float(v) => SampleValue::Float(*v),
                    SequenceValue::Histogram(h) => SampleValue::Histogram(Arc::clone(&h.histogram)),
                };
                let t = i as i64 * load.interval_ms;
                if let (true, SampleValue::Float(v)) = (load.with_nhcb, &value) {
                    classic.add(&series.description.labels, t, *v);
                }
                samples.insert(t, value);
            }
        }
        for (labels, t, histogram) in classic.histograms() {
            let value = SampleValue::Histogram(Arc::new(histogram));
            self.series.entry(labels).or_default().insert(t, value);
        }
    }

    fn source(&self) -> Arc<dyn SeriesSource> {
        let sample = |(t, value): (&i64, &SampleValue)| Sample { t: *t, value: value.clone() };
        let series = self
            .series
            .iter()
            .map(|(labels, samples)| (labels.clone(), samples.iter().map(sample).collect()));
        Arc::new(MemorySource::new(series).unwrap())
    }
}

/// One query to run for an evaluation, and which step of its answer to look at.
struct Variant {
    text: String,
    grid: Grid,
    middle: Option<i64>,
}

fn variants(eval: &Eval) -> Vec<Variant> {
    let at = match eval.times {
        EvalTimes::Instant { at } => at,
        EvalTimes::Range { start, end, step } => {
            let grid = Grid { start_ms: start, end_ms: end, step_ms: step };
            return vec![Variant { text: eval.text.clone(), grid, middle: None }];
        }
    };
    let mut times = vec![(eval.text.clone(), at)];
    let parsed = ParserOptions::ALL.parse_expr(&eval.text).ok();
    if let Some(mut expr) = parsed.clone() {
        let mut safe = true;
        pin(&mut expr, at, &mut safe);
        if safe {
            let others =
                if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
            times.extend(others.into_iter().map(|t| (expr.to_string(), t)));
        }
    }
    let as_range = parsed.is_some_and(|e| is_vector(&e))
        && eval.result.range.is_none()
        && eval.result.string.is_none();
    let mut all = Vec::new();
    for (text, t) in times {
        all.push(Variant { text: text.clone(), grid: Grid::instant(t), middle: None });
        if as_range && !eval.expects(ExpectKind::Ordered) {
            let grid = Grid { start_ms: t - 60_000, end_ms: t + 60_000, step_ms: 60_000 };
            all.push(Variant { text, grid, middle: Some(t) });
        }
    }
    all
}

/// Whether a range query can stand for an instant one.
fn is_vector(expr: &Expr) -> bool {
    let text = expr.to_string();
    let of_query = ["start()", "end()", "step()", "range()"].iter().any(|f| text.contains(f));
    let ranged =
        matches!(expr.kind, ExprKind::Matrix(_) | ExprKind::Subquery(_) | ExprKind::String(_));
    !of_query && !ranged
}

/// Sets `@ t` on every selector and subquery that has none, but not below one that has.
fn pin(expr: &mut Expr, t: i64, safe: &mut bool) {
    match &mut expr.kind {
        ExprKind::Vector(selector) => {
            selector.at.get_or_insert(At::Millis(t));
        }
        ExprKind::Matrix(matrix) => {
            matrix.selector.at.get_or_insert(At::Millis(t));
        }
        ExprKind::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Millis(t));
            let mut inner = (*subquery.expr).clone();
            pin(&mut inner, t, safe);
        }
        ExprKind::Call(call) => {
            *safe &=
                !promql::functions::lookup(call.func).is_some_and(|f| f.is_at_modifier_unsafe());
            call.args.iter_mut().for_each(|a| pin(a, t, safe));
        }
        ExprKind::Aggregate(a) => {
            pin(&mut a.expr, t, safe);
            if let Some(param) = &mut a.param {
                pin(param, t, safe);
            }
        }
        ExprKind::Binary(b) => {
            pin(&mut b.lhs, t, safe);
            pin(&mut b.rhs, t, safe);
        }
        ExprKind::Unary(u) => pin(&mut u.expr, t, safe),
        ExprKind::Paren(inner) => pin(inner, t, safe),
        ExprKind::Number(_) | ExprKind::String(_) => {}
    }
}

/// Equal within 1e-6 relative, as upstream compares.
fn close(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < 1e-6 * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < 1e-6
}

fn matches(text: &ExpectText, actual: &str) -> bool {
    match text {
        ExpectText::Any => true,
        ExpectText::Message(message) => message == actual,
        ExpectText::Regex(pattern) => regex::Regex::new(pattern).unwrap().is_match(actual),
    }
}

fn check_texts(
    eval: &Eval,
    some: ExpectKind,
    none: ExpectKind,
    actual: &[String],
) -> Option<String> {
    if eval.expects(none) && !actual.is_empty() {
        return Some(format!("unexpected {actual:?}"));
    }
    let wanted: Vec<&ExpectText> =
        eval.expectations.iter().filter(|e| e.kind == some).map(|e| &e.text).collect();
    if wanted.is_empty() {
        return None;
    }
    if actual.is_empty() {
        return Some(format!("missing {wanted:?}"));
    }
    let unmatched = actual.iter().find(|a| !wanted.iter().any(|w| matches(w, a)));
    let unmet = wanted.iter().find(|w| !actual.iter().any(|a| matches(w, a)));
    match (unmatched, unmet) {
        (None, None) => None,
        (a, b) => Some(format!("annotations: {a:?} not expected, {b:?} not met")),
    }
}

/// Expected points of a series by time.
fn expected(values: &[SequenceValue], time: impl Fn(usize) -> i64) -> Vec<(i64, SequenceValue)> {
    let there = values.iter().enumerate().filter(|(_, v)| !matches!(v, SequenceValue::Omitted));
    there.map(|(i, v)| (time(i), v.clone())).collect()
}

fn same_value(wanted: &SequenceValue, got: &PointValue) -> bool {
    match (wanted, got) {
        (SequenceValue::Float(a), PointValue::Float(b)) => close(*a, *b),
        (SequenceValue::Histogram(a), PointValue::Histogram(b)) => same_histogram(a, b),
        _ => false,
    }
}

/// Equal as upstream compares: the hint only where the test names one.
fn same_histogram(wanted: &HistogramValue, got: &FloatHistogram) -> bool {
    let (mut a, mut b) = ((*wanted.histogram).clone(), got.clone());
    a.compact(0);
    b.compact(0);
    let all_close =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(*a, *b));
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && all_close(&[a.count, a.sum, a.zero_count], &[b.count, b.sum, b.zero_count])
        && all_close(&a.positive_buckets, &b.positive_buckets)
        && all_close(&a.negative_buckets, &b.negative_buckets)
        && (!wanted.hint_written || a.hint == b.hint)
}

fn check_series(
    wanted: &[(Labels, Vec<(i64, SequenceValue)>)],
    got: &[ResultSeries],
    ordered: bool,
) -> Option<String> {
    let wanted: Vec<_> = wanted.iter().filter(|w| !w.1.is_empty()).collect();
    if wanted.len() != got.len() {
        let labels: Vec<_> = got.iter().map(|s| &s.labels).collect();
        return Some(format!("{} series, not {}: {labels:?}", got.len(), wanted.len()));
    }
    for (i, (labels, points)) in wanted.iter().enumerate() {
        let Some(at) = got.iter().position(|s| s.labels == *labels) else {
            return Some(format!("no series {labels}"));
        };
        if ordered && at != i {
            return Some(format!("{labels} stands at {at}, not {i}"));
        }
        let own = &got[at].points;
        let same =
            |(a, b): (&(i64, SequenceValue), Point)| a.0 == b.t_ms && same_value(&a.1, &b.value);
        if own.len() != points.len() || !points.iter().zip(own.iter()).all(same) {
            return Some(format!("{labels}: {own:?}, not {points:?}"));
        }
    }
    None
}

fn check_value(eval: &Eval, variant: &Variant, answer: &Answer) -> Option<String> {
    let times: Box<dyn Fn(usize) -> i64> = match (eval.result.range, eval.times, variant.middle) {
        (Some((from, _, step)), ..) => Box::new(move |i| from + step * i as i64),
        (None, EvalTimes::Range { start, step, .. }, _) => {
            Box::new(move |i| start + step * i as i64)
        }
        (None, _, Some(middle)) => Box::new(move |_| middle),
        (None, _, None) => Box::new(|_| variant.grid.start_ms),
    };
    let mut wanted = Vec::new();
    for series in &eval.result.series {
        wanted.push((series.labels.clone(), expected(&series.values, &times)));
    }
    if let Some(scalar) = eval.result.scalar {
        return match (&answer.value, variant.middle) {
            (Value::Scalar { value, .. }, None) => {
                (!close(scalar, *value)).then(|| format!("{value}, not {scalar}"))
            }
            (Value::Matrix(series), Some(_)) => {
                let wanted = [(Labels::empty(), vec![(times(0), SequenceValue::Float(scalar))])];
                check_series(&wanted, &middle(series, variant), false)
            }
            (other, _) => Some(format!("{other:?}, not a scalar")),
        };
    }
    if let Some(text) = &eval.result.string {
        return match &answer.value {
            Value::String { value, .. } if value.as_bytes() == text => None,
            other => Some(format!("{other:?}, not the string {text:?}")),
        };
    }
    match &answer.value {
        Value::Vector(series) => check_series(&wanted, series, eval.expects(ExpectKind::Ordered)),
        Value::Matrix(series) => check_series(&wanted, &middle(series, variant), false),
        other => Some(format!("{other:?}, not a vector")),
    }
}

/// The middle step, which alone counts for a range query that stands for an instant one.
fn middle(series: &[ResultSeries], variant: &Variant) -> Vec<ResultSeries> {
    let mut series = series.to_vec();
    if let Some(t) = variant.middle {
        series
            .iter_mut()
            .for_each(|s| s.points = s.points.iter().filter(|p| p.t_ms == t).collect());
        series.retain(|s| !s.points.is_empty());
    }
    series
}

/// Checked for instant queries only: the other steps of a range may have annotations of their own.
fn check_annotations(eval: &Eval, variant: &Variant, answer: &Answer) -> Option<String> {
    if variant.middle.is_some() {
        return None;
    }
    check_texts(eval, ExpectKind::Warn, ExpectKind::NoWarn, &answer.warnings)
        .or_else(|| check_texts(eval, ExpectKind::Info, ExpectKind::NoInfo, &answer.infos))
}

/// What is wrong with an evaluation.
fn check(engine: &Engine, source: &Arc<dyn SeriesSource>, eval: &Eval) -> Option<String> {
    for variant in variants(eval) {
        let fault = match common::run(engine, source, &variant.text, Asked::raw(variant.grid)) {
            Err(error) => {
                let wanted: Vec<_> =
                    eval.expectations.iter().filter(|e| e.kind == ExpectKind::Fail).collect();
                let text = error.to_string();
                let met = !wanted.is_empty() && wanted.iter().all(|w| matches(&w.text, &text));
                (!met).then(|| format!("error {text}"))
            }
            Ok(_) if eval.expects(ExpectKind::Fail) => Some("no error".to_owned()),
            Ok(answer) => check_value(eval, &variant, &answer)
                .or_else(|| check_annotations(eval, &variant, &answer)),
        };
        // Positions in annotations are those of the original text.
        if let Some(fault) = fault {
            return Some(format!("{} at {:?}: {fault}", variant.text, variant.grid));
        }
    }
    None
}

#[derive(Default)]
struct Tally {
    passed: usize,
    /// Evaluations about data that the storage cannot hold.
    out_of_scope: Vec<String>,
    failed: Vec<String>,
}

impl Tally {
    fn all(&self) -> usize {
        self.passed + self.out_of_scope.len() + self.failed.len()
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.out_of_scope.extend(other.out_of_scope);
        self.failed.extend(other.failed);
    }
}

#[expect(clippy::print_stdout, reason = "tests report what they counted")]
fn run_file(engine: &Engine, path: &Path) -> Tally {
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    let commands = parse_test(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|e| panic!("{file}: {e}"));
    let mut storage = Storage::default();
    let mut source = storage.source();
    let mut tally = Tally::default();
    for command in commands {
        match command {
            Command::Clear => storage = Storage::default(),
            Command::Load(load) => storage.load(&load),
            Command::Eval(eval) => {
                match check(engine, &source, &eval) {
                    None => tally.passed += 1,
                    Some(_) if storage.incomplete => {
                        tally.out_of_scope.push(format!("{file}:{}: {}", eval.line, eval.text));
                    }
                    Some(fault) => tally.failed.push(format!("{file}:{}: {fault}", eval.line)),
                }
                continue;
            }
        }
        source = storage.source();
    }
    println!("{file}: {} of {}", tally.passed, tally.all());
    tally
}

fn run_folder(folder: &Path) -> Tally {
    let (at_the_end, at_once) = (common::engine(1, true), common::engine(1, false));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "test"));
    files.sort();
    let mut total = Tally::default();
    for file in &files {
        let engine = if file.ends_with(DROPPING_AT_ONCE) { &at_once } else { &at_the_end };
        total.add(run_file(engine, file));
    }
    total
}

#[test]
fn own_files_pass() {
    let tally = run_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promql"));
    assert!(tally.failed.is_empty(), "{}", tally.failed.join("\n"));
    assert!(tally.out_of_scope.is_empty() && tally.passed > 0, "{:?}", tally.out_of_scope);
}

#[test]
fn upstream_corpus() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/promqltest");
    let folder = std::env::var_os(CORPUS_FOLDER).map_or_else(beside, PathBuf::from);
    if !folder.exists() {
        assert!(
            std::env::var_os(CORPUS_FOLDER).is_none(),
            "{CORPUS_FOLDER} names {}, which is not there",
            folder.display()
        );
        println!("the upstream corpus is not there; nothing was run");
        return;
    }
    let tally = run_folder(&folder);
    println!("of start timestamps:\n  {}", tally.out_of_scope.join("\n  "));
    println!("{} of {}", tally.passed, tally.all());
    assert!(tally.failed.is_empty(), "{} failed\n{}", tally.failed.len(), tally.failed.join("\n"));
    assert!(tally.passed >= LEAST_PASSED, "only {} of {} passed", tally.passed, tally.all());
}
