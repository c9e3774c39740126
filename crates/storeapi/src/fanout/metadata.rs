//! Label names and values of many endpoints as one.

use std::future::Future;
use std::sync::Arc;

use futures::future::{Either, join_all, select};
use model::error::in_one_line;

use super::Endpoint;
use super::child::Patience;
use crate::{Error, Kind, Metadata, PartialResponse, Result};

/// Asks all endpoints at once; an error names its endpoint.
pub(super) async fn ask_all<Ask, Answer>(
    endpoints: Vec<Arc<Endpoint>>,
    patience: &Patience,
    ask: Ask,
) -> Vec<Result<Metadata>>
where
    Ask: Fn(Arc<Endpoint>) -> Answer,
    Answer: Future<Output = Result<Metadata>>,
{
    let one = |endpoint: Arc<Endpoint>| {
        let address = endpoint.address.clone();
        let answer = ask(endpoint);
        async move {
            let answer = std::pin::pin!(patience.listen(answer));
            let answer = match select(answer, std::pin::pin!(patience.deadline())).await {
                Either::Left((answer, _)) => answer.and_then(|a| a),
                Either::Right((error, _)) => Err(error),
            };
            answer.map_err(|error| error.context(format_args!("receive labels from {address}")))
        }
    };
    join_all(endpoints.into_iter().map(one)).await
}

/// The union, not yet sorted; a failure is a warning or ends the request.
pub(super) fn union(
    answers: Vec<Result<Metadata>>,
    strategy: PartialResponse,
    limit: u64,
) -> Result<Metadata> {
    let mut union = Metadata::default();
    for answer in answers {
        match answer {
            Ok(answer) => {
                if let (PartialResponse::Abort, Some(warning)) = (strategy, answer.warnings.first())
                {
                    return Err(Error::new(Kind::Aborted, warning.clone()));
                }
                union.values.extend(answer.values);
                union.warnings.extend(answer.warnings);
            }
            Err(error) if strategy == PartialResponse::Abort || error.ends_all() => {
                return Err(error.aborting());
            }
            Err(error) => union.warnings.push(in_one_line(&error).to_string()),
        }
    }
    Ok(finish(union, limit))
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
