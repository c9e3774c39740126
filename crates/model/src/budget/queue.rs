//! Requests that wait for their share, first come, first served.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Budget, BudgetExceeded, Pool, Share, ShareState};

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How many wait, so that whoever gives back need not lock when nobody does.
    waiting: AtomicUsize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    queue: VecDeque<Place>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    waker: Waker,
}

impl Queue {
    /// To be called after bytes were given back.
    pub(super) fn wake_first(&self) {
        // A request that comes counts itself before it looks for free bytes; so either it sees what
        // was given back, or it is seen here.
        if self.waiting.load(Ordering::SeqCst) > 0
            && let Some(first) = self.places().queue.front()
        {
            first.waker.wake_by_ref();
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way to its [share](Budget::share).
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Admission {
    budget: Budget,
    what: String,
    least: u64,
    /// Its number in the queue, once it waits.
    number: Option<u64>,
}

impl Admission {
    pub(super) fn new(budget: Budget, what: &str, least: u64) -> Admission {
        Admission { budget, what: what.to_owned(), least, number: None }
    }

    /// What is missing.
    pub fn refused(&self) -> BudgetExceeded {
        BudgetExceeded {
            what: self.what.clone(),
            wanted: self.least,
            used: self.budget.used(),
            limit: self.budget.limit(),
        }
    }

    fn take(&self) -> Option<Budget> {
        self.budget.whole().grow(&self.what, self.least).ok()?;
        let least = self.least;
        let state = Mutex::new(ShareState { least, held: least, ..ShareState::default() });
        let share = Share { budget: self.budget.clone(), state };
        Some(Budget(Arc::new(Pool::Share(share))))
    }

    fn leave(&mut self) {
        let Some(number) = self.number.take() else { return };
        let queue = &self.budget.whole().queue;
        queue.places().queue.retain(|place| place.number != number);
        queue.waiting.fetch_sub(1, Ordering::SeqCst);
        queue.wake_first();
    }

    /// Takes a place at the end of the queue, or renews it; returns whether it is the first.
    fn line_up(&mut self, waker: &Waker) -> bool {
        let queue = &self.budget.whole().queue;
        let mut places = queue.places();
        if let Some(number) = self.number {
            if let Some(place) = places.queue.iter_mut().find(|place| place.number == number) {
                place.waker.clone_from(waker);
            }
        } else {
            let number = places.next;
            places.next += 1;
            places.queue.push_back(Place { number, waker: waker.clone() });
            self.number = Some(number);
            queue.waiting.fetch_add(1, Ordering::SeqCst);
        }
        places.queue.front().map(|place| place.number) == self.number
    }
}

impl Future for Admission {
    type Output = Result<Budget, BudgetExceeded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.least > self.budget.limit() {
            return Poll::Ready(Err(self.refused()));
        }
        if self.line_up(cx.waker())
            && let Some(share) = self.take()
        {
            self.leave();
            return Poll::Ready(Ok(share));
        }
        Poll::Pending
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.leave();
    }
}
