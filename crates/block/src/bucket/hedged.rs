//! A store that asks again where an answer takes longer than most, and uses the first that comes.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{BoxStream, FuturesUnordered};
use model::Clock;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use prometheus::Counter;

use super::in_flight::Places;

/// `hedging_config` of `objstore.yml`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgingSettings {
    /// The most requests for one read that are under way at once, the first included.
    pub up_to: usize,
    /// Another one is sent when an answer takes longer than this part of the recent ones did.
    pub quantile: f64,
}

impl Default for HedgingSettings {
    fn default() -> HedgingSettings {
        HedgingSettings { up_to: 3, quantile: 0.9 }
    }
}

/// Each read allows for this part of another request, in hundredths, ...
const CREDIT: u32 = 10;
const REQUEST: u32 = 100;
/// ... of which as much is saved up.
const MOST_CREDIT: u32 = 10 * REQUEST;

/// How many of the recent reads count.
const RECENT: usize = 512;
/// Fewer say too little.
const LEAST: usize = 64;
/// The quantile is found again after as many reads.
const RECOUNT: usize = 32;
/// What comes sooner is not worth another request.
const LEAST_DELAY: Duration = Duration::from_millis(5);

/// How long reads took, and what that allows.
#[derive(Debug, Default)]
struct ReadTimes {
    recent: Vec<Duration>,
    next: usize,
    since_count: usize,
    delay: Option<Duration>,
    credit: u32,
}

impl ReadTimes {
    fn took(&mut self, span: Duration, quantile: f64) {
        if self.recent.len() < RECENT {
            self.recent.push(span);
        } else {
            self.recent[self.next] = span;
        }
        self.next = (self.next + 1) % RECENT;
        self.since_count += 1;
        let is_due = self.delay.is_none() || self.since_count >= RECOUNT;
        if is_due && self.recent.len() >= LEAST {
            self.since_count = 0;
            let mut sorted = self.recent.clone();
            let at = ((sorted.len() - 1) as f64 * quantile) as usize;
            let (_, found, _) = sorted.select_nth_unstable(at);
            self.delay = Some((*found).max(LEAST_DELAY));
        }
    }

    /// A read begins; the result is how long to wait for its answer.
    fn begin(&mut self) -> Option<Duration> {
        self.credit = (self.credit + CREDIT).min(MOST_CREDIT);
        self.delay
    }

    fn spend(&mut self) -> bool {
        let left = self.credit.checked_sub(REQUEST);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

/// Counts what hedging does.
#[derive(Clone, Debug)]
pub(crate) struct HedgeCounts {
    /// Requests beside the first ones.
    pub(crate) sent: Counter,
    /// Those of them that answered first.
    pub(crate) won: Counter,
}

/// What a hedged store is made of, beside the store.
pub(super) struct HedgeParts {
    pub(super) settings: HedgingSettings,
    pub(super) counts: HedgeCounts,
    pub(super) places: Places,
    pub(super) clock: Arc<dyn Clock>,
}

/// Hedges reads until the head of their answer is there; all else passes. At most a tenth more
/// requests are sent than there are reads, and none for which there is no free place.
pub(super) struct Hedged {
    store: Arc<dyn ObjectStore>,
    parts: HedgeParts,
    times: Mutex<ReadTimes>,
}

struct Answer {
    result: Result<GetResult>,
    took: Duration,
    is_hedge: bool,
}

type Attempt = BoxFuture<'static, Answer>;

impl Hedged {
    pub(super) fn new(store: Arc<dyn ObjectStore>, parts: HedgeParts) -> Hedged {
        Hedged { store, parts, times: Mutex::default() }
    }

    fn times(&self) -> MutexGuard<'_, ReadTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self, path: &Path, options: &GetOptions, held: impl Send + 'static) -> Attempt {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.parts.clock));
        let (path, options) = (path.clone(), options.clone());
        Box::pin(async move {
            let _held = held;
            let start = clock.monotonic();
            let result = store.get_opts(&path, options).await;
            let took = clock.monotonic().saturating_sub(start);
            Answer { result, took, is_hedge: false }
        })
    }

    /// Another request, if that is allowed now.
    fn hedge(&self, path: &Path, options: &GetOptions) -> Option<Attempt> {
        let place = self.parts.places.free()?;
        if !self.times().spend() {
            return None;
        }
        self.parts.counts.sent.inc();
        let attempt = self.attempt(path, options, place);
        Some(Box::pin(async move { Answer { is_hedge: true, ..attempt.await } }))
    }

    /// Waits for an answer, for no longer than `delay` if there is one.
    async fn next(
        &self,
        attempts: &mut FuturesUnordered<Attempt>,
        delay: Option<Duration>,
    ) -> Option<Answer> {
        let Some(delay) = delay else { return attempts.next().await };
        match select(attempts.next(), self.parts.clock.sleep(delay)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => None,
        }
    }

    async fn read(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut delay = self.times().begin();
        let mut attempts = FuturesUnordered::from_iter([self.attempt(path, &options, ())]);
        loop {
            let Some(answer) = self.next(&mut attempts, delay).await else {
                let has_room = attempts.len() < self.parts.settings.up_to;
                match has_room.then(|| self.hedge(path, &options)).flatten() {
                    Some(attempt) => attempts.push(attempt),
                    // those under way are waited for
                    None => delay = None,
                }
                continue;
            };
            match answer.result {
                Ok(result) => {
                    self.times().took(answer.took, self.parts.settings.quantile);
                    if answer.is_hedge {
                        self.parts.counts.won.inc();
                    }
                    return Ok(result);
                }
                Err(error) if is_definite(&error) || attempts.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// Whether another request would be answered alike.
fn is_definite(error: &Error) -> bool {
    !matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}

impl fmt::Debug for Hedged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedged").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Display for Hedged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Hedged {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_delay_is_a_quantile_of_the_recent_reads() {
        let mut times = ReadTimes::default();
        for n in 1..LEAST as u64 {
            times.took(millis(n), 0.9);
            assert_eq!(times.begin(), None, "{n} reads say too little");
        }
        (LEAST as u64..=100).for_each(|n| times.took(millis(n), 0.9));
        let delay = times.begin().unwrap();
        assert!((millis(56)..=millis(90)).contains(&delay), "{delay:?}");
        (0..RECENT as u64 + RECOUNT as u64).for_each(|_| times.took(millis(200), 0.9));
        assert_eq!(times.begin(), Some(millis(200)), "earlier reads are forgotten");
        (0..RECENT + RECOUNT).for_each(|_| times.took(Duration::ZERO, 0.9));
        assert_eq!(times.begin(), Some(LEAST_DELAY));
        assert_eq!(times.recent.len(), RECENT);
    }

    #[test]
    fn no_more_than_a_tenth_is_spent() {
        let mut times = ReadTimes::default();
        let spent = (0..1000).filter(|_| {
            times.begin();
            times.spend()
        });
        assert_eq!(spent.count(), 100);
        (0..100_000).for_each(|_| assert_eq!(times.begin(), None));
        assert_eq!((0..1000).filter(|_| times.spend()).count(), 10, "little is saved up");
    }
}
