//! Tasks that do not outlive their owners.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// A task that is aborted when this is dropped. Awaiting it gives the task's result, or its panic.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    /// Spawns the work on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task::spawn_on(&Handle::current(), work)
    }

    pub fn spawn_on(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(runtime.spawn(work))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_ends_with_whoever_waits_for_it() {
        assert_eq!(Task::spawn(async { 7 }).await.unwrap(), 7);
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = Task::spawn(async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        drop(task);
        // what the task held is dropped with it
        assert!(receiver.await.is_err());
    }
}
