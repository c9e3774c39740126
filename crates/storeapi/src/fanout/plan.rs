//! Which endpoint is asked for which span of time, and which parts of the answers count: decided
//! once for all endpoints of a request.
//!
//! A *stream* is the data of one set of external labels; when replica labels are removed, replicas
//! are one stream. For each stream, every point in time is given to one resolution:
//!
//! 1. the coarsest that is allowed, where any endpoint has such data; where none has, the next
//!    finer;
//! 2. only where no endpoint has allowed data, and coarser data is better than nothing to the
//!    caller, the next coarser.
//!
//! So an answer does not depend on how data is spread over endpoints. Endpoints whose data does not
//! count are not asked, or not for that time; anything more that they send is cut off
//! ([`KeptChunks`]), to the millisecond, because chunks come whole. Where a border falls into a
//! window of coarse data, the part of the window that finer data does not cover counts
//! ([`merge::cut`]): no sample counts twice, none is missing, finer samples that are allowed all
//! count, and no coarse window stands beside them. The same stream seen by two label sets that
//! differ in more than replica labels is two streams: that both hold the same series is rare, and
//! leaving out one because of the other would be a gap.
//!
//! Not all endpoints say which resolutions they have. Sidecars, receivers and rulers are known to
//! have raw data only. Others that do not say, such as Thanos' store gateways, are expected to have
//! raw data: no other endpoint is asked for coarser data in their place. They themselves may send
//! coarser data, if they can, where no endpoint is known to have allowed data. An endpoint that
//! does not know its labels has no effect on others.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, Matcher, Resolution, TimeRange};

use crate::{ComponentType, Coverage, Spans, StoreInfo, TsdbInfo, label_sets_match};

/// The most spans named in a request; where there are more, gaps between them are asked for too.
const MAX_SPANS: usize = 64;

/// What a request wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) range: TimeRange,
    /// The coarsest resolution allowed.
    pub(super) coarsest: Resolution,
    /// Where coarser data is better than nothing.
    pub(super) fallback: Spans,
    pub(super) matchers: &'a [Matcher],
    /// Labels that are removed.
    pub(super) replica_labels: &'a [String],
}

/// What one endpoint is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndpointPart {
    pub(super) range: TimeRange,
    /// Where it may send coarser data; empty means nowhere.
    pub(super) coarser_within: Spans,
    /// `None`: all it sends counts.
    pub(super) keep: Option<Arc<KeptChunks>>,
}

/// Which of the chunks that an endpoint sends count, by stream: for each resolution those in some
/// spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeptChunks(Vec<StreamShape>);

/// The streams whose label sets have the same names.
#[derive(Clone, Debug, PartialEq)]
struct StreamShape {
    names: Vec<Vec<u8>>,
    /// `None`: everything counts.
    streams: HashMap<Labels, Option<Arc<Coverage>>>,
}

impl KeptChunks {
    /// What counts of a series with these final labels; `None`: all of it. If its labels contain
    /// the label sets of several streams, it belongs to the one with the most labels.
    pub(super) fn of(&self, series: &Labels) -> Option<&Coverage> {
        let found =
            self.0.iter().find_map(|shape| shape.streams.get(&series.keep(&shape.names)))?;
        found.as_deref()
    }

    fn insert(&mut self, stream: &Labels, counts: Option<Arc<Coverage>>) {
        let names: Vec<Vec<u8>> = stream.iter().map(|(name, _)| name.to_vec()).collect();
        let at = match self.0.iter().position(|shape| shape.names == names) {
            Some(at) => at,
            None => {
                let at = self.0.partition_point(|shape| shape.names.len() > names.len());
                self.0.insert(at, StreamShape { names, streams: HashMap::new() });
                at
            }
        };
        self.0[at].streams.insert(stream.clone(), counts);
    }

    fn is_everything(&self) -> bool {
        self.0.iter().all(|shape| shape.streams.values().all(Option::is_none))
    }
}

/// Which endpoint is asked what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FanoutPlan {
    /// For each of the endpoints, in their order; `None`: nothing.
    pub(super) parts: Vec<Option<EndpointPart>>,
    /// The coarsest resolution that is known to answer though finer is wanted.
    pub(super) coarser: Option<Resolution>,
}

pub(super) fn plan(infos: &[&StoreInfo], wanted: &Wanted<'_>) -> FanoutPlan {
    let all: Vec<Holdings> = infos.iter().map(|info| holdings(info, wanted)).collect();
    if wanted.coarsest == Resolution::Raw
        && !all.iter().flatten().any(|(_, h)| h.may_fall_back(wanted))
    {
        let raw =
            EndpointPart { range: wanted.range, coarser_within: Spans::default(), keep: None };
        return FanoutPlan { parts: vec![Some(raw); infos.len()], coarser: None };
    }
    let fleet = FleetView::new(&all, wanted);
    let answers =
        |r: &Resolution| fleet.streams.values().any(|decision| !decision.answers.of(*r).is_empty());
    let coarser = Resolution::ALL.into_iter().filter(|r| *r > wanted.coarsest).rfind(answers);
    FanoutPlan { parts: all.iter().map(|held| fleet.part(held, wanted)).collect(), coarser }
}

/// What an endpoint has of a stream, inside the wanted range.
#[derive(Clone, Debug, Default)]
struct Holding {
    known: Coverage,
    /// Where it has raw data as far as is known, and perhaps coarser data.
    perhaps: Spans,
}

impl Holding {
    /// Whether it could be asked for coarser data, whatever others have, if only raw data is
    /// allowed.
    fn may_fall_back(&self, wanted: &Wanted<'_>) -> bool {
        let coarser = self.known.of_others(Resolution::Raw).without(self.known.of(Resolution::Raw));
        !coarser.union(&self.perhaps).intersect(&wanted.fallback).is_empty()
    }

    fn add(&mut self, other: Holding) {
        self.known = self.known.union(&other.known);
        self.perhaps = self.perhaps.union(&other.perhaps);
    }
}

/// By stream; `None` stands for data whose labels are not known.
type Holdings = HashMap<Option<Labels>, Holding>;

/// What an endpoint says that it holds of what may match.
fn holdings(info: &StoreInfo, wanted: &Wanted<'_>) -> Holdings {
    let may_match = |tsdb: &&TsdbInfo| {
        let labels = std::slice::from_ref(&tsdb.labels);
        tsdb.range.overlaps(wanted.range) && label_sets_match(labels, wanted.matchers)
    };
    let mut all = Holdings::new();
    let untold = info.untold();
    for tsdb in info.tsdb_infos.iter().chain(&untold).filter(may_match) {
        let carried = tsdb.labels.without(&tsdb.announced);
        let stream = (!carried.is_empty()).then(|| carried.without(wanted.replica_labels));
        all.entry(stream).or_default().add(holding(info.component, tsdb, wanted.range));
    }
    all
}

fn holding(component: ComponentType, tsdb: &TsdbInfo, wanted: TimeRange) -> Holding {
    let range = tsdb.range.intersect(wanted);
    match &tsdb.coverage {
        Some(coverage) => Holding { known: coverage.within(range), ..Holding::default() },
        None if component.is_raw_alone() => {
            Holding { known: Coverage::raw(range), ..Holding::default() }
        }
        None => Holding { perhaps: range.into(), ..Holding::default() },
    }
}

/// What all endpoints together have, and which resolution answers when.
struct FleetView<'a> {
    streams: HashMap<&'a Labels, Decision>,
    /// Where some stream lacks known allowed data.
    lacking_somewhere: Spans,
}

/// The decision for one stream.
struct Decision {
    /// The spans given to each resolution.
    answers: Coverage,
    /// The spans given to an allowed resolution because data is known to exist there.
    certain: Coverage,
    /// Where an endpoint may have allowed data that is not known of.
    perhaps: Spans,
    /// Where no allowed data is known to exist.
    lacking: Spans,
}

impl Decision {
    fn of(stream: Holding, wanted: &Wanted<'_>) -> Decision {
        let (mut certain, mut open) = (Coverage::default(), Spans::from(wanted.range));
        let (allowed, coarser): (Vec<Resolution>, Vec<Resolution>) =
            Resolution::ALL.into_iter().partition(|r| *r <= wanted.coarsest);
        for resolution in allowed.into_iter().rev() {
            let given = open.intersect(stream.known.of(resolution));
            open = open.without(&given);
            certain = certain.with(resolution, given);
        }
        let (lacking, mut answers) = (open, certain.clone());
        let mut open = lacking.without(&stream.perhaps).intersect(&wanted.fallback);
        for resolution in coarser {
            let given = open.intersect(stream.known.of(resolution));
            open = open.without(&given);
            answers = answers.with(resolution, given);
        }
        Decision { answers, certain, perhaps: stream.perhaps, lacking }
    }

    /// The spans in which chunks of a resolution count that come from an endpoint known to have
    /// them.
    fn keep_known(&self, resolution: Resolution, wanted: &Wanted<'_>) -> Spans {
        if resolution > wanted.coarsest && self.answers.of(resolution).is_empty() {
            // outside the range it would stand beside the data that answers
            return Spans::default();
        }
        let kept = Spans::all().without(&self.answers.of_others(resolution));
        if resolution <= wanted.coarsest { kept } else { kept.without(&self.perhaps) }
    }

    fn keep_perhaps(&self, resolution: Resolution) -> Spans {
        Spans::all().without(&self.certain.of_others(resolution))
    }
}

impl<'a> FleetView<'a> {
    fn new(all: &'a [Holdings], wanted: &Wanted<'_>) -> FleetView<'a> {
        let mut streams: HashMap<&Labels, Holding> = HashMap::new();
        for (stream, holding) in all.iter().flatten() {
            if let Some(stream) = stream {
                streams.entry(stream).or_default().add(holding.clone());
            }
        }
        let decided =
            streams.into_iter().map(|(stream, whole)| (stream, Decision::of(whole, wanted)));
        let streams: HashMap<&Labels, Decision> = decided.collect();
        let mut lacking_somewhere: Spans =
            streams.values().flat_map(|d| d.lacking.iter()).collect();
        if streams.is_empty() {
            lacking_somewhere = wanted.range.into();
        }
        FleetView { streams, lacking_somewhere }
    }

    fn decision(&self, stream: &Option<Labels>) -> Option<&Decision> {
        self.streams.get(stream.as_ref()?)
    }

    fn part(&self, held: &Holdings, wanted: &Wanted<'_>) -> Option<EndpointPart> {
        let mut range = wanted.range;
        if !held.is_empty() {
            let useful = held
                .iter()
                .flat_map(|(stream, holding)| useful(holding, self.decision(stream), range));
            range = useful.collect::<Spans>().hull()?;
        }
        let within =
            held.iter().flat_map(|(stream, holding)| self.coarser_within(stream, holding, wanted));
        let within = within.map(|span| span.intersect(wanted.range)).collect::<Spans>();
        let reach = within.hull().map_or(range.end, |hull| hull.end.max(range.end));
        let keep = self.keep(held, wanted);
        Some(EndpointPart {
            range: TimeRange::new(range.start, reach),
            coarser_within: within.at_most(MAX_SPANS),
            keep: (!keep.is_everything()).then(|| Arc::new(keep)),
        })
    }

    fn coarser_within(
        &self,
        stream: &Option<Labels>,
        holding: &Holding,
        wanted: &Wanted<'_>,
    ) -> Spans {
        let decision = self.decision(stream);
        let lacking = decision.map_or(&self.lacking_somewhere, |d| &d.lacking);
        let perhaps = holding.perhaps.intersect(lacking).intersect(&wanted.fallback);
        let coarser = Resolution::ALL.into_iter().filter(|r| *r > wanted.coarsest);
        let given = coarser.filter_map(|r| {
            let spans = decision?.answers.of(r).intersect(holding.known.of(r));
            // the part before the end of a span counts in the window that the span ends in
            Some(spans.iter().map(|span| r.to_whole_windows(span)).collect::<Spans>())
        });
        given.fold(perhaps, |all, spans| all.union(&spans))
    }

    fn keep(&self, held: &Holdings, wanted: &Wanted<'_>) -> KeptChunks {
        let mut keep = KeptChunks::default();
        for (stream, holding) in held {
            let (Some(labels), Some(decision)) = (stream, self.decision(stream)) else { continue };
            let certain = holding.perhaps.is_empty();
            let counts =
                Resolution::ALL.into_iter().fold(Coverage::default(), |all, resolution| {
                    let spans = match certain {
                        true => decision.keep_known(resolution, wanted),
                        false => decision.keep_perhaps(resolution),
                    };
                    all.with(resolution, spans)
                });
            // what may come but does not count
            let is_cut = |r: &Resolution| match certain {
                true => !holding.known.of(*r).without(counts.of(*r)).is_empty(),
                false => *counts.of(*r) != Spans::all(),
            };
            let cuts = Resolution::ALL.iter().any(is_cut);
            keep.insert(labels, cuts.then(|| Arc::new(counts)));
        }
        keep
    }
}

/// Where what is held may count.
fn useful(holding: &Holding, decision: Option<&Decision>, range: TimeRange) -> Spans {
    let all = Spans::from(range);
    // an endpoint that is not relied upon is asked too, to learn why
    let Some(decision) =
        decision.filter(|_| holding.perhaps.is_empty() && !holding.known.is_empty())
    else {
        return all;
    };
    let others = Resolution::ALL
        .into_iter()
        .flat_map(|r| decision.answers.of(r).without(holding.known.of(r)));
    all.without(&others.collect())
}

#[cfg(test)]
mod tests;
