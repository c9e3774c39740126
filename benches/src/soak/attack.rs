//! What is done to the processes of a scene until its time is over.

mod clients;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use testkit::hostile::{HostileCall, HostileClient, HostileForm};

use super::compactor;
use super::scene::Running;
use crate::measure::clock;

pub(super) enum Attack {
    /// Connections that are held.
    Client(HostileClient),
    Form(HostileForm),
    /// To every process over gRPC.
    Call(HostileCall),
    /// Paths below `/api/v1`, asked of the querier by some callers at the same time.
    Ask(Paths),
    /// The same, but callers leave after a moment.
    AskAndLeave(Paths),
    /// One run of the compactor over the bucket.
    Compact,
}

pub(super) struct Paths {
    pub(super) paths: Vec<String>,
    /// How many are asked at the same time.
    pub(super) callers: usize,
}

impl Paths {
    /// Each is asked at least once.
    fn callers(&self, until: Duration) -> Callers {
        Callers { count: self.callers, until, least: self.paths.len() }
    }
}

/// What came of a row.
#[derive(Default)]
pub(super) struct Tally {
    /// Answers to the attack, by status.
    pub(super) answers: BTreeMap<String, usize>,
    /// Answers to the ordinary question meanwhile.
    pub(super) honest: BTreeMap<&'static str, usize>,
    /// What must not be.
    pub(super) wrong: Vec<String>,
    /// MiB of processes that ran for this row only.
    pub(super) peaks: Vec<(&'static str, f64)>,
}

/// Shared by callers.
#[derive(Default)]
struct Notes(Mutex<Tally>);

impl Notes {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, status: impl ToString) {
        *self.tally().answers.entry(status.to_string()).or_default() += 1;
    }

    /// The first ten are kept.
    fn wrong(&self, text: String) {
        let mut tally = self.tally();
        if tally.wrong.len() < 10 {
            tally.wrong.push(text);
        }
    }
}

/// How long a request may take on after the time of its row; then its caller leaves.
const LATE: Duration = Duration::from_secs(5);

/// Attacks until then, by the machine's monotonic clock, but at least once.
pub(super) async fn run(running: &Running, attack: &Attack, until: Duration) -> Tally {
    let (notes, ended) = (Notes::default(), AtomicBool::new(false));
    let attacked = async {
        match attack {
            Attack::Client(client) => clients::hold(running, client, until, &notes).await,
            Attack::Form(form) => requests::send_form(running, form, until, &notes).await,
            Attack::Call(call) => requests::call(running, call, until, &notes).await,
            Attack::Ask(paths) => requests::ask(running, paths, until, &notes).await,
            Attack::AskAndLeave(paths) => requests::leave(running, paths, until, &notes).await,
            Attack::Compact => match compactor::run(running).await {
                Ok(mib) => notes.tally().peaks.push(("compact", mib)),
                Err(e) => notes.wrong(format!("{e:#}")),
            },
        }
        ended.store(true, Ordering::Relaxed);
    };
    futures::join!(attacked, ask_honestly(running, &ended, &notes));
    notes.0.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The ordinary question, again and again.
async fn ask_honestly(running: &Running, ended: &AtomicBool, notes: &Notes) {
    while !ended.load(Ordering::Relaxed) {
        let answer = match running.ask_honestly().await {
            Ok(true) => "whole",
            Ok(false) => "refused",
            Err(wrong) => {
                notes.wrong(format!("{wrong:#}"));
                "wrong"
            }
        };
        *notes.tally().honest.entry(answer).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How often something is done, and by how many at the same time.
struct Callers {
    count: usize,
    /// By the machine's monotonic clock.
    until: Duration,
    /// In all, however late it is.
    least: usize,
}

/// Callers, each of which does this again and again, with a number that counts up over all of them.
async fn callers<F: Future<Output = ()>>(
    Callers { count, until, least }: Callers,
    one: impl Fn(usize) -> F + Sync,
) {
    let clock = clock();
    let late = (until + LATE).saturating_sub(clock.monotonic());
    let caller = async |first: usize| {
        let mut number = first;
        loop {
            one(number).await;
            number += count;
            if clock.monotonic() >= until && number >= least {
                return;
            }
        }
    };
    // who is late leaves
    let _ = tokio::time::timeout(late, join_all((0..count).map(caller))).await;
}
