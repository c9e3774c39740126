//! The points of answers that are floats.

use engine::Answer;
use promql::value::{PointValue, Value};

/// Values by step, of all series in the order of the answer.
pub(crate) fn points(answer: &Answer) -> Vec<(i64, f64)> {
    let (Value::Vector(series) | Value::Matrix(series)) = &answer.value else {
        panic!("{:?}", answer.value)
    };
    let value = |p: promql::value::Point| match p.value {
        PointValue::Float(v) => (p.t_ms, v),
        PointValue::Histogram(_) => panic!("a histogram"),
    };
    series.iter().flat_map(|s| s.points.iter().map(value)).collect()
}
