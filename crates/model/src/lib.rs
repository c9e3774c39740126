//! The types that every other crate shares: labels, matchers, samples, native histograms, time,
//! block ids, the memory budget, what requests may cost, and the clock.
//!
//! Units: timestamps and durations are milliseconds ([`TimestampMs`], `i64`), sizes are bytes. Time
//! ranges are half-open; closed ranges exist only on the wire and are converted there. No I/O and
//! no async here.

mod block_id;
mod budget;
mod clock;
pub mod error;
pub mod go_regex;
pub mod histogram;
mod labels;
mod long_query;
mod matcher;
mod notes;
mod request_cost;
mod resolution;
pub mod rfc3339;
mod sample;
pub mod secret;
mod time;

pub use block_id::BlockId;
pub use budget::{Admission, Budget, BudgetExceeded, Reservation};
pub use clock::{Clock, SystemClock};
pub use histogram::FloatHistogram;
pub use labels::{Labels, LabelsBuilder, LabelsPacker, METRIC_NAME, join_label_bytes};
pub use long_query::LongQuery;
pub use matcher::{MatchOp, Matcher, MatcherError, ValueTooLong};
pub use notes::Notes;
pub use request_cost::{RequestCost, RequestTooCostly};
pub use resolution::Resolution;
pub use sample::{STALE_NAN, STALE_NAN_BITS, Sample, SampleValue, is_stale_nan};
pub use time::{TimeRange, TimestampMs};
