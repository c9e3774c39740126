//! A clock that stands still until a test moves it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Clock, TimestampMs};
use tokio::sync::oneshot;

#[derive(Debug)]
struct ClockState {
    now_ms: i64,
    monotonic: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

/// Cloning shares the time.
#[derive(Clone, Debug)]
pub struct MockClock(Arc<Mutex<ClockState>>);

impl MockClock {
    pub fn new(now: TimestampMs) -> MockClock {
        MockClock(Arc::new(Mutex::new(ClockState {
            now_ms: now.0,
            monotonic: Duration::ZERO,
            sleepers: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, ClockState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves both clocks forward and wakes those whose sleep is over.
    pub fn advance(&self, span: Duration) {
        let mut state = self.state();
        state.monotonic += span;
        state.now_ms += span.as_millis() as i64;
        let now = state.monotonic;
        let (over, sleeping) =
            std::mem::take(&mut state.sleepers).into_iter().partition(|s| s.0 <= now);
        state.sleepers = sleeping;
        drop(state);
        let over: Vec<(Duration, oneshot::Sender<()>)> = over;
        for (_, wake) in over {
            // a sleeper that gave up need not be woken
            let _ = wake.send(());
        }
    }

    /// The wall clock jumps, forwards or backwards; sleepers and the monotonic clock do not notice.
    pub fn jump_to(&self, now: TimestampMs) {
        self.state().now_ms = now.0;
    }

    /// How many sleep now.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.iter().filter(|s| !s.1.is_closed()).count()
    }
}

impl Clock for MockClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.state().now_ms)
    }

    fn monotonic(&self) -> Duration {
        self.state().monotonic
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state();
        let until = state.monotonic + span;
        if span.is_zero() {
            return Box::pin(std::future::ready(()));
        }
        state.sleepers.push((until, wake));
        Box::pin(async move {
            // an error means that the clock is gone and would never wake anybody
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn sleepers_wake_when_their_time_has_come() {
        let clock = MockClock::new(TimestampMs(1_000));
        let mut short = clock.sleep(Duration::from_secs(1));
        let mut long = clock.sleep(Duration::from_secs(3));
        assert!((&mut short).now_or_never().is_none());
        clock.advance(Duration::from_secs(2));
        assert!((&mut short).now_or_never().is_some() && (&mut long).now_or_never().is_none());
        assert_eq!(
            (clock.now(), clock.monotonic(), clock.sleepers()),
            (TimestampMs(3_000), Duration::from_secs(2), 1)
        );
    }

    #[test]
    fn the_wall_clock_jumps_alone() {
        let clock = MockClock::new(TimestampMs(1_000));
        let mut sleep = clock.sleep(Duration::from_secs(1));
        clock.jump_to(TimestampMs(0));
        assert_eq!((clock.now(), clock.monotonic()), (TimestampMs(0), Duration::ZERO));
        assert!((&mut sleep).now_or_never().is_none());
    }
}
