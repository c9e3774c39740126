use super::*;
use crate::testing::{fanout_of, served};

/// The store in memory refuses what Thanos' sidecars refuse.
const OPTIONS: Options = Options { start: 1_700_000_000_000, refuses_external_matchers_only: true };

const ANSWERS: Options = Options { refuses_external_matchers_only: false, ..OPTIONS };

#[tokio::test]
async fn memory_conforms() {
    run(OPTIONS, async |data| Arc::new(MemoryStore::new(&data)) as Arc<dyn Store>).await;
}

#[tokio::test]
async fn a_store_behind_grpc_conforms() {
    run(OPTIONS, async |data| served(Arc::new(MemoryStore::new(&data))).await as Arc<dyn Store>)
        .await;
}

fn with_replica(data: &Dataset, replica: &str) -> MemoryStore {
    let external = data.external.with(REPLICA, replica);
    MemoryStore::new(&Dataset { external, series: data.series.clone() })
}

#[tokio::test]
async fn a_fanout_over_two_replicas_conforms() {
    run(ANSWERS, async |data| {
        fanout_of(vec![with_replica(&data, "r1"), with_replica(&data, "r2")]) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn a_fanout_over_stores_that_can_neither_sort_nor_shard_conforms() {
    run(ANSWERS, async |data| {
        let mut old = with_replica(&data, "r1");
        old.info.supports_sharding = false;
        old.info.supports_without_replica_labels = false;
        fanout_of(vec![old, with_replica(&data, "r2")]) as Arc<dyn Store>
    })
    .await;
}
