//! Writing the next generation.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::error::in_one_line;

use super::MINOR;
use super::format::Catalog;
use super::store::{CatalogStore, Generation};
use crate::metrics::CatalogMetrics;
use crate::{Bucket, Kind, Result};

/// Generations follow each other no faster than this, except where one is forced.
const PAUSE: Duration = Duration::from_secs(30);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Written,
    /// The last one was written a moment ago, or is of the same listing.
    NotDue,
    /// The newest one is of a later listing.
    Outdated,
    /// The newest one is of a major version that is not known here.
    NewerFormat,
}

/// Writes the catalog of one bucket. A process has one of them.
#[derive(Debug)]
pub struct CatalogWriter {
    store: CatalogStore,
    metrics: CatalogMetrics,
    last: Mutex<LastWrite>,
}

#[derive(Clone, Debug, Default)]
struct LastWrite {
    generation: Option<Generation>,
    listed_ms: i64,
    at: Option<Duration>,
    told: bool,
}

impl CatalogWriter {
    pub fn new(bucket: Bucket, metrics: CatalogMetrics) -> CatalogWriter {
        CatalogWriter { store: CatalogStore::new(bucket), metrics, last: Mutex::default() }
    }

    /// Whether a catalog of a listing that began at `listed_ms` is worth writing now.
    pub fn is_due(&self, listed_ms: i64) -> bool {
        let now = self.store.bucket().clock().monotonic();
        let last = self.last();
        last.listed_ms < listed_ms && last.at.is_none_or(|at| now.saturating_sub(at) >= PAUSE)
    }

    /// Writes the next generation. What fails is logged and counted: without a catalog, readers list
    /// the bucket.
    pub async fn write(&self, catalog: Catalog) -> Option<WriteOutcome> {
        match self.try_write(catalog).await {
            Ok(outcome) => {
                if outcome == WriteOutcome::NewerFormat && !self.told_before() {
                    tracing::warn!(
                        "a newer release writes the catalog in another format, which \
                        this one leaves alone; upgrade it"
                    );
                }
                self.metrics.writes.inc_by(f64::from(u8::from(outcome == WriteOutcome::Written)));
                Some(outcome)
            }
            Err(e) => {
                self.metrics.write_failures.inc();
                tracing::warn!(error = %in_one_line(&e), "the catalog could not be written: \
                    gateways list the bucket instead");
                None
            }
        }
    }

    async fn try_write(&self, mut catalog: Catalog) -> Result<WriteOutcome> {
        let listed_ms = catalog.header.listed_ms;
        if self.last().listed_ms >= listed_ms {
            return Ok(WriteOutcome::NotDue);
        }
        let generations = self.store.list().await?;
        let own = self.last().generation;
        for newest in CatalogStore::newest(&generations) {
            if own.as_ref().is_some_and(|own| own.path() == newest.path()) {
                continue;
            }
            match self.store.read(newest).await {
                Ok(other) if other.header.listed_ms > listed_ms && is_past(&other, &catalog) => {
                    return Ok(WriteOutcome::Outdated);
                }
                Ok(other) if other.header.minor > MINOR => catalog.keep_unknown_of(&other),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::Unsupported => return Ok(WriteOutcome::NewerFormat),
                Err(e) => {
                    let generation = newest.path();
                    tracing::warn!(%generation, error = %in_one_line(&e), "the newest catalog \
                        cannot be read, another one is written");
                }
            }
        }
        let sequence = generations.last().map_or(0, |newest| newest.sequence) + 1;
        let generation = self.store.write(sequence, catalog).await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = LastWrite {
            generation: Some(generation),
            listed_ms,
            at: Some(self.store.bucket().clock().monotonic()),
            told: false,
        };
        if let Err(e) = self.store.sweep(&generations).await {
            tracing::warn!(error = %in_one_line(&e), "old catalogs could not be removed, the next \
                write tries again");
        }
        Ok(WriteOutcome::Written)
    }

    fn last(&self) -> LastWrite {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told_before(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut last.told, true)
    }
}

/// A listing that says of itself that it is of the future holds up nobody.
fn is_past(other: &Catalog, own: &Catalog) -> bool {
    other.header.listed_ms <= own.header.written_ms
}
