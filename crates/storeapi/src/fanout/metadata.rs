//! Label names and values of many endpoints as one.

use std::future::Future;
use std::sync::Arc;

use futures::future::{Either, join_all, select};
use model::error::in_one_line;
use model::{Budget, Notes, Reservation};

use super::Endpoint;
use super::child::Patience;
use crate::{Error, Kind, Metadata, PartialResponse, Result};

/// How one call gathers labels.
pub(super) struct Gathering {
    pub(super) patience: Patience,
    pub(super) budget: Budget,
    pub(super) strategy: PartialResponse,
    /// What the answer has to say before all; left out where a warning would end the request.
    pub(super) missing: Vec<String>,
}

/// What an endpoint answered, for as long as it is charged.
struct HeldAnswer {
    metadata: Metadata,
    held: Reservation,
}

impl Gathering {
    /// Asks all endpoints at once; the union of what they answer, sorted and without duplicates. A
    /// failure is a warning or ends the request, and names its endpoint.
    pub(super) async fn ask_all<Ask, Answer>(
        &self,
        endpoints: Vec<Arc<Endpoint>>,
        ask: Ask,
    ) -> Result<Metadata>
    where
        Ask: Fn(Arc<Endpoint>) -> Answer,
        Answer: Future<Output = Result<Metadata>>,
    {
        let one = |endpoint: Arc<Endpoint>| {
            let address = endpoint.address.clone();
            let answer = ask(endpoint);
            async move {
                let answer = self.in_time(answer).await.and_then(|a| self.hold(&address, a));
                answer.map_err(|error| error.context(format_args!("receive labels from {address}")))
            }
        };
        self.union(join_all(endpoints.into_iter().map(one)).await)
    }

    async fn in_time(&self, answer: impl Future<Output = Result<Metadata>>) -> Result<Metadata> {
        let answer = std::pin::pin!(self.patience.listen(answer));
        match select(answer, std::pin::pin!(self.patience.deadline())).await {
            Either::Left((answer, _)) => answer.and_then(|a| a),
            Either::Right((error, _)) => Err(error),
        }
    }

    /// Charges an answer, and leaves out warnings beyond a number.
    fn hold(&self, address: &str, mut metadata: Metadata) -> Result<HeldAnswer> {
        let mut notes = Notes::of_server();
        metadata.warnings = metadata.warnings.iter().filter_map(|w| notes.admit(w)).collect();
        if notes.left_out() > 0 {
            metadata.warnings.push(format!("{} further warnings", notes.left_out()));
        }
        let mut held = self.budget.reserve(format!("the labels of {address}"));
        held.grow(metadata.weight())?;
        Ok(HeldAnswer { metadata, held })
    }

    fn union(&self, answers: Vec<Result<HeldAnswer>>) -> Result<Metadata> {
        let (mut union, mut all_held) = (Metadata::default(), Vec::with_capacity(answers.len()));
        if self.strategy == PartialResponse::Warn {
            union.warnings.clone_from(&self.missing);
        }
        for answer in answers {
            match answer {
                Ok(HeldAnswer { metadata, held }) => {
                    if let (PartialResponse::Abort, Some(warning)) =
                        (self.strategy, metadata.warnings.first())
                    {
                        return Err(Error::new(Kind::Aborted, warning.clone()));
                    }
                    union.values.extend(metadata.values);
                    union.warnings.extend(metadata.warnings);
                    all_held.push(held);
                }
                Err(error) if self.strategy == PartialResponse::Abort || error.ends_all() => {
                    return Err(error.aborting());
                }
                Err(error) => union.warnings.push(in_one_line(&error).to_string()),
            }
        }
        Ok(finish(union, 0))
    }
}

/// Sorted, without duplicates, at most `limit` (0 = all).
pub(super) fn finish(mut union: Metadata, limit: u64) -> Metadata {
    union.values.sort_unstable();
    union.values.dedup();
    if limit > 0 {
        union.values.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    union
}
