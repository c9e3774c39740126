//! Clusters, replicas, targets and series.

use model::{Labels, TimeRange};

use crate::rng::{self, Rng};
use crate::schedule::{self, Schedule, Scrapes};
use crate::signal::Signal;
use crate::{BLOCK_MS, bench, kubernetes};

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The settings describe no fleet; change them.
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "fleet range=[{start}, {end}): both ends must be multiples of {BLOCK_MS} ms, with at least \
         one block between"
    )]
    Range { start: i64, end: i64 },
    #[error("fleet scrape interval={0} ms: must be between 1 s and 1 h")]
    Interval(i64),
    #[error("fleet without {0}: at least one is needed")]
    Empty(&'static str),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What the fleet looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FleetShape {
    /// A kube-prometheus-stack: about 520 series at any time, pods that come and go, restarts,
    /// outages, gaps, native histograms.
    #[default]
    Kubernetes,
    /// 10,000 series at any time: 2,000 of `http_requests_total`, 2,400 of
    /// `http_request_duration_seconds_bucket`, 100 of the native histogram `rpc_duration_seconds`,
    /// 100 of `node_load1`, 600 of pods that come and go, and 48 gauges with 100 series each. No
    /// gaps.
    Bench,
}

/// What holds for a whole fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub seed: u64,
    /// Multiples of [`BLOCK_MS`].
    pub range: TimeRange,
    pub scrape_interval_ms: i64,
    /// Values of the external label `cluster`.
    pub clusters: Vec<String>,
    /// Values of the external label `replica`, the same for each cluster.
    pub replicas: Vec<String>,
    pub shape: FleetShape,
}

impl Settings {
    /// Two clusters of two replicas that scrape every 60 s.
    pub fn kubernetes(seed: u64, range: TimeRange) -> Settings {
        Settings {
            seed,
            range,
            scrape_interval_ms: 60_000,
            clusters: vec!["eu".into(), "us".into()],
            replicas: vec!["a".into(), "b".into()],
            shape: FleetShape::Kubernetes,
        }
    }

    /// 24 hours from `start_ms` of 10,000 series every 15 s by one server.
    pub fn bench(seed: u64, start_ms: i64) -> Settings {
        Settings {
            seed,
            range: TimeRange::new(start_ms, start_ms + 12 * BLOCK_MS),
            scrape_interval_ms: 15_000,
            clusters: vec!["bench".into()],
            replicas: vec!["a".into()],
            shape: FleetShape::Bench,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let TimeRange { start, end } = self.range;
        if start >= end || start % BLOCK_MS != 0 || end % BLOCK_MS != 0 {
            return Err(Error::Range { start, end });
        }
        if !(1_000..=3_600_000).contains(&self.scrape_interval_ms) {
            return Err(Error::Interval(self.scrape_interval_ms));
        }
        if self.clusters.is_empty() {
            return Err(Error::Empty("clusters"));
        }
        if self.replicas.is_empty() {
            return Err(Error::Empty("replicas"));
        }
        Ok(())
    }
}

/// What the samples of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// Resets included.
    Counter,
    /// A native histogram that counts up.
    Histogram,
}

/// One series as a target exposes it, without external labels.
#[derive(Clone, Debug)]
pub struct SeriesSpec {
    labels: Labels,
    pub(crate) target: usize,
    pub(crate) life: TimeRange,
    /// Recorded by the scraper itself, so that it exists even when the scrape fails.
    pub(crate) of_scraper: bool,
    pub(crate) signal: Signal,
}

impl SeriesSpec {
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The name of the metric.
    pub fn metric(&self) -> &str {
        self.labels
            .metric_name()
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// When the series exists. Samples lie inside it, except for one stale marker right after.
    pub fn life(&self) -> TimeRange {
        self.life
    }

    pub fn kind(&self) -> Kind {
        match self.signal {
            Signal::Counter { .. } | Signal::Mixture { .. } | Signal::Restarts(_) => Kind::Counter,
            Signal::Constant(_) | Signal::Up | Signal::StartTime(_) | Signal::Gauge(_) => {
                Kind::Gauge
            }
            Signal::Native { .. } => Kind::Histogram,
        }
    }
}

/// Something scraped.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) seed: u64,
    pub(crate) life: TimeRange,
    pub(crate) outages: Vec<TimeRange>,
}

/// What the Prometheus servers of one cluster watch.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    pub(crate) targets: Vec<Target>,
    series: Vec<SeriesSpec>,
}

impl Cluster {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All series that ever existed, sorted by labels.
    pub fn series(&self) -> &[SeriesSpec] {
        &self.series
    }
}

/// One Prometheus server.
#[derive(Clone, Debug)]
pub struct Replica {
    cluster: usize,
    name: String,
    external_labels: Labels,
    seed: u64,
    gaps: Vec<TimeRange>,
}

impl Replica {
    /// The index of its cluster in [`Fleet::clusters`].
    pub fn cluster(&self) -> usize {
        self.cluster
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `cluster` and `replica`.
    pub fn external_labels(&self) -> &Labels {
        &self.external_labels
    }
}

/// A whole fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    settings: Settings,
    clusters: Vec<Cluster>,
    replicas: Vec<Replica>,
}

impl Fleet {
    pub fn new(settings: Settings) -> Result<Fleet, Error> {
        settings.check()?;
        let (mut clusters, mut replicas) = (Vec::new(), Vec::new());
        for (i, name) in settings.clusters.iter().enumerate() {
            let seed = rng::derive(settings.seed, name);
            let mut builder = ClusterBuilder::new(seed, settings.range);
            match settings.shape {
                FleetShape::Kubernetes => kubernetes::build(&mut builder, name),
                FleetShape::Bench => bench::build(&mut builder),
            }
            clusters.push(builder.finish(name));
            replicas.extend(settings.replicas.iter().map(|replica| Replica {
                cluster: i,
                name: replica.clone(),
                external_labels: Labels::from_pairs([("cluster", name), ("replica", replica)]),
                seed: rng::derive(seed, replica),
                gaps: gaps(&settings, rng::derive(seed, replica)),
            }));
        }
        Ok(Fleet { settings, clusters, replicas })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The servers, cluster by cluster.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The spans of the raw blocks each server writes, in order.
    pub fn block_ranges(&self) -> impl Iterator<Item = TimeRange> + use<> {
        let TimeRange { start, end } = self.settings.range;
        (start..end).step_by(BLOCK_MS as usize).map(|t| TimeRange::new(t, t + BLOCK_MS))
    }

    /// The scrapes of every target of the replica's cluster in `range`, or of `only` one; none for
    /// targets that do not exist then.
    pub(crate) fn scrapes(
        &self,
        replica: &Replica,
        range: TimeRange,
        only: Option<usize>,
    ) -> Vec<Scrapes> {
        let interval_ms = self.settings.scrape_interval_ms;
        let of_target = |(index, target): (usize, &Target)| {
            // one scrape more on each side: the one before says what went stale, the one after
            // marks it
            let life = TimeRange::new(
                target.life.start.saturating_sub(2 * interval_ms),
                target.life.end.saturating_add(2 * interval_ms),
            );
            if !life.overlaps(range) || only.is_some_and(|only| only != index) {
                return Scrapes::default();
            }
            let seed = rng::hash(replica.seed, target.seed);
            Schedule { interval_ms, seed, gaps: &replica.gaps, outages: &target.outages }
                .scrapes(range)
        };
        self.clusters[replica.cluster].targets.iter().enumerate().map(of_target).collect()
    }
}

/// When a replica was down: a short restart every other day, half an hour every tenth.
fn gaps(settings: &Settings, seed: u64) -> Vec<TimeRange> {
    if settings.shape == FleetShape::Bench {
        return Vec::new();
    }
    let mut rng = Rng::new(seed);
    let interval = settings.scrape_interval_ms;
    // none in the last hour, so that the newest instant is complete
    let range = TimeRange::new(settings.range.start, settings.range.end - 3_600_000);
    let mut spans =
        schedule::random_spans(&mut rng, range, 48 * 3_600_000, 2 * interval..5 * interval);
    spans.extend(schedule::random_spans(&mut rng, range, 240 * 3_600_000, 900_000..2_700_000));
    spans.sort_by_key(|span| span.start);
    let mut disjoint: Vec<TimeRange> = Vec::with_capacity(spans.len());
    for span in spans {
        match disjoint.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => disjoint.push(span),
        }
    }
    disjoint
}

/// Gathers the targets and series of one cluster.
pub(crate) struct ClusterBuilder {
    pub(crate) rng: Rng,
    pub(crate) range: TimeRange,
    seed: u64,
    targets: Vec<Target>,
    series: Vec<SeriesSpec>,
}

/// The target whose series are being described: its index, its labels and when it exists.
#[derive(Clone)]
pub(crate) struct TargetRef {
    pub(crate) index: usize,
    pub(crate) labels: Labels,
    pub(crate) life: TimeRange,
}

impl ClusterBuilder {
    fn new(seed: u64, range: TimeRange) -> ClusterBuilder {
        let rng = Rng::new(rng::derive(seed, "layout"));
        ClusterBuilder { rng, range, seed, targets: Vec::new(), series: Vec::new() }
    }

    pub(crate) fn target(
        &mut self,
        labels: Labels,
        life: TimeRange,
        outages: Vec<TimeRange>,
    ) -> TargetRef {
        let index = self.targets.len();
        self.targets.push(Target {
            seed: rng::derive(self.seed, &labels.to_string()),
            life,
            outages,
        });
        TargetRef { index, labels, life }
    }

    /// Adds a series of `target` with `labels` added to the target's own, replacing those of the
    /// same names.
    pub(crate) fn series(
        &mut self,
        target: &TargetRef,
        name: &str,
        labels: &[(&str, &str)],
        signal: Signal,
    ) {
        self.push(target, name, labels, target.life, signal);
    }

    /// As [`ClusterBuilder::series`], for something that exists for a shorter time than the target
    /// that reports it.
    pub(crate) fn push(
        &mut self,
        target: &TargetRef,
        name: &str,
        labels: &[(&str, &str)],
        life: TimeRange,
        signal: Signal,
    ) {
        if !life.overlaps(self.range) {
            return;
        }
        let own = Labels::from_pairs(labels.iter().copied().chain([(model::METRIC_NAME, name)]));
        self.series.push(SeriesSpec {
            labels: target.labels.overlaid(&own),
            target: target.index,
            life: life.intersect(target.life),
            of_scraper: false,
            signal,
        });
    }

    /// The series a Prometheus records of the scrapes themselves.
    pub(crate) fn scrape_series(
        &mut self,
        target: &TargetRef,
        samples_per_scrape: f64,
        duration: Signal,
    ) {
        let from = self.series.len();
        self.series(target, "up", &[], Signal::Up);
        self.series(target, "scrape_samples_scraped", &[], Signal::Constant(samples_per_scrape));
        self.series(target, "scrape_duration_seconds", &[], duration);
        for series in &mut self.series[from..] {
            series.of_scraper = true;
        }
    }

    fn finish(mut self, name: &str) -> Cluster {
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        debug_assert!(
            self.series.windows(2).all(|w| w[0].labels != w[1].labels),
            "two series with the same labels"
        );
        Cluster { name: name.to_owned(), targets: self.targets, series: self.series }
    }
}
