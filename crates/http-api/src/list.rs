//! An answer whose data is a list, as JSON, in pieces.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream;

use crate::result::PIECE;
use crate::{AnswerNotes, Json, json_response, with_notes};

/// A whole answer whose data are these items, of which `write` writes one. It is sent in pieces,
/// each made when the client has taken the one before; an item is dropped once it is written.
pub fn stream_list<T: 'static>(
    items: impl Iterator<Item = T> + Send + 'static,
    write: fn(&mut Json, &T),
    notes: &AnswerNotes,
) -> Response {
    let (mut head, mut tail) = (Json::default(), Json::default());
    head.raw(r#"{"status":"success","data":["#);
    tail.raw("]");
    notes.write(&mut tail);
    tail.raw("}");
    let pieces = ListPieces { buffer: head, items, write, first: true, tail: Some(tail) };
    let body = Body::from_stream(stream::iter(pieces.map(Ok::<Bytes, Infallible>)));
    with_notes(json_response(body), notes)
}

struct ListPieces<T, I> {
    buffer: Json,
    items: I,
    write: fn(&mut Json, &T),
    first: bool,
    /// What follows the items; `None` once it is written.
    tail: Option<Json>,
}

impl<T, I: Iterator<Item = T>> Iterator for ListPieces<T, I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.tail.is_some() && self.buffer.0.len() < PIECE {
            if let Some(item) = self.items.next() {
                self.buffer.comma(usize::from(!std::mem::replace(&mut self.first, false)));
                (self.write)(&mut self.buffer, &item);
            } else if let Some(tail) = self.tail.take() {
                self.buffer.0.extend_from_slice(&tail.0);
            }
        }
        let piece = std::mem::take(&mut self.buffer.0);
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::{TRUNCATED, success};

    fn pieces(response: Response) -> Vec<Bytes> {
        let pieces = response.into_body().into_data_stream().map(Result::unwrap);
        futures::executor::block_on(pieces.collect())
    }

    #[test]
    fn a_list_in_pieces_is_the_text_that_it_is_in_one() {
        let warned = AnswerNotes { warnings: vec![TRUNCATED.to_owned()], infos: Vec::new() };
        for notes in [AnswerNotes::default(), warned] {
            for count in [0, 1, 2, 20_000] {
                let texts: Vec<String> = (0..count).map(|i| format!("\"{i}\"\n")).collect();
                let whole = pieces(success(&notes, |json| json.strings(&texts)));
                let write = |json: &mut Json, text: &String| json.string(text.as_bytes());
                let listed = pieces(stream_list(texts.into_iter(), write, &notes));
                assert_eq!(whole.concat(), listed.concat());
                assert!(listed.iter().all(|piece| piece.len() < 2 * PIECE), "{count}");
                assert!(listed.len() > count / 10_000, "{} pieces", listed.len());
            }
        }
    }
}
