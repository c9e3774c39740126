//! What went wrong, as an error of the API.

use engine::QueryError;
use http_api::ApiError;
use model::error::in_one_line;
use storeapi::Kind;

/// Of the evaluation of a query.
pub(super) fn of_query(error: QueryError) -> ApiError {
    match error {
        QueryError::BadData(reason) => ApiError::parameter("query", reason),
        QueryError::Execution(message) => ApiError::execution(message),
        QueryError::Timeout(message) => ApiError::timeout(message),
        QueryError::Canceled(message) => ApiError::canceled(message),
        QueryError::Internal(message) => ApiError::internal(message),
    }
}

/// Of a call to the stores.
pub(super) fn of_store(error: storeapi::Error) -> ApiError {
    let message = in_one_line(&error).to_string();
    match error.kind() {
        Kind::Invalid => ApiError::bad_data(message),
        Kind::Timeout => ApiError::timeout(message),
        Kind::Limit | Kind::Unavailable | Kind::Aborted | Kind::Corrupt => {
            ApiError::execution(message)
        }
        Kind::Internal => ApiError::internal(message),
    }
}
