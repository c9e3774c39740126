//! What a query cost: `stats` as Prometheus writes them, `analysis` and plans as Thanos does.

use std::time::Duration;

use engine::{ExplainedOperator, OperatorMeasurement, QueryStats};
use http_api::Json;
use promql::value::Grid;

use super::options;

/// What is reported of an answered query.
pub(super) struct AnsweredQuery<'a> {
    pub(super) stats: &'a QueryStats,
    pub(super) grid: Grid,
    /// How long it waited for other queries to end.
    pub(super) waited: Duration,
    /// The time since the request came.
    pub(super) total: Duration,
}

/// `,"stats":{…}`; strict clients accept no other shape.
pub(super) fn write(json: &mut Json, answered: AnsweredQuery<'_>, wanted: options::StatsDetail) {
    let AnsweredQuery { stats, grid, waited, total } = answered;
    let evaluation = stats.plan_seconds + stats.eval_seconds + stats.sort_seconds;
    json.raw(r#","stats":{"timings":{"#);
    for (name, seconds) in [
        (r#""evalTotalTime":"#, evaluation),
        (r#","resultSortTime":"#, stats.sort_seconds),
        (r#","queryPreparationTime":"#, stats.plan_seconds),
        (r#","innerEvalTime":"#, stats.eval_seconds),
        (r#","execQueueTime":"#, waited.as_secs_f64()),
        (r#","execTotalTime":"#, total.as_secs_f64()),
    ] {
        json.raw(name);
        json.number(seconds);
    }
    json.raw(r#"},"samples":{"#);
    let counts = stats.samples.clone().unwrap_or_default();
    for (name, counts, total) in [
        ("totalQueryableSamples", &counts.total_per_step, counts.total),
        ("samplesRead", &counts.read_per_step, counts.read),
    ] {
        if wanted == options::StatsDetail::PerStep {
            json.raw(&format!(r#""{name}PerStep":["#));
            for (step, count) in counts.iter().enumerate() {
                json.comma(step);
                json.raw("[");
                json.timestamp(grid.time(step));
                json.raw(&format!(",{count}]"));
            }
            json.raw("],");
        }
        json.raw(&format!(r#""{name}":{total},"#));
    }
    json.raw(&format!(r#""peakSamples":{}}}}}"#, stats.peak_samples));
}

/// A tree of `name` and `children`.
pub(super) fn write_plan(json: &mut Json, operators: &[ExplainedOperator]) {
    write_tree(json, operators, |_, _| {});
}

/// The same with what was measured: Thanos' fields, which include those of the operators below,
/// then our own.
pub(super) fn write_analysis(json: &mut Json, operators: &[ExplainedOperator]) {
    let totals = totals(operators);
    write_tree(json, operators, |json, at| {
        let measured = operators[at].measured.unwrap_or_default();
        json.raw(r#","executionTime":"#);
        json.string(go_duration(measured.seconds).as_bytes());
        let OperatorMeasurement { series, points, bytes, .. } = measured;
        let SubtreeTotals { most_points, samples } = totals[at];
        json.raw(&format!(r#","peakSamples":{most_points},"totalSamples":{samples}"#));
        json.raw(&format!(r#","series":{series},"points":{points},"bytes":{bytes}"#));
    });
}

/// Writes each operator with its name, what `write` adds to that, and its inputs.
fn write_tree(json: &mut Json, operators: &[ExplainedOperator], write: impl Fn(&mut Json, usize)) {
    // of the operators that are not closed yet, how many inputs are still to come
    let mut open: Vec<usize> = Vec::new();
    for (at, operator) in operators.iter().enumerate() {
        json.raw(r#"{"name":"#);
        json.string(operator.name.as_bytes());
        write(json, at);
        if operator.inputs > 0 {
            json.raw(r#","children":["#);
            open.push(operator.inputs);
            continue;
        }
        json.raw("}");
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                json.raw(",");
                break;
            }
            json.raw("]}");
            open.pop();
        }
    }
}

/// Of an operator and all below it.
#[derive(Clone, Copy, Default)]
struct SubtreeTotals {
    most_points: u64,
    samples: u64,
}

fn totals(operators: &[ExplainedOperator]) -> Vec<SubtreeTotals> {
    let mut totals = vec![SubtreeTotals::default(); operators.len()];
    // those behind an operator that belong to none yet, the nearest last
    let mut roots: Vec<usize> = Vec::new();
    for (at, operator) in operators.iter().enumerate().rev() {
        let OperatorMeasurement { points, samples, .. } = operator.measured.unwrap_or_default();
        let mut total = SubtreeTotals { most_points: points, samples };
        for input in roots.split_off(roots.len().saturating_sub(operator.inputs)) {
            total.most_points = total.most_points.max(totals[input].most_points);
            total.samples += totals[input].samples;
        }
        totals[at] = total;
        roots.push(at);
    }
    totals
}

/// As Go prints a `time.Duration` below an hour: `1m2.5s`, `1.5s`, `20.000001ms`, `3µs`.
fn go_duration(seconds: f64) -> String {
    let nanoseconds = (seconds * 1e9).round();
    match nanoseconds {
        0.0 => "0s".to_owned(),
        n if n < 1e3 => format!("{n}ns"),
        n if n < 1e6 => format!("{}µs", n / 1e3),
        n if n < 1e9 => format!("{}ms", n / 1e6),
        n if n < 60e9 => format!("{}s", n / 1e9),
        n => {
            let minutes = (n / 60e9).floor();
            format!("{minutes}m{}s", (n - minutes * 60e9) / 1e9)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (seconds, text) in [
            (0.0, "0s"),
            (5e-9, "5ns"),
            (3.5e-6, "3.5µs"),
            (0.020_000_001, "20.000001ms"),
            (1.5, "1.5s"),
            (62.5, "1m2.5s"),
        ] {
            assert_eq!(go_duration(seconds), text);
        }
    }
}
