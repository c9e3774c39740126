//! Accepted connections, plain or TLS, for the HTTP and the gRPC server alike. A connection ends
//! by itself when its peer is silent, sends half of something, or does not take what it asked for.

mod accept;
mod activity;
mod stream;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

pub(crate) use accept::{Accepting, Spare, accept};
pub(crate) use activity::{Activity, Busy};

use crate::Patience;
use stream::Stream;

/// How long connections without a request stay when room is needed: enough for a request that is
/// on its way.
const ROOM: Duration = Duration::from_secs(1);

/// The same when the process stops: enough for telling peers that it does.
const LINGER: Duration = Duration::from_millis(200);

/// What connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Serve,
    /// File descriptors have run out: those at rest may go.
    MakeRoom,
    /// The process stops.
    Stop,
}

/// What requests may know of their connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnInfo {
    pub(crate) activity: Activity,
    /// Whether it uses the file descriptor that is kept for probes.
    pub(crate) is_spare: bool,
}

type NextWish = Pin<Box<dyn Future<Output = (Wish, watch::Receiver<Wish>)> + Send>>;

/// A connection that gives up on its peer after the times of [`Patience`]. To the server it then
/// looks as if the peer had left.
pub(crate) struct Conn {
    stream: Stream,
    info: ConnInfo,
    patience: Patience,
    next_wish: NextWish,
    /// The last wish, and when it was heard.
    told: Option<(Wish, Instant)>,
    silence: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Its end is noticed by whoever has the other half.
    _ended: Option<oneshot::Sender<()>>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn next_wish(mut wishes: watch::Receiver<Wish>) -> NextWish {
    Box::pin(async move {
        if wishes.changed().await.is_err() {
            // whoever could wish is gone, and so is the server
            std::future::pending::<()>().await;
        }
        let wish = *wishes.borrow_and_update();
        (wish, wishes)
    })
}

impl Conn {
    pub(crate) fn info(&self) -> ConnInfo {
        self.info.clone()
    }

    /// Whether the peer has had its time.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready((wish, wishes)) = self.next_wish.as_mut().poll(cx) {
            self.next_wish = next_wish(wishes);
            self.told = Some((wish, Instant::now()));
        }
        // what is still to be written has a limit of its own
        if self.stalled.is_some() {
            return Poll::Pending;
        }
        let Some(mut until) = self.info.activity.silent_until(&self.patience, cx.waker()) else {
            self.silence = None;
            return Poll::Pending;
        };
        let since = self.info.activity.rest_since();
        match self.told {
            Some((Wish::Stop, when)) => until = until.min(when.max(since) + LINGER),
            // those that were at rest when it was needed
            Some((Wish::MakeRoom, when)) if since <= when => until = until.min(when + ROOM),
            _ => {}
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if silence.deadline() != until {
            silence.as_mut().reset(until);
        }
        silence.as_mut().poll(cx)
    }

    /// Watches that writing goes on.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        let text = format!("the peer took nothing for {limit:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl Connected for Conn {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        self.info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.info.activity.heard(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_given_up(cx).map(Ok),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, shut)
    }
}
