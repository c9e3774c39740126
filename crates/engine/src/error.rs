//! Why a query has no answer, and how DataFusion carries that.

use datafusion::common::DataFusionError;

/// Why a query has no answer; the kinds are the error types of Prometheus' HTTP API.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text does not parse or type-check: HTTP 400.
    #[error("{0}")]
    BadData(String),
    /// Evaluation failed: HTTP 422.
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Canceled(String),
    #[error("{0}")]
    Internal(String),
}

/// A query error as DataFusion carries it.
pub(crate) fn fail(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub(crate) fn execution(message: impl Into<String>) -> DataFusionError {
    fail(QueryError::Execution(message.into()))
}

/// The query error inside an error of DataFusion.
pub(crate) fn query_error(error: DataFusionError) -> QueryError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
            Ok(query) => *query,
            Err(other) => QueryError::Internal(other.to_string()),
        },
        DataFusionError::Context(_, inner) => query_error(*inner),
        DataFusionError::Shared(inner) => match inner.as_ref() {
            DataFusionError::External(e) => match e.downcast_ref::<QueryError>() {
                Some(query) => query.clone(),
                None => QueryError::Internal(e.to_string()),
            },
            other => QueryError::Internal(other.to_string()),
        },
        other => QueryError::Internal(other.to_string()),
    }
}
