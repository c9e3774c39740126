//! Blocks of a few series, made for one shape of a bucket.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::histogram::{BucketSpan, Histogram};
use model::{BlockId, Labels, TimeRange};
use serde_json::json;
use tsdb::block_builder::{BlockBuilder, BlockIdentity};
use tsdb::meta::BlockDesc;

use crate::harness::files_below;

/// 2026-10-22, a multiple of all block ranges; the case buckets begin there too.
pub(super) const DAY_MS: i64 = 1_792_627_200_000;
pub(super) const HOUR_MS: i64 = 3_600_000;

const SERIES: [(&str, &str); 4] =
    [("lat_total", "3"), ("reqs_total", "1"), ("temp", "2"), ("up", "0")];

/// What the series of a block hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Floats,
    /// Floats that another server saw at the same instants.
    OtherFloats,
    Histograms,
    Nothing,
}

/// A block to make; four series of it, one sample per `step_s`.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// Hours since [`DAY_MS`].
    pub(super) hours: Range<i64>,
    pub(super) labels: Vec<(&'static str, &'static str)>,
    pub(super) content: Content,
    pub(super) step_s: i64,
    /// How long after the full step the samples lie.
    pub(super) offset_s: i64,
    /// The blocks that it was compacted from; without any it has level 1.
    pub(super) parents: Vec<BlockDesc>,
    /// A number that tells blocks of equal ranges apart.
    pub(super) number: u128,
}

impl Made {
    pub(super) fn new(hours: Range<i64>) -> Made {
        Made {
            hours,
            labels: vec![("cluster", "a")],
            content: Content::Floats,
            step_s: 300,
            offset_s: 0,
            parents: Vec::new(),
            number: 1,
        }
    }

    pub(super) fn labels(self, labels: &[(&'static str, &'static str)]) -> Made {
        Made { labels: labels.to_vec(), ..self }
    }

    pub(super) fn content(self, content: Content) -> Made {
        Made { content, ..self }
    }

    pub(super) fn step_s(self, step_s: i64) -> Made {
        Made { step_s, ..self }
    }

    pub(super) fn offset_s(self, offset_s: i64) -> Made {
        Made { offset_s, ..self }
    }

    pub(super) fn number(self, number: u128) -> Made {
        Made { number, ..self }
    }

    pub(super) fn parents(self, parents: Vec<BlockDesc>) -> Made {
        Made { parents, ..self }
    }

    fn range(&self) -> TimeRange {
        TimeRange::new(DAY_MS + self.hours.start * HOUR_MS, DAY_MS + self.hours.end * HOUR_MS)
    }

    /// Writes the block into the bucket.
    pub(super) fn write(self, bucket: &Path) -> BlockDesc {
        let range = self.range();
        let first = range.start + self.offset_s * 1000;
        let times: Vec<i64> = (first..range.end).step_by((self.step_s * 1000) as usize).collect();
        let mut builder = BlockBuilder::new();
        for (name, i) in SERIES {
            let labels = Labels::from_pairs([("__name__", name), ("i", i)]);
            self.push(&mut builder, &labels, &times);
        }
        let id = BlockId::from_parts(range.end as u64, self.number);
        let external_labels = Some(Labels::from_pairs(self.labels.iter().copied()));
        let mut files = builder
            .finish(BlockIdentity { id, range, external_labels })
            .expect("series in order of labels");
        if !self.parents.is_empty() {
            files.meta.compaction.level = 2;
            files.meta.compaction.sources = self.parents.iter().map(|parent| parent.ulid).collect();
            files.meta.compaction.parents = self.parents;
        }
        assert!(!bucket.join(id.to_string()).exists(), "two blocks called {id}");
        files.save(bucket).expect("write the block");
        BlockDesc { ulid: id, min_time: range.start, max_time: range.end }
    }

    fn push(&self, builder: &mut BlockBuilder, labels: &Labels, times: &[i64]) {
        // both grow by one a minute, so that a block says where it belongs
        let minutes = |t: &i64| (t - DAY_MS) as f64 / 60_000.0;
        match self.content {
            Content::Nothing => {}
            Content::Histograms => {
                let histograms: Vec<Histogram> =
                    times.iter().map(|t| histogram(minutes(t) as u64)).collect();
                builder
                    .push_histograms(labels, times, &histograms)
                    .expect("samples in order of time");
            }
            Content::Floats | Content::OtherFloats => {
                let more = if self.content == Content::OtherFloats { 0.5 } else { 0.0 };
                let values: Vec<f64> = times.iter().map(|t| minutes(t) + more).collect();
                builder.push_floats(labels, times, &values).expect("samples in order of time");
            }
        }
    }
}

/// A native histogram of two buckets that has counted `count` observations.
fn histogram(count: u64) -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 1e-128,
        zero_count: 0,
        count: 2 * count,
        sum: count as f64 * 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![count as i64, 0],
        ..Histogram::default()
    }
}

/// One block of two hours after the other, like the first.
pub(super) fn stream(bucket: &Path, first: &Made, blocks: i64) -> Vec<BlockDesc> {
    let Range { start, end } = first.hours;
    let length = end - start;
    let block = |i: i64| Made { hours: start + i * length..end + i * length, ..first.clone() };
    (0..blocks).map(|i| block(i).write(bucket)).collect()
}

pub(super) fn mark_no_compact(bucket: &Path, id: BlockId) {
    let time = now_s();
    let mark = json!({"id": id.to_string(), "version": 1, "details": "", "no_compact_time": time, "reason": "manual"});
    write_mark(bucket, id, "no-compact-mark.json", &mark);
}

/// Marks a block for deletion as if some hours ago.
pub(super) fn mark_deleted(bucket: &Path, id: BlockId, hours_ago: i64) {
    let time = now_s() - hours_ago * 3600;
    let mark =
        json!({"id": id.to_string(), "version": 1, "details": "test", "deletion_time": time});
    write_mark(bucket, id, "deletion-mark.json", &mark);
}

/// Makes all files of a block look as if they had been written some hours ago.
#[expect(
    clippy::disallowed_methods,
    reason = "processes under test hold files against the real time"
)]
pub(super) fn age(bucket: &Path, id: &str, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    let block = bucket.join(id);
    for file in files_below(&block) {
        let file = File::options().write(true).open(block.join(file)).expect("open the file");
        file.set_modified(then).expect("set its time");
    }
}

fn write_mark(bucket: &Path, id: BlockId, name: &str, mark: &serde_json::Value) {
    let file = bucket.join(id.to_string()).join(name);
    std::fs::write(file, mark.to_string()).expect("write the mark");
}

/// Seconds since the epoch: processes under test compare marks with the real time.
#[expect(clippy::disallowed_methods, reason = "processes under test run in real time")]
pub(super) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs() as i64
}
