//! What functions may give over downsampled data, by what Prometheus gives on the raw samples around.

use std::collections::BTreeMap;
use std::fmt;

use engine::Grid;
use model::{Matcher, Resolution, TimeRange};
use promql::ast::{Call, Expr, ExprKind, VectorSelector};

use super::super::outcome::{Outcome, Point};
use super::super::sides;
use super::fleet::Split;
use super::scrapes::Scrapes;
use super::{LOOKBACK_MS, Truth, around};

/// The longest of the usual scrape intervals of the data.
const INTERVAL_MS: i64 = 30_000 * super::stretch::FACTOR;
/// How far apart raw answers are looked at.
const STEP_MS: i64 = 60_000;

/// A selector with the function right over it.
pub(super) struct Leaf {
    pub(super) text: String,
    /// What raw samples give that bounds it.
    bounding: String,
    function: String,
    matchers: Vec<Matcher>,
    /// Of its windows, in milliseconds.
    range: i64,
    offset: i64,
}

/// What was compared.
#[derive(Default)]
pub(super) struct Checked {
    /// Steps with a value that lay within its bounds.
    pub(super) values: usize,
    /// Steps whose bounds are not numbers: only that there is a value was compared.
    unbounded: usize,
    /// Steps without a value where there is none.
    absent: usize,
    by_function: BTreeMap<String, usize>,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} values within their bounds, {} there without bounds, {} rightly not there",
            self.values, self.unbounded, self.absent
        )?;
        let counts: Vec<String> = self.by_function.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(f, "{}", counts.join(", "))
    }
}

/// All selectors that stand alone or as the samples of a function, without `@`: that only says when.
pub(super) fn leaves(expr: &Expr) -> Vec<Leaf> {
    let mut found: Vec<Leaf> = Vec::new();
    walk(expr, &mut found);
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found.dedup_by(|a, b| a.text == b.text);
    found
}

fn walk(expr: &Expr, found: &mut Vec<Leaf>) {
    match &expr.kind {
        ExprKind::Vector(selector) if selector.extension.is_none() => {
            let selector = VectorSelector { at: None, ..selector.clone() };
            let offset = selector.offset.as_ref().and_then(|o| o.millis).unwrap_or(0);
            let matchers = selector.matchers.clone();
            let plain = Expr { kind: ExprKind::Vector(selector), ..expr.clone() };
            let (text, function) = (plain.to_string(), String::new());
            found.push(Leaf { bounding: text.clone(), text, function, matchers, range: LOOKBACK_MS, offset });
        }
        ExprKind::Call(call) => {
            match of_matrix(expr, call) {
                Some(leaf) => found.push(leaf),
                None => expr.for_each_child(|child| walk(child, found)),
            };
        }
        _ => expr.for_each_child(|child| walk(child, found)),
    }
}

fn of_matrix(expr: &Expr, call: &Call) -> Option<Leaf> {
    let mut leaf = None;
    let mut args = call.args.clone();
    for arg in &mut args {
        let plain = arg.unwrap_parens().clone();
        match plain.kind {
            ExprKind::Number(_) => {}
            ExprKind::Matrix(mut matrix) if matrix.selector.extension.is_none() => {
                matrix.selector.at = None;
                let offset = matrix.selector.offset.as_ref().and_then(|o| o.millis).unwrap_or(0);
                let selector = Expr { kind: ExprKind::Vector(matrix.selector.clone()), ..arg.clone() };
                leaf = Some((matrix.range.millis?, offset, selector.to_string(), matrix.selector.matchers.clone()));
                *arg = Expr { kind: ExprKind::Matrix(matrix), ..arg.clone() };
            }
            _ => return None,
        }
    }
    let (range, offset, selector, matchers) = leaf?;
    let call = Call { func: call.func, args };
    let text = Expr { kind: ExprKind::Call(call.clone()), ..expr.clone() }.to_string();
    // where a series begins inside a window, the mean is that of a part of the range
    let bounding = match call.func {
        // without its name
        "avg_over_time" => format!("-(-{selector})"),
        _ => text.clone(),
    };
    Some(Leaf { text, bounding, function: call.func.to_owned(), matchers, range, offset })
}

/// What is computed of samples that no aggregate holds: that it is there is all that is promised, with a warning.
fn is_unbounded(function: &str) -> bool {
    let needs_raw = ["changes", "resets", "idelta"].contains(&function);
    let spread = ["quantile_over_time", "stddev_over_time", "stdvar_over_time", "mad_over_time"];
    // a line through other points is another line
    let lines = ["irate", "deriv", "predict_linear", "double_exponential_smoothing"];
    needs_raw || spread.contains(&function) || lines.contains(&function)
}

/// What an answer may not do otherwise than succeed, unless coarser values make it so.
pub(super) fn may_fail(text: &str) -> bool {
    // labels of equal or different values decide whether series match
    text.contains("multiple matches")
        || text.contains("many-to-many")
        || text.contains("same labelset")
        || text.contains("duplicate series")
}

/// Compares a leaf's answer with what Prometheus gives around each step.
pub(super) fn check(
    leaf: &Leaf,
    (truth, split): (&Truth, &Split),
    grid: Grid,
    got: &Outcome,
    checked: &mut Checked,
) -> Result<(), String> {
    // a series of floats and histograms in turn is, window by window, of the kind it was of more often
    if leaf.function == "absent_over_time" || leaf.text.contains("switching") {
        return Ok(());
    }
    let read = TimeRange::new(grid.start_ms - leaf.offset - leaf.range, grid.end_ms - leaf.offset + 1);
    let far = TimeRange::new(read.start - 7_200_000, read.end + 7_200_000);
    let resolution = split.coarsest(far);
    let reach = 2 * resolution.millis() + leaf.range;
    let raw = sides::ask(&truth.prometheus.url, &leaf.bounding, around(grid, reach, STEP_MS), &[]);
    let (raw, got) = match (raw.success(), got.success()) {
        (Some(raw), Some(got)) => (&raw.series, &got.series),
        (None, None) => return Ok(()),
        _ => return Err(format!("{raw:?}\n  but {got:?}")),
    };
    let scrapes = Scrapes::of(&truth.series, &leaf.matchers);
    let bound = Bound { leaf, split, resolution, reach };
    let labels: std::collections::BTreeSet<&String> = raw.keys().chain(got.keys()).collect();
    for labels in labels {
        let none = Vec::new();
        let [raw, got] = [raw, got].map(|answers| answers.get(labels).unwrap_or(&none));
        let Some(scrapes) = scrapes.get(labels) else { return Err(format!("{labels}: of no series")) };
        bound.check(&Compared { labels, scrapes, raw, got }, grid, checked)?;
    }
    Ok(())
}

struct Bound<'a> {
    leaf: &'a Leaf,
    split: &'a Split,
    resolution: Resolution,
    reach: i64,
}

/// Both answers for one series.
struct Compared<'a> {
    labels: &'a str,
    scrapes: &'a Scrapes,
    raw: &'a [(i64, Point)],
    got: &'a [(i64, Point)],
}

impl Bound<'_> {
    fn check(&self, series: &Compared<'_>, grid: Grid, checked: &mut Checked) -> Result<(), String> {
        let Compared { labels, raw, got, .. } = series;
        for k in 0..grid.steps() {
            let t = grid.start_ms + grid.step_ms * k as i64;
            let from = raw.partition_point(|(at, _)| *at < t - self.reach);
            let to = raw.partition_point(|(at, _)| *at <= t + self.reach);
            let near = &raw[from..to];
            match got.iter().find(|(at, _)| *at == t) {
                None if near.len() as i64 > 2 * self.reach / STEP_MS && !self.is_beginning(series, t) => {
                    return Err(format!("{labels}: a gap at {t}, where {} raw answers are", near.len()));
                }
                None => checked.absent += 1,
                // in a range of one scrape raw samples have no rate, and windows do
                Some(_) if near.is_empty() && self.leaf.range < 2 * INTERVAL_MS + STEP_MS => checked.unbounded += 1,
                Some((_, value)) if near.is_empty() => {
                    return Err(format!("{labels}: {value:?} at {t}, where nothing is"));
                }
                Some((_, value)) => self.value(series, (t, value), near, checked)?,
            }
        }
        Ok(())
    }

    /// Whether a series begins in the window that holds the time: it is known from the window's end on.
    fn is_beginning(&self, series: &Compared<'_>, t: i64) -> bool {
        let t = t - self.leaf.offset;
        self.split.coarse_at(t).any(|resolution| series.scrapes.begins_at(t, resolution))
    }

    fn value(
        &self,
        series: &Compared<'_>,
        (t, value): (i64, &Point),
        near: &[(i64, Point)],
        checked: &mut Checked,
    ) -> Result<(), String> {
        let labels = series.labels;
        let number = |point: &Point| match point {
            Point::Float(value) => Some(*value),
            Point::Histogram { totals: [count, _], .. } => Some(*count),
            Point::Text(_) => None,
        };
        let numbers: Vec<f64> = near.iter().filter_map(|(_, point)| number(point)).collect();
        let kinds = |point: &Point| matches!(point, Point::Histogram { .. });
        let mixed = near.iter().any(|(_, point)| kinds(point) != kinds(value));
        let finite = numbers.iter().all(|n| n.is_finite());
        let Some(own) = number(value) else { return Ok(()) };
        if mixed || !finite || is_unbounded(&self.leaf.function) || self.is_no_counter() || labels.contains("weird") {
            checked.unbounded += 1;
            return Ok(());
        }
        let (mut low, mut high) = numbers.iter().fold((f64::MAX, f64::MIN), |(l, h), n| (l.min(*n), h.max(*n)));
        let slack = low.abs().max(high.abs()) * self.share(series, t) + self.late();
        // of the first window of a series, what lies before its sample does not count
        if self.adds_up() {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if own < low - slack || own > high + slack || own.is_nan() {
            return Err(format!("{labels}: {own} at {t}, not within {low} to {high} give or take {slack}"));
        }
        checked.values += 1;
        let name = if self.leaf.function.is_empty() { "selector" } else { &self.leaf.function };
        *checked.by_function.entry(name.to_owned()).or_default() += 1;
        Ok(())
    }

    fn adds_up(&self) -> bool {
        ["sum_over_time", "count_over_time", "rate", "increase", "delta"].contains(&self.leaf.function.as_str())
    }

    /// What falls is taken for resets, which every window has one of at least.
    fn is_no_counter(&self) -> bool {
        let of_counters = ["rate", "increase", "irate"].contains(&self.leaf.function.as_str());
        let names = ["_total", "_bucket", "_sum", "_count", "latency_seconds", "rpc_seconds", "http.size.bytes"];
        of_counters && !names.iter().any(|name| self.leaf.text.contains(name))
    }

    /// Which part of a value it may be off by. The last sample of a window has the time of its end, so that each end of
    /// a difference may be a scrape interval too late; in the last window of a chunk that is much of a short time. Of
    /// what is added up in a range there may be one sample more or less.
    fn share(&self, series: &Compared<'_>, t: i64) -> f64 {
        let t = t - self.leaf.offset;
        let resolution = self.resolution.max(Resolution::FiveMinutes);
        let nearby = series.scrapes.nearby(TimeRange::new(t - self.reach, t + self.reach + 1), resolution);
        let interval = nearby.interval.max(INTERVAL_MS) as f64;
        let ends = match self.adds_up() {
            true => 2.0 * interval / nearby.part.max(STEP_MS) as f64,
            false => interval / resolution.millis() as f64,
        };
        let counted = self.leaf.function.starts_with("sum_") || self.leaf.function.starts_with("count_");
        let share = if counted { ends.max(interval / self.leaf.range as f64) } else { ends };
        share + 1e-9
    }

    /// How much later, in seconds, samples are than they were taken, where that is the value.
    fn late(&self) -> f64 {
        let resolution = self.resolution.max(Resolution::FiveMinutes);
        let times = self.leaf.function.starts_with("ts_of_") || self.leaf.function == "timestamp";
        if times { resolution.millis() as f64 / 1000.0 } else { 0.0 }
    }
}
