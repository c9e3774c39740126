//! Marks that somebody sets by hand.

use axum::response::Response;
use block::marker::{DeletionMark, Marker, NoCompactMark, reason};
use block::{BlockLocation, Bucket};
use http_api::{AnswerNotes, ApiError, Params, success};
use model::BlockId;
use model::error::in_one_line;

/// The longest detail that is written into a mark.
const MAX_DETAIL_BYTES: usize = 4 << 10;

/// Spelt as Thanos spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkAction {
    Deletion,
    NoCompaction,
}

impl MarkAction {
    fn as_str(self) -> &'static str {
        match self {
            MarkAction::Deletion => "DELETION",
            MarkAction::NoCompaction => "NO_COMPACTION",
        }
    }
}

/// Which mark a block is to get, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MarkOrder {
    pub(crate) id: BlockId,
    pub(crate) action: MarkAction,
    pub(crate) detail: String,
}

impl MarkOrder {
    /// # Errors
    /// A parameter that is missing or has no meaning.
    pub(crate) fn read(params: &Params) -> Result<MarkOrder, ApiError> {
        let id = params.get("id").ok_or_else(|| ApiError::bad_data("ID cannot be empty"))?;
        let action =
            params.get("action").ok_or_else(|| ApiError::bad_data("Action cannot be empty"))?;
        let id =
            id.parse().map_err(|e| ApiError::bad_data(format!("ULID {id:?} is not valid: {e}")))?;
        let actions = [MarkAction::Deletion, MarkAction::NoCompaction];
        let known = actions.into_iter().find(|known| known.as_str() == action);
        let action = known.ok_or_else(|| {
            let text = format!("not supported marker {action:?}: use DELETION or NO_COMPACTION");
            ApiError::bad_data(text)
        })?;
        let detail = params.get("detail").unwrap_or_default().to_owned();
        if detail.len() > MAX_DETAIL_BYTES {
            let text = format!("{} bytes; at most {MAX_DETAIL_BYTES} are kept", detail.len());
            return Err(ApiError::parameter("detail", text));
        }
        Ok(MarkOrder { id, action, detail })
    }

    /// Writes the mark unless there is one, and says what was done.
    pub(crate) async fn carry_out(
        &self,
        bucket: &Bucket,
        location: &BlockLocation,
    ) -> Result<Response, ApiError> {
        let failed = |e: block::Error| ApiError::internal(in_one_line(&e).to_string());
        if !bucket.exists(&location.meta()).await.map_err(failed)? {
            return Err(ApiError::bad_data(format!(
                "block {} is not marked: the bucket has no {}",
                self.id,
                location.meta()
            )));
        }
        let (now, detail) = (bucket.clock().now(), self.detail.as_str());
        let written = match self.action {
            MarkAction::Deletion => {
                self.write(&DeletionMark::new(self.id, now, detail), bucket, location).await
            }
            MarkAction::NoCompaction => {
                let mark = NoCompactMark::new(self.id, now, reason::MANUAL, detail);
                self.write(&mark, bucket, location).await
            }
        };
        written.map_err(failed)
    }

    async fn write<M: Marker>(
        &self,
        mark: &M,
        bucket: &Bucket,
        location: &BlockLocation,
    ) -> block::Result<Response> {
        let created = mark.write(bucket, location).await?;
        let (action, file) = (self.action.as_str(), location.file(M::FILE).to_string());
        tracing::info!(block = %self.id, action, created, "block marked on request");
        Ok(success(&AnswerNotes::default(), |json| {
            json.raw(r#"{"id":"#);
            json.string(self.id.to_string().as_bytes());
            json.raw(r#","action":"#);
            json.string(action.as_bytes());
            json.raw(r#","file":"#);
            json.string(file.as_bytes());
            // an earlier mark stays as it is
            json.raw(if created { r#","created":true}"# } else { r#","created":false}"# });
        }))
    }
}
