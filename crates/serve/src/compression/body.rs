//! Bodies of gRPC messages that are compressed or unpacked on their way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::{Compression, PREFIX, Room};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type NextFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// What is done to each message.
trait Change {
    /// The longest message on the wire that is waited for.
    fn limit(&self) -> usize;

    /// `message` is whole, with its prefix.
    fn change(&mut self, message: Bytes) -> Result<Bytes, Status>;
}

/// A body cut into messages.
#[derive(Debug)]
struct Messages<B> {
    body: B,
    received: BytesMut,
    trailers: Option<HeaderMap>,
    has_ended: bool,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn new(body: B) -> Messages<B> {
        Messages { body, received: BytesMut::new(), trailers: None, has_ended: false }
    }

    /// The first message received, once it is whole.
    fn message(&mut self, limit: usize) -> Result<Option<Bytes>, Status> {
        let Some([_, length @ ..]) = self.received.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > limit {
            return Err(Status::resource_exhausted(format!(
                "a message of {length} bytes is announced; it may have {limit}"
            )));
        }
        let whole = PREFIX + length;
        let is_whole = self.received.len() >= whole;
        Ok(is_whole.then(|| self.received.split_to(whole).freeze()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, change: &mut impl Change) -> NextFrame {
        loop {
            match self.message(change.limit()) {
                Err(status) => return Poll::Ready(Some(Err(status.into()))),
                Ok(Some(message)) => {
                    let changed = change.change(message);
                    return Poll::Ready(Some(changed.map(Frame::data).map_err(Into::into)));
                }
                Ok(None) => {}
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.has_ended {
                if self.received.is_empty() {
                    return Poll::Ready(None);
                }
                self.received.clear();
                let status = Status::internal("the body ends in the middle of a message");
                return Poll::Ready(Some(Err(status.into())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.has_ended = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.received.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn is_at_end(&self) -> bool {
        let has_more = !self.received.is_empty() || self.trailers.is_some();
        !has_more && (self.has_ended || self.body.is_end_stream())
    }
}

/// `packed` with its prefix and the content to come.
fn start_message(is_compressed: bool) -> Vec<u8> {
    vec![u8::from(is_compressed), 0, 0, 0, 0]
}

fn end_message(mut message: Vec<u8>) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len() - PREFIX)
        .map_err(|_| Status::internal("a message is longer than gRPC can say"))?;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(message.into())
}

/// A body whose messages are unpacked; those that are not compressed stay as they are.
#[derive(Debug)]
pub struct Unpacked<B, R> {
    messages: Messages<B>,
    unpack: Unpack<R>,
}

#[derive(Debug)]
struct Unpack<R> {
    compression: Compression,
    room: R,
}

impl<B, R> Unpacked<B, R>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub fn new(body: B, compression: Compression, room: R) -> Unpacked<B, R> {
        Unpacked { messages: Messages::new(body), unpack: Unpack { compression, room } }
    }
}

impl<R: Room> Change for Unpack<R> {
    fn limit(&self) -> usize {
        self.room.limit()
    }

    fn change(&mut self, mut message: Bytes) -> Result<Bytes, Status> {
        match message.first() {
            Some(0) => return Ok(message),
            Some(1) => {}
            other => {
                let text = format!("a message begins with {other:?} where 0 or 1 has to be");
                return Err(Status::internal(text));
            }
        }
        message.advance(PREFIX);
        let mut unpacked = start_message(false);
        self.compression.unpack(&message, &mut unpacked, &mut self.room)?;
        end_message(unpacked)
    }
}

impl<B, R> Body for Unpacked<B, R>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    R: Room + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        let this = &mut *self;
        this.messages.poll_next(cx, &mut this.unpack)
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_at_end()
    }
}

/// A body whose messages are compressed; those that are already stay as they are.
#[derive(Debug)]
pub struct Packed<B> {
    messages: Messages<B>,
    pack: Pack,
}

#[derive(Debug)]
struct Pack(Compression);

impl<B> Packed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub fn new(body: B, compression: Compression) -> Packed<B> {
        Packed { messages: Messages::new(body), pack: Pack(compression) }
    }
}

impl Change for Pack {
    /// They are our own.
    fn limit(&self) -> usize {
        usize::MAX
    }

    fn change(&mut self, message: Bytes) -> Result<Bytes, Status> {
        let (prefix, content) = message.split_at(PREFIX);
        if prefix[0] != 0 || content.is_empty() {
            return Ok(message);
        }
        let mut packed = start_message(true);
        self.0
            .pack(content, &mut packed)
            .map_err(|error| Status::internal(format!("compress a message: {error}")))?;
        end_message(packed)
    }
}

impl<B> Body for Packed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        let this = &mut *self;
        this.messages.poll_next(cx, &mut this.pack)
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_at_end()
    }
}
