//! What the tests and benches of several crates need: an HTTP object server that speaks S3 and GCS,
//! object stores that count and that fail, a clock that only tests move, blocks filled from
//! `synthetic`, certificates, indices that no correct writer writes, an allocator that counts, and lists of what
//! hostile blocks, stores and callers do, which every component runs on its side of the seam.
//!
//! For `dev-dependencies` only; nothing here is in the product. Units: bytes, milliseconds.

mod allocations;
mod blocks;
mod certificates;
mod counting;
mod failing;
mod faults;
pub mod hostile;
mod mock_clock;
mod object_server;
mod odd_index;

pub use allocations::Allocations;
pub use blocks::{write_block, write_fleet};
pub use certificates::{Authority, CertificatePair};
pub use counting::{CountingObjects, ObjectCounts};
pub use failing::FailingObjects;
pub use faults::{Fault, FaultPlan, ObjectCall, Op};
pub use mock_clock::MockClock;
pub use object_server::{CreateOnly, ObjectServer, ServerCounts, ServerError, ServerSettings};
pub use odd_index::{OddSeries, odd_index};
