//! Blocks that say they hold the data of others: what is deleted because of that, and what stays.

mod remade;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compact::Settings;
use model::{BlockId, Labels, TimeRange};
use tracing::field::{Field, Visit};
use tracing::span;
use tsdb::block_builder::{BlockBuilder, BlockFiles, BlockIdentity};
use tsdb::tombstones::Interval;

use crate::support::{HOUR_MS, World};

const MINUTE_MS: i64 = 60_000;

/// The minutes at which each series has samples.
type Series<'a> = &'a [(&'a str, Range<i64>)];

/// What a block of hours 0 to 4 says of those of which it claims the data, and what is in it.
struct Claim<'a> {
    name: &'a str,
    /// What is in the blocks of hours 0 to 2 and, overlapping, 0 to 4.
    real: [Series<'a>; 2],
    /// Minutes that are deleted of `a` in the first one.
    deleted: Option<Range<i64>>,
    /// What is in the claiming block.
    holds: Series<'a>,
    /// What else its `meta.json` says.
    says: fn(&mut BlockFiles),
    /// The numbers of the real blocks that are deleted for it.
    gone: &'a [u128],
    /// What the lines about the others say.
    told: &'a str,
}

const REAL: [Series<'static>; 2] = [&[("a", 0..60), ("b", 0..60)], &[("a", 30..90), ("b", 60..90)]];

const CLAIMS: [Claim<'static>; 10] = [
    Claim {
        name: "all of both, of equal samples one",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..90), ("b", 0..90)],
        says: |_| {},
        gone: &[1, 2],
        told: "",
    },
    Claim {
        name: "equal blocks",
        real: [&[("a", 0..60)], &[("a", 0..60)]],
        deleted: None,
        holds: &[("a", 0..60)],
        says: |_| {},
        gone: &[1, 2],
        told: "",
    },
    Claim {
        name: "all that tombstones leave",
        real: [&[("a", 0..60)], &[("a", 100..120)]],
        deleted: Some(10..50),
        holds: &[("a", 0..20)],
        says: |_| {},
        gone: &[1, 2],
        told: "",
    },
    Claim {
        name: "less than tombstones leave",
        real: [&[("a", 0..60)], &[("a", 100..105)]],
        deleted: Some(10..50),
        holds: &[("a", 0..18)],
        says: |_| {},
        gone: &[2],
        told: "it holds 1 series with 18 samples, of 1 with 20",
    },
    Claim {
        name: "fewer samples",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..59), ("b", 0..60)],
        says: |_| {},
        gone: &[2],
        told: "it holds 2 series with 119 samples, of 2 with 120",
    },
    Claim {
        name: "fewer series",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..240)],
        says: |_| {},
        gone: &[],
        told: "it holds 1 series with 240 samples, of 2 with",
    },
    Claim {
        name: "fewer samples than it says",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..5), ("b", 0..5)],
        says: |files| files.meta.stats.num_samples = 120,
        gone: &[],
        told: "it holds 2 series with 10 samples, of 2 with",
    },
    Claim {
        name: "as many samples of another time",
        real: REAL,
        deleted: None,
        holds: &[("a", 121..200), ("b", 121..200)],
        says: |files| files.meta.min_time = 2 * HOUR_MS,
        gone: &[],
        told: "it spans 7200000 to 14400000, which is not all from 0 to",
    },
    Claim {
        name: "nothing is stated",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..5)],
        says: |files| files.meta.stats.num_samples = 0,
        gone: &[],
        told: "it holds 1 series with 5 samples, of 2 with",
    },
    Claim {
        name: "another time in part",
        real: REAL,
        deleted: None,
        holds: &[("a", 0..90), ("b", 0..90)],
        says: |files| files.meta.max_time = 3 * HOUR_MS,
        gone: &[1],
        told: "it spans 0 to 10800000, which is not all from 0 to 14400000",
    },
];

fn id(n: u128) -> BlockId {
    BlockId::from_parts((4 * HOUR_MS) as u64, n)
}

fn block(n: u128, hours: Range<i64>, series: Series<'_>) -> BlockFiles {
    let mut builder = BlockBuilder::new();
    for (name, minutes) in series {
        let ts: Vec<i64> = minutes.clone().map(|minute| minute * MINUTE_MS).collect();
        let values: Vec<f64> = ts.iter().map(|t| *t as f64).collect();
        builder.push_floats(&Labels::from_pairs([("__name__", *name)]), &ts, &values).unwrap();
    }
    let range = TimeRange::new(hours.start * HOUR_MS, hours.end * HOUR_MS);
    let external_labels = Some(Labels::from_pairs([("cluster", "eu")]));
    builder.finish(BlockIdentity { id: id(n), range, external_labels }).unwrap()
}

impl Claim<'_> {
    async fn world(&self) -> World {
        let world = World::empty();
        world.reach(5 * HOUR_MS);
        let real = [block(1, 0..2, self.real[0]), block(2, 0..4, self.real[1])];
        for files in &real {
            world.upload(files).await;
        }
        if let Some(minutes) = self.deleted.clone() {
            let (min_time, max_time) = (minutes.start * MINUTE_MS, (minutes.end - 1) * MINUTE_MS);
            world.add_tombstones(&real[0].meta, "a", Interval { min_time, max_time }).await;
        }
        let mut claiming = block(3, 0..4, self.holds);
        claiming.meta.compaction.level = 2;
        claiming.meta.compaction.sources = vec![id(1), id(2)];
        (self.says)(&mut claiming);
        world.upload(&claiming).await;
        world
    }
}

#[tokio::test]
async fn only_blocks_go_that_are_proven_to_be_in_others() {
    for claim in CLAIMS {
        let world = claim.world().await;
        let lines = Lines::default();
        let heard = tracing::subscriber::set_default(lines.clone());
        let settings = Settings {
            consistency_delay: Duration::ZERO,
            downsampling: false,
            ..Settings::default()
        };
        world.compactor(settings).run_once().await.unwrap();
        drop(heard);
        let ids = |numbers: &[u128]| -> Vec<String> {
            numbers.iter().map(|n| id(*n).to_string()).collect()
        };
        assert_eq!(world.marked().await, ids(claim.gone), "{}", claim.name);
        let told: Vec<String> = lines.0.lock().unwrap().clone();
        let told: Vec<&String> = told.iter().filter(|line| line.contains("says that")).collect();
        let kept: Vec<u128> = [1, 2].into_iter().filter(|n| !claim.gone.contains(n)).collect();
        assert_eq!(told.len(), kept.len(), "{}: {told:?}", claim.name);
        for (line, kept) in told.iter().zip(ids(&kept)) {
            assert!(line.starts_with(&format!("block={kept} stays")), "{}: {line}", claim.name);
            assert!(line.contains(claim.told), "{}: {line}", claim.name);
            assert!(line.ends_with(&format!("otherwise {}", id(3))), "{}: {line}", claim.name);
        }
    }
}

/// Keeps the messages of log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
