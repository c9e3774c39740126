//! PromQL evaluation: an AST becomes a plan of our own nodes, which becomes DataFusion
//! `ExecutionPlan`s over series-columnar batches, which become an answer.
//!
//! Input comes through [`SeriesSource`], one merged and sorted stream of series. No gRPC and no
//! bucket is known here.
//!
//! A query ends within a moment once its time is over or nobody waits for it: whatever loops for
//! long without awaiting does so inside `QueryContext::work`, and asks there whether to go on.

mod annotations;
mod batch;
mod context;
mod downsampled;
mod engine;
mod error;
mod exec;
mod explain;
mod grid;
mod histograms;
mod lower;
mod memory;
mod ops;
mod output;
mod plan;
mod read;
mod result;
mod samples;
mod source;
pub mod testing;

pub use engine::{Engine, EngineSettings};
pub use error::{Error, Kind};
pub use explain::{ExplainedOperator, OperatorMeasurement};
pub use merge::Dedup;
pub use output::{Answer, Detail, Query, QueryStats};
pub use samples::SampleCounts;
pub use source::{Select, SeriesSource, SourceEvent, SourceStream, UnreadableChunk};
