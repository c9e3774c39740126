//! Reads answers of Prometheus' API: the opposite direction of what is written here.

mod histogram;
mod parts;

use promql::value::{Point, PointValue, Points, ResultSeries, Value};

use self::parts::{AnswerBody, FloatPoint, Item, SeriesJson};
use crate::AnswerNotes;

/// What `query` and `query_range` answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiAnswer {
    pub value: Value,
    pub notes: AnswerNotes,
}

/// Why a body holds no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server says so itself, in Prometheus' error type and text.
    #[error("{kind}: {message}")]
    Refused { kind: String, message: String },
    /// The cause says what is wrong where.
    #[error("the body is no answer of Prometheus' API")]
    Malformed(#[source] serde_json::Error),
    /// It is JSON of the right shape, but makes no sense.
    #[error("the answer makes no sense: {0}")]
    Senseless(String),
}

/// Reads the body of an answer to `query` or `query_range`, whatever its HTTP status. Everything
/// except value and notes is skipped. Native histograms become ones that would be written in the
/// same way: the JSON names buckets by their bounds and leaves out empty ones, the counter reset
/// and the schema.
///
/// # Errors
/// When the server refused, and when the body is not such an answer.
pub fn read_answer(body: &[u8]) -> Result<ApiAnswer, ReadError> {
    let body: AnswerBody = serde_json::from_slice(body).map_err(ReadError::Malformed)?;
    if body.status != "success" {
        return Err(ReadError::Refused { kind: body.error_type, message: body.error });
    }
    let data = body.data.ok_or_else(|| senseless("there is no data"))?;
    let value = match data.result_type.as_str() {
        "scalar" => {
            let (t_ms, text) = single(data.result)?;
            let value = text.parse().map_err(|_| senseless(format!("{text:?} is no number")))?;
            Value::Scalar { t_ms, value }
        }
        "string" => {
            let (t_ms, value) = single(data.result)?;
            Value::String { t_ms, value }
        }
        "vector" => Value::Vector(series(data.result, sample)?),
        "matrix" => Value::Matrix(series(data.result, |series| Ok(points(series)))?),
        other => return Err(senseless(format!("the result is of the unknown type {other:?}"))),
    };
    let (warnings, infos) = (body.warnings.unwrap_or_default(), body.infos.unwrap_or_default());
    Ok(ApiAnswer { value, notes: AnswerNotes { warnings, infos } })
}

fn senseless(what: impl Into<String>) -> ReadError {
    ReadError::Senseless(what.into())
}

/// `[time, "text"]`
fn single(items: Vec<Item>) -> Result<(i64, String), ReadError> {
    match <[Item; 2]>::try_from(items) {
        Ok([Item::Time(time), Item::Text(text)]) => Ok((time.0, text)),
        _ => Err(senseless("the result is not a pair of a time and a text")),
    }
}

fn series(
    items: Vec<Item>,
    points: impl Fn(SeriesJson) -> Result<Points, ReadError>,
) -> Result<Vec<ResultSeries>, ReadError> {
    let series = |item| match item {
        Item::Series(series) => {
            let labels = series.metric.0.clone();
            Ok(ResultSeries { points: points(*series)?, labels })
        }
        Item::Time(_) | Item::Text(_) => Err(senseless("an item of the result is no series")),
    };
    items.into_iter().map(series).collect()
}

/// The one point of a vector's series.
fn sample(series: SeriesJson) -> Result<Points, ReadError> {
    let point = match (series.value, series.histogram) {
        (Some(float), None) => float.into(),
        (None, Some(histogram)) => histogram.into(),
        (None, None) => {
            return Err(senseless(format!("{} has neither value nor histogram", series.metric.0)));
        }
        (Some(_), Some(_)) => {
            return Err(senseless(format!("{} has both a value and a histogram", series.metric.0)));
        }
    };
    Ok(vec![point].into())
}

/// Floats and histograms of a matrix's series, together in order of time.
fn points(series: SeriesJson) -> Points {
    let floats = series.values.into_iter().map(Point::from);
    if series.histograms.is_empty() {
        return floats.collect();
    }
    let mut points: Vec<Point> =
        floats.chain(series.histograms.into_iter().map(Point::from)).collect();
    points.sort_by_key(|point| point.t_ms);
    points.into()
}

impl From<FloatPoint> for Point {
    fn from(FloatPoint(time, value): FloatPoint) -> Point {
        Point { t_ms: time.0, value: PointValue::Float(value.0) }
    }
}

#[cfg(test)]
mod tests;
