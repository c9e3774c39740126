//! A bucket behind an object server that can hide the description of blocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use testkit::{Fault, FaultPlan, ObjectServer, Op, ServerSettings};

use crate::harness::{files_below, runtime};

/// Blocks whose `meta.json` cannot be read for now.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden(Arc<Mutex<BTreeSet<String>>>);

impl Hidden {
    pub(super) fn hide(&self, ids: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    pub(super) fn show_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn holds(&self, key: &str) -> bool {
        let hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        key.strip_suffix("/meta.json").is_some_and(|id| hidden.contains(id))
    }
}

pub(super) struct Served {
    pub(super) server: ObjectServer,
    pub(super) config: PathBuf,
    pub(super) hidden: Hidden,
    store: Arc<InMemory>,
}

impl Served {
    /// Serves all objects that lie in the folder `filled`, each request after some time.
    pub(super) fn start(folder: &Path, filled: &Path, fault: Fault, latency: Duration) -> Served {
        let store = Arc::new(InMemory::new());
        for file in files_below(filled) {
            let bytes = std::fs::read(filled.join(&file)).expect("read the object");
            let key = file.to_string_lossy().into_owned().into();
            runtime().block_on(store.put(&key, PutPayload::from(bytes))).expect("memory takes it");
        }
        let hidden = Hidden::default();
        let is_hidden = hidden.clone();
        let faults = FaultPlan::new(move |call| {
            (matches!(call.op, Op::Get | Op::Head) && is_hidden.holds(call.key)).then_some(fault)
        });
        let settings = ServerSettings { faults, latency, ..ServerSettings::default() };
        let served: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        let server = runtime()
            .block_on(ObjectServer::start(served, settings))
            .expect("the object server starts");
        let config = folder.join("objstore.yml");
        std::fs::write(&config, server.s3_config()).expect("write objstore.yml");
        Served { server, config, hidden, store }
    }

    /// The keys of all objects, sorted.
    pub(super) fn keys(&self) -> Vec<String> {
        let listed: Vec<_> =
            runtime().block_on(self.store.list(None).try_collect()).expect("memory can be listed");
        let mut keys: Vec<String> =
            listed.into_iter().map(|object| object.location.to_string()).collect();
        keys.sort();
        keys
    }

    /// How many blocks there are without a deletion mark.
    pub(super) fn live_blocks(&self) -> usize {
        let keys = self.keys();
        let blocks = keys.iter().filter_map(|key| key.strip_suffix("/meta.json"));
        blocks.filter(|id| !keys.contains(&format!("{id}/deletion-mark.json"))).count()
    }
}
