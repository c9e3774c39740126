use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use model::error::in_one_line;
use prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::testing::memory_bucket;

/// Two 2h blocks that Prometheus wrote, oldest first.
const BLOCKS: [&str; 2] = ["01M81HXMY0XQF1A6MF7S68NK18", "01M81HXTN290NJBH17178YSRJX"];

struct Setting {
    tsdb: TempDir,
    bucket: Bucket,
    shipper: Shipper,
}

impl Setting {
    fn new(adapt: impl FnOnce(ShipperSettings) -> ShipperSettings) -> Setting {
        let tsdb = tempfile::tempdir().unwrap();
        for id in BLOCKS {
            copy_block(id, &tsdb.path().join(id));
        }
        std::fs::create_dir_all(tsdb.path().join("wal")).unwrap();
        let bucket = memory_bucket();
        let settings = adapt(ShipperSettings {
            tsdb_path: tsdb.path().to_owned(),
            ..ShipperSettings::default()
        });
        let metrics = ShipperMetrics::new(&Registry::new()).unwrap();
        let shipper = Shipper::new(settings, bucket.clone(), metrics);
        Setting { tsdb, bucket, shipper }
    }

    async fn sync(&self) -> Result<u64> {
        self.shipper.sync(&Labels::from_pairs([("cluster", "eu"), ("replica", "0")])).await
    }

    async fn objects(&self) -> Vec<String> {
        let objects: Vec<_> = self.bucket.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = objects.into_iter().map(|o| o.location.to_string()).collect();
        names.sort();
        names
    }

    fn ledger(&self) -> Vec<String> {
        let ids = ledger::read(&self.tsdb.path().join("thanos.shipper.json"));
        ids.iter().map(BlockId::to_string).collect()
    }

    fn edit_meta(&self, id: &str, edit: impl FnOnce(&mut BlockMeta)) {
        let path = self.tsdb.path().join(id).join("meta.json");
        let mut meta = BlockMeta::from_json(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut meta);
        std::fs::write(path, meta.to_json()).unwrap();
    }
}

/// Without the `thanos` section, as Prometheus leaves a block.
fn copy_block(id: &str, to: &Path) {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tsdb/tests/data/raw").join(id);
    std::fs::create_dir_all(to.join("chunks")).unwrap();
    for file in ["index", "chunks/000001"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let meta = BlockMeta::from_json(&std::fs::read(from.join("meta.json")).unwrap()).unwrap();
    std::fs::write(to.join("meta.json"), BlockMeta { thanos: None, ..meta }.to_json()).unwrap();
}

fn whole(id: &str) -> Vec<String> {
    ["chunks/000001", "index", "meta.json"].iter().map(|file| format!("{id}/{file}")).collect()
}

#[tokio::test]
async fn blocks_are_shipped_once_with_what_thanos_adds() {
    let setting = Setting::new(|s| s);
    assert_eq!(setting.sync().await.unwrap(), 2);
    assert_eq!(setting.objects().await, [whole(BLOCKS[0]), whole(BLOCKS[1])].concat());
    assert_eq!(setting.ledger(), BLOCKS);
    assert!(!setting.tsdb.path().join("thanos/upload").join(BLOCKS[0]).exists());

    let id = BLOCKS[0].parse().unwrap();
    let shipped = setting.bucket.get(&BlockLocation::tsdb(id).meta()).await.unwrap();
    let thanos = BlockMeta::from_json(&shipped).unwrap().thanos.unwrap();
    assert_eq!(
        thanos.labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>(),
        ["cluster=eu", "replica=0"]
    );
    assert_eq!(
        (thanos.source.as_str(), thanos.segment_files),
        ("sidecar", vec!["000001".to_owned()])
    );
    let files: Vec<&str> = thanos.files.iter().map(|f| f.rel_path.as_str()).collect();
    assert_eq!(files, ["chunks/000001", "index", "meta.json"]);
    assert!(thanos.upload_time.is_some());

    assert_eq!(setting.sync().await.unwrap(), 0);
    let local = std::fs::read(setting.tsdb.path().join(BLOCKS[0]).join("meta.json")).unwrap();
    assert!(
        BlockMeta::from_json(&local).unwrap().thanos.is_none(),
        "Prometheus' own file was changed"
    );
}

#[tokio::test]
async fn what_was_uploaded_before_a_kill_is_only_noted_and_what_was_half_is_done_again() {
    let setting = Setting::new(|s| s);
    setting.sync().await.unwrap();
    // Killed before the ledger was written, and in the middle of the second block.
    std::fs::remove_file(setting.tsdb.path().join("thanos.shipper.json")).unwrap();
    let second = BlockLocation::tsdb(BLOCKS[1].parse().unwrap());
    setting.bucket.delete(&second.meta()).await.unwrap();
    setting.bucket.delete(&second.index()).await.unwrap();
    let left = setting.tsdb.path().join("thanos/upload").join(BLOCKS[1]);
    std::fs::create_dir_all(left.join("chunks")).unwrap();
    std::fs::write(left.join("index"), "half").unwrap();

    assert_eq!(setting.sync().await.unwrap(), 1);
    assert_eq!(setting.objects().await, [whole(BLOCKS[0]), whole(BLOCKS[1])].concat());
    assert_eq!(setting.ledger(), BLOCKS);
    let index = std::fs::read(setting.tsdb.path().join(BLOCKS[1]).join("index")).unwrap();
    assert_eq!(setting.bucket.get(&second.index()).await.unwrap(), index);
}

#[tokio::test]
async fn a_failing_block_holds_up_newer_ones_unless_told_otherwise() {
    let setting = Setting::new(|s| s);
    let index = setting.tsdb.path().join(BLOCKS[0]).join("index");
    std::fs::rename(&index, setting.tsdb.path().join("aside")).unwrap();
    let error = in_one_line(&setting.sync().await.unwrap_err()).to_string();
    assert!(error.starts_with(&format!("shipping block {}: linking ", BLOCKS[0])), "{error}");
    assert_eq!(setting.objects().await, [""; 0]);
    std::fs::rename(setting.tsdb.path().join("aside"), &index).unwrap();
    assert_eq!(setting.sync().await.unwrap(), 2);

    let setting = Setting::new(|s| ShipperSettings { allow_out_of_order_uploads: true, ..s });
    std::fs::remove_file(setting.tsdb.path().join(BLOCKS[0]).join("index")).unwrap();
    assert_eq!(setting.sync().await.unwrap_err().to_string(), "shipping blocks: 1 blocks failed");
    assert_eq!(setting.objects().await, whole(BLOCKS[1]));
    assert_eq!(setting.ledger(), [BLOCKS[1]]);
}

#[tokio::test]
async fn corrupted_blocks_are_named_or_skipped() {
    let breaking = |setting: &Setting| {
        std::fs::write(setting.tsdb.path().join(BLOCKS[0]).join("meta.json"), "{").unwrap();
    };
    let setting = Setting::new(|s| s);
    breaking(&setting);
    let error = setting.sync().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().starts_with(&format!("block {}: reading ", BLOCKS[0])), "{error}");

    let setting = Setting::new(|s| ShipperSettings { skip_corrupted_blocks: true, ..s });
    breaking(&setting);
    assert_eq!(setting.sync().await.unwrap(), 1);
    assert_eq!(setting.objects().await, whole(BLOCKS[1]));
    assert_eq!(setting.shipper.metrics.corrupted_blocks.get(), 1.0);
}

#[tokio::test]
async fn empty_and_compacted_blocks_stay_unless_asked_for() {
    let setting = Setting::new(|s| s);
    setting.edit_meta(BLOCKS[0], |meta| meta.stats.num_samples = 0);
    setting.edit_meta(BLOCKS[1], |meta| meta.compaction.level = 2);
    assert_eq!(setting.sync().await.unwrap(), 0);
    assert_eq!(setting.ledger(), [""; 0]);

    let setting = Setting::new(|s| ShipperSettings { upload_compacted: true, ..s });
    setting.edit_meta(BLOCKS[1], |meta| meta.compaction.level = 2);
    assert_eq!(setting.sync().await.unwrap(), 2);
    assert_eq!(setting.shipper.metrics.upload_compacted_done.get(), 1.0);
}

#[tokio::test]
async fn a_compacted_block_that_overlaps_is_refused() {
    let setting = Setting::new(|s| ShipperSettings { upload_compacted: true, ..s });
    setting.edit_meta(BLOCKS[1], |meta| {
        meta.compaction.level = 2;
        // One millisecond into the first block.
        meta.min_time = 1_767_232_799_999;
    });
    let error = setting.sync().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = in_one_line(&error).to_string();
    assert!(text.contains(&format!("overlaps block {}", BLOCKS[0])), "{text}");
    assert_eq!(setting.ledger(), [BLOCKS[0]]);
}

#[tokio::test]
async fn nothing_is_shipped_without_external_labels() {
    let setting = Setting::new(|s| s);
    assert_eq!(setting.shipper.sync(&Labels::empty()).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(setting.objects().await, [""; 0]);
}

#[tokio::test]
async fn blocks_that_prometheus_deleted_leave_the_ledger() {
    let setting = Setting::new(|s| s);
    setting.sync().await.unwrap();
    std::fs::remove_dir_all(setting.tsdb.path().join(BLOCKS[0])).unwrap();
    setting.sync().await.unwrap();
    assert_eq!(setting.ledger(), [BLOCKS[1]]);
}
