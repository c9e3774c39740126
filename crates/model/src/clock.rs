//! Time as a seam, so that tests and simulations control it.
//!
//! `now` is the wall clock, which may jump; `monotonic` only ever moves forward and measures spans.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::time::TimestampMs;

pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock.
    fn now(&self) -> TimestampMs;

    /// Time since an arbitrary fixed point; never moves backwards.
    fn monotonic(&self) -> Duration;

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

type Sleep = fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The machine's clock. Sleeping belongs to the async runtime and is passed in, so that this crate
/// needs none.
#[derive(Clone, Copy)]
pub struct SystemClock {
    sleep: Sleep,
}

impl SystemClock {
    pub fn new(sleep: Sleep) -> SystemClock {
        SystemClock { sleep }
    }
}

impl std::fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemClock")
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> TimestampMs {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (self.sleep)(span)
    }
}
