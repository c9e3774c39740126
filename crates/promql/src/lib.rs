//! PromQL without execution: lexer and parser with spans and Prometheus' error texts, a printer
//! that round-trips, the table of functions, the pure numeric kernels of functions and aggregations
//! (slices in, slices out), and the values that answers are made of.
//!
//! Semantics: Prometheus 3.15. Times and durations are milliseconds unless a name says otherwise.

pub mod ast;
mod check;
mod durations;
mod error;
pub mod functions;
pub mod kernels;
mod lexer;
mod numbers;
mod parser;
mod printer;
mod quote;
pub mod testlang;
pub mod value;
mod walk;

pub use durations::{DurationError, format_duration, parse_duration};
pub use error::{Kind, ParseError};
pub use parser::{
    MAX_DEPTH, MAX_NESTING, MAX_TEXT_BYTES, ParserOptions, parse_expr, parse_selector,
};
pub use printer::print_matcher;
pub use quote::{format_float_general, quote, unquote};
pub use walk::{QueryTimes, SelectorVisit, needed_time_range, visit_selectors};
