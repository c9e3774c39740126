//! Bodies of requests while they are received: charged, all together, to a share of the memory
//! budget, and given up when they do not come to an end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use model::{Budget, Reservation};
use tokio::sync::watch;

use crate::conn::Wish;
use crate::{Error, Kind, Result};

/// The part of the budget that bodies may take: one in so many bytes, and never more than this.
const SHARE: u64 = 16;
const MAX_SHARE_BYTES: u64 = 64 << 20;

/// How long a body may still take to come to its end once the process is told to stop.
const LINGER: Duration = Duration::from_secs(1);

/// Why a body was not received.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotReceived {
    #[error(
        "the bodies of requests that are being received take all of the {limit} bytes that they \
         may; try again later, send less at a time, or raise --memory-budget"
    )]
    NoRoom { limit: u64 },
    #[error("the body of the request did not come to its end within {0:?}")]
    Late(Duration),
    #[error("the process is stopping")]
    Stopping,
}

impl NotReceived {
    /// As Prometheus' API reports it: the status and the type of error.
    pub(crate) fn http(&self) -> (StatusCode, &'static str) {
        match self {
            NotReceived::NoRoom { .. } | NotReceived::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            NotReceived::Late(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        }
    }

    pub(crate) fn grpc(&self) -> tonic::Status {
        let text = self.to_string();
        match self {
            NotReceived::NoRoom { .. } => tonic::Status::resource_exhausted(text),
            NotReceived::Late(_) => tonic::Status::deadline_exceeded(text),
            NotReceived::Stopping => tonic::Status::unavailable(text),
        }
    }
}

/// What all bodies share. Clones share it too.
#[derive(Clone, Debug)]
pub(crate) struct Bodies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Set aside from the budget of the process: a small form must not wait for the memory of
    /// queries.
    room: Budget,
    wishes: watch::Sender<Wish>,
}

impl Bodies {
    /// # Errors
    /// `Invalid` when the budget has nothing left.
    pub(crate) fn new(budget: &Budget, wishes: watch::Sender<Wish>) -> Result<Bodies> {
        let share = (budget.limit() / SHARE).min(MAX_SHARE_BYTES);
        let set_aside = budget.set_aside("receiving the bodies of requests", share);
        set_aside.map_err(|e| Error::passed(Kind::Invalid, e))?;
        Ok(Bodies(Arc::new(Shared { room: Budget::new(share), wishes })))
    }

    /// `patience` is for the whole body.
    pub(crate) fn receive<B>(&self, body: B, patience: Duration) -> ReceivedBody<B> {
        ReceivedBody {
            body,
            bodies: self.clone(),
            patience,
            giving_up: None,
            held: Arc::new(HeldBody {
                failure: OnceLock::new(),
                reservation: std::sync::Mutex::new(self.0.room.reserve("the body of a request")),
            }),
        }
    }

    /// Memory of a head that is received.
    pub(crate) fn hold(&self) -> Arc<HeldBody> {
        Arc::new(HeldBody {
            failure: OnceLock::new(),
            reservation: std::sync::Mutex::new(self.0.room.reserve("the head of a request")),
        })
    }

    pub(crate) fn grow(&self, held: &HeldBody, bytes: u64) -> std::result::Result<(), NotReceived> {
        held.grow(bytes, &self.0.room)
    }

    async fn giving_up(self, patience: Duration) -> NotReceived {
        let mut wishes = self.0.wishes.subscribe();
        let stopping = async {
            // the sender lives in self, so waiting cannot fail
            let _ = wishes.wait_for(|wish| *wish == Wish::Stop).await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = tokio::time::sleep(patience) => NotReceived::Late(patience),
            () = stopping => NotReceived::Stopping,
        }
    }
}

/// The memory of a body, which outlives the body while what was made from it is used.
#[derive(Debug)]
pub(crate) struct HeldBody {
    failure: OnceLock<NotReceived>,
    reservation: std::sync::Mutex<Reservation>,
}

impl HeldBody {
    pub(crate) fn failure(&self) -> Option<&NotReceived> {
        self.failure.get()
    }

    /// A body may take what it leaves to others, so that large ones never shut out small ones.
    fn grow(&self, bytes: u64, room: &Budget) -> std::result::Result<(), NotReceived> {
        let mut reservation =
            self.reservation.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let limit = room.limit();
        let left = limit.saturating_sub(room.used());
        if reservation.bytes() + 2 * bytes > left || reservation.grow(bytes).is_err() {
            return Err(NotReceived::NoRoom { limit });
        }
        Ok(())
    }
}

/// Asks for more memory for a body, beside what is received of it.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    held: Arc<HeldBody>,
    bodies: Bodies,
}

impl Charge {
    /// What is refused once is the failure of the body.
    pub(crate) fn take(&self, bytes: u64) -> std::result::Result<(), NotReceived> {
        self.held.grow(bytes, &self.bodies.0.room).inspect_err(|why| {
            // what failed first is what is told
            let _ = self.held.failure.set(why.clone());
        })
    }
}

type GivingUp = Pin<Box<dyn Future<Output = NotReceived> + Send>>;

pub(crate) struct ReceivedBody<B> {
    body: B,
    bodies: Bodies,
    patience: Duration,
    /// Made when the body is first waited for.
    giving_up: Option<GivingUp>,
    held: Arc<HeldBody>,
}

impl<B> ReceivedBody<B> {
    pub(crate) fn held(&self) -> Arc<HeldBody> {
        Arc::clone(&self.held)
    }

    pub(crate) fn charge(&self) -> Charge {
        Charge { held: self.held(), bodies: self.bodies.clone() }
    }

    /// The error is a status, because tonic tells the client that one.
    fn fail<T, E: From<tonic::Status>>(
        &self,
        why: NotReceived,
    ) -> Poll<Option<std::result::Result<T, E>>> {
        let status = self.held.failure.get_or_init(|| why).grpc();
        Poll::Ready(Some(Err(status.into())))
    }
}

impl<B> Body for ReceivedBody<B>
where
    B: Body<Data = axum::body::Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<B::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                _ => 0,
            };
            if let Err(why) = this.held.grow(bytes, &this.bodies.0.room) {
                return this.fail(why);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let (bodies, patience) = (&this.bodies, this.patience);
        let giving_up =
            this.giving_up.get_or_insert_with(|| Box::pin(bodies.clone().giving_up(patience)));
        match giving_up.as_mut().poll(cx) {
            Poll::Ready(why) => this.fail(why),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
