//! What went wrong, as an error of the API.

use http_api::ApiError;
use model::error::in_one_line;
use storeapi::Kind;

/// The API error for a query that failed.
pub(super) fn of_query(error: engine::Error) -> ApiError {
    let message = in_one_line(&error).to_string();
    match error.kind() {
        engine::Kind::BadData => ApiError::parameter("query", message),
        engine::Kind::Execution => ApiError::execution(message),
        engine::Kind::Timeout => ApiError::timeout(message),
        engine::Kind::Canceled => ApiError::canceled(message),
        engine::Kind::Internal => ApiError::internal(message),
    }
}

/// The API error for a call to the stores that failed.
pub(super) fn of_store(error: storeapi::Error) -> ApiError {
    let message = in_one_line(&error).to_string();
    match error.kind() {
        Kind::Invalid => ApiError::bad_data(message),
        Kind::Timeout => ApiError::timeout(message),
        Kind::Limit | Kind::Memory | Kind::Unavailable | Kind::Aborted | Kind::Corrupt => {
            ApiError::execution(message)
        }
        Kind::Internal => ApiError::internal(message),
    }
}
