//! How long peers are waited for.

use std::time::Duration;

/// After these times a connection, or what it asked for, is given up. Go's servers behind Thanos
/// have no such limits; those of `idle` are Prometheus'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the first bytes of a connection, and for the rest of a head once it has begun.
    pub head: Duration,
    /// For the whole body of a request, from its head on.
    pub body: Duration,
    /// For a client to take more of its answer.
    pub write: Duration,
    /// For something to be heard on a connection that has no request under way.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            head: Duration::from_secs(30),
            body: Duration::from_secs(60),
            write: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// For queriers: one that merges the streams of many stores may leave one alone while it waits
    /// for another, but hardly longer than a query may take. Whoever is alive answers a ping each
    /// minute.
    pub fn grpc() -> Patience {
        let query = Duration::from_secs(120);
        Patience { write: query, idle: query, ..Patience::default() }
    }

    /// For a connection that uses the last file descriptor.
    pub(crate) fn hurried() -> Patience {
        let second = Duration::from_secs(1);
        Patience { head: second, body: second, write: second, idle: second }
    }
}
