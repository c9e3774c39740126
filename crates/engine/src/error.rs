//! Why a query has no answer, and how DataFusion carries the error.

use datafusion_common::DataFusionError;
use model::layered_error;

/// The error types of Prometheus' HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The text does not parse or type-check: HTTP 400.
    BadData,
    /// Evaluation failed: HTTP 422.
    Execution,
    Timeout,
    Canceled,
    Internal,
}

layered_error! {
    /// Why a query has no answer; the text is Prometheus' where it has one.
    pub struct Error(Kind);
}

impl Error {
    /// A source could not give all of a selector's series.
    pub fn expanding_series(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::caused(Kind::Execution, "expanding series", cause)
    }
}

/// A query error as DataFusion carries it.
pub(crate) fn fail(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub(crate) fn execution(message: impl Into<String>) -> DataFusionError {
    fail(Error::new(Kind::Execution, message))
}

/// The query error inside an error of DataFusion.
pub(crate) fn query_error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(query) => *query,
            Err(other) => Error::passed(Kind::Internal, DataFusionError::External(other)),
        },
        DataFusionError::Context(_, inner) => query_error(*inner),
        DataFusionError::Shared(inner) => match inner.as_ref() {
            DataFusionError::External(e) if e.is::<Error>() => {
                e.downcast_ref::<Error>().expect("checked above").clone()
            }
            _ => Error::passed(Kind::Internal, DataFusionError::Shared(inner)),
        },
        other => Error::passed(Kind::Internal, other),
    }
}
