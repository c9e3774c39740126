//! What every [`RemoteCache`] must do, as a test suite, and a cache in memory that does it.

mod memory;

use std::time::Duration;

use bytes::Bytes;

use self::memory::MemoryCache;
use super::{Entry, Key, RemoteCache};

const HOUR: Duration = Duration::from_secs(3600);

/// How often a value that was set is asked for before it counts as lost.
const ATTEMPTS: u32 = 200;

const PAUSE: Duration = Duration::from_millis(10);

/// Runs all cases; panics at the first that fails. `wait` lets time pass for the cache, which was
/// empty before.
pub(crate) async fn run(cache: &dyn RemoteCache, wait: impl AsyncFn(Duration)) {
    let suite = Suite { cache, wait };
    suite.values_come_back_in_the_order_of_keys().await;
    suite.any_bytes_and_any_key_will_do().await;
    suite.the_last_value_counts().await;
    suite.too_large_values_are_left_out().await;
    suite.time_runs_out().await;
}

/// The one case of a cache whose servers are away.
pub(crate) async fn run_away(cache: &dyn RemoteCache) {
    cache.set(vec![entry("away", "lost")]);
    assert_eq!(cache.get(&[Key::new("away"), Key::new("never")]).await, [None, None]);
}

fn entry(name: &str, value: impl Into<Bytes>) -> Entry {
    Entry { key: Key::new(name), value: value.into(), ttl: HOUR }
}

struct Suite<'a, Wait> {
    cache: &'a dyn RemoteCache,
    wait: Wait,
}

impl<Wait: AsyncFn(Duration)> Suite<'_, Wait> {
    async fn one(&self, name: &str) -> Option<Bytes> {
        let mut found = self.cache.get(&[Key::new(name)]).await;
        assert_eq!(found.len(), 1, "{name}");
        found.remove(0)
    }

    /// Until the entries can be found: they are sent behind the caller's back.
    async fn set(&self, entries: Vec<Entry>) {
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        let values: Vec<_> = entries.iter().map(|entry| Some(entry.value.clone())).collect();
        self.cache.set(entries);
        for _ in 0..ATTEMPTS {
            if self.cache.get(&keys).await == values {
                return;
            }
            (self.wait)(PAUSE).await;
        }
        panic!("not found after {:?}: {keys:?}", PAUSE * ATTEMPTS);
    }

    async fn values_come_back_in_the_order_of_keys(&self) {
        assert!(self.cache.get(&[]).await.is_empty());
        assert_eq!(self.one("nothing").await, None);
        let name = |i: usize| format!("order:{i}");
        self.set((0..1000).map(|i| entry(&name(i), name(i))).collect()).await;
        let asked: Vec<usize> = (0..2000).rev().chain([7, 7]).collect();
        let keys: Vec<Key> = asked.iter().map(|i| Key::new(name(*i))).collect();
        let expected = asked.iter().map(|i| (*i < 1000).then(|| Bytes::from(name(*i))));
        assert_eq!(self.cache.get(&keys).await, Vec::from_iter(expected));
    }

    async fn any_bytes_and_any_key_will_do(&self) {
        let long = "long".repeat(1000);
        let names = ["bytes:é\r\nEND\r\n", "bytes with spaces", &"k".repeat(Key::MAX_BYTES), &long];
        let value = Bytes::from_iter(0..=u8::MAX);
        self.set(names.map(|name| entry(name, value.clone())).to_vec()).await;
        for empty_or_like_protocol in ["", "\r\n", "END\r\n", "$-1\r\n"] {
            self.set(vec![entry("bytes", empty_or_like_protocol)]).await;
        }
    }

    async fn the_last_value_counts(&self) {
        for value in ["first", "second and longer", "3rd"] {
            self.set(vec![entry("last", value)]).await;
        }
    }

    async fn too_large_values_are_left_out(&self) {
        let most = self.cache.max_value_bytes();
        if most == usize::MAX {
            return;
        }
        // memcached counts a little more than the value
        self.set(vec![entry("size:half", vec![1_u8; most / 2])]).await;
        self.cache.set(vec![entry("size:over", vec![2_u8; most + 1])]);
        self.set(vec![entry("size:small", "small")]).await;
        assert_eq!(self.one("size:over").await, None);
    }

    /// All lengths expire, also those that memcached takes for points in time: over 30 days.
    async fn time_runs_out(&self) {
        let of = |name, ttl| Entry { ttl, ..entry(name, "value") };
        let (month, decade) = (31 * 24 * HOUR, 3650 * 24 * HOUR);
        let short = Duration::from_millis(1);
        self.cache.set(vec![of("time:none", Duration::ZERO), of("time:short", short)]);
        self.set(vec![of("time:month", month), of("time:decade", decade)]).await;
        self.set(vec![of("time:seconds", Duration::from_secs(3))]).await;
        (self.wait)(Duration::from_millis(4500)).await;
        for (name, stays) in [
            ("time:none", false),
            ("time:short", false),
            ("time:seconds", false),
            ("time:month", true),
            ("time:decade", true),
        ] {
            assert_eq!(self.one(name).await.is_some(), stays, "{name}");
        }
    }
}

#[tokio::test]
async fn memory_conforms() {
    let cache = MemoryCache::new(1 << 20);
    run(&cache, async |span| cache.pass(span)).await;
    let unlimited = MemoryCache::new(usize::MAX);
    run(&unlimited, async |span| unlimited.pass(span)).await;
}

#[tokio::test]
async fn a_cache_that_is_away_is_a_miss() {
    let cache = MemoryCache::new(1 << 20);
    cache.set(vec![entry("before", "known")]);
    cache.set_away(true);
    run_away(&cache).await;
    assert_eq!(cache.get(&[Key::new("before")]).await, [None]);
    cache.set_away(false);
    let keys = ["before", "away"].map(Key::new);
    assert_eq!(cache.get(&keys).await, [Some(Bytes::from("known")), None]);
}
