//! What the head of a request could not carry, until the request comes for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, StatusCode};
use model::LongQuery;

use crate::received::{HeldBody, NotReceived};

/// The field that says what was put aside for a request. A client that sends it itself finds
/// nothing.
pub(crate) const LONG_QUERY: &str = "drumlin-aside";

/// Why a request was not let through.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn of(reason: NotReceived) -> Refusal {
        let (status, kind) = reason.http();
        Refusal { status, kind, text: reason.to_string() }
    }
}

#[derive(Debug)]
pub(crate) enum SetAside {
    /// With the memory that it takes.
    Query(LongQuery, Option<Arc<HeldBody>>),
    Refused(Refusal),
}

/// Of one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asides(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    waiting: HashMap<u64, SetAside>,
}

impl Asides {
    pub(super) fn put(&self, aside: SetAside) -> u64 {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.last += 1;
        let id = waiting.last;
        waiting.waiting.insert(id, aside);
        id
    }

    /// What was put aside for this request.
    pub(crate) fn take<B>(&self, request: &mut Request<B>) -> Option<SetAside> {
        let id = request.headers_mut().remove(LONG_QUERY)?.to_str().ok()?.parse().ok()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&id)
    }
}
