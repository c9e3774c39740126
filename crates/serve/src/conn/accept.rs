//! From a listening socket to connections, also when file descriptors run out.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use model::error::in_one_line;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::{Activity, Asides, Conn, ConnInfo, Heads, Stream, Wish, next_wish};
use crate::Patience;
use crate::received::Bodies;

/// A peer that does not finish its TLS handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections accepted but not yet picked up by the server.
const BACKLOG: usize = 64;

/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the connection with the last file descriptor may take.
const SPARE_TIMEOUT: Duration = Duration::from_secs(2);

/// Asked for each connection, because certificates change.
pub(crate) type CurrentTls = Box<dyn Fn() -> Option<Arc<rustls::ServerConfig>> + Send + Sync>;

/// What accepts connections, and how they are treated.
pub(crate) struct Accepting {
    pub(crate) listener: TcpListener,
    /// How a new connection is to speak TLS, if it is.
    pub(crate) tls: CurrentTls,
    pub(crate) patience: Patience,
    pub(crate) wishes: watch::Sender<Wish>,
    /// Kept back for when there is no other file descriptor, where probes are answered.
    pub(crate) spare: Option<Spare>,
    /// Set where HTTP/1 is served: what long heads are charged to.
    pub(crate) heads: Option<Bodies>,
}

/// A file descriptor that can be given up for a connection.
#[derive(Debug, Default)]
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn open() -> Spare {
        let mut spare = Spare(None);
        spare.refill();
        spare
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }
}

type Accepted = (Conn, SocketAddr);

/// Accepts on a task of the current runtime until the receiver is dropped. Handshakes run
/// concurrently, so that a slow client does not hold up others.
pub(crate) fn accept(mut accepting: Accepting) -> mpsc::Receiver<Accepted> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut spare = accepting.spare.take();
        loop {
            if let Some(spare) = &mut spare {
                spare.refill();
            }
            let accepted = tokio::select! {
                accepted = accepting.listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let new = accepting.new_conn(stream, peer);
                    if new.hand_over(&sender).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "accept connection");
                    if is_out_of_files(&error) {
                        accepting.make_room();
                        if let Some(spare) = &mut spare {
                            spare.0 = None;
                            accepting.serve_one(&sender).await;
                            spare.refill();
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    receiver
}

/// Whether the process or the machine has no file descriptor left.
fn is_out_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// The server ended: nothing is left to serve a connection.
struct Ended;

impl Accepting {
    fn make_room(&self) {
        self.wishes.send_if_modified(|wish| {
            let stops = *wish == Wish::Stop;
            if !stops {
                *wish = Wish::MakeRoom;
            }
            !stops
        });
    }

    /// Serves one connection with the descriptor that was kept back, if one is waiting.
    async fn serve_one(&self, sender: &mpsc::Sender<Accepted>) {
        let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() else { return };
        let (ended_sender, ended) = oneshot::channel();
        let mut new = self.new_conn(stream, peer);
        new.patience = Patience::hurried();
        new.ended = Some(ended_sender);
        let served = async {
            if new.hand_over(sender).await.is_ok() {
                // an error says that it ended, too
                let _ = ended.await;
            }
        };
        if tokio::time::timeout(SPARE_TIMEOUT, served).await.is_err() {
            tracing::debug!(%peer, "the connection with the last file descriptor takes long");
        }
    }

    fn new_conn(&self, stream: TcpStream, peer: SocketAddr) -> NewConn {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %in_one_line(&error), %peer, "set TCP_NODELAY");
        }
        NewConn {
            stream,
            peer,
            tls: (self.tls)(),
            patience: self.patience,
            wishes: self.wishes.subscribe(),
            heads: self.heads.clone(),
            ended: None,
        }
    }
}

/// A connection before the server has it.
struct NewConn {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    patience: Patience,
    wishes: watch::Receiver<Wish>,
    heads: Option<Bodies>,
    /// Set for the one with the descriptor that was kept back.
    ended: Option<oneshot::Sender<()>>,
}

impl NewConn {
    async fn hand_over(self, sender: &mpsc::Sender<Accepted>) -> Result<(), Ended> {
        let NewConn { stream, peer, tls, patience, wishes, heads, ended } = self;
        let asides = Asides::default();
        let heads = heads.map(|bodies| Heads::new(bodies, asides.clone()));
        let info = ConnInfo { activity: Activity::new(), is_spare: ended.is_some(), asides };
        let sender = sender.clone();
        let finish = async move |stream| {
            let conn = Conn {
                stream,
                info,
                patience,
                next_wish: next_wish(wishes),
                told: None,
                silence: None,
                stalled: None,
                heads,
                draining: None,
                _ended: ended,
            };
            sender.send((conn, peer)).await.map_err(|_| Ended)
        };
        let Some(config) = tls else { return finish(Stream::Plain(stream)).await };
        tokio::spawn(async move {
            let accepted = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepted).await {
                Ok(Ok(stream)) => {
                    // the server ended meanwhile: nothing is left to serve the connection
                    let _ = finish(Stream::Tls(Box::new(stream))).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(error = %in_one_line(&error), %peer, "tls handshake");
                }
                Err(_) => tracing::debug!(%peer, "tls handshake timed out"),
            }
        });
        Ok(())
    }
}
