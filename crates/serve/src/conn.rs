//! Accepted connections, plain or TLS, for the HTTP and the gRPC server alike. A connection ends
//! by itself when its peer is silent, sends half of something, or does not take what it asked for.

mod accept;
mod activity;
mod aside;
mod heads;
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
pub(crate) use aside::{Asides, Refusal, SetAside};

use crate::Patience;
use heads::Heads;
use stream::Stream;

/// How long connections without a request stay when room is needed: enough for a request that is
/// on its way.
const ROOM: Duration = Duration::from_secs(1);

/// The same when the process stops: enough for telling peers that it does.
const LINGER: Duration = Duration::from_millis(200);

/// How long what a refused client still sends is thrown away: a connection that is closed before may
/// lose its answer.
const DRAIN: Duration = Duration::from_secs(1);

/// What is read of a peer at a time.
const PIECE: usize = 16 << 10;

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
    pub(crate) asides: Asides,
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
    /// Where requests of HTTP/1 are served.
    heads: Option<Heads>,
    draining: Option<Pin<Box<Sleep>>>,
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

impl Conn {
    /// Reads of the peer, and returns how many bytes have come; 0 at its end.
    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.info.activity.heard(&buf.filled()[before..]);
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    /// Hands on what may be read, after the heads of requests were looked at.
    fn poll_heads(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(heads) = &mut self.heads {
                let ready = heads.ready();
                let taken = ready.len().min(buf.remaining());
                if taken > 0 {
                    buf.put_slice(&ready[..taken]);
                    heads.consume(taken);
                    return Poll::Ready(Ok(taken));
                }
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            let count = ready!(self.poll_stream(cx, &mut read))?;
            let Some(heads) = &mut self.heads else { return Poll::Ready(Ok(0)) };
            heads.receive(read.filled());
            if count == 0 {
                heads.end();
                if heads.ready().is_empty() {
                    return Poll::Ready(Ok(0));
                }
            }
        }
    }

    /// Throws away what a refused client still sends, for a while.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.heads.as_ref().is_some_and(Heads::is_refused) {
            return Poll::Ready(());
        }
        let drain = || Box::pin(tokio::time::sleep(DRAIN));
        if self.draining.get_or_insert_with(drain).as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
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
        let read = match this.heads {
            Some(_) => this.poll_heads(cx, buf),
            None => this.poll_stream(cx, buf),
        };
        match read {
            Poll::Ready(read) => Poll::Ready(read.map(|_| ())),
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
        ready!(this.written(cx, shut))?;
        this.poll_drained(cx).map(Ok)
    }
}
