//! Caches that processes share over the network, as memcached and Redis are.
//!
//! A cache only saves work. It is never waited for beyond its timeouts, and no failure of it is one
//! of whoever asks: what it does not give is a miss. Implementations log and count what went wrong.
//!
//! The settings of Thanos' caches go to three places:
//!
//! - To an implementation: the servers and how they are found (`addresses`, `auto_discovery`,
//!   `dns_provider_update_interval`, `addr`, `master_name`), credentials, TLS, timeouts,
//!   connections, Redis' `prefix`; batches of [`RemoteCache::get`] and how many of them are under
//!   way at once (`max_get_multi_batch_size`, `max_get_multi_concurrency`); the queue behind
//!   [`RemoteCache::set`] (`max_async_buffer_size`, `max_async_concurrency`,
//!   `set_async_circuit_breaker_config`).
//! - To the callers through an implementation: `max_item_size`, as
//!   [`RemoteCache::max_value_bytes`].
//! - To the callers alone: `expiration` and `ttl`, of which they make [`Entry::ttl`].

#[cfg(test)]
mod conformance;
mod key;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use key::Key;

/// What is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Bytes,
    /// How long from now; servers count in seconds, so it may be up to one more or less. Less than
    /// one is one, none at all is not to be remembered.
    pub ttl: Duration,
}

/// A cache on other machines. Others write to it too: a value that comes back is checked as any
/// bytes from outside are.
#[async_trait]
pub trait RemoteCache: fmt::Debug + Send + Sync + 'static {
    /// The values of these keys, in their order. `None` for one that was never set, is forgotten or
    /// over its time, or whose server is away or slow; the others are found all the same.
    async fn get(&self, keys: &[Key]) -> Vec<Option<Bytes>>;

    /// Remembers entries in place of those that have the same keys. Returns at once: they are sent
    /// later, and dropped when too many wait already, when they are too large or when their server
    /// is away. An older value stays until it is replaced.
    fn set(&self, entries: Vec<Entry>);

    /// The size of the largest value that is remembered, so that callers can split what is larger;
    /// `usize::MAX` where any may be.
    fn max_value_bytes(&self) -> usize;
}
