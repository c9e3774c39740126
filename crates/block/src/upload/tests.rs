use std::collections::BTreeMap;

use object_store::path::Path as ObjectPath;

use super::*;
use crate::testing::{self, FIXTURE};

async fn objects(bucket: &Bucket) -> Vec<String> {
    let mut paths: Vec<String> =
        bucket.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_block_goes_up_and_comes_down_again() {
    let bucket = testing::memory_bucket();
    let meta = testing::fixture_meta();
    let written = upload_block_dir(&bucket, &testing::fixture_dir(), &meta, 4).await.unwrap();
    let id = meta.ulid.to_string();
    let names = [format!("{id}/chunks/000001"), format!("{id}/index"), format!("{id}/meta.json")];
    assert_eq!(objects(&bucket).await, names);
    let stored = bucket.get(&ObjectPath::from(names[2].as_str())).await.unwrap();
    assert_eq!(BlockMeta::from_json(&stored).unwrap(), written);
    let thanos = written.thanos.unwrap();
    assert!(thanos.upload_time_ms().is_some());
    assert_eq!(
        (thanos.segment_files.as_slice(), thanos.index_stats),
        (&["000001".to_owned()][..], Some(Default::default()))
    );
    let listed: Vec<&str> = thanos.files.iter().map(|f| f.rel_path.as_str()).collect();
    assert_eq!(listed, ["chunks/000001", "index", "meta.json"]);
    assert_eq!(thanos.files[1].size_bytes, FIXTURE.index.len() as u64);

    let location = BlockLocation::tsdb(meta.ulid);
    DeletionMark::new(meta.ulid, bucket.clock().now(), "test")
        .write(&bucket, &location)
        .await
        .unwrap();
    delete_block(&bucket, &location).await.unwrap();
    assert_eq!(objects(&bucket).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_block_without_external_labels_is_refused() {
    let bucket = testing::memory_bucket();
    let mut meta = testing::fixture_meta();
    meta.thanos.as_mut().unwrap().labels = BTreeMap::new();
    let refused = upload_block_dir(&bucket, &testing::fixture_dir(), &meta, 4).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(objects(&bucket).await.is_empty());
}
