//! The wish to stop, as a value that many tasks can wait for.

use tokio::sync::watch;

use crate::{Error, Kind, Result};

/// Clones share one signal. Once stopped, it stays stopped.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown { sender: watch::Sender::new(false) }
    }

    /// Stops on SIGTERM and SIGINT. A second signal ends the process at once, for those who do not
    /// want to wait for the grace periods.
    pub fn on_signals() -> Result<Shutdown> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|e| Error::caused(Kind::Internal, "start signal handler", e))
        };
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if stop.is_stopped() {
                    tracing::warn!(signal = name, "caught a second signal, exiting without grace");
                    std::process::exit(1);
                }
                tracing::info!(signal = name, "caught signal, shutting down");
                stop.stop();
            }
        });
        Ok(shutdown)
    }

    pub fn stop(&self) {
        self.sender.send_replace(true);
    }

    pub fn is_stopped(&self) -> bool {
        *self.sender.borrow()
    }

    /// Resolves once [`Shutdown::stop`] was called.
    pub async fn stopped(&self) {
        // the sender lives in self, so waiting cannot fail
        let _ = self.sender.subscribe().wait_for(|stopped| *stopped).await;
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_hears_it_even_late() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.stopped().await }
        });
        assert!(!shutdown.is_stopped());
        shutdown.stop();
        waiting.await.unwrap();
        shutdown.stopped().await;
    }
}
