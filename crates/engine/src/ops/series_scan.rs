//! The stream of one selector, shared by the workers that decode it.

use std::fmt;
use std::task::Poll;

use datafusion_common::Result;
use futures::StreamExt;
use merge::Series;
use tokio::sync::Mutex;

use crate::context::QueryContext;
use crate::error::fail;
use crate::source::{Select, SourceEvent, SourceStream};

/// A selector's series, handed to whichever worker asks next.
pub(crate) struct SeriesScan {
    pub(crate) select: Select,
    source: Mutex<ScanState>,
}

enum ScanState {
    Unopened,
    Open(SourceStream),
    Ended,
}

impl fmt::Debug for SeriesScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeriesScan").field("select", &self.select).finish_non_exhaustive()
    }
}

impl SeriesScan {
    pub(crate) fn new(select: Select) -> SeriesScan {
        SeriesScan { select, source: Mutex::new(ScanState::Unopened) }
    }

    /// The next batch of series, or `None` at the end. The first call opens the source.
    ///
    /// The worker that asks drives the source itself: handing batches from thread to thread costs
    /// more than most of them are worth. Connections and timers of the source belong to the runtime
    /// that the query came from. Before it returns series, it lets other tasks run.
    pub(crate) async fn next(&self, query: &QueryContext) -> Result<Option<Vec<Series>>> {
        let mut source = self.source.lock().await;
        loop {
            let event = std::future::poll_fn(|cx| {
                let _io = query.io.enter();
                match &mut *source {
                    ScanState::Open(events) => events.poll_next_unpin(cx),
                    ScanState::Ended => Poll::Ready(None),
                    unopened => {
                        let mut events = query.source.select(query.selecting(&self.select));
                        let event = events.poll_next_unpin(cx);
                        *unopened = ScanState::Open(events);
                        event
                    }
                }
            });
            match event.await {
                None => {
                    *source = ScanState::Ended;
                    return Ok(None);
                }
                Some(Ok(SourceEvent::Series(series))) => {
                    drop(source);
                    // The worker that waits for the source was woken on this thread, and no other
                    // thread can take it: let it run, and other queries too. A query that nobody
                    // waits for ends here.
                    tokio::task::yield_now().await;
                    return Ok(Some(series));
                }
                Some(Ok(SourceEvent::Warning(text))) => query.annotate().source_warning(text),
                Some(Ok(SourceEvent::Info(text))) => query.annotate().source_info(text),
                Some(Err(error)) => return Err(fail(error)),
            }
        }
    }
}
