//! Small blocks, as the writer takes them and as the files that it makes of them.

mod format_1;
mod format_2;

use std::sync::Arc;

pub(crate) use format_1::format_1;
pub(crate) use format_2::format_2;

use model::{Labels, Resolution};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet_block::{BlockDescription, FormatVersion, ParquetBlockWriter, SeriesWindows};

use crate::memory::{bucket, empty_meta, id, location};

/// The names and bytes of a block's files; `meta.json` is the last one.
pub(crate) async fn write(
    version: FormatVersion,
    series: &[SeriesWindows],
) -> Vec<(String, Vec<u8>)> {
    let store = Arc::new(InMemory::new());
    let description = BlockDescription {
        version,
        id: id(),
        resolution: Resolution::FiveMinutes,
        external_labels: Labels::empty(),
        sources: vec![id()],
    };
    let bucket = bucket(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let mut writer = ParquetBlockWriter::create(bucket, location(), description);
    for (labels, windows) in series {
        writer.push_series(labels, windows).await.unwrap();
    }
    let stats = writer.finish().await.unwrap();
    let mut files = Vec::new();
    for (name, _) in &stats.files {
        let object = store.get(&location().file(name)).await.unwrap();
        files.push((name.clone(), object.bytes().await.unwrap().to_vec()));
    }
    let mut meta = empty_meta(version);
    stats.describe(&mut meta);
    files.push(("meta.json".to_owned(), meta.to_json()));
    files
}
