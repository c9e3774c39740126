//! One stream spread over stores at different resolutions.

use std::ops::Range;

use merge::{
    ChunkContent, Column, DownsampledSeries, Downsampler, Floats, Series, SeriesChunk, ValueOf,
    read_run,
};
use model::Resolution;
use tsdb::chunk::{Aggregate, decode_floats};

use super::*;
use crate::conformance::float_series;
use crate::{Coverage, ServedCoarse, Spans, TsdbInfo};

use Resolution::{FiveMinutes, OneHour, Raw};

const MINUTE: i64 = 60_000;

/// A counter sampled each minute that restarts every 50 minutes.
fn sample(minute: i64) -> (i64, f64) {
    (minute * MINUTE, (minute % 50 * 60) as f64)
}

/// How much it grows from one of its samples to a later one.
fn growth(minutes: Range<i64>) -> f64 {
    let step = |m: i64| if m % 50 == 0 { 0.0 } else { 60.0 };
    minutes.skip(1).map(step).sum()
}

/// A stretch of the stream at one resolution, in minutes.
#[derive(Clone, Debug)]
struct Held {
    resolution: Resolution,
    minutes: Range<i64>,
}

impl Held {
    fn range(&self) -> TimeRange {
        TimeRange::new(self.minutes.start * MINUTE, self.minutes.end * MINUTE)
    }

    fn chunks(&self) -> Vec<SeriesChunk> {
        let samples: Vec<(i64, f64)> = self.minutes.clone().map(sample).collect();
        let raw = float_series(Labels::empty(), &samples).chunks;
        let mut windows = DownsampledSeries::default();
        match self.resolution {
            Raw => return raw,
            FiveMinutes => Downsampler::new(FiveMinutes).raw(&raw, &mut windows).unwrap(),
            OneHour => {
                let mut fine = DownsampledSeries::default();
                Downsampler::new(FiveMinutes).raw(&raw, &mut fine).unwrap();
                Downsampler::new(OneHour).coarser(FiveMinutes, &fine, &mut windows).unwrap();
            }
        }
        windows
            .to_chunks()
            .unwrap()
            .into_iter()
            .map(|chunk| chunk.with_resolution(self.resolution))
            .collect()
    }
}

/// A store of the series `c`, which chooses what answers as our gateways do, and sends chunks
/// whole.
#[derive(Clone, Debug)]
struct Layered {
    external: Labels,
    held: Vec<Held>,
    /// It is an older version, which does not report resolutions and is not asked for spans.
    old: bool,
}

impl Layered {
    fn new(external: &str, held: &[(Resolution, Range<i64>)]) -> Layered {
        let pairs = external.split(',').filter_map(|pair| pair.split_once('='));
        let held = held.iter().map(|(resolution, minutes)| Held {
            resolution: *resolution,
            minutes: minutes.clone(),
        });
        Layered { external: Labels::from_pairs(pairs), held: held.collect(), old: false }
    }

    fn coverage(&self) -> Coverage {
        let of = |r: Resolution| {
            self.held.iter().filter(|held| held.resolution == r).map(Held::range).collect()
        };
        Resolution::ALL.into_iter().fold(Coverage::default(), |all, r| all.with(r, of(r)))
    }

    fn choose(&self, request: &SeriesRequest) -> Vec<SeriesChunk> {
        let (coverage, coarsest) =
            (self.coverage(), Resolution::coarsest_within(request.max_resolution_ms));
        let fallback =
            if self.old && request.coarser_fallback { Spans::all() } else { request.fallback() };
        let mut open = Spans::from(request.range);
        let (allowed, coarser): (Vec<Resolution>, Vec<Resolution>) =
            Resolution::ALL.into_iter().partition(|r| *r <= coarsest);
        let mut chunks = Vec::new();
        for resolution in allowed.into_iter().rev().chain(coarser) {
            let wanted =
                if resolution > coarsest { open.intersect(&fallback) } else { open.clone() };
            let chosen = wanted.intersect(coverage.of(resolution));
            open = open.without(&chosen);
            let held = self.held.iter().filter(|held| held.resolution == resolution);
            let whole = chosen
                .iter()
                .map(|span| resolution.to_whole_windows(span).intersect(request.range));
            let chosen: Spans = whole.collect();
            let touches =
                |c: &SeriesChunk| chosen.touching(c.min_time, c.max_time).next().is_some();
            chunks.extend(held.flat_map(Held::chunks).filter(touches));
        }
        chunks
    }
}

#[async_trait]
impl Store for Layered {
    async fn info(&self) -> Result<StoreInfo> {
        let hull = Resolution::ALL
            .into_iter()
            .flat_map(|r| self.coverage().of(r).clone())
            .collect::<Spans>()
            .hull();
        let range = hull.unwrap_or(TimeRange::new(i64::MAX, i64::MIN));
        let told = TsdbInfo::new(self.external.clone(), range);
        Ok(StoreInfo {
            component: ComponentType::Store,
            label_sets: vec![self.external.clone()],
            range,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: vec![if self.old { told } else { told.with_coverage(self.coverage()) }],
        })
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let labels = labels("c").overlaid(&self.external).without(&request.without_replica_labels);
        let mut chunks = self.choose(&request);
        let mut served = ServedCoarse::default();
        chunks.iter().for_each(|c| served.note(c.resolution(), c.min_time, c.max_time));
        chunks = merge::merge_series_chunks(chunks);
        let series = (!chunks.is_empty()).then(|| Frame::Series(vec![Series { labels, chunks }]));
        Ok(futures::stream::iter(series.into_iter().chain(served.infos()).map(Ok)).boxed())
    }

    async fn label_names(&self, _request: LabelNamesRequest) -> Result<Metadata> {
        Ok(Metadata::default())
    }

    async fn label_values(&self, _request: LabelValuesRequest) -> Result<Metadata> {
        Ok(Metadata::default())
    }
}

async fn fanout(stores: &[Layered]) -> Fanout {
    let mut endpoints = Vec::new();
    for store in stores {
        let info = store.info().await.unwrap();
        endpoints.push(endpoint("e", Arc::new(store.clone()), info));
    }
    Fanout::new(Arc::new(endpoints), FanoutSettings::default(), clock())
}

/// A request for minutes 0 to `minutes`, at most this coarse, or coarser where nothing else exists.
fn wanted(minutes: i64, coarsest: Resolution) -> SeriesRequest {
    SeriesRequest {
        range: TimeRange::new(0, minutes * MINUTE),
        max_resolution_ms: coarsest.millis(),
        without_replica_labels: vec!["replica".to_owned()],
        coarser_fallback: true,
        ..request(PartialResponse::Abort)
    }
}

/// The chunks of an answer with at most one series, and its infos.
async fn chunks_of(store: &dyn Store, request: SeriesRequest) -> (Vec<SeriesChunk>, Vec<String>) {
    let (mut chunks, mut infos) = (Vec::new(), Vec::new());
    let mut frames = store.series(request).await.unwrap();
    while let Some(frame) = frames.next().await {
        match frame.unwrap() {
            Frame::Series(series) => chunks.extend(series.into_iter().flat_map(|s| s.chunks)),
            Frame::Info(text) => infos.push(text),
            Frame::Warning(text) => panic!("{text}"),
        }
    }
    // which endpoint sent a chunk is no part of what it says
    chunks.iter_mut().for_each(|chunk: &mut SeriesChunk| chunk.origin = None);
    (chunks, infos)
}

/// The times of samples and windows inside a range, with their resolutions and how many samples
/// they stand for.
fn points(chunks: &[SeriesChunk], range: TimeRange) -> Vec<(i64, Resolution, f64)> {
    let mut all = Vec::new();
    for chunk in chunks {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        match &chunk.content {
            ChunkContent::Raw(raw) => {
                decode_floats(raw.encoding, &raw.data, &mut ts, &mut values).unwrap();
                values.fill(1.0);
            }
            ChunkContent::Aggregates(_) => {
                let count = chunk.aggregate(Aggregate::Count).unwrap();
                decode_floats(count.encoding, &count.data, &mut ts, &mut values).unwrap();
            }
        }
        let points = ts.into_iter().zip(values).filter(|(t, _)| range.contains(*t));
        all.extend(points.map(|(t, count)| (t, chunk.resolution(), count)));
    }
    all.sort_by_key(|(t, ..)| *t);
    all
}

fn samples_of(chunks: &[SeriesChunk], range: TimeRange) -> f64 {
    points(chunks, range).iter().map(|(.., count)| count).sum()
}

fn increase(chunks: &[SeriesChunk]) -> f64 {
    let Column::Floats(Floats { values, .. }) = read_run(chunks, ValueOf::Counter).unwrap() else {
        panic!("floats")
    };
    values.windows(2).map(|w| if w[1] < w[0] { w[1] } else { w[1] - w[0] }).sum()
}

#[tokio::test]
async fn coarser_data_fills_what_no_store_has_finer_and_nothing_else() {
    let raw = Layered::new("cluster=a", &[(Raw, 600..1200)]);
    for coarse in [FiveMinutes, OneHour] {
        let stores = [raw.clone(), Layered::new("cluster=a", &[(coarse, 0..900)])];
        let fanout = fanout(&stores).await;
        let (chunks, infos) = chunks_of(&fanout, wanted(1200, Raw)).await;
        let points = points(&chunks, TimeRange::ALL);
        assert!(
            points.iter().all(|(t, r, _)| *r == if *t < 600 * MINUTE { coarse } else { Raw }),
            "{points:?}"
        );
        assert_eq!(samples_of(&chunks, TimeRange::ALL), 1200.0);
        assert_eq!(increase(&chunks), growth(0..1200));
        assert_eq!(infos.len(), 1);
        assert!(
            infos[0].starts_with(&format!("served {coarse} data for 1970-01-01T00:")),
            "{infos:?}"
        );
        assert!(infos[0].ends_with("to 1970-01-01T09:59:59.999Z"), "{infos:?}");
        let late = SeriesRequest {
            range: TimeRange::new(700 * MINUTE, 1200 * MINUTE),
            ..wanted(1200, Raw)
        };
        let (chunks, infos) = chunks_of(&fanout, late).await;
        assert!(chunks.iter().all(|c| c.resolution() == Raw) && infos.is_empty(), "{infos:?}");
    }
}

#[tokio::test]
async fn raw_data_that_begins_inside_of_a_window_leaves_the_part_before_it() {
    let stores = [
        Layered::new("cluster=a", &[(Raw, 615..1200)]),
        Layered::new("cluster=a", &[(OneHour, 0..1200)]),
    ];
    let (chunks, _) = chunks_of(&fanout(&stores).await, wanted(1200, Raw)).await;
    let before = points(&chunks, TimeRange::new(600 * MINUTE, 615 * MINUTE));
    assert_eq!(before, [(615 * MINUTE - 1, OneHour, 15.0)]);
    assert_eq!(samples_of(&chunks, TimeRange::ALL), 1200.0);
    assert_eq!(increase(&chunks), growth(0..1200));
}

#[tokio::test]
async fn one_gateway_alone_answers_as_many_would() {
    let all = [(Raw, 600..1200), (FiveMinutes, 300..900), (OneHour, 0..700)];
    let together = [Layered::new("cluster=a", &all)];
    let apart: Vec<Layered> =
        all.iter().map(|one| Layered::new("cluster=a", std::slice::from_ref(one))).collect();
    for coarsest in Resolution::ALL {
        let (one, one_infos) = chunks_of(&fanout(&together).await, wanted(1200, coarsest)).await;
        let (many, mut many_infos) = chunks_of(&fanout(&apart).await, wanted(1200, coarsest)).await;
        many_infos.sort_by_key(|text| text.contains("1h"));
        assert_eq!(points(&one, TimeRange::ALL), points(&many, TimeRange::ALL), "{coarsest}");
        assert_eq!((samples_of(&many, TimeRange::ALL), one_infos), (1200.0, many_infos));
    }
}

/// The querier above follows the decision of the one below, whatever that one announces.
#[tokio::test]
async fn queriers_stack() {
    let (raw, coarse) = (
        Layered::new("cluster=a", &[(Raw, 615..1200)]),
        Layered::new("cluster=a", &[(OneHour, 0..900)]),
    );
    let flat = fanout(&[raw.clone(), coarse.clone()]).await;
    let mut endpoints = Vec::new();
    for (tier, store) in [("hot", raw), ("cold", coarse)] {
        let settings = FanoutSettings {
            selector_labels: Labels::from_pairs([("tier", tier)]),
            ..FanoutSettings::default()
        };
        let info = store.info().await.unwrap();
        let lower =
            Fanout::new(Arc::new(vec![endpoint("e", Arc::new(store), info)]), settings, clock());
        let info = lower.info().await.unwrap();
        endpoints.push(endpoint("q", Arc::new(lower), info));
    }
    let upper = Fanout::new(Arc::new(endpoints), FanoutSettings::default(), clock());
    let (expected, infos) = chunks_of(&flat, wanted(1200, Raw)).await;
    assert_eq!(chunks_of(&upper, wanted(1200, Raw)).await, (expected.clone(), infos));
    let info = flat.info().await.unwrap();
    let above = Fanout::new(
        Arc::new(vec![endpoint("q", Arc::new(flat), info)]),
        FanoutSettings::default(),
        clock(),
    );
    assert_eq!(
        chunks_of(&above, wanted(1200, Raw)).await.0,
        expected,
        "what was cut is not cut again"
    );
}

#[tokio::test]
async fn old_gateways_stand_in_where_nobody_has_allowed_data() {
    let old = Layered {
        old: true,
        ..Layered::new("cluster=a", &[(FiveMinutes, 0..900), (Raw, 800..900)])
    };
    let raw = Layered::new("cluster=a", &[(Raw, 600..1200)]);
    let (chunks, _) = chunks_of(&fanout(&[old.clone(), raw]).await, wanted(1200, Raw)).await;
    let points = points(&chunks, TimeRange::ALL);
    assert!(
        points.iter().all(|(t, r, _)| *r == if *t < 600 * MINUTE { FiveMinutes } else { Raw }),
        "{points:?}"
    );
    assert_eq!(increase(&chunks), growth(0..1200));
    let (chunks, _) = chunks_of(&fanout(&[old]).await, wanted(1200, Raw)).await;
    assert_eq!(
        samples_of(&chunks, TimeRange::new(0, 800 * MINUTE)),
        800.0,
        "alone it decides by itself"
    );
}

/// An older querier asks for coarser data without a span; each store then decides by itself.
#[tokio::test]
async fn old_queriers_are_answered_as_they_were() {
    let store = Layered::new("cluster=a", &[(FiveMinutes, 0..900), (Raw, 600..1200)]);
    let fanout = fanout(std::slice::from_ref(&store)).await;
    let asked = SeriesRequest { coarser_fallback: true, ..wanted(1200, Raw) };
    assert!(asked.coarser_within.is_empty());
    let (chunks, _) = chunks_of(&fanout, asked).await;
    assert_eq!(samples_of(&chunks, TimeRange::ALL), 1200.0);
    let never = SeriesRequest { coarser_fallback: false, ..wanted(1200, Raw) };
    let (chunks, infos) = chunks_of(&fanout, never).await;
    assert!(chunks.iter().all(|c| c.resolution() == Raw) && infos.is_empty());
}

/// A block of five hours, of which stores may have copies; raw data sometimes covers less of it.
fn held() -> impl Strategy<Value = (Resolution, Range<i64>)> {
    let resolution = prop::sample::select(&Resolution::ALL[..]);
    (resolution, 0i64..6, 0i64..200, 0i64..200).prop_map(|(resolution, block, early, late)| {
        let (start, end) = (block * 300, (block + 1) * 300);
        match resolution {
            Raw if early < 100 => (resolution, start + early..end - late % 100),
            _ => (resolution, start..end),
        }
    })
}

fn stores() -> impl Strategy<Value = Vec<Layered>> {
    let external = prop::sample::select(&["cluster=a,replica=0", "cluster=a,replica=1"][..]);
    let store = (external, prop::collection::vec(held(), 1..6))
        .prop_map(|(set, held)| Layered::new(set, &held));
    prop::collection::vec(store, 1..5)
}

/// Which resolution should answer at a minute.
fn best(stores: &[Layered], minute: i64, coarsest: Resolution) -> Option<Resolution> {
    let there = |r: &Resolution| {
        stores
            .iter()
            .flat_map(|s| &s.held)
            .any(|h| h.resolution == *r && h.minutes.contains(&minute))
    };
    let allowed = Resolution::ALL.into_iter().rev().filter(|r| *r <= coarsest).find(there);
    allowed.or_else(|| Resolution::ALL.into_iter().filter(|r| *r > coarsest).find(there))
}

proptest! {
    /// However data and resolutions are spread over stores: all time that some store has is
    /// answered, by allowed data wherever a store has that, by one resolution at a time; no sample
    /// counts twice, and a counter grows as it did.
    #[test]
    fn a_spread_stream_is_answered_once(
        stores in stores(),
        coarsest in prop::sample::select(&Resolution::ALL[..]),
    ) {
        const END: i64 = 30 * 60;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (chunks, _) = runtime.block_on(async {
            let fanout = fanout(&stores).await;
            chunks_of(&fanout, wanted(END, coarsest)).await
        });
        let expected: Vec<Option<Resolution>> = (0..END).map(|m| best(&stores, m, coarsest)).collect();
        for (t, resolution, _) in points(&chunks, TimeRange::ALL) {
            let minute = (t / MINUTE) as usize;
            prop_assert_eq!(expected[minute], Some(resolution), "at minute {}", minute);
        }
        let mut begin = 0;
        for run in expected.chunk_by(|a, b| a == b) {
            let end = begin + run.len() as i64;
            if let Some(resolution) = run[0] {
                let range = TimeRange::new(begin * MINUTE, end * MINUTE);
                let count = samples_of(&dedup(&chunks), range);
                // windows that are cut stand for whole samples
                let inside = |m: i64| if resolution == OneHour { m % 60 != 0 } else { m % 5 != 0 };
                let cuts = f64::from(u8::from(inside(begin)) + u8::from(inside(end)));
                let cuts = if resolution == Raw { 0.0 } else { cuts };
                prop_assert!((count - run.len() as f64).abs() <= cuts, "{count} from {begin} to \
                    {end} at {resolution}");
            }
            begin = end;
        }
        let there = expected.iter().filter(|r| r.is_some()).count() as i64;
        let (first, last) = (expected.iter().position(Option::is_some), expected.iter().rposition(Option::is_some));
        if let (Some(first), Some(last)) = (first, last)
            && last as i64 - first as i64 + 1 == there
        {
            let grown = increase(&dedup(&chunks));
            let truth = growth(first as i64..last as i64 + 1);
            // what a counter grew in the last window before longer ones is not known
            let borders = expected.windows(2).filter(|w| w[0] < w[1] && w[0] > Some(Raw)).count() as f64;
            prop_assert!((grown - truth).abs() <= borders * 300.0, "{grown} of {truth}");
        }
    }
}

/// One copy of each chunk that replicas share.
fn dedup(chunks: &[SeriesChunk]) -> Vec<SeriesChunk> {
    let mut run: Vec<SeriesChunk> = Vec::new();
    for chunk in chunks {
        let range = TimeRange::new(run.last().map_or(i64::MIN, |last| last.max_time + 1), i64::MAX);
        run.extend(merge::cut(chunk, range, &run).unwrap());
    }
    run
}
