//! The result of a query as JSON, in pieces.

use axum::body::{Body, Bytes};
use futures::stream;
use promql::value::{PointValue, ResultSeries, Value};

use crate::series::{PointLists, begin};
use crate::{Json, SeriesWriter};

/// Answers are sent in pieces of about this many bytes.
pub(crate) const PIECE: usize = 64 << 10;

/// The body of a successful answer in pieces, each made when the client has taken the one before.
/// `tail` is what follows the result, including the two closing braces.
pub fn stream_result(value: Value, tail: Json) -> Body {
    let mut head = Json::default();
    head.raw(r#"{"status":"success","data":{"resultType":"#);
    let (kind, series) = match value {
        Value::Scalar { t_ms, value } => {
            head.raw(r#""scalar","result":["#);
            head.timestamp(t_ms);
            head.raw(",");
            head.float(value);
            ("", Vec::new())
        }
        Value::String { t_ms, value } => {
            head.raw(r#""string","result":["#);
            head.timestamp(t_ms);
            head.raw(",");
            head.string(value.as_bytes());
            ("", Vec::new())
        }
        Value::Vector(series) => (r#""vector","result":["#, series),
        Value::Matrix(series) => (r#""matrix","result":["#, series),
    };
    let vector = kind.starts_with(r#""vector"#);
    head.raw(kind);
    let pieces = BodyPieces {
        buffer: head,
        series: series.into_iter(),
        vector,
        writer: SeriesWriter::default(),
        first: true,
        open: None,
        tail: Some(tail),
    };
    Body::from_stream(stream::iter(pieces.map(Ok::<Bytes, std::convert::Infallible>)))
}

struct BodyPieces {
    buffer: Json,
    series: std::vec::IntoIter<ResultSeries>,
    vector: bool,
    writer: SeriesWriter,
    first: bool,
    /// A series that takes more than one piece.
    open: Option<(ResultSeries, PointLists)>,
    tail: Option<Json>,
}

impl Iterator for BodyPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.buffer.0.len() < PIECE {
            if let Some((series, lists)) = &mut self.open {
                if lists.write(&mut self.buffer, series, PIECE) {
                    self.buffer.raw("}");
                    self.open = None;
                }
                continue;
            }
            let Some(series) = self.series.next() else { break };
            self.buffer.comma(usize::from(!std::mem::replace(&mut self.first, false)));
            if self.vector {
                write_sample(&mut self.buffer, &series);
            } else if SeriesWriter::takes(&series) {
                self.writer.write(&mut self.buffer, &series);
            } else {
                begin(&mut self.buffer, &series);
                self.open = Some((series, PointLists::default()));
            }
        }
        if self.series.as_slice().is_empty()
            && self.open.is_none()
            && let Some(tail) = self.tail.take()
        {
            self.buffer.raw("]");
            self.buffer.0.extend_from_slice(&tail.0);
        }
        let piece = std::mem::take(&mut self.buffer.0);
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

/// `{"metric":{…},"value":[…]}`
fn write_sample(json: &mut Json, series: &ResultSeries) {
    json.raw(r#"{"metric":"#);
    json.labels(&series.labels);
    if let Some(point) = series.points.first() {
        let is_float = matches!(point.value, PointValue::Float(_));
        json.raw(if is_float { r#","value":"# } else { r#","histogram":"# });
        json.point(&point);
    }
    json.raw("}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{FloatHistogram, Labels};
    use promql::value::Point;

    use super::*;

    #[test]
    fn big_answers_come_in_pieces_that_join_to_one_document() {
        let labels = |i: usize| Labels::from_pairs([("i", i.to_string())]);
        let points = || {
            (0..200).map(|t| Point { t_ms: t * 1000, value: PointValue::Float(t as f64) }).collect()
        };
        let mut series: Vec<_> =
            (0..100).map(|i| ResultSeries { labels: labels(i), points: points() }).collect();
        // one that takes several pieces alone
        let many = (0..20_000).map(|t| {
            let histogram =
                Arc::new(FloatHistogram { count: t as f64, ..FloatHistogram::default() });
            let value = match t % 2 {
                0 => PointValue::Float(t as f64),
                _ => PointValue::Histogram(histogram),
            };
            Point { t_ms: t * 1000, value }
        });
        series.push(ResultSeries { labels: labels(100), points: many.collect() });
        let mut tail = Json::default();
        tail.raw("}}");
        let mut head = Json::default();
        head.raw(r#"{"data":{"result":["#);
        let pieces = BodyPieces {
            buffer: head,
            series: series.into_iter(),
            vector: false,
            writer: SeriesWriter::default(),
            first: true,
            open: None,
            tail: Some(tail),
        };
        let pieces: Vec<Bytes> = pieces.collect();
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() < 2 * PIECE));
        let document: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        let result = document["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 101);
        let last = result[100].as_object().unwrap();
        for list in ["values", "histograms"] {
            assert_eq!(last[list].as_array().unwrap().len(), 10_000, "{list}");
        }
    }
}
