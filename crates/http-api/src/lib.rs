//! Prometheus' HTTP API as such: parameters of requests, answers and errors as JSON, written and
//! read, and the layers that every server of it has.
//!
//! What it is not: no endpoint is served here and nothing is evaluated; the component that has the
//! data makes routes from this. Times are milliseconds inside and seconds on the wire.

mod answer;
mod form;
mod json;
mod layers;
mod list;
mod params;
mod read;
mod result;
mod series;

pub use answer::{AnswerNotes, ApiError, TRUNCATED, json_response, success, with_notes};
pub use json::Json;
pub use layers::{Cors, normal_prefix, with_layers};
pub use list::stream_list;
pub use params::{Params, ShardInfo};
pub use read::{ApiAnswer, ReadError, read_answer};
pub use result::stream_result;
pub use series::SeriesWriter;
