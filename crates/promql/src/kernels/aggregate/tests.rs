use proptest::prelude::*;

use super::*;
use crate::kernels::steps::StepSet;

const KINDS: [CellKind; 8] = [
    CellKind::Sum,
    CellKind::Avg,
    CellKind::Min,
    CellKind::Max,
    CellKind::Count,
    CellKind::Group,
    CellKind::Stddev,
    CellKind::Stdvar,
];

/// The mean square of the distances to the mean.
fn variance(values: &[f64]) -> f64 {
    let mean = kahan::mean(values);
    values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64
}

fn naive(kind: CellKind, values: &[f64]) -> f64 {
    match kind {
        CellKind::Sum => kahan::sum(values),
        CellKind::Avg => kahan::mean(values),
        CellKind::Min => values.iter().copied().fold(f64::NAN, f64::min),
        CellKind::Max => values.iter().copied().fold(f64::NAN, f64::max),
        CellKind::Count => values.len() as f64,
        CellKind::Group => 1.0,
        CellKind::Stdvar => variance(values),
        CellKind::Stddev => variance(values).sqrt(),
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![12 => -1e6..1e6, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY), 1 => Just(f64::MAX)]
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-6)
}

proptest! {
    #[test]
    fn cells_equal_the_definition_however_the_rows_are_split(
        rows in prop::collection::vec(prop::collection::vec(prop::option::of(value()), 70), 1..12),
        split in 0usize..12,
    ) {
        for kind in KINDS {
            let mut parts = [Cells::new(kind, 70), Cells::new(kind, 70)];
            for part in &mut parts {
                part.grow(1);
            }
            for (i, row) in rows.iter().enumerate() {
                let values: Vec<f64> = row.iter().map(|v| v.unwrap_or(0.0)).collect();
                let mut present = StepSet::none(70);
                row.iter().enumerate().filter(|(_, v)| v.is_some()).for_each(|(k, _)| present.insert(k));
                parts[usize::from(i >= split)].add(0, &values, present.view());
            }
            let [mut whole, rest] = parts;
            whole.merge(0, &rest, 0);
            let mut out = vec![0.0; 70];
            whole.finish(0, &mut out);
            for k in 0..70 {
                let column: Vec<f64> = rows.iter().filter_map(|row| row[k]).collect();
                let there = whole.present(0).contains(k);
                prop_assert_eq!(there, !column.is_empty());
                // Sums that overflow depend on their order, in Prometheus as here.
                let huge = column.contains(&f64::MAX);
                let ordered = matches!(kind, CellKind::Min | CellKind::Max | CellKind::Count);
                if there && (ordered || !huge) {
                    let expected = naive(kind, &column);
                    prop_assert!(close(expected, out[k]), "{:?}: {} != {}", kind, expected, out[k]);
                }
            }
        }
    }
}

#[test]
fn an_average_does_not_overflow() {
    let mut cells = Cells::new(CellKind::Avg, 1);
    cells.grow(1);
    for _ in 0..4 {
        cells.add(0, &[f64::MAX], StepSet::all(1).view());
    }
    let mut out = [0.0];
    cells.finish(0, &mut out);
    assert!((out[0] / f64::MAX - 1.0).abs() < 1e-15);
}
