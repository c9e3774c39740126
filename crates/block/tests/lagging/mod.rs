//! Random histories of a bucket, with catalogs of any age: a process that reads them finds what one
//! finds that lists everything, after one full look at the latest.

use std::collections::BTreeSet;
use std::time::Duration;

use block::BlockLocation;
use block::marker::{DeletionMark, Marker};
use proptest::prelude::*;
use tokio::runtime::Builder;

use crate::{FULL, SYNC, World, id, meta};

#[derive(Clone, Debug)]
enum Step {
    Upload(u64),
    Begin(u64),
    Mark(u64),
    Unmark(u64),
    Delete(u64),
    WriteCatalog,
    LoseCatalogs,
    DamageCatalog,
    Doubt(u64),
    Pass(u64),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = || 1..12_u64;
    let step = prop_oneof![
        6 => block().prop_map(Step::Upload),
        1 => block().prop_map(Step::Begin),
        2 => block().prop_map(Step::Mark),
        1 => block().prop_map(Step::Unmark),
        3 => block().prop_map(Step::Delete),
        4 => Just(Step::WriteCatalog),
        1 => Just(Step::LoseCatalogs),
        1 => Just(Step::DamageCatalog),
        2 => block().prop_map(Step::Doubt),
        4 => (1..20_u64).prop_map(Step::Pass),
        4 => Just(Step::Sync),
    ];
    proptest::collection::vec(step, 1..40)
}

impl World {
    async fn take(&self, step: Step, reader: &crate::Fetcher, gone: &mut BTreeSet<u64>) {
        let bucket = self.plain();
        let at = |n: u64| BlockLocation::tsdb(id(n));
        let there = |n: u64| {
            let bucket = self.plain();
            async move { bucket.exists(&at(n).meta()).await.unwrap() }
        };
        match step {
            // an id names one block for ever
            Step::Upload(n) if !gone.contains(&n) && !there(n).await => {
                self.put(&meta(n, &[n, 100 + n % 3, 200])).await;
            }
            Step::Begin(n) if !gone.contains(&n) => {
                bucket.put(&at(n).index(), "i".into()).await.unwrap();
            }
            Step::Mark(n) if there(n).await => {
                let mark = DeletionMark::new(id(n), bucket.clock().now(), "history");
                mark.write(&bucket, &at(n)).await.unwrap();
            }
            Step::Unmark(n) => DeletionMark::remove(&bucket, &at(n)).await.unwrap(),
            Step::Delete(n) if there(n).await => {
                self.remove(&at(n)).await;
                gone.insert(n);
            }
            Step::WriteCatalog => {
                self.write_catalog().await;
            }
            Step::LoseCatalogs => {
                let store = block::catalog::CatalogStore::new(bucket.clone());
                for generation in store.list().await.unwrap() {
                    bucket.delete(&generation.path()).await.unwrap();
                }
            }
            Step::DamageCatalog => {
                let store = block::catalog::CatalogStore::new(bucket.clone());
                if let Some(newest) = store.list().await.unwrap().last() {
                    bucket.put(&newest.path(), "damaged".into()).await.unwrap();
                }
            }
            Step::Doubt(n) => reader.inner.doubt(&at(n)),
            Step::Pass(minutes) => self.pass(Duration::from_secs(minutes * 60)),
            Step::Sync => {
                reader.fetch().await;
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn after_a_full_look_a_reader_finds_what_a_listing_finds(steps in steps()) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let (reader, mut gone) = (world.reader(), BTreeSet::new());
            for step in steps {
                world.take(step, &reader, &mut gone).await;
            }
            // nobody writes catalogs any more
            world.pass(FULL);
            reader.fetch().await;
            world.pass(SYNC);
            prop_assert_eq!(reader.fetch().await, world.lister().fetch().await);
            Ok(())
        })?;
    }
}
