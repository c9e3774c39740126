//! The Parquet files that the compactor writes open in DuckDB, Polars and pyarrow, and hold what
//! the generator made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::{BlockId, Labels, STALE_NAN, TimeRange};
use serde_json::{Value, json};
use synthetic::{GeneratedSamples, Kind, Rng, ServerScrapes};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

use crate::harness::binaries::{binaries, target_folder};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::Maker;
use crate::harness::process::run;
use crate::harness::scratch;
use crate::harness::synthetic_blocks::{Blocks, START_MS};
use crate::mixed::compact_once;

/// What is known about one series.
struct Known {
    kind: Kind,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    growth: f64,
    last: Option<f64>,
}

impl Known {
    fn new(kind: Kind) -> Known {
        Known {
            kind,
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            growth: 0.0,
            last: None,
        }
    }

    /// Adds a sample; NaN is in no window.
    fn push(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if let Some(last) = self.last.replace(value) {
            self.growth += if value < last { value } else { value - last };
        }
    }

    fn json(&self) -> Value {
        match self.kind {
            Kind::Histogram => json!({"kind": "histogram", "count": self.count}),
            kind => json!({
                "kind": if kind == Kind::Counter { "counter" } else { "gauge" },
                "count": self.count, "sum": self.sum, "min": self.min, "max": self.max, "growth": self.growth,
            }),
        }
    }
}

type Truth = BTreeMap<String, Known>;

/// Labels as sorted JSON without spaces.
fn key(labels: &Labels) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sorted: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| (text(name), text(value))).collect();
    serde_json::to_string(&sorted).expect("labels are text")
}

/// What the synthetic fleet recorded, histograms among it.
fn fleet_truth(blocks: &Blocks, truth: &mut Truth) {
    let mut samples = GeneratedSamples::default();
    for range in blocks.fleet.block_ranges() {
        let window = ServerScrapes::new(&blocks.fleet, blocks.replica(), range);
        for series in window.series() {
            window.samples(series, &mut samples);
            if samples.is_empty() {
                continue;
            }
            let known =
                truth.entry(key(series.labels())).or_insert_with(|| Known::new(series.kind()));
            samples.floats.iter().for_each(|value| known.push(*value));
            known.count += (samples.histograms.len()
                - if samples.histograms.is_empty() { 0 } else { samples.stale.len() })
                as u64;
        }
    }
    truth.retain(|_, known| known.count > 0);
}

/// A block of two days with what real targets rarely do: resets at any sample, NaN, stale markers,
/// huge and tiny and negative values.
fn odd_block(folder: &Path, truth: &mut Truth) -> PathBuf {
    const STEP_MS: i64 = 30_000;
    let range = TimeRange::new(START_MS, START_MS + 2 * 24 * 3_600_000);
    let mut rng = Rng::new(31);
    let mut builder = BlockBuilder::new();
    for (name, kind) in [("odd_gauge", Kind::Gauge), ("odd_total", Kind::Counter)] {
        for series in 0..10 {
            let labels = Labels::from_pairs([("__name__", name), ("series", &format!("{series}"))]);
            let known = truth.entry(key(&labels)).or_insert_with(|| Known::new(kind));
            let (mut ts, mut values, mut total) = (Vec::new(), Vec::new(), 0.0);
            let mut t = range.start + rng.between_ms(0, STEP_MS);
            while t < range.end {
                total = if rng.unit() < 0.003 {
                    0.0
                } else {
                    total + (rng.between(0.0, 500.0)).round() / 100.0
                };
                let value = match rng.next_u64() % 100 {
                    0 => f64::NAN,
                    1 => STALE_NAN,
                    _ if kind == Kind::Counter => total,
                    2 => rng.between(-1e18, 1e18),
                    3 => rng.between(-1e-9, 1e-9),
                    _ => rng.between(-100.0, 100.0),
                };
                known.push(value);
                ts.push(t);
                values.push(value);
                t += STEP_MS + rng.between_ms(-200, 200);
            }
            builder.push_floats(&labels, &ts, &values).expect("samples in order of time");
        }
    }
    push_decimals(&mut builder, range, truth);
    let id = BlockId::from_parts(range.end as u64, 7);
    let external_labels = Some(Labels::from_pairs([("cluster", "odd"), ("replica", "a")]));
    let files =
        builder.finish(BlockIdentity { id, range, external_labels }).expect("series in order");
    files.save(folder).expect("write the block");
    folder.join(id.to_string())
}

/// Series of decimals: hundredths, a scale that changes, products instead of quotients, decimals with
/// other values between them; and 5,000 series that each have a label of their own.
fn push_decimals(builder: &mut BlockBuilder, range: TimeRange, truth: &mut Truth) {
    const STEP_MS: i64 = 60_000;
    let value = |series: usize, i: i64| match series {
        0 => ((i * 7919) % 100_000) as f64 / 100.0,
        1 if i < 500 => (i % 1000) as f64,
        1 => (i * 31 % 10_000) as f64 / 1000.0,
        2 => (i * 104_729 % 1_000_000) as f64 * 1e-6,
        3 if i % 20 == 0 => (i as f64).sqrt(),
        3 => (i % 997) as f64 / 10.0,
        _ => (i * i) as f64 * 1e5,
    };
    let times: Vec<i64> = (range.start..range.end).step_by(STEP_MS as usize).collect();
    for series in 0..5 {
        let labels =
            Labels::from_pairs([("__name__", "other_decimal"), ("series", &format!("{series}"))]);
        let known = truth.entry(key(&labels)).or_insert_with(|| Known::new(Kind::Gauge));
        let values: Vec<f64> = (0..times.len()).map(|i| value(series, i as i64)).collect();
        values.iter().for_each(|v| known.push(*v));
        builder.push_floats(&labels, &times, &values).expect("samples in order of time");
    }
    let mut names: Vec<String> = (0..5000).map(|i| format!("own_{i}")).collect();
    names.sort();
    for (i, name) in names.iter().enumerate() {
        let labels = Labels::from_pairs([("__name__", "other_labels"), (name.as_str(), "x")]);
        let known = truth.entry(key(&labels)).or_insert_with(|| Known::new(Kind::Gauge));
        known.push(i as f64);
        builder.push_floats(&labels, &times[i % 100..][..1], &[i as f64]).expect("in order");
    }
}

/// The readers; `READERS` may name others that the script knows, such as `chdb`, which is too large
/// to be installed for every run.
fn readers() -> Vec<String> {
    let named = std::env::var("READERS").unwrap_or_else(|_| "duckdb polars pyarrow".to_owned());
    named.split_whitespace().map(str::to_owned).collect()
}

/// A Python with the readers, from PyPI, in a virtual environment below the target folder.
fn python(readers: &[String]) -> PathBuf {
    let folder = target_folder().join("pyenv");
    let python = folder.join("bin/python");
    let has_readers = |python: &Path| {
        // the script compares with the help of the first three
        let import = format!("import duckdb, polars, pyarrow, {}", readers.join(", "));
        Command::new(python)
            .args(["-c", &import])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !has_readers(&python) {
        let args = [Path::new("-m"), Path::new("venv"), &folder];
        run(Path::new("python3"), args).expect_success("make a virtual environment");
        let install = ["-m", "pip", "install", "--quiet", "duckdb", "polars", "pyarrow"];
        let install = install.into_iter().chain(readers.iter().map(String::as_str));
        run(&python, install).expect_success("install the readers from PyPI");
    }
    python
}

#[test]
fn duckdb_polars_and_pyarrow_read_our_files() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let mut truth = Truth::new();
    // 50 hours, of which two days become one block
    let blocks = Blocks::write(&folder.path().join("made"), 32, 25, &["a"]);
    fleet_truth(&blocks, &mut truth);
    let odd = odd_block(&folder.path().join("odd"), &mut truth);
    let kinds = |kind| truth.values().filter(|known| known.kind == kind).count();
    assert!(kinds(Kind::Histogram) > 0 && kinds(Kind::Counter) > 0 && kinds(Kind::Gauge) > 0);

    let known: BTreeMap<&String, Value> =
        truth.iter().map(|(key, known)| (key, known.json())).collect();
    let file = folder.path().join("truth.json");
    std::fs::write(&file, serde_json::to_vec(&known).expect("JSON")).expect("write the truth");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/elsewhere.py");
    let readers = readers();
    let python = python(&readers);
    for version in ["1", "2"] {
        let scratch = scratch();
        let bucket = Bucket::folder(scratch.path());
        bucket.fill(blocks.folders.iter().chain([&odd]));
        let version = format!("--downsample.parquet-version={version}");
        compact_once(binaries, Maker::Drumlin, scratch.path(), &bucket, &[&version]);
        let args = [script.as_path(), bucket.path(), &file].map(|path| path.as_os_str().to_owned());
        let args = args.into_iter().chain(readers.iter().map(OsString::from));
        let read = run(&python, args).expect_success("read the files elsewhere");
        assert_eq!(read.output.lines().count(), readers.len(), "{}", read.output);
        print!("{version}\n{}", read.output);
    }
}
