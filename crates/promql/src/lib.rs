//! PromQL without execution: lexer and parser with spans and Prometheus' error texts, a printer that round-trips,
//! the table of functions, and the pure numeric kernels of functions and aggregations (slices in, slices out).
//!
//! Semantics: Prometheus 3.15. Times and durations are milliseconds unless a name says otherwise.

pub mod ast;
pub mod functions;
