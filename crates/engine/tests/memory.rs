//! What one series of very many samples takes: as much as was charged, and no longer than the query
//! lasts. It is alone in this binary, because it counts every allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::testing::MemorySource;
use engine::{
    Answer, Dedup, Detail, Engine, EngineSettings, Error, Kind, Query, Select, SeriesSource,
    SourceStream,
};
use futures::FutureExt;
use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
use model::error::in_one_line;
use model::{Budget, Clock, Labels, SystemClock};
use promql::value::{Grid, Value};
use testkit::Allocations;
use tsdb::chunk::{Encoding, XorEncoder};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;
const SAMPLES: i64 = u16::MAX as i64;
/// All times from here on have as many digits in a chunk.
const BEGIN: i64 = 1 << 40;

/// Much longer than ending takes, because tests run beside others.
const SOON: Duration = Duration::from_secs(2);

/// `d`, of so many chunks that have as many samples as a chunk may have, in two bits each; twice
/// where it is to be deduplicated.
#[derive(Debug)]
struct Dense {
    source: MemorySource,
    last: i64,
}

impl Dense {
    fn new(chunks: i64, copies: usize) -> Dense {
        let mut encoder = XorEncoder::new();
        (0..SAMPLES).for_each(|i| encoder.push(BEGIN + i, 1.0));
        let mut data = encoder.finish();
        let mut all = Vec::new();
        for n in 0..chunks {
            let first = BEGIN + n * SAMPLES;
            let mut one = XorEncoder::new();
            one.push(first, 1.0);
            let one = one.finish();
            // between the number of samples and the first value
            let time = &one[2..one.len() - 8];
            data[2..2 + time.len()].copy_from_slice(time);
            let data = Bytes::from(data.clone());
            let content = ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor, data });
            let chunk = SeriesChunk::new(first, first + SAMPLES - 1, content);
            (0..copies).for_each(|i| all.push(chunk.clone().with_replica(Some(i as u64))));
        }
        let series = Series { labels: Labels::from_pairs([("__name__", "d")]), chunks: all };
        Dense {
            source: MemorySource::from_series(vec![series]),
            last: BEGIN + chunks * SAMPLES - 1,
        }
    }

    fn query(self: &Arc<Self>, text: &str, dedup: Option<Dedup>) -> Query {
        let source: Arc<dyn SeriesSource> = Arc::<Dense>::clone(self);
        Query {
            text: text.to_owned(),
            grid: Grid::instant(self.last),
            lookback_ms: 300_000,
            dynamic_lookback: false,
            dedup,
            max_resolution_ms: 0,
            timeout: Duration::from_secs(600),
            source,
            detail: Detail::default(),
        }
    }
}

impl SeriesSource for Dense {
    fn select(&self, select: Select) -> SourceStream {
        self.source.select(select)
    }
}

fn engine(budget: &Budget) -> Engine {
    Engine::new(EngineSettings {
        threads: 2,
        max_samples: 0,
        budget: budget.clone(),
        ..EngineSettings::default()
    })
}

/// The answer, and the bytes that were allocated for it at most.
fn run(budget: &Budget, query: Query) -> (Result<Answer, Error>, usize) {
    let engine = engine(budget);
    let before = ALLOCATIONS.begin();
    let answer = futures::executor::block_on(engine.query(query));
    (answer, ALLOCATIONS.peak().saturating_sub(before))
}

const TEXTS: [&str; 6] = [
    "d[40h]",
    "sum_over_time(d[40h])",
    "rate(d[40h])",
    "quantile_over_time(0.5, d[40h])",
    "stddev_over_time(d[40h])",
    "last_over_time(d[40h])",
];

fn what_does_not_fit_is_refused_before_it_is_decoded(dense: &Arc<Dense>) {
    for dedup in [None, Some(Dedup::Penalty)] {
        for text in TEXTS {
            let (answer, taken) = run(&Budget::new(64 * MIB as u64), dense.query(text, dedup));
            let error = answer.unwrap_err();
            let message = in_one_line(&error).to_string();
            assert!(error.kind() == Kind::Execution, "{text}: {message}");
            assert!(message.contains("of the memory budget"), "{text}: {message}");
            println!("{text} in 64 MiB: refused with {} KiB", taken >> 10);
            assert!(taken < 8 * MIB, "{text}: {taken} bytes");
        }
    }
}

fn what_fits_takes_what_was_charged(dense: &Arc<Dense>, samples: usize, dedup: Option<Dedup>) {
    for text in TEXTS {
        let budget = Budget::new(4096 * MIB as u64);
        let (answer, taken) = run(&budget, dense.query(text, dedup));
        let charged = budget.peak() as usize;
        println!("{text}, {dedup:?}: {} MiB, charged {} MiB", taken / MIB, charged / MIB);
        assert!(taken < charged + 4 * MIB, "{text}: {taken} bytes, {charged} charged");
        let (Value::Matrix(series) | Value::Vector(series)) = answer.unwrap().value else {
            panic!("{text} is no scalar");
        };
        if text.starts_with("d[") {
            assert_eq!(series[0].points.len(), samples);
            assert!(budget.used() as usize >= 16 * samples, "the answer is charged");
        }
        drop(series);
    }
}

fn a_query_that_is_left_ends(dense: &Arc<Dense>, dedup: Option<Dedup>) {
    let clock = SystemClock::new(|_| Box::pin(std::future::pending()));
    let engine = engine(&Budget::unlimited());
    for text in TEXTS {
        let mut running = Box::pin(engine.query(dense.query(text, dedup)));
        assert!((&mut running).now_or_never().is_none(), "{text}");
        std::thread::sleep(Duration::from_millis(100));
        drop(running);
        let left = clock.monotonic();
        while Arc::strong_count(dense) > 1 {
            assert!(clock.monotonic() - left < SOON, "{text} works on");
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{text}, {dedup:?}: ended after {:?}", clock.monotonic() - left);
    }
}

#[test]
fn a_series_of_very_many_samples_is_held_to_bounds() {
    let [all, twice] = [1, 2].map(|copies| Arc::new(Dense::new(2000, copies)));
    what_does_not_fit_is_refused_before_it_is_decoded(&all);
    for (dense, dedup) in [(&all, None), (&twice, Some(Dedup::Penalty))] {
        a_query_that_is_left_ends(dense, dedup);
    }
    let samples = 100 * SAMPLES as usize;
    for (copies, dedup) in [(1, None), (2, Some(Dedup::Penalty)), (2, Some(Dedup::Chain))] {
        what_fits_takes_what_was_charged(&Arc::new(Dense::new(100, copies)), samples, dedup);
    }
}
