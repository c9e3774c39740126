//! How long `drumlin store` takes until it is ready, over a bucket of many blocks: without a
//! catalog, once more with the metas that the first start kept, and with a catalog. The blocks have
//! no data: nothing but their metas is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use block::BlockLocation;
use model::BlockId;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use testkit::{ObjectServer, ServerSettings};
use tsdb::meta::{BlockMeta, Compaction, File, Thanos};

use crate::measure::{MemoryWatch, Taken, clock, seconds_since};
use crate::process::{ChildProcess, drumlin, free_port};

const HOUR_MS: u64 = 3_600_000;
/// 2026-01-01.
const NEWEST_MS: u64 = 1_767_225_600_000;
/// As many servers upload blocks.
const STREAMS: u64 = 50;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many blocks the bucket has
    #[arg(long, default_value_t = 10_000)]
    blocks: u64,
    /// Let the gateway use a folder, without an object server: nothing is counted then
    #[arg(long)]
    folder: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bucket = folder.path().join("bucket");
    std::fs::create_dir(&bucket)?;
    let store: Arc<dyn ObjectStore> = match args.folder {
        true => Arc::new(LocalFileSystem::new_with_prefix(&bucket)?),
        false => Arc::new(InMemory::new()),
    };
    for n in 0..args.blocks {
        put_block(&*store, n).await?;
    }
    let server = ObjectServer::start(Arc::clone(&store), ServerSettings::default()).await?;
    let config = folder.path().join("objstore.yml");
    let folder_config = format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", bucket.display());
    std::fs::write(&config, if args.folder { folder_config } else { server.s3_config() })?;
    let start = |what: &'static str, data: &'static str, flags: &'static [&'static str]| Start {
        what,
        blocks: args.blocks,
        config: config.clone(),
        data: folder.path().join(data),
        flags,
    };
    for start in [
        start("without a catalog", "first", &[]),
        start("without a catalog, metas kept", "first", &[]),
        start("writing a catalog", "first", &["--catalog.write"]),
        start("with a catalog", "second", &[]),
    ] {
        start.measure(&server).await?;
    }
    Ok(())
}

/// One start of a gateway.
struct Start {
    what: &'static str,
    blocks: u64,
    config: PathBuf,
    data: PathBuf,
    flags: &'static [&'static str],
}

impl Start {
    async fn measure(&self, server: &ObjectServer) -> Result<()> {
        let before = server.counts();
        let (port, begun) = (free_port()?, clock().monotonic());
        let mut process = ChildProcess::start(&drumlin()?, &self.flags_for(port)?)?;
        let memory = MemoryWatch::of_pid(process.pid());
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        process.wait_ready(&reqwest::Client::new(), &ready).await?;
        let seconds = seconds_since(begun);
        let counts = server.counts();
        // what it holds, once what it took to start is given back
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let taken = Taken::by(process.pid()).unwrap_or_default();
        let line = json!({
            "bench": "start", "start": self.what, "blocks": self.blocks, "seconds": seconds,
            "requests": counts.requests - before.requests, "gets": counts.gets - before.gets,
            "lists": counts.lists - before.lists, "bytes_read": counts.bytes_out - before.bytes_out,
            "cpu_seconds": taken.user_seconds + taken.system_seconds,
            "peak_anon_mib": memory.peak_mib(), "anon_mib": memory.restart(),
        });
        println!("{line}");
        Ok(())
    }

    fn flags_for(&self, port: u16) -> Result<Vec<String>> {
        let shown = |path: &Path| path.display().to_string();
        let mut flags = vec![
            "store".to_owned(),
            format!("--objstore.config-file={}", shown(&self.config)),
            format!("--data-dir={}", shown(&self.data)),
            format!("--http-address=127.0.0.1:{port}"),
            format!("--grpc-address=127.0.0.1:{}", free_port()?),
            // the blocks have no index
            "--store.index-header-lazy-download-strategy=lazy".to_owned(),
        ];
        flags.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        Ok(flags)
    }
}

/// Every seventh block is of two days, which the others are not made from.
async fn put_block(store: &dyn ObjectStore, n: u64) -> Result<()> {
    let (stream, number) = (n % STREAMS, n / STREAMS);
    let is_long = number % 7 == 6;
    let (hours, sources) = if is_long { (48, 24) } else { (2, 1) };
    let ids = |first: u64, count: u64| (0..count).map(move |i| ulid(first + i));
    let start = (NEWEST_MS - (number + 1) * 48 * HOUR_MS).cast_signed();
    let id = ulid(n * 100);
    let file = |name: &str, size_bytes| File { rel_path: name.into(), size_bytes, hash: None };
    let labels = [
        ("cluster", format!("production-{}", stream / 2)),
        ("prometheus", "monitoring/kube-prometheus".into()),
        ("prometheus_replica", format!("prometheus-kube-prometheus-{}", stream % 2)),
        ("region", "eu-central-1".into()),
    ];
    let labels: BTreeMap<String, String> =
        labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let parent =
        |id: BlockId| json!({"ulid": id.to_string(), "minTime": start, "maxTime": start + 1});
    let parents: Vec<serde_json::Value> = match is_long {
        true => ids(n * 100 + 30, 6).map(parent).collect(),
        false => Vec::new(),
    };
    let compaction = json!({
        "level": if is_long { 3 } else { 1 }, "parents": parents,
        "sources": ids(n * 100, sources).map(|id| id.to_string()).collect::<Vec<_>>(),
    });
    let meta = BlockMeta {
        ulid: id,
        min_time: start,
        max_time: start + (hours * HOUR_MS).cast_signed(),
        stats: serde_json::from_value(json!({
            "numSamples": 24_000_000 + n, "numSeries": 100_000 + n, "numChunks": 200_000 + n,
        }))?,
        compaction: serde_json::from_value::<Compaction>(compaction)?,
        version: 1,
        thanos: Some(Thanos {
            version: 1,
            labels,
            source: if is_long { "compactor" } else { "sidecar" }.into(),
            files: vec![
                file("chunks/000001", 536_000_000 - n),
                file("index", 30_000_000 + n),
                file("meta.json", 0),
            ],
            ..Thanos::default()
        }),
        format: None,
        unknown: Default::default(),
    };
    let location = BlockLocation::tsdb(id);
    for path in [location.segment(1), location.index()] {
        store.put(&path, "none".into()).await?;
    }
    store.put(&location.meta(), meta.to_json().into()).await?;
    Ok(())
}

fn ulid(n: u64) -> BlockId {
    // as random as those of real blocks
    let random = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 16;
    BlockId::from_parts(
        NEWEST_MS - n * 1000 % (400 * 24 * HOUR_MS),
        random | u128::from(n & 0xffff),
    )
}
