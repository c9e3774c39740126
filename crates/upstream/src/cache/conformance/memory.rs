//! A cache in memory, with time that tests own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::{Entry, Key, RemoteCache};

#[derive(Debug)]
pub(crate) struct MemoryCache {
    max_value_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Kept>,
    now: Duration,
    away: bool,
}

#[derive(Debug)]
struct Kept {
    value: Bytes,
    until: Duration,
}

impl MemoryCache {
    pub(crate) fn new(max_value_bytes: usize) -> MemoryCache {
        MemoryCache { max_value_bytes, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.state().now += span;
    }

    /// Whether it answers nothing and takes nothing.
    pub(crate) fn set_away(&self, away: bool) {
        self.state().away = away;
    }
}

#[async_trait]
impl RemoteCache for MemoryCache {
    async fn get(&self, keys: &[Key]) -> Vec<Option<Bytes>> {
        let state = self.state();
        let current = |kept: &&Kept| !state.away && kept.until > state.now;
        let value = |key| state.entries.get(key).filter(current).map(|kept| kept.value.clone());
        keys.iter().map(value).collect()
    }

    fn set(&self, entries: Vec<Entry>) {
        let mut state = self.state();
        if state.away {
            return;
        }
        for Entry { key, value, ttl } in entries {
            if value.len() <= self.max_value_bytes && !ttl.is_zero() {
                let until = state.now + ttl.max(Duration::from_secs(1));
                state.entries.insert(key, Kept { value, until });
            }
        }
    }

    fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }
}
