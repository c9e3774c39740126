//! The generated series: what is awkward about real ones, in a few dozen of them.
//!
//! Time begins at the epoch and all samples lie on a grid of five seconds, so that a `.test` file
//! can hold them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, spans_of};
use model::{
    BlockId, FloatHistogram, Labels, METRIC_NAME, STALE_NAN, Sample, SampleValue, TimeRange,
};
use synthetic::{BLOCK_MS, Rng};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

/// All samples lie on multiples of this.
const GRID_MS: i64 = 5_000;
/// The data spans two blocks: it begins an hour before their border and ends an hour behind it.
pub(super) const START_MS: i64 = 3_600_000;
pub(super) const END_MS: i64 = 10_800_000;

/// What the samples of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Fractional, with resets.
    Counter,
    /// Fractional, so that no two are equal.
    Gauge,
    /// A gauge that is sometimes NaN, +Inf or -Inf.
    Special,
    /// Few different integers.
    Level,
    /// Between 0 and 1.
    Ratio,
    /// Seconds since the epoch, over two centuries.
    Clock,
    /// Samples only now and then.
    Sparse,
    /// Classic buckets.
    Bucket,
    /// Labels on the value 1; some of the labels change.
    Info,
    NativeCounter,
    NativeGauge,
    NativeCustom,
    /// Alternating floats and histograms.
    Switching,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    /// The labels that tell its series apart.
    pub(super) keys: &'static [&'static str],
    pub(super) kind: Kind,
}

const fn metric(name: &'static str, keys: &'static [&'static str], kind: Kind) -> Metric {
    Metric { name, keys, kind }
}

pub(super) const METRICS: [Metric; 21] = [
    metric("http_requests_total", &["job", "instance", "code"], Kind::Counter),
    metric("bytes_total", &["job", "instance"], Kind::Counter),
    metric("temperature", &["job", "instance", "zone"], Kind::Gauge),
    metric("load1", &["job", "instance"], Kind::Gauge),
    metric("weird", &["job", "instance"], Kind::Special),
    metric("level", &["job", "instance"], Kind::Level),
    metric("ratio", &["job"], Kind::Ratio),
    metric("clock_seconds", &["job"], Kind::Clock),
    metric("sparse", &["job", "instance"], Kind::Sparse),
    metric("latency_seconds_bucket", &["job", "handler", "le"], Kind::Bucket),
    metric("latency_seconds_sum", &["job", "handler"], Kind::Counter),
    metric("latency_seconds_count", &["job", "handler"], Kind::Counter),
    metric("latency_seconds", &["job", "handler"], Kind::NativeCounter),
    metric("target_info", &["job", "instance"], Kind::Info),
    metric("build_info", &["job", "instance"], Kind::Info),
    metric("rpc_seconds", &["job", "instance"], Kind::NativeCounter),
    metric("queue_seconds", &["job", "instance"], Kind::NativeGauge),
    metric("sized_bytes", &["job", "instance"], Kind::NativeCustom),
    metric("switching", &["job"], Kind::Switching),
    metric("http.size.bytes", &["job"], Kind::Counter),
    metric("uptime", &["job", "instance"], Kind::Gauge),
];

/// The values a key takes.
pub(super) fn values_of(key: &str) -> &'static [&'static str] {
    match key {
        "job" => &["api", "web", "db"],
        "instance" => &["0", "1"],
        "code" => &["200", "500"],
        "zone" => &["a", "b"],
        "handler" => &["plain", "odd", "open"],
        "le" => &["0.1", "0.5", "1", "2.5", "5", "+Inf"],
        _ => &[],
    }
}

/// The samples of one series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) samples: Vec<Sample>,
    /// Its histograms hold whole numbers and are stored as such.
    integers: bool,
}

impl Series {
    /// The samples in a span of time.
    pub(super) fn within(&self, range: TimeRange) -> Series {
        let samples =
            self.samples.iter().filter(|sample| range.contains(sample.t)).cloned().collect();
        Series { labels: self.labels.clone(), samples, integers: self.integers }
    }

    /// The same samples, further apart by this factor.
    pub(super) fn stretched(&self, factor: i64) -> Series {
        let samples = self
            .samples
            .iter()
            .cloned()
            .map(|sample| Sample { t: sample.t * factor, ..sample })
            .collect();
        Series { labels: self.labels.clone(), samples, integers: self.integers }
    }
}

/// All series, sorted by labels.
pub(super) fn series(seed: u64) -> Vec<Series> {
    let mut all = Vec::new();
    for metric in &METRICS {
        // `le` is not a dimension of its own: the buckets of one histogram are made together.
        let keys: Vec<&str> = metric.keys.iter().copied().filter(|key| *key != "le").collect();
        let mut combinations: Vec<Vec<(&str, &str)>> = vec![vec![(METRIC_NAME, metric.name)]];
        for key in keys {
            let extend = |labels: &Vec<(&'static str, &'static str)>, value: &'static str| {
                let mut labels = labels.clone();
                labels.push((key_name(key), value));
                labels
            };
            combinations = combinations
                .iter()
                .flat_map(|c| values_of(key).iter().map(|v| extend(c, v)))
                .collect();
        }
        for (index, labels) in combinations.into_iter().enumerate() {
            let mut rng = Rng::new(seed ^ Labels::from_pairs(labels.iter().copied()).hash64());
            let mut maker = Maker { rng: &mut rng, index, metric };
            maker.series(&Labels::from_pairs(labels), &mut all);
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// The key with a life as long as the table of metrics.
fn key_name(key: &str) -> &'static str {
    let keys = METRICS.iter().flat_map(|metric| metric.keys.iter().copied());
    keys.into_iter().find(|known| *known == key).expect("a key of the table")
}

struct Maker<'a> {
    rng: &'a mut Rng,
    /// Which of its metric's series this is: some have peculiarities that others lack.
    index: usize,
    metric: &'a Metric,
}

impl Maker<'_> {
    fn chance(&mut self, p: f64) -> bool {
        self.rng.unit() < p
    }

    fn series(&mut self, labels: &Labels, all: &mut Vec<Series>) {
        match self.metric.kind {
            Kind::Bucket => self.buckets(labels, all),
            Kind::Info => self.info(labels, all),
            Kind::NativeCounter | Kind::NativeGauge | Kind::NativeCustom | Kind::Switching => {
                let samples = self.histograms();
                let integers = matches!(self.metric.kind, Kind::NativeCounter | Kind::NativeCustom);
                all.push(Series { labels: labels.clone(), samples, integers });
            }
            _ => {
                let times = self.times();
                let values = self.values(times.len());
                all.push(Series {
                    labels: labels.clone(),
                    samples: self.with_stale(&times, &values),
                    integers: false,
                });
            }
        }
    }

    /// When it was scraped: every 15 or 30 seconds, with single scrapes missing, and in some series
    /// a long gap.
    fn times(&mut self) -> Vec<i64> {
        let interval = match self.metric.kind {
            Kind::Sparse => 120_000,
            _ if self.index % 3 == 2 => 30_000,
            _ => 15_000,
        };
        let offset = self.rng.between_ms(0, interval / GRID_MS) * GRID_MS;
        let begins = if self.index % 4 == 3 { self.rng.between_ms(0, 40) * 60_000 } else { 0 };
        let ends = if self.index % 5 == 4 { self.rng.between_ms(0, 30) * 60_000 } else { 0 };
        let gap = START_MS + self.rng.between_ms(20, 100) * 60_000;
        let gap_end =
            gap + if self.index % 2 == 1 { self.rng.between_ms(2, 12) * 60_000 } else { 0 };
        let mut times = Vec::new();
        let mut t = START_MS + begins + offset;
        while t <= END_MS - ends {
            let missed = if self.metric.kind == Kind::Sparse { 0.4 } else { 0.02 };
            if !(gap..gap_end).contains(&t) && !self.chance(missed) {
                times.push(t);
            }
            t += interval;
        }
        times
    }

    fn values(&mut self, count: usize) -> Vec<f64> {
        let kind = self.metric.kind;
        let mut value = self.rng.between(1.0, 50.0);
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            value = match kind {
                Kind::Counter if self.chance(0.01) => self.rng.between(0.0, 3.0),
                Kind::Counter if self.chance(0.1) => value,
                Kind::Counter => value + self.rng.between(0.0, 20.0),
                Kind::Level => self.rng.between_ms(-1, 5) as f64,
                Kind::Ratio => self.rng.unit(),
                Kind::Clock => self.rng.between(-1e9, 4.2e9),
                _ => value + self.rng.between(-8.0, 8.0),
            };
            let special = kind == Kind::Special && self.chance(0.12);
            let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
            values.push(if special { specials[self.rng.between_ms(0, 4) as usize] } else { value });
        }
        values
    }

    /// Some series end with a stale marker before their gaps and at their end, others just stop.
    fn with_stale(&self, times: &[i64], values: &[f64]) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(times.len());
        for (i, (t, value)) in times.iter().zip(values).enumerate() {
            samples.push(Sample { t: *t, value: SampleValue::Float(*value) });
            let next = times.get(i + 1).copied().unwrap_or(END_MS);
            if self.index % 4 < 2 && next - t > 90_000 {
                samples.push(Sample { t: t + 15_000, value: SampleValue::Float(STALE_NAN) });
            }
        }
        samples
    }

    /// The classic buckets of one histogram; one handler lacks +Inf, one has buckets that are not
    /// monotonic.
    fn buckets(&mut self, labels: &Labels, all: &mut Vec<Series>) {
        let times = self.times();
        let (odd, open) =
            (labels.get("handler") == Some(b"odd"), labels.get("handler") == Some(b"open"));
        let bounds = values_of("le");
        let mut counts = vec![0.0; bounds.len()];
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); bounds.len()];
        for _ in &times {
            if self.chance(0.01) {
                counts.fill(0.0);
            }
            for count in &mut counts {
                *count += self.rng.between_ms(0, 5) as f64;
            }
            let mut total = 0.0;
            for (column, count) in columns.iter_mut().zip(&counts) {
                total += count;
                let flaw = if odd && self.rng.unit() < 0.2 {
                    self.rng.between_ms(0, 9) as f64
                } else {
                    0.0
                };
                column.push(total - flaw);
            }
        }
        for (bound, column) in bounds.iter().zip(&columns) {
            if !(open && *bound == "+Inf") {
                let samples = self.with_stale(&times, column);
                all.push(Series { labels: labels.with("le", bound), samples, integers: false });
            }
        }
    }

    /// A version that is replaced by the next one at some time.
    fn info(&mut self, labels: &Labels, all: &mut Vec<Series>) {
        let change = START_MS + self.rng.between_ms(10, 110) * 60_000;
        let times: Vec<i64> =
            (0..).map(|i| START_MS + i * 15_000).take_while(|t| *t <= END_MS).collect();
        let border = times.partition_point(|t| *t < change);
        for (version, times) in [("1.0", &times[..border]), ("1.1", &times[border..])] {
            let mut samples: Vec<Sample> =
                times.iter().map(|t| Sample { t: *t, value: SampleValue::Float(1.0) }).collect();
            if version == "1.0" && border < 480 {
                samples.push(Sample { t: change, value: SampleValue::Float(STALE_NAN) });
            }
            let region = if self.index.is_multiple_of(2) { "eu" } else { "us" };
            let labels = labels.with("version", version).with("region", region);
            all.push(Series { labels, samples, integers: false });
        }
    }

    fn histograms(&mut self) -> Vec<Sample> {
        let mut native = Native::new(self);
        let times = self.times();
        let mut samples: Vec<Sample> = Vec::with_capacity(times.len());
        for (i, t) in times.iter().enumerate() {
            native.advance(self, i);
            let float = self.metric.kind == Kind::Switching && (i / 40) % 2 == 0;
            let value = if float {
                SampleValue::Float(self.rng.between(0.0, 9.0))
            } else {
                SampleValue::Histogram(Arc::new(native.histogram()))
            };
            samples.push(Sample { t: *t, value });
            let next = times.get(i + 1).copied().unwrap_or(END_MS);
            if self.index % 4 < 2 && next - t > 90_000 {
                let stale = FloatHistogram { sum: STALE_NAN, ..FloatHistogram::default() };
                samples
                    .push(Sample { t: t + 15_000, value: SampleValue::Histogram(Arc::new(stale)) });
            }
        }
        samples
    }
}

/// The state of a native histogram: counts of buckets from `first` on, on both sides.
struct Native {
    schema: i32,
    first: i32,
    zero_threshold: f64,
    zero_count: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
    sum: f64,
    custom_values: Vec<f64>,
    gauge: bool,
}

impl Native {
    fn new(maker: &Maker<'_>) -> Native {
        let index = maker.index as i32;
        let custom = maker.metric.kind == Kind::NativeCustom;
        let bounds: &[f64] = if index < 4 { &[1.0, 5.0, 10.0, 50.0] } else { &[1.0, 10.0, 100.0] };
        Native {
            schema: if custom { CUSTOM_BUCKETS_SCHEMA } else { index % 3 },
            first: if custom { 0 } else { -2 },
            zero_threshold: match index % 4 {
                _ if custom => 0.0,
                3 => 0.3,
                2 => 0.01,
                _ => 0.001,
            },
            zero_count: 0.0,
            positive: vec![0.0; if custom { bounds.len() + 1 } else { 9 }],
            negative: vec![0.0; if !custom && index % 2 == 1 { 5 } else { 0 }],
            sum: 0.0,
            custom_values: if custom { bounds.to_vec() } else { Vec::new() },
            gauge: maker.metric.kind == Kind::NativeGauge,
        }
    }

    fn advance(&mut self, maker: &mut Maker<'_>, step: usize) {
        let exponential = self.custom_values.is_empty();
        if maker.chance(0.012) {
            self.clear();
        }
        // one series gets a finer schema in the middle, as from a restarted client
        if exponential && step == 200 && maker.index == 1 {
            self.clear();
            self.schema = 3;
        }
        let gauge = self.gauge;
        let more = |old: f64, p: f64, maker: &mut Maker<'_>| match maker.chance(p) {
            true if gauge => maker.rng.between(0.0, 12.0),
            true => old + maker.rng.between_ms(1, 6) as f64,
            false => old,
        };
        for i in 0..self.positive.len() {
            self.positive[i] = more(self.positive[i], 0.3, maker);
        }
        for i in 0..self.negative.len() {
            self.negative[i] = more(self.negative[i], 0.2, maker);
        }
        if exponential {
            self.zero_count = more(self.zero_count, 0.2, maker);
        }
        self.sum += if gauge { maker.rng.between(-5.0, 5.0) } else { maker.rng.between(0.0, 30.0) };
    }

    fn clear(&mut self) {
        self.zero_count = 0.0;
        self.sum = 0.0;
        self.positive.fill(0.0);
        self.negative.fill(0.0);
    }

    fn histogram(&self) -> FloatHistogram {
        let seen = |counts: &[f64]| {
            let filled = counts.iter().zip(self.first..).filter(|(count, _)| **count > 0.0);
            let (counts, indices): (Vec<f64>, Vec<i32>) =
                filled.map(|(count, index)| (*count, index)).unzip();
            (spans_of(indices), counts)
        };
        let (positive_spans, positive_buckets) = seen(&self.positive);
        let (negative_spans, negative_buckets) = seen(&self.negative);
        let count = self.zero_count
            + positive_buckets.iter().sum::<f64>()
            + negative_buckets.iter().sum::<f64>();
        FloatHistogram {
            schema: self.schema,
            hint: if self.gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }
}

fn integer(h: &FloatHistogram) -> Histogram {
    let deltas = |counts: &[f64]| {
        let before = std::iter::once(0.0).chain(counts.iter().copied());
        counts.iter().zip(before).map(|(count, before)| (count - before) as i64).collect()
    };
    Histogram {
        schema: h.schema,
        hint: h.hint,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count as u64,
        count: h.count as u64,
        sum: h.sum,
        positive_spans: h.positive_spans.clone(),
        negative_spans: h.negative_spans.clone(),
        positive_buckets: deltas(&h.positive_buckets),
        negative_buckets: deltas(&h.negative_buckets),
        custom_values: h.custom_values.clone(),
    }
}

/// The blocks of two hours that hold all series.
pub(super) fn two_hours() -> Vec<TimeRange> {
    [0, BLOCK_MS].into_iter().map(|start| TimeRange::new(start, start + BLOCK_MS)).collect()
}

/// The block that these become when they are compacted.
pub(super) fn compacted() -> Vec<TimeRange> {
    vec![TimeRange::new(0, 2 * BLOCK_MS)]
}

/// Writes the series as blocks of these ranges and gives their folders.
pub(super) fn write_blocks(folder: &Path, series: &[Series], ranges: &[TimeRange]) -> Vec<PathBuf> {
    write(folder, series, ranges, None)
}

/// The same, as a sidecar uploads them.
pub(super) fn write_labelled_blocks(
    folder: &Path,
    series: &[Series],
    ranges: &[TimeRange],
    external_labels: &Labels,
) -> Vec<PathBuf> {
    write(folder, series, ranges, Some(external_labels))
}

fn write(
    folder: &Path,
    series: &[Series],
    ranges: &[TimeRange],
    external_labels: Option<&Labels>,
) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for range in ranges.iter().copied() {
        let mut builder = BlockBuilder::new();
        for series in series {
            push(&mut builder, &series.within(range))
                .unwrap_or_else(|e| panic!("{}: {e}", series.labels));
        }
        let entropy = external_labels.map_or(1, |labels| u128::from(labels.hash64()));
        let id = BlockId::from_parts(range.end as u64, entropy);
        let files =
            builder.finish(BlockIdentity { id, range, external_labels: external_labels.cloned() });
        files.expect("series in order").save(folder).expect("a block is written");
        folders.push(folder.join(id.to_string()));
    }
    folders
}

fn push(builder: &mut BlockBuilder, series: &Series) -> Result<(), tsdb::Error> {
    if !series.integers {
        return builder.push_samples(&series.labels, &series.samples);
    }
    let (mut times, mut histograms) = (Vec::new(), Vec::new());
    for sample in &series.samples {
        if let SampleValue::Histogram(histogram) = &sample.value {
            times.push(sample.t);
            histograms.push(integer(histogram));
        }
    }
    builder.push_histograms(&series.labels, &times, &histograms)
}

/// The series as the `load` of a `.test` file.
pub(super) fn load_command<'a>(series: impl Iterator<Item = &'a Series>) -> String {
    let mut text = "load 5s\n".to_owned();
    for series in series {
        let _ = write!(text, "  {}", series.labels);
        let mut next = 0;
        for sample in &series.samples {
            let at = sample.t / GRID_MS;
            if at > next {
                let _ = write!(text, " _x{}", at - next);
            }
            next = at + 1;
            text.push(' ');
            match &sample.value {
                SampleValue::Float(value) if model::is_stale_nan(*value) => text.push_str("stale"),
                SampleValue::Float(value) => text.push_str(&value.to_string()),
                SampleValue::Histogram(histogram) if histogram.is_stale() => text.push_str("stale"),
                SampleValue::Histogram(histogram) => text.push_str(&histogram_text(histogram)),
            }
        }
        text.push('\n');
    }
    text
}

fn histogram_text(h: &FloatHistogram) -> String {
    let side = |spans: &[model::histogram::BucketSpan], counts: &[f64]| {
        let indices: Vec<i32> = model::histogram::bucket_indices(spans).collect();
        let first = indices.first().copied().unwrap_or(0);
        let last = indices.last().map_or(first, |last| last + 1);
        let count =
            |index: i32| indices.iter().position(|i| *i == index).map_or(0.0, |at| counts[at]);
        let counts: Vec<String> = (first..last).map(|index| count(index).to_string()).collect();
        (first, counts.join(" "))
    };
    let mut text = format!("{{{{schema:{} count:{} sum:{}", h.schema, h.count, h.sum);
    if h.uses_custom_buckets() {
        let bounds: Vec<String> = h.custom_values.iter().map(f64::to_string).collect();
        let _ = write!(text, " custom_values:[{}]", bounds.join(" "));
    } else {
        let _ = write!(text, " z_bucket:{} z_bucket_w:{}", h.zero_count, h.zero_threshold);
    }
    let (offset, counts) = side(&h.positive_spans, &h.positive_buckets);
    let _ = write!(text, " offset:{offset} buckets:[{counts}]");
    if !h.negative_buckets.is_empty() {
        let (offset, counts) = side(&h.negative_spans, &h.negative_buckets);
        let _ = write!(text, " n_offset:{offset} n_buckets:[{counts}]");
    }
    if h.hint == ResetHint::Gauge {
        text.push_str(" counter_reset_hint:gauge");
    }
    text.push_str("}}");
    text
}
