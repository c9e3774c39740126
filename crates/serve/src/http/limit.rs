//! How many requests a listener takes: a bucket of tokens that fills steadily.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// The time after which there is another token.
    pub(super) interval: Duration,
    /// The most tokens there are at a time.
    pub(super) burst: u32,
}

#[derive(Debug)]
pub(super) struct RateLimiter {
    rate: Rate,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    pub(super) fn new(rate: Rate) -> RateLimiter {
        let bucket = Bucket { tokens: f64::from(rate.burst), at: Instant::now() };
        RateLimiter { rate, bucket: Mutex::new(bucket) }
    }

    /// Takes a token, if there is one.
    pub(super) fn allows(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let new = now.duration_since(bucket.at).as_secs_f64() / self.rate.interval.as_secs_f64();
        bucket.at = now;
        bucket.tokens = (bucket.tokens + new).min(f64::from(self.rate.burst));
        let is_allowed = bucket.tokens >= 1.0;
        if is_allowed {
            bucket.tokens -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_per_interval() {
        let limiter = RateLimiter::new(Rate { interval: Duration::from_secs(2), burst: 3 });
        let allowed = |n: usize| (0..n).filter(|_| limiter.allows()).count();
        assert_eq!(allowed(10), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(allowed(10), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(allowed(10), 1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(allowed(10), 3);
        let none = RateLimiter::new(Rate { interval: Duration::from_secs(2), burst: 0 });
        assert!(!none.allows());
    }
}
