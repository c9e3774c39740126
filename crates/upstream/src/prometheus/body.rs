//! Bodies of answers, held within the budget.

use bytes::Bytes;
use model::Reservation;
use reqwest::Response;

use crate::Result;

/// How much of an error's body is worth reporting.
const FIRST_WORDS_BYTES: usize = 1024;

/// The body of an answer, not yet read.
#[derive(Debug)]
pub struct Body(pub(super) Response);

impl Body {
    /// What comes next; `None` at the end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.chunk().await?)
    }

    /// The whole body; room for it is charged before it is made.
    pub async fn read(mut self, reservation: &mut Reservation) -> Result<Vec<u8>> {
        let mut body: Vec<u8> = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.capacity() - body.len() < piece.len() {
                // the old one is copied, so that both are there for a moment
                let (old, new) =
                    (body.capacity(), (2 * body.capacity()).max(body.len() + piece.len()));
                reservation.grow(new as u64)?;
                body.reserve_exact(new - body.len());
                reservation.shrink(old as u64);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

pub(super) async fn first_words(mut response: Response) -> String {
    let mut text = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        text.extend_from_slice(&piece);
        if text.len() >= FIRST_WORDS_BYTES {
            break;
        }
    }
    text.truncate(FIRST_WORDS_BYTES);
    String::from_utf8_lossy(&text).trim().to_owned()
}
