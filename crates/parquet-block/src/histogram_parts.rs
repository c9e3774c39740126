//! Parts of native histograms that all versions store alike.

use arrow::array::ListArray;
use arrow::array::cast::AsArray;
use arrow::datatypes::Float64Type;
use arrow::error::ArrowError;
use model::histogram::ResetHint;

use crate::labels::wrong_type;

/// The number that stands for a hint.
pub(crate) fn hint_number(hint: ResetHint) -> i32 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

pub(crate) fn hint_of(number: i32) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// The floats of a row's list.
pub(crate) fn list_floats(list: &ListArray, row: usize) -> Result<Vec<f64>, ArrowError> {
    let items = list.value(row);
    let items = items.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type("of floats"))?;
    Ok(items.values().to_vec())
}
