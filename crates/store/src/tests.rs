//! Gateways over buckets in memory, filled with blocks of every kind.

mod answers;
mod catalog;
mod failures;
mod model_check;
mod odd;
mod reading;
mod resolutions;
mod service;
mod support;
mod unseen;
