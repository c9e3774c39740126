//! Bounds for what functions may return over downsampled data, from what Prometheus returns for the
//! raw samples around.

use std::collections::BTreeMap;
use std::fmt;

use model::{Matcher, Resolution, TimeRange};
use promql::ast::{Call, Expr, ExprKind, VectorSelector};
use promql::value::Grid;

use super::super::outcome::{Outcome, Point};
use super::super::sides;
use super::fleet::Split;
use super::scrapes::{Nearby, Scrapes};
use super::{LOOKBACK_MS, Truth, around};

/// The longest of the usual scrape intervals of the data.
const INTERVAL_MS: i64 = 30_000 * super::stretch::FACTOR;
/// How far apart raw answers are looked at.
const STEP_MS: i64 = 60_000;

/// A selector with the function directly around it.
pub(super) struct Leaf {
    pub(super) text: String,
    function: String,
    /// The function's arguments, one of them the selector with its range.
    args: Vec<Expr>,
    matchers: Vec<Matcher>,
    /// The length of its windows, in milliseconds.
    range: i64,
    offset: i64,
}

/// A result over raw samples that bounds an answer.
struct Bounding {
    text: String,
    /// What its values are multiplied by.
    scale: f64,
}

/// What was compared.
#[derive(Default)]
pub(super) struct Checked {
    /// Steps with a value that lay within its bounds.
    pub(super) values: usize,
    /// Steps whose bounds are not numbers: only the presence of a value was compared.
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
        let counts: Vec<String> =
            self.by_function.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(f, "{}", counts.join(", "))
    }
}

/// All selectors that stand alone or as the samples of a function, without `@`, which only sets the
/// time.
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
            let (text, function, args) = (plain.to_string(), String::new(), Vec::new());
            found.push(Leaf { text, function, args, matchers, range: LOOKBACK_MS, offset });
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
                leaf = Some((matrix.range.millis?, offset, matrix.selector.matchers.clone()));
                *arg = Expr { kind: ExprKind::Matrix(matrix), ..arg.clone() };
            }
            _ => return None,
        }
    }
    let (range, offset, matchers) = leaf?;
    let text =
        Expr { kind: ExprKind::Call(Call { func: call.func, args: args.clone() }), ..expr.clone() }
            .to_string();
    Some(Leaf { text, function: call.func.to_owned(), args, matchers, range, offset })
}

impl Leaf {
    /// The same function over another range, in milliseconds.
    fn over(&self, range: i64) -> String {
        let mut args = self.args.clone();
        for arg in &mut args {
            if let ExprKind::Matrix(matrix) = &mut arg.kind {
                matrix.range.millis = Some(range);
            }
        }
        let args: Vec<String> = args.iter().map(Expr::to_string).collect();
        format!("{}({})", self.function, args.join(", "))
    }

    /// The results over raw samples around the same time that bound the answer, by the length of
    /// the windows that answer.
    fn boundings(&self, resolution: Resolution) -> Vec<Bounding> {
        let new = |text: String| Bounding { text, scale: 1.0 };
        let (range, window) = (self.range, resolution.millis());
        let mut all = vec![new(self.text.clone())];
        match self.function.as_str() {
            // where a series begins inside a window, the mean is that of a part of the range
            "avg_over_time" => all.push(new(self.over(STEP_MS))),
            // of the windows that end in the range
            "min_over_time" | "max_over_time" if range > window => {
                all.push(new(self.over(range - window)))
            }
            // the windows that lie in the range stand for all of it
            "rate" | "increase" | "delta" if range > window => {
                let inside = (range - 2 * window).max(window);
                let scale =
                    if self.function == "rate" { 1.0 } else { range as f64 / inside as f64 };
                all.push(Bounding { text: self.over(inside), scale });
            }
            _ => {}
        }
        all
    }
}

/// Whether the result depends on samples that no aggregate holds: only its presence is promised,
/// with a warning.
fn is_unbounded(function: &str) -> bool {
    let needs_raw = ["changes", "resets", "idelta"].contains(&function);
    let spread = ["quantile_over_time", "stddev_over_time", "stdvar_over_time", "mad_over_time"];
    // a line through other points is another line
    let lines = ["irate", "deriv", "predict_linear", "double_exponential_smoothing"];
    needs_raw || spread.contains(&function) || lines.contains(&function)
}

/// Whether an answer may fail with this error where the one over raw samples succeeds.
pub(super) fn may_fail(text: &str) -> bool {
    // labels of equal or different values decide whether series match
    text.contains("multiple matches")
        || text.contains("many-to-many")
        || text.contains("same labelset")
        || text.contains("duplicate series")
}

/// Points by labels.
type Series = BTreeMap<String, Vec<(i64, Point)>>;

/// Compares a leaf's answer with what Prometheus gives around each step.
pub(super) fn check(
    leaf: &Leaf,
    (truth, split): (&Truth, &Split),
    grid: Grid,
    got: &Outcome,
    checked: &mut Checked,
) -> Result<(), String> {
    // a series that alternates between floats and histograms has, in each window, the kind that was
    // more frequent
    if leaf.function == "absent_over_time" || leaf.text.contains("switching") {
        return Ok(());
    }
    let read =
        TimeRange::new(grid.start_ms - leaf.offset - leaf.range, grid.end_ms - leaf.offset + 1);
    let far = TimeRange::new(read.start - 7_200_000, read.end + 7_200_000);
    let resolution = split.coarsest(far);
    let reach = 2 * resolution.millis() + leaf.range;
    let mut raw = Vec::new();
    for Bounding { text, scale } in leaf.boundings(resolution) {
        match (sides::ask(&truth.prometheus.url, &text, around(grid, reach, STEP_MS), &[]), got) {
            (Outcome::Success(answer), Outcome::Success(_)) => raw.push((answer.series, scale)),
            (Outcome::Failed { .. }, Outcome::Failed { .. }) => return Ok(()),
            (raw, got) => return Err(format!("{raw:?}\n  but {got:?}")),
        }
    }
    let Some(got) = got.success().map(|got| &got.series) else { return Ok(()) };
    let scrapes = Scrapes::of(&truth.series, &leaf.matchers);
    let finest = split.finest_of_coarse(far).unwrap_or(Resolution::FiveMinutes);
    let bound = Bound { leaf, split, resolution, finest, reach };
    let labels: std::collections::BTreeSet<&String> = raw[0].0.keys().chain(got.keys()).collect();
    for labels in labels {
        let none = Vec::new();
        let got = got.get(labels).unwrap_or(&none);
        let of_series = |(answer, scale): &(Series, f64)| {
            let points = answer.get(labels).cloned().unwrap_or_default();
            points.into_iter().map(|(t, point)| (t, point.scaled(*scale))).collect()
        };
        let raw: Vec<Vec<(i64, Point)>> = raw.iter().map(of_series).collect();
        let Some(scrapes) = scrapes.get(labels) else {
            return Err(format!("{labels}: of no series"));
        };
        bound.check(&Compared { labels, scrapes, raw: &raw, got }, grid, checked)?;
    }
    Ok(())
}

struct Bound<'a> {
    leaf: &'a Leaf,
    split: &'a Split,
    /// The coarsest data around.
    resolution: Resolution,
    /// The finest downsampled data around.
    finest: Resolution,
    reach: i64,
}

/// Both answers for one series.
struct Compared<'a> {
    labels: &'a str,
    scrapes: &'a Scrapes,
    /// What bounds it: the first is what was asked.
    raw: &'a [Vec<(i64, Point)>],
    got: &'a [(i64, Point)],
}

impl Bound<'_> {
    fn check(
        &self,
        series: &Compared<'_>,
        grid: Grid,
        checked: &mut Checked,
    ) -> Result<(), String> {
        let Compared { labels, raw, got, .. } = series;
        for k in 0..grid.steps() {
            let t = grid.start_ms + grid.step_ms * k as i64;
            let near = self.near(&raw[0], t);
            match got.iter().find(|(at, _)| *at == t) {
                None if self.is_whole(series, near) && !self.is_beginning(series, t) => {
                    return Err(format!(
                        "{labels}: a gap at {t}, where {} raw answers are",
                        near.len()
                    ));
                }
                None => checked.absent += 1,
                // in a range of one scrape raw samples have no rate, but windows do
                Some(_) if near.is_empty() && self.leaf.range < 2 * self.interval(series, t) => {
                    checked.unbounded += 1
                }
                Some((_, value)) if near.is_empty() => {
                    return Err(format!("{labels}: {value:?} at {t}, where nothing is"));
                }
                Some((_, value)) => self.value(series, (t, value), checked)?,
            }
        }
        Ok(())
    }

    /// The points around a time.
    fn near<'p>(&self, points: &'p [(i64, Point)], t: i64) -> &'p [(i64, Point)] {
        let from = points.partition_point(|(at, _)| *at < t - self.reach);
        let to = points.partition_point(|(at, _)| *at <= t + self.reach);
        &points[from..to]
    }

    /// Whether raw samples answer at every time around. Windows leave out NaN, so some may be
    /// missing between others.
    fn is_whole(&self, series: &Compared<'_>, near: &[(i64, Point)]) -> bool {
        near.len() as i64 > 2 * self.reach / STEP_MS && !self.has_nan(series)
    }

    /// Whether values are sometimes NaN or infinite.
    fn has_nan(&self, series: &Compared<'_>) -> bool {
        self.leaf.text.contains("weird") || series.labels.contains("weird")
    }

    /// Whether a series begins in the window that holds the time: it is known from the window's end
    /// on.
    fn is_beginning(&self, series: &Compared<'_>, t: i64) -> bool {
        let t = t - self.leaf.offset;
        self.split.coarse_at(t).any(|resolution| series.scrapes.begins_at(t, resolution))
    }

    fn value(
        &self,
        series: &Compared<'_>,
        (t, value): (i64, &Point),
        checked: &mut Checked,
    ) -> Result<(), String> {
        let labels = series.labels;
        let number = |point: &Point| match point {
            Point::Float(value) => Some(*value),
            Point::Histogram { totals: [count, _], .. } => Some(*count),
            Point::Text(_) => None,
        };
        let near = || series.raw.iter().flat_map(|points| self.near(points, t));
        let numbers: Vec<f64> = near().filter_map(|(_, point)| number(point)).collect();
        let kinds = |point: &Point| matches!(point, Point::Histogram { .. });
        let mixed = near().any(|(_, point)| kinds(point) != kinds(value));
        let finite = numbers.iter().all(|n| n.is_finite());
        let Some(own) = number(value) else { return Ok(()) };
        if mixed
            || !finite
            || is_unbounded(&self.leaf.function)
            || self.is_no_counter(series)
            || self.has_nan(series)
        {
            checked.unbounded += 1;
            return Ok(());
        }
        let (mut low, mut high) =
            numbers.iter().fold((f64::MAX, f64::MIN), |(l, h), n| (l.min(*n), h.max(*n)));
        let slack = low.abs().max(high.abs()) * self.share(series, t) + self.late();
        // in the first window of a series, what lies before its sample does not count
        if self.adds_up() {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if own < low - slack || own > high + slack || own.is_nan() {
            return Err(format!(
                "{labels}: {own} at {t}, not within {low} to {high} give or take {slack}"
            ));
        }
        checked.values += 1;
        let name = if self.leaf.function.is_empty() { "selector" } else { &self.leaf.function };
        *checked.by_function.entry(name.to_owned()).or_default() += 1;
        Ok(())
    }

    fn adds_up(&self) -> bool {
        ["sum_over_time", "count_over_time", "rate", "increase", "delta"]
            .contains(&self.leaf.function.as_str())
    }

    /// Falling values count as resets, of which every window then has at least one.
    fn is_no_counter(&self, series: &Compared<'_>) -> bool {
        let of_counters = ["rate", "increase", "irate"].contains(&self.leaf.function.as_str());
        let names = [
            "_total",
            "_bucket",
            "_sum",
            "_count",
            "latency_seconds",
            "rpc_seconds",
            "http.size.bytes",
        ];
        let has_flaws = self.leaf.text.contains("_bucket") && series.labels.contains("odd");
        of_counters && (has_flaws || !names.iter().any(|name| self.leaf.text.contains(name)))
    }

    /// The share by which a value may be off. The last sample of a window has the time of its end,
    /// so that each end of a difference may be a scrape interval too late; in the last window of a
    /// chunk that is a large share of a short time. What is added up in a range may include one
    /// sample more or less.
    fn share(&self, series: &Compared<'_>, t: i64) -> f64 {
        let nearby = self.nearby(series, t, self.finest);
        let interval = nearby.interval.max(INTERVAL_MS) as f64;
        let ends = match self.adds_up() {
            true => 2.0 * interval / nearby.part.max(STEP_MS) as f64,
            false => 0.0,
        };
        let counted =
            self.leaf.function.starts_with("sum_") || self.leaf.function.starts_with("count_");
        let share = if counted { ends.max(interval / self.leaf.range as f64) } else { ends };
        share + 1e-9
    }

    /// The data around a time, for windows of that length.
    fn nearby(&self, series: &Compared<'_>, t: i64, resolution: Resolution) -> Nearby {
        let t = t - self.leaf.offset;
        series.scrapes.nearby(TimeRange::new(t - self.reach, t + self.reach + 1), resolution)
    }

    /// How far apart scrapes are.
    fn interval(&self, series: &Compared<'_>, t: i64) -> i64 {
        let nearby = self.nearby(series, t, self.resolution.max(self.finest)).interval;
        nearby.max(series.scrapes.shortest_interval()).max(INTERVAL_MS)
    }

    /// How much later, in seconds, samples are than they were taken, where that is the value.
    fn late(&self) -> f64 {
        let resolution = self.resolution.max(Resolution::FiveMinutes);
        let times = self.leaf.function.starts_with("ts_of_") || self.leaf.function == "timestamp";
        if times { resolution.millis() as f64 / 1000.0 } else { 0.0 }
    }
}
