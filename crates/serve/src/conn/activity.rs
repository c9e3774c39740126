//! What a connection is doing: whether a request is under way, and since when not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use crate::Patience;

/// How HTTP/2 begins. What begins otherwise is HTTP/1.
const HTTP2: &[u8] = b"PRI";

/// Shared by a connection and the requests on it.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Mutex<Doing>>);

#[derive(Debug)]
struct Doing {
    requests: usize,
    /// When the last request ended, or the connection began.
    rest_since: Instant,
    /// When bytes came first and last since then.
    heard: Option<(Instant, Instant)>,
    protocol: Protocol,
    /// The connection, when it waits for its requests to end.
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Unknown,
    Http1,
    Http2,
}

impl Activity {
    pub(super) fn new() -> Activity {
        Activity(Arc::new(Mutex::new(Doing {
            requests: 0,
            rest_since: Instant::now(),
            heard: None,
            protocol: Protocol::Unknown,
            waiting: None,
        })))
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; it ends when the result is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.doing().requests += 1;
        Busy(self.clone())
    }

    pub(super) fn heard(&self, bytes: &[u8]) {
        let mut doing = self.doing();
        let now = Instant::now();
        doing.heard = Some((doing.heard.map_or(now, |(first, _)| first), now));
        if doing.protocol == Protocol::Unknown && !bytes.is_empty() {
            let http2 = HTTP2.iter().zip(bytes).all(|(expected, byte)| expected == byte);
            doing.protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        }
    }

    /// Until when the peer may be silent; `None` while a request is under way, and then the waker
    /// is woken when it ends.
    pub(super) fn silent_until(&self, patience: &Patience, waker: &Waker) -> Option<Instant> {
        let mut doing = self.doing();
        if doing.requests > 0 {
            doing.waiting = Some(waker.clone());
            return None;
        }
        Some(match (doing.protocol, doing.heard) {
            (Protocol::Unknown, _) => doing.rest_since + patience.head,
            // pings and the like are heard too, so that only silence tells
            (Protocol::Http2, heard) => {
                heard.map_or(doing.rest_since, |(_, last)| last.max(doing.rest_since))
                    + patience.idle
            }
            (Protocol::Http1, None) => doing.rest_since + patience.idle,
            (Protocol::Http1, Some((first, _))) => first + patience.head,
        })
    }

    /// Since when no request is under way.
    pub(super) fn rest_since(&self) -> Instant {
        self.doing().rest_since
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut doing = self.0.doing();
        doing.requests -= 1;
        if doing.requests > 0 {
            return;
        }
        (doing.rest_since, doing.heard) = (Instant::now(), None);
        if let Some(waker) = doing.waiting.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(1),
        body: Duration::from_secs(2),
        write: Duration::from_secs(3),
        idle: Duration::from_secs(10),
    };

    /// Seconds of silence left.
    fn left(activity: &Activity) -> Option<u64> {
        let until = activity.silent_until(&PATIENCE, Waker::noop())?;
        Some(until.duration_since(Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_gets_no_more_time_than_one_that_stalls() {
        let activity = Activity::new();
        assert_eq!(left(&activity), Some(1), "nothing was heard yet");
        let seconds = async |n: u64| tokio::time::advance(Duration::from_secs(n)).await;
        activity.heard(b"GET / HTTP/1.1\r\n\r\n");
        let request = activity.begin();
        seconds(60).await;
        assert_eq!(left(&activity), None);
        drop(request);
        assert_eq!(left(&activity), Some(10));
        seconds(9).await;
        activity.heard(b"G");
        assert_eq!(left(&activity), Some(1));
        seconds(1).await;
        activity.heard(b"E");
        assert_eq!(left(&activity), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_left_alone_while_it_says_anything() {
        let activity = Activity::new();
        activity.heard(b"PRI * HTTP/2.0");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(left(&activity), Some(1));
        activity.heard(b"pong");
        assert_eq!(left(&activity), Some(10));
    }
}
