//! Bodies of answers, held within the budget.

use model::Reservation;
use reqwest::Response;

use crate::Result;

/// How much of an error's body is worth telling.
const FIRST_WORDS_BYTES: usize = 1024;

/// The whole body; each piece is charged before it is kept.
pub(crate) async fn read_body(mut response: Response, reservation: &mut Reservation) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        reservation.grow(piece.len() as u64)?;
        body.extend_from_slice(&piece);
    }
    Ok(body)
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
