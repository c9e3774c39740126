//! What functions may give over downsampled data, by what Prometheus gives on the raw samples around.

use std::collections::BTreeMap;
use std::fmt;

use engine::Grid;
use model::{Resolution, TimeRange};
use promql::ast::{Call, Expr, ExprKind, VectorSelector};

use super::super::outcome::{Outcome, Point};
use super::super::sides;
use super::fleet::Split;
use super::{LOOKBACK_MS, around};
use crate::harness::fleet::Prometheus;

/// The longest of the usual scrape intervals of the data.
const INTERVAL_MS: i64 = 30_000 * super::stretch::FACTOR;
/// How far apart raw answers are looked at.
const STEP_MS: i64 = 60_000;

/// A selector with the function right over it.
pub(super) struct Leaf {
    pub(super) text: String,
    function: String,
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
            let plain = Expr { kind: ExprKind::Vector(selector), ..expr.clone() };
            found.push(Leaf { text: plain.to_string(), function: String::new(), range: LOOKBACK_MS, offset });
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
                leaf = Some((matrix.range.millis?, offset));
                *arg = Expr { kind: ExprKind::Matrix(matrix), ..arg.clone() };
            }
            _ => return None,
        }
    }
    let (range, offset) = leaf?;
    let call = Call { func: call.func, args };
    let text = Expr { kind: ExprKind::Call(call.clone()), ..expr.clone() }.to_string();
    Some(Leaf { text, function: call.func.to_owned(), range, offset })
}

/// What is computed of samples that no aggregate holds: that it is there is all that is promised, with a warning.
fn is_unbounded(function: &str) -> bool {
    let needs_raw = ["changes", "resets", "idelta"].contains(&function);
    let spread = ["quantile_over_time", "stddev_over_time", "stdvar_over_time", "mad_over_time"];
    // a line through few points is steeper than one through many
    let lines = ["deriv", "predict_linear", "double_exponential_smoothing"];
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

type Series = BTreeMap<String, Vec<(i64, Point)>>;

/// Compares a leaf's answer with what Prometheus gives around each step.
pub(super) fn check(
    leaf: &Leaf,
    (truth, split): (&Prometheus, &Split),
    grid: Grid,
    got: &Outcome,
    checked: &mut Checked,
) -> Result<(), String> {
    if leaf.function == "absent_over_time" {
        return Ok(());
    }
    let read = TimeRange::new(grid.start_ms - leaf.offset - leaf.range, grid.end_ms - leaf.offset + 1);
    let far = TimeRange::new(read.start - 7_200_000, read.end + 7_200_000);
    let resolution = split.coarsest(far).millis();
    let reach = 2 * resolution + leaf.range;
    let raw = sides::ask(&truth.url, &leaf.text, around(grid, reach, STEP_MS), &[]);
    let (raw, got) = match (raw.success(), got.success()) {
        (Some(raw), Some(got)) => (&raw.series, &got.series),
        (None, None) => return Ok(()),
        _ => return Err(format!("{raw:?}\n  but {got:?}")),
    };
    let bound = Bound { leaf, resolution, reach };
    let labels: std::collections::BTreeSet<&String> = raw.keys().chain(got.keys()).collect();
    for labels in labels {
        bound.check(labels, (raw, got), grid, checked)?;
    }
    Ok(())
}

struct Bound<'a> {
    leaf: &'a Leaf,
    resolution: i64,
    reach: i64,
}

impl Bound<'_> {
    fn check(
        &self,
        labels: &String,
        (raw, got): (&Series, &Series),
        grid: Grid,
        checked: &mut Checked,
    ) -> Result<(), String> {
        let none = Vec::new();
        let (raw, got) = (raw.get(labels).unwrap_or(&none), got.get(labels).unwrap_or(&none));
        for k in 0..grid.steps() {
            let t = grid.start_ms + grid.step_ms * k as i64;
            let from = raw.partition_point(|(at, _)| *at < t - self.reach);
            let to = raw.partition_point(|(at, _)| *at <= t + self.reach);
            let near = &raw[from..to];
            match got.iter().find(|(at, _)| *at == t) {
                None if near.len() as i64 > 2 * self.reach / STEP_MS => {
                    return Err(format!("{labels}: a gap at {t}, where {} raw answers are", near.len()));
                }
                None => checked.absent += 1,
                Some((_, value)) if near.is_empty() => {
                    return Err(format!("{labels}: {value:?} at {t}, where nothing is"));
                }
                Some((_, value)) => self.value(labels, (t, value), near, checked)?,
            }
        }
        Ok(())
    }

    fn value(
        &self,
        labels: &str,
        (t, value): (i64, &Point),
        near: &[(i64, Point)],
        checked: &mut Checked,
    ) -> Result<(), String> {
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
        let (low, high) = numbers.iter().fold((f64::MAX, f64::MIN), |(l, h), n| (l.min(*n), h.max(*n)));
        let slack = self.slack(low, high);
        if own < low - slack || own > high + slack || own.is_nan() {
            return Err(format!("{labels}: {own} at {t}, not within {low} to {high} give or take {slack}"));
        }
        checked.values += 1;
        let name = if self.leaf.function.is_empty() { "selector" } else { &self.leaf.function };
        *checked.by_function.entry(name.to_owned()).or_default() += 1;
        Ok(())
    }

    /// What falls is taken for resets, which every window has one of at least.
    fn is_no_counter(&self) -> bool {
        let of_counters = ["rate", "increase", "irate"].contains(&self.leaf.function.as_str());
        let names = ["_total", "_bucket", "_sum", "_count", "latency_seconds", "rpc_seconds", "http.size.bytes"];
        of_counters && !names.iter().any(|name| self.leaf.text.contains(name))
    }

    /// The last sample of a window has the time of its end, so that it may be a scrape interval too late.
    fn slack(&self, low: f64, high: f64) -> f64 {
        let resolution = self.resolution.max(Resolution::FiveMinutes.millis());
        let most = low.abs().max(high.abs());
        let times = self.leaf.function.starts_with("ts_of_") || self.leaf.function == "timestamp";
        let late = if times { resolution as f64 / 1000.0 } else { 0.0 };
        most * (INTERVAL_MS as f64 / resolution as f64) + most * 1e-9 + late
    }
}
