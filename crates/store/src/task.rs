//! Work that goes on beside a request.

use std::future::Future;

use storeapi::{Error, Kind, Result};
use tokio::task::JoinHandle;

/// A task that ends when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(tokio::spawn(work))
    }

    pub(crate) async fn join(mut self) -> Result<T> {
        (&mut self.0).await.map_err(|e| Error::new(Kind::Internal, format!("reading blocks: {e}")))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
