//! The stream of one selector, shared by the workers that decode it.

use std::sync::{Arc, OnceLock};

use datafusion::common::Result;
use futures::StreamExt;
use merge::Series;
use tokio::sync::{Mutex, mpsc};

use crate::context::{QueryContext, fail};
use crate::{QueryError, Select, SourceError, SourceEvent};

/// Batches of series that may wait for a worker.
const READ_AHEAD: usize = 4;

/// A selector's series, handed to whichever worker asks next.
#[derive(Debug)]
pub(crate) struct SeriesScan {
    pub(crate) select: Select,
    stream: OnceLock<Mutex<mpsc::Receiver<Result<SourceEvent, SourceError>>>>,
}

impl SeriesScan {
    pub(crate) fn new(select: Select) -> SeriesScan {
        SeriesScan { select, stream: OnceLock::new() }
    }

    /// The next batch of series, or `None` at the end. The first call opens the source; that runs where the query
    /// came from, because it does I/O.
    pub(crate) async fn next(&self, query: &QueryContext) -> Result<Option<Vec<Series>>> {
        let stream = self.stream.get_or_init(|| Mutex::new(self.open(query)));
        loop {
            let event = stream.lock().await.recv().await;
            match event {
                None => return Ok(None),
                Some(Ok(SourceEvent::Series(series))) => return Ok(Some(series)),
                Some(Ok(SourceEvent::Warning(text))) => query.annotate().source_warning(text),
                Some(Ok(SourceEvent::Info(text))) => query.annotate().source_info(text),
                Some(Err(error)) => return Err(fail(from_source(error))),
            }
        }
    }

    fn open(&self, query: &QueryContext) -> mpsc::Receiver<Result<SourceEvent, SourceError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let (source, select) = (Arc::clone(&query.source), self.select.clone());
        query.io.spawn(async move {
            let forward = async {
                let mut events = source.select(select);
                while let Some(event) = events.next().await {
                    if sender.send(event).await.is_err() {
                        break;
                    }
                }
            };
            // A query that ended does not wait for a source that hangs.
            tokio::select! {
                () = forward => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }
}

fn from_source(error: SourceError) -> QueryError {
    match error {
        SourceError::Failed(text) => QueryError::Execution(format!("expanding series: {text}")),
        SourceError::Limit(text) => QueryError::Execution(text),
        SourceError::Timeout(text) => QueryError::Timeout(text),
    }
}
