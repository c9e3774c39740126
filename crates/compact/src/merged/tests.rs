use block::object_store::ObjectStoreExt;
use block::object_store::memory::InMemory;
use block::object_store::path::Path;
use block::reader::ReaderSettings;
use block::{BucketMetrics, BucketSettings};
use futures::TryStreamExt;
use model::{BlockId, TimeRange};
use prometheus::Registry;
use synthetic::{BLOCK_MS, Fleet, ServerScrapes};
use tsdb::block_builder::BlockIdentity;

use super::*;

/// So many blocks of two replicas each, which overlap and share most series.
async fn blocks(count: i64) -> (Bucket, Vec<Arc<BlockMeta>>) {
    let mut settings = synthetic::Settings::kubernetes(3, TimeRange::new(0, count * BLOCK_MS));
    settings.scrape_interval_ms = 60_000;
    settings.replicas.truncate(2);
    let fleet = Fleet::new(settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut metas = Vec::new();
    for (number, replica) in fleet.replicas().iter().enumerate() {
        for range in fleet.block_ranges() {
            let id = BlockId::from_parts(range.end as u64, number as u128);
            let external_labels = Some(replica.external_labels().clone());
            let description = BlockIdentity { id, range, external_labels };
            let window = ServerScrapes::new(&fleet, replica, range);
            metas.push(Arc::new(testkit::write_block(folder.path(), &window, description)));
        }
    }
    let store = InMemory::new();
    for meta in &metas {
        for file in &meta.thanos.as_ref().unwrap().files {
            let name = format!("{}/{}", meta.ulid, file.rel_path);
            let bytes = std::fs::read(folder.path().join(&name)).unwrap();
            store.put(&Path::from(name), bytes.into()).await.unwrap();
        }
    }
    let clock = Arc::new(model::SystemClock::new(|_| Box::pin(std::future::ready(()))));
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    (Bucket::new(Arc::new(store), BucketSettings::default(), metrics, clock), metas)
}

type Merged = (Vec<Vec<u8>>, Vec<MergedSeries>);

async fn merged(bucket: &Bucket, metas: &[Arc<BlockMeta>], settings: ReaderSettings) -> Merged {
    let open = |meta: &Arc<BlockMeta>| {
        BlockReader::new(bucket.clone(), Arc::clone(meta), HeaderCache::new(0), settings)
    };
    let mut inputs = InputBlocks::of(metas.iter().map(open), Dedup::Chain);
    let symbols = inputs.symbols().await.unwrap().iter().map(<[u8]>::to_vec).collect();
    (symbols, inputs.series().await.unwrap().try_collect().await.unwrap())
}

#[tokio::test]
async fn what_is_merged_does_not_depend_on_how_much_is_read_at_a_time() {
    let (bucket, metas) = blocks(4).await;
    let expected = merged(&bucket, &metas, readahead::settings(metas.len())).await;
    assert!(expected.1.len() > 100 && expected.1.windows(2).all(|w| w[0].0 < w[1].0));
    for (index_bytes, batch_bytes) in [(1, 1), (500, 40_000), (100_000, 2000), (u64::MAX, u64::MAX)]
    {
        let settings = ReaderSettings { index_bytes, batch_bytes, ..readahead::settings(1) };
        let read = merged(&bucket, &metas, settings).await;
        assert!(
            read == expected,
            "{index_bytes} bytes of index and {batch_bytes} bytes of chunks at a time"
        );
    }
}

#[tokio::test]
async fn the_symbols_are_those_of_all_blocks() {
    let (bucket, metas) = blocks(2).await;
    let settings = readahead::settings(metas.len());
    let (symbols, _) = merged(&bucket, &metas, settings).await;
    let mut expected = Vec::new();
    for meta in &metas {
        let reader =
            BlockReader::new(bucket.clone(), Arc::clone(meta), HeaderCache::new(0), settings);
        expected.extend(reader.header().await.unwrap().symbols().iter().map(<[u8]>::to_vec));
    }
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(symbols, expected);
}
