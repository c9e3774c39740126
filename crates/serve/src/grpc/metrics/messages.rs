//! The messages of a call, counted as they pass.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::Counter;

/// Each message has a byte that says whether it is compressed, and four for its length, before it.
const PREFIX: usize = 5;

/// Finds the beginnings of messages in the pieces of a body.
#[derive(Debug, Default)]
pub(super) struct Messages {
    prefix: [u8; PREFIX],
    /// How much of the next prefix has come.
    known: usize,
    /// Bytes of the current message that are still to come.
    left: usize,
}

impl Messages {
    /// How many messages begin in this piece.
    fn begun(&mut self, mut piece: &[u8]) -> u32 {
        let mut begun = 0;
        while !piece.is_empty() {
            let skipped = self.left.min(piece.len());
            self.left -= skipped;
            piece = &piece[skipped..];
            let taken = (PREFIX - self.known).min(piece.len());
            self.prefix[self.known..self.known + taken].copy_from_slice(&piece[..taken]);
            self.known += taken;
            piece = &piece[taken..];
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.known = 0;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                begun += 1;
            }
        }
        begun
    }
}

pub(super) struct CountedMessages<B> {
    pub(super) body: B,
    pub(super) messages: Messages,
    pub(super) counter: Counter,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedMessages<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let begun = self.messages.begun(data);
            self.counter.inc_by(f64::from(begun));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_the_pieces_are_cut() {
        let mut body = Vec::new();
        for length in [0_u32, 3, 0, 300] {
            body.push(0);
            body.extend(length.to_be_bytes());
            body.extend(vec![7; length as usize]);
        }
        for size in [1, 2, 4, 5, 6, 7, 1000] {
            let mut messages = Messages::default();
            let begun: u32 = body.chunks(size).map(|piece| messages.begun(piece)).sum();
            assert_eq!((begun, messages.left, messages.known), (4, 0, 0), "pieces of {size}");
        }
    }
}
