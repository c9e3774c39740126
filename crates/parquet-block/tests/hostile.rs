//! Files of a block that claim more than they hold: they are refused by name, and hardly any memory
//! is taken for them. It is a binary of its own, because it counts every allocation of the process.

#[path = "../../testkit/src/allocations.rs"]
#[allow(unreachable_pub, reason = "it is public in the crate that it belongs to")]
mod allocations;
mod blocks;
#[path = "fuzz/memory.rs"]
mod memory;

use std::sync::{Arc, Mutex};

use allocations::Allocations;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use model::{Budget, TimeRange};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet_block::{Error, FooterCache, FormatVersion, Kind, ParquetBlock, WindowQuery};
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

/// Held by tests while they take memory.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

/// A sound block of which some files are rewritten.
struct Hostile {
    name: &'static str,
    spoil: fn(&mut Files),
    /// What the error says.
    told: &'static str,
}

const HOSTILE: [Hostile; 4] = [
    Hostile {
        name: "2 million series in few bytes",
        spoil: |files| files.rewrite("0.series.parquet", 2_000_000, usual()),
        told: "the footer claims 2000000 rows in",
    },
    Hostile {
        name: "a series of 2 million windows",
        spoil: |files| {
            files.rewrite("0.samples.parquet", 2_000_000, usual());
            files.set_first("0.series.parquet", "n_rows", 2_000_000);
        },
        told: "a series claims 2000000 windows",
    },
    Hostile {
        name: "a series of more windows than there are",
        spoil: |files| files.set_first("0.series.parquet", "n_rows", 1_000_000),
        told: "a series claims 1000000 rows from row 0 of",
    },
    Hostile {
        name: "a page of 88 MB in few bytes",
        spoil: |files| {
            let one_page = usual()
                .set_dictionary_enabled(false)
                .set_encoding(Encoding::PLAIN)
                .set_data_page_row_count_limit(usize::MAX)
                .set_max_row_group_row_count(None)
                .set_data_page_size_limit(usize::MAX);
            files.rewrite("0.samples.parquet", 11_000_000, one_page);
        },
        told: "claims a page of 88",
    },
];

fn usual() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// The names and bytes of a block's files; `meta.json` is the last one.
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn bytes(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    fn read(&mut self, name: &str) -> (RecordBatch, Vec<KeyValue>) {
        let bytes = bytes::Bytes::from(self.bytes(name).clone());
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let pairs = builder.metadata().file_metadata().key_value_metadata().unwrap();
        let pairs = pairs.iter().filter(|pair| pair.key != "ARROW:schema").cloned().collect();
        let mut batches = builder.with_batch_size(usize::MAX >> 1).build().unwrap();
        (batches.next().unwrap().unwrap(), pairs)
    }

    fn write(&mut self, name: &str, written: Vec<u8>) {
        let mut meta = BlockMeta::from_json(self.bytes("meta.json")).unwrap();
        let files = &mut meta.thanos.as_mut().unwrap().files;
        let listed = files.iter_mut().find(|file| file.rel_path == name).unwrap();
        listed.size_bytes = written.len() as u64;
        *self.bytes(name) = written;
        *self.bytes("meta.json") = meta.to_json();
    }

    /// Writes the first row of a file so many times, without columns that are not read.
    fn rewrite(&mut self, name: &str, rows: usize, how: WriterPropertiesBuilder) {
        const AT_ONCE: usize = 1_000_000;
        let (batch, pairs) = self.read(name);
        let batch = match name {
            "0.samples.parquet" => {
                batch.project(&columns(&batch, &["t", "first_t", "count"])).unwrap()
            }
            _ => batch,
        };
        let properties = how.set_key_value_metadata(Some(pairs)).build();
        let first = UInt32Array::from(vec![0; AT_ONCE]);
        let column = |array: &ArrayRef| take(array, &first, None).unwrap();
        let repeated: Vec<ArrayRef> = batch.columns().iter().map(column).collect();
        let repeated = RecordBatch::try_new(batch.schema(), repeated).unwrap();
        let mut writer = writer(batch.schema(), properties);
        for _ in 0..rows / AT_ONCE {
            writer.write(&repeated).unwrap();
        }
        self.write(name, writer.into_inner().unwrap());
    }

    /// Replaces a number of the first row.
    fn set_first(&mut self, name: &str, column: &str, value: i64) {
        let (batch, pairs) = self.read(name);
        let at = batch.schema().index_of(column).unwrap();
        let old = batch.column(at).as_any().downcast_ref::<Int64Array>().unwrap();
        let mut values: Vec<i64> = old.values().to_vec();
        values[0] = value;
        let mut columns = batch.columns().to_vec();
        columns[at] = Arc::new(Int64Array::from(values));
        let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
        let properties = usual().set_key_value_metadata(Some(pairs)).build();
        let mut writer = writer(batch.schema(), properties);
        writer.write(&batch).unwrap();
        self.write(name, writer.into_inner().unwrap());
    }

    async fn stored(&self) -> (Arc<dyn ObjectStore>, BlockMeta) {
        let store = Arc::new(InMemory::new());
        for (name, bytes) in &self.0 {
            let path = memory::location().file(name);
            store.put(&path, bytes.clone().into()).await.unwrap();
        }
        let (_, meta) = self.0.last().unwrap();
        (store, BlockMeta::from_json(meta).unwrap())
    }
}

fn columns(batch: &RecordBatch, names: &[&str]) -> Vec<usize> {
    names.iter().map(|name| batch.schema().index_of(name).unwrap()).collect()
}

fn writer(schema: SchemaRef, properties: WriterProperties) -> ArrowWriter<Vec<u8>> {
    ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap()
}

async fn read(
    store: Arc<dyn ObjectStore>,
    meta: &BlockMeta,
    budget: Budget,
) -> Result<usize, Error> {
    let bucket = memory::bucket(store);
    let cache = FooterCache::new(1 << 20);
    let block = ParquetBlock::open(&bucket, &memory::location(), meta, &cache).await?;
    let query = WindowQuery {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        aggregates: vec![Aggregate::Count],
        times: false,
        skip_chunks: false,
    };
    let block = block.within(block::MemoryTurns::new(budget));
    Ok(block.series(query).try_concat().await?.len())
}

#[test]
fn files_that_claim_more_than_they_hold_are_refused_before_memory_is_taken() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let sound = runtime.block_on(blocks::write(FormatVersion::V1, &blocks::format_1()));
    let _alone = ALONE.lock().unwrap();
    for hostile in HOSTILE {
        let mut files = Files(sound.clone());
        (hostile.spoil)(&mut files);
        let (store, meta) = runtime.block_on(files.stored());
        drop(files);
        let before = ALLOCATIONS.begin();
        let refused = runtime.block_on(read(store, &meta, Budget::unlimited())).unwrap_err();
        let peak = (ALLOCATIONS.peak() - before) / MIB;
        assert_eq!(refused.kind(), Kind::Corrupt, "{}", hostile.name);
        let told = model::error::in_one_line(&refused).to_string();
        assert!(told.contains(hostile.told), "{}: {told}", hostile.name);
        assert!(told.contains(".parquet"), "{}: {told}", hostile.name);
        assert!(peak <= 8, "{}: {peak} MiB", hostile.name);
    }
}

#[test]
fn sound_files_are_read_unless_there_is_no_memory_for_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let _alone = ALONE.lock().unwrap();
    let both = [(FormatVersion::V1, blocks::format_1()), (FormatVersion::V2, blocks::format_2())];
    for (version, series) in both {
        let files = Files(runtime.block_on(blocks::write(version, &series)));
        let (store, meta) = runtime.block_on(files.stored());
        let read = |budget| runtime.block_on(read(Arc::clone(&store), &meta, budget));
        assert_eq!(read(Budget::new(16 << 20)).unwrap(), series.len());
        assert_eq!(read(Budget::new(1024)).unwrap_err().kind(), Kind::Limit);
    }
}
