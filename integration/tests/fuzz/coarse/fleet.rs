//! Which store holds which part of the history, and the processes that answer for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket as BlockBucket, BucketMetrics, BucketSettings};
use compact::{DownsampleJob, ENCODER_VERSION, OutputFormat, PARQUET_VERSION};
use model::{Labels, Resolution, SystemClock, TimeRange};
use object_store::local::LocalFileSystem;
use promql::value::Grid;
use synthetic::{BLOCK_MS, Rng};
use tsdb::meta::BlockMeta;

use super::super::data::{self, Series};
use super::super::outcome::Outcome;
use super::super::sides::{self, Ours};
use super::stretch::FACTOR;
use crate::harness::binaries::Binaries;
use crate::harness::bucket::Bucket;
use crate::harness::fleet::store_args;
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, external_labels, query, sidecar_args,
};
use crate::harness::{copy_folder, files_below, runtime};

const REPLICAS: [&str; 2] = ["a", "b"];
const COARSE: [Resolution; 2] = [Resolution::FiveMinutes, Resolution::OneHour];

/// The pieces of two hours that history is split into.
fn slots() -> Vec<TimeRange> {
    let (first, last) = (data::START_MS * FACTOR / BLOCK_MS, (data::END_MS * FACTOR) / BLOCK_MS);
    (first..=last).map(|slot| TimeRange::new(slot * BLOCK_MS, (slot + 1) * BLOCK_MS)).collect()
}

/// Every slot at every resolution, of two equal replicas.
pub(super) struct Levels {
    /// Raw blocks without external labels, for Prometheus.
    pub(super) plain: Vec<PathBuf>,
    /// Raw blocks by replica and slot.
    raw: Vec<Vec<PathBuf>>,
    /// A bucket for each replica, slot and resolution.
    coarse: Vec<Vec<[PathBuf; 2]>>,
}

impl Levels {
    pub(super) fn write(folder: &Path, series: &[Series]) -> Levels {
        let mut levels = Levels { plain: Vec::new(), raw: Vec::new(), coarse: Vec::new() };
        levels.plain = data::write_blocks(&folder.join("plain"), series, &slots());
        for (replica, name) in REPLICAS.iter().enumerate() {
            let labels = Labels::from_pairs([("replica", *name)]);
            let at = folder.join(name);
            let raw = data::write_labelled_blocks(&at.join("raw"), series, &slots(), &labels);
            // one replica's compactor writes Parquet, the other's Thanos' blocks
            let format = match replica {
                0 => OutputFormat::Parquet(PARQUET_VERSION),
                _ => OutputFormat::Tsdb,
            };
            let downsampled = |(slot, block): (usize, &PathBuf)| {
                COARSE.map(|r| {
                    downsample(&at.join(format!("{slot}-{r}")), block, &labels, (r, format))
                })
            };
            levels.coarse.push(raw.iter().enumerate().map(downsampled).collect());
            levels.raw.push(raw);
        }
        levels
    }
}

/// A bucket folder that holds only the coarser copy of a block.
fn downsample(
    bucket: &Path,
    raw: &Path,
    labels: &Labels,
    (resolution, format): (Resolution, OutputFormat),
) -> PathBuf {
    let id = raw.file_name().expect("a block id");
    copy_folder(raw, &bucket.join(id));
    let store = Arc::new(LocalFileSystem::new_with_prefix(bucket).expect("a folder"));
    let metrics = BucketMetrics::new(&prometheus::Registry::new()).expect("metrics of their own");
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let opened = BlockBucket::new(store, BucketSettings::default(), metrics, clock);
    let meta = std::fs::read(raw.join("meta.json")).expect("a block was written");
    let meta = BlockMeta::from_json(&meta).expect("a sound meta.json");
    let job = DownsampleJob {
        input: &SyncedBlock::new(BlockLocation::tsdb(meta.ulid), Arc::new(meta)),
        labels,
        resolutions: &[resolution],
        format,
        encoder_version: ENCODER_VERSION,
        workers: 1,
    };
    runtime().block_on(job.run(&opened)).expect("a sound block is downsampled");
    std::fs::remove_dir_all(bucket.join(id)).expect("the raw block is there");
    bucket.to_owned()
}

/// Which store has a slot at a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    slot: usize,
    resolution: Resolution,
    replica: usize,
    gateway: usize,
}

/// How history is split among stores.
pub(super) struct Split {
    held: Vec<Held>,
    /// From this slot on a sidecar has raw data.
    sidecar_from: usize,
}

impl Split {
    pub(super) fn random(rng: &mut Rng) -> Split {
        let slots = slots().len();
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        let sidecar_from = slots / 2 + below(slots / 2 + 1);
        let mut held = Vec::new();
        for slot in 0..slots {
            let raw = &[Resolution::Raw][..];
            let kinds = [
                raw,
                raw,
                raw,
                &[Resolution::FiveMinutes],
                &[Resolution::OneHour],
                &[Resolution::Raw, Resolution::FiveMinutes],
                &[Resolution::Raw, Resolution::OneHour],
                &COARSE,
            ];
            let mut resolutions = kinds[below(kinds.len())].to_vec();
            if slot >= sidecar_from {
                // the sidecar has it raw
                resolutions.retain(|r| *r != Resolution::Raw);
            }
            for resolution in resolutions {
                let replicas = [&[0][..], &[1], &[0, 1]][below(3)];
                held.extend(replicas.iter().map(|replica| Held {
                    slot,
                    resolution,
                    replica: *replica,
                    gateway: below(2),
                }));
            }
        }
        Split { held, sidecar_from }
    }

    fn has(&self, slot: usize, resolution: Resolution) -> bool {
        (resolution == Resolution::Raw && slot >= self.sidecar_from)
            || self.held.iter().any(|h| h.slot == slot && h.resolution == resolution)
    }

    /// Whether all data of a span, and of at least an hour around it, is raw.
    pub(super) fn is_raw_alone(&self, range: TimeRange) -> bool {
        let around = TimeRange::new(range.start - 7_200_000, range.end + 7_200_000);
        slots().iter().enumerate().filter(|(_, slot)| slot.overlaps(around)).all(|(slot, _)| {
            self.has(slot, Resolution::Raw) && !COARSE.into_iter().any(|r| self.has(slot, r))
        })
    }

    /// The resolutions of the downsampled data at a time.
    pub(super) fn coarse_at(&self, t: i64) -> impl Iterator<Item = Resolution> {
        let slot = slots().iter().position(|slot| slot.contains(t));
        COARSE
            .into_iter()
            .filter(move |resolution| slot.is_some_and(|slot| self.has(slot, *resolution)))
    }

    /// The coarsest resolution of the data of a span.
    pub(super) fn coarsest(&self, range: TimeRange) -> Resolution {
        self.resolutions(range).max().unwrap_or(Resolution::Raw)
    }

    /// The finest resolution of the downsampled data of a span.
    pub(super) fn finest_of_coarse(&self, range: TimeRange) -> Option<Resolution> {
        self.resolutions(range).filter(|resolution| *resolution > Resolution::Raw).min()
    }

    fn resolutions(&self, range: TimeRange) -> impl Iterator<Item = Resolution> {
        let within = slots().into_iter().enumerate().filter(move |(_, slot)| slot.overlaps(range));
        within.flat_map(move |(slot, _)| {
            Resolution::ALL.into_iter().filter(move |r| self.has(slot, *r))
        })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sidecar from slot {}", self.sidecar_from)?;
        for held in &self.held {
            let Held { slot, resolution, replica, gateway } = held;
            write!(f, ", {slot}:{resolution} of {} in gateway {gateway}", REPLICAS[*replica])?;
        }
        Ok(())
    }
}

/// The processes. They end with it.
pub(super) struct Fleet {
    pub(super) split: Split,
    querier: Component,
    /// What our engine says over all raw samples.
    pub(super) raw: Ours,
    _stores: Vec<Component>,
    _buckets: Vec<Bucket>,
    _prometheus: Option<Prometheus>,
}

impl Fleet {
    pub(super) fn start(
        binaries: &Binaries,
        folder: &Path,
        levels: &Levels,
        split: Split,
    ) -> Fleet {
        let (mut stores, mut buckets) = (Vec::new(), Vec::new());
        for gateway in 0..2 {
            let at = folder.join(format!("gateway-{gateway}"));
            let bucket = Bucket::folder(&at);
            for held in split.held.iter().filter(|held| held.gateway == gateway) {
                fill(bucket.path(), levels, held);
            }
            stores.push(Component::start(
                binaries,
                Maker::Drumlin,
                &at,
                "store",
                &store_args(&at, &bucket.config),
            ));
            buckets.push(bucket);
        }
        let blocks = levels.plain[split.sidecar_from.min(levels.plain.len())..].to_vec();
        let prometheus = (!blocks.is_empty()).then(|| {
            let at = folder.join("prometheus");
            let settings = PrometheusSettings {
                blocks,
                external_labels: external_labels(&[("replica", "a")]),
                ..Default::default()
            };
            let prometheus = Prometheus::start(binaries, &at, &settings);
            let args = sidecar_args(&prometheus, None);
            stores.push(Component::start(
                binaries,
                Maker::Drumlin,
                &folder.join("sidecar"),
                "sidecar",
                &args,
            ));
            prometheus
        });
        let endpoints: Vec<&str> = stores.iter().map(|store| store.grpc.as_str()).collect();
        let features =
            super::features().iter().map(|f| format!("--enable-feature={f}")).collect::<Vec<_>>();
        let mut args = vec!["--query.replica-label=replica"];
        args.extend(features.iter().map(String::as_str));
        let querier = query(binaries, Maker::Drumlin, &folder.join("query"), &endpoints, &args);
        Fleet {
            split,
            querier,
            raw: Ours::new(&levels.plain, false),
            _stores: stores,
            _buckets: buckets,
            _prometheus: prometheus,
        }
    }

    pub(super) fn ask(&self, text: &str, grid: Grid, allowed: &str) -> Outcome {
        sides::ask(&self.querier.http, text, grid, &[("max_source_resolution", allowed)])
    }
}

/// Copies what a gateway holds into its bucket.
fn fill(bucket: &Path, levels: &Levels, held: &Held) {
    let from = match held.resolution {
        Resolution::Raw => {
            let block = &levels.raw[held.replica][held.slot];
            return copy_folder(block, &bucket.join(block.file_name().expect("a block id")));
        }
        Resolution::FiveMinutes => &levels.coarse[held.replica][held.slot][0],
        Resolution::OneHour => &levels.coarse[held.replica][held.slot][1],
    };
    for file in files_below(from) {
        let to = bucket.join(&file);
        std::fs::create_dir_all(to.parent().expect("below the bucket")).expect("a folder");
        std::fs::copy(from.join(&file), to).expect("copy an object");
    }
}
