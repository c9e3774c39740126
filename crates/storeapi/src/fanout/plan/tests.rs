use proptest::prelude::*;

use super::*;

use Resolution::{FiveMinutes, OneHour, Raw};

const HOUR: i64 = 3_600_000;

fn hours(start: i64, end: i64) -> TimeRange {
    TimeRange::new(start * HOUR, end * HOUR)
}

/// A store and hours as `gateway | cluster=a,replica=0: raw 0-10 5m 0-40 | cluster=b: 1h 20-40`. A
/// store with `old` before its name does not report resolutions, and a set without labels is data
/// whose labels are not known.
fn store(text: &str) -> StoreInfo {
    let mut parts = text.split('|').map(str::trim);
    let name = parts.next().unwrap();
    let (old, name) = name.strip_prefix("old ").map_or((false, name), |name| (true, name));
    let component = ComponentType::from_name(if name == "gateway" { "store" } else { name });
    let stretch = |text: &str| {
        let (set, spans) = text.split_once(':').unwrap();
        let words: Vec<&str> = spans.split_whitespace().collect();
        let coverage = words.chunks(2).fold(Coverage::default(), |all, pair| {
            let resolution = resolution(pair[0]);
            let spans = all.of(resolution).union(&spans_of(pair[1]));
            all.with(resolution, spans)
        });
        let hull = Resolution::ALL
            .into_iter()
            .flat_map(|r| coverage.of(r).clone())
            .collect::<Spans>()
            .hull();
        let info = TsdbInfo::new(labels(set), hull.unwrap_or(TimeRange::ALL));
        if old { info } else { info.with_coverage(coverage) }
    };
    let tsdb_infos: Vec<TsdbInfo> = parts.map(stretch).collect();
    StoreInfo {
        component,
        label_sets: tsdb_infos.iter().map(|tsdb| tsdb.labels.clone()).collect(),
        range: TimeRange::ALL,
        supports_sharding: true,
        supports_without_replica_labels: true,
        tsdb_infos,
    }
}

fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').filter_map(|pair| pair.split_once('=')))
}

fn resolution(text: &str) -> Resolution {
    Resolution::ALL.into_iter().find(|r| r.to_string() == text).unwrap()
}

fn spans_of(text: &str) -> Spans {
    let span = |text: &str| {
        let (start, end) = text.split_once('-').unwrap();
        hours(start.parse().unwrap(), end.parse().unwrap())
    };
    text.split(',').map(span).collect()
}

/// Spans inside of the hours 0 to 100.
fn shown(spans: &Spans) -> String {
    let inside = spans.intersect(&hours(0, 100).into());
    let texts: Vec<String> =
        inside.iter().map(|s| format!("{}-{}", s.start / HOUR, s.end / HOUR)).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
}

fn all_of(range: &str, coarsest: Resolution) -> Wanted<'static> {
    let range = spans_of(range).hull().unwrap();
    Wanted { range, coarsest, fallback: Spans::all(), matchers: &[], replica_labels: &[] }
}

/// Checks what each store is asked, and which part of its answer counts for a series of
/// `cluster=a`, where that is not all: `0-100 coarser 0-20 keep raw 20-100 5m 0-20 1h -`.
fn check(stores: &[&str], wanted: &Wanted<'_>, expected: &[&str]) {
    let infos: Vec<StoreInfo> = stores.iter().map(|text| store(text)).collect();
    check_infos(&infos, wanted, "cluster=a,pod=x", expected);
}

fn check_infos(infos: &[StoreInfo], wanted: &Wanted<'_>, series: &str, expected: &[&str]) {
    let parts = plan(&infos.iter().collect::<Vec<_>>(), wanted).parts;
    let text = |part: &Option<EndpointPart>| {
        let Some(part) = part else { return "-".to_owned() };
        let mut text = shown(&part.range.into());
        if !part.coarser_within.is_empty() {
            text += &format!(" coarser {}", shown(&part.coarser_within));
        }
        if let Some(counts) = part.keep.as_ref().and_then(|keep| keep.of(&labels(series))) {
            let spans = Resolution::ALL.map(|r| format!("{r} {}", shown(counts.of(r))));
            text += &format!(" keep {}", spans.join(" "));
        }
        text
    };
    let found: Vec<String> = parts.iter().map(text).collect();
    assert_eq!(found, expected);
}

#[test]
fn where_raw_data_is_all_that_is_wanted_and_there_everybody_is_asked_for_it() {
    let stores = ["sidecar | cluster=a: raw 40-100", "gateway | cluster=a: raw 0-60 5m 0-50"];
    check(&stores, &all_of("0-100", Raw), &["0-100", "0-100"]);
    let stores = ["sidecar | cluster=a: raw 40-100", "gateway | cluster=a: 5m 0-80"];
    check(
        &stores,
        &Wanted { fallback: Spans::default(), ..all_of("0-100", Raw) },
        &["0-100", "0-100"],
    );
    let stores = ["gateway | cluster=a: raw 0-100 | cluster=b: 5m 0-100"];
    let matchers = [Matcher::equal("cluster", "a")];
    check(&stores, &Wanted { matchers: &matchers, ..all_of("0-100", Raw) }, &["0-100"]);
    check(&[], &all_of("0-100", Raw), &[]);
}

#[test]
fn who_has_coarser_data_is_asked_where_nobody_has_allowed_data() {
    let stores = ["sidecar | cluster=a: raw 40-100", "gateway | cluster=a: 5m 0-80"];
    let gateway = "0-40 coarser 0-40 keep raw 40-100 5m 0-40 1h -";
    check(&stores, &all_of("0-100", Raw), &["40-100", gateway]);
    check(&stores, &all_of("50-100", Raw), &["50-100", "-"]);
    check(&stores, &all_of("0-40", Raw), &["0-40", "0-40 coarser 0-40"]);
    let some = Wanted { fallback: spans_of("10-20"), ..all_of("0-100", Raw) };
    check(&stores, &some, &["0-100", "0-40 coarser 10-20 keep raw 0-10,20-100 5m 0-40 1h -"]);
}

/// The time of a window is its end: a store that holds one is asked for all of it.
#[test]
fn spans_that_end_in_a_window_are_asked_for_with_that_window() {
    let mut sidecar = store("sidecar | cluster=a: raw 40-100");
    sidecar.tsdb_infos[0].coverage =
        Some(Coverage::raw(TimeRange::new(40 * HOUR + 60_000, 100 * HOUR)));
    for (coarse, end) in [("5m", 40 * HOUR + 300_000), ("1h", 41 * HOUR)] {
        let infos = [sidecar.clone(), store(&format!("gateway | cluster=a: {coarse} 0-80"))];
        let parts = plan(&infos.each_ref(), &all_of("0-100", Raw)).parts;
        let part = parts[1].as_ref().unwrap();
        assert_eq!(
            (part.range, part.coarser_within.hull()),
            (TimeRange::new(0, end), Some(part.range))
        );
    }
}

#[test]
fn of_coarser_data_the_finest_stands_in() {
    let stores = ["gateway | cluster=a: 1h 0-80", "gateway | cluster=a: 5m 20-40 raw 60-100"];
    let hours = "0-60 coarser 0-20,40-60 keep raw 60-100 5m 20-40 1h 0-20,40-60";
    check(&stores, &all_of("0-100", Raw), &[hours, "20-100 coarser 20-40"]);
}

#[test]
fn of_what_is_allowed_the_coarsest_answers_whoever_has_it() {
    let keep = "keep raw 60-100 5m 40-60 1h 0-40";
    let stores = ["sidecar | cluster=a: raw 0-100", "gateway | cluster=a: 5m 0-60 1h 0-40"];
    let expected = [format!("60-100 {keep}"), format!("0-60 {keep}")];
    check(&stores, &all_of("0-100", OneHour), &expected.each_ref().map(String::as_str));
    check(
        &["gateway | cluster=a: raw 0-100 5m 0-60"],
        &all_of("0-100", FiveMinutes),
        &["0-100 keep raw 60-100 5m 0-60 1h -"],
    );
}

#[test]
fn replicas_are_one_stream_unless_they_are_told_apart() {
    let stores = ["gateway | cluster=a,replica=0: raw 0-50 | cluster=a,replica=1: 5m 0-100"];
    let apart = all_of("0-100", Raw);
    check(&stores, &apart, &["0-100 coarser 0-100"]);
    let replica_labels = ["replica".to_owned()];
    let together = Wanted { replica_labels: &replica_labels, ..apart };
    check(&stores, &together, &["0-100 coarser 50-100 keep raw 0-50 5m 50-100 1h -"]);
    let only_replicas = ["sidecar | replica=0: raw 50-100", "gateway | replica=1: 5m 0-100"];
    check(&only_replicas, &together, &["50-100", "0-50 coarser 0-50 keep raw 50-100 5m 0-50 1h -"]);
}

#[test]
fn other_external_labels_are_other_streams() {
    for other in ["cluster=b", "cluster=a,shard=1", "region=a"] {
        let sidecar = format!("sidecar | {other}: raw 0-100");
        check(
            &[&sidecar, "gateway | cluster=a: 5m 0-100"],
            &all_of("0-100", Raw),
            &["0-100", "0-100 coarser 0-100"],
        );
    }
}

#[test]
fn a_series_is_of_the_stream_with_most_labels() {
    let gateway = store("gateway | cluster=a: 5m 0-100 | cluster=a,shard=1: 5m 0-100");
    let infos = [store("sidecar | cluster=a: raw 50-100"), gateway];
    let (coarse, cut) = ("0-100 coarser 0-100", "0-100 coarser 0-100 keep raw 50-100 5m 0-50 1h -");
    check_infos(&infos, &all_of("0-100", Raw), "cluster=a,shard=2", &["50-100", cut]);
    check_infos(&infos, &all_of("0-100", Raw), "cluster=a,shard=1,pod=x", &["50-100", coarse]);
}

#[test]
fn labels_that_queriers_only_announce_are_of_no_stream() {
    let querier = |tier: &str, text: &str| {
        let mut info = store(text);
        for tsdb in &mut info.tsdb_infos {
            tsdb.labels = tsdb.labels.with("tier", tier);
            tsdb.announced.push("tier".to_owned());
        }
        info.label_sets = info.tsdb_infos.iter().map(|tsdb| tsdb.labels.clone()).collect();
        info
    };
    let infos = [
        querier("hot", "query | cluster=a: raw 50-100"),
        querier("cold", "query | cluster=a: 5m 0-100"),
    ];
    let cold = "0-50 coarser 0-50 keep raw 50-100 5m 0-50 1h -";
    check_infos(&infos, &all_of("0-100", Raw), "cluster=a,pod=x", &["50-100", cold]);
}

#[test]
fn sidecars_that_tell_nothing_are_known_to_have_raw_data() {
    let stores = ["old sidecar | cluster=a: raw 40-100", "gateway | cluster=a: 5m 0-80"];
    let gateway = "0-40 coarser 0-40 keep raw 40-100 5m 0-40 1h -";
    check(&stores, &all_of("0-100", Raw), &["40-100", gateway]);
}

#[test]
fn of_gateways_that_tell_nothing_raw_data_is_expected() {
    let (old, new) = ("old gateway | cluster=a: raw 0-60", "gateway | cluster=a: 5m 0-100");
    let keep = "0-100 coarser 60-100 keep raw 0-60 5m 60-100 1h -";
    check(&[old, new], &all_of("0-100", Raw), &["0-100 coarser 0-60", keep]);
    check(&[old, old], &all_of("0-100", Raw), &["0-100 coarser 0-60", "0-100 coarser 0-60"]);
    let sidecar = "sidecar | cluster=a: raw 40-100";
    let keep = "0-100 coarser 0-40 keep raw 0-100 5m 0-40 1h 0-40";
    check(&[old, sidecar], &all_of("0-100", Raw), &[keep, "0-100"]);
    let keep = "0-100 keep raw 50-100 5m 0-50 1h -";
    let new = "gateway | cluster=a: 5m 0-50";
    check(
        &[old, new, sidecar],
        &all_of("0-100", FiveMinutes),
        &[keep, "0-50", "50-100 keep raw 50-100 5m 0-50 1h -"],
    );
}

/// For example, blocks that could not be read.
#[test]
fn data_of_unknown_labels_holds_nobody_back() {
    let unknown = "old gateway | : raw 0-100";
    let coarse = "0-100 coarser 0-100";
    check(&["gateway | cluster=a: 5m 0-100", unknown], &all_of("0-100", Raw), &[coarse, coarse]);
    check(
        &["gateway | cluster=a: raw 0-50", unknown],
        &all_of("0-100", Raw),
        &["0-100", "0-100 coarser 50-100"],
    );
    check(&["gateway | cluster=a: raw 0-100", unknown], &all_of("0-100", Raw), &["0-100", "0-100"]);
}

#[test]
fn who_does_not_answer_holds_nobody_back_and_is_asked_all_the_same() {
    for sidecar in ["sidecar | cluster=a: raw 0-100", "old sidecar | cluster=a: raw 0-100"] {
        let gateway = store("gateway | cluster=a: 5m 0-100");
        let infos = [store(sidecar).covering_nothing(), gateway];
        check_infos(&infos, &all_of("0-100", Raw), "cluster=a", &["0-100", "0-100 coarser 0-100"]);
    }
    let mut untold = store("old sidecar | cluster=a: raw 0-100");
    untold.tsdb_infos.clear();
    let infos = [untold.covering_nothing(), store("gateway | cluster=a: raw 0-20 5m 0-100")];
    check_infos(
        &infos,
        &all_of("0-100", Raw),
        "cluster=a",
        &["0-100", "0-100 coarser 20-100 keep raw 0-20 5m 20-100 1h -"],
    );
}

#[test]
fn no_more_spans_are_named_than_a_request_can_bear() {
    let spans: Vec<String> =
        (0..200).map(|i| format!("{}-{}", i * 10, i * 10 + 5 + i % 2)).collect();
    let stores = [
        store("gateway | cluster=a: raw 0-1"),
        store(&format!("gateway | cluster=a: 5m {}", spans.join(","))),
    ];
    let wanted = all_of("0-3000", Raw);
    let parts = plan(&stores.iter().collect::<Vec<_>>(), &wanted).parts;
    let within = &parts[1].as_ref().unwrap().coarser_within;
    assert_eq!((within.len(), within.hull()), (MAX_SPANS, Some(hours(1, 1996))));
}

/// What each label set of a store covers.
type Made = Vec<(&'static str, Coverage)>;

fn made_store() -> impl Strategy<Value = Made> {
    let spans = || {
        let span =
            (0i64..100, 1i64..50).prop_map(|(start, len)| hours(start, (start + len).min(100)));
        prop::collection::vec(span, 0..3).prop_map(Spans::from_iter)
    };
    let coverage = (spans(), spans(), spans()).prop_map(|(raw, five, hour)| {
        Coverage::default().with(Raw, raw).with(FiveMinutes, five).with(OneHour, hour)
    });
    const SETS: [&str; 4] = [
        "cluster=a,replica=0",
        "cluster=a,replica=1",
        "cluster=b,replica=0",
        "cluster=a,shard=1,replica=0",
    ];
    prop::collection::vec((prop::sample::select(&SETS[..]), coverage), 1..4).prop_map(
        |mut sets: Made| {
            sets.sort_by_key(|(labels, _)| *labels);
            sets.dedup_by_key(|(labels, _)| *labels);
            sets
        },
    )
}

fn info_of(made: &Made) -> StoreInfo {
    let mut info = store("gateway");
    info.label_sets = made.iter().map(|(set, _)| labels(set)).collect();
    let tsdb = |(set, coverage): &(&str, Coverage)| {
        TsdbInfo::new(labels(set), hours(0, 100)).with_coverage(coverage.clone())
    };
    info.tsdb_infos = made.iter().map(tsdb).collect();
    info
}

proptest! {
    /// However data and resolutions are spread: every point in time is answered if and only if a
    /// store has it, by allowed data if and only if a store has that, and never by two resolutions.
    #[test]
    fn one_resolution_answers_whoever_has_it(
        stores in prop::collection::vec(made_store(), 1..5),
        coarsest in prop::sample::select(&Resolution::ALL[..]),
        falls_back in any::<bool>(),
        together in any::<bool>(),
    ) {
        let infos: Vec<StoreInfo> = stores.iter().map(info_of).collect();
        let fallback = if falls_back { Spans::all() } else { Spans::default() };
        let replica_labels: Vec<String> = together.then(|| "replica".to_owned()).into_iter().collect();
        let wanted = Wanted { fallback, replica_labels: &replica_labels, ..all_of("0-100", coarsest) };
        let parts = plan(&infos.iter().collect::<Vec<_>>(), &wanted).parts;
        let stream_of = |set: &str| labels(set).without(&replica_labels);
        let streams: std::collections::BTreeSet<Labels> =
            stores.iter().flatten().map(|(set, _)| stream_of(set)).collect();
        for stream in &streams {
            let of_stream = |made: &Made| -> Vec<Coverage> {
                made.iter().filter(|(set, _)| stream_of(set) == *stream).map(|(_, c)| c.clone()).collect()
            };
            let series = stream.with("pod", "x");
            for t in (0..100).map(|hour| hour * HOUR + 1) {
                let has = |coverage: &Coverage, r: Resolution| coverage.of(r).cover_closed(t, t);
                let best = |coverages: &[Coverage], fallback: bool| {
                    let there = |r: &Resolution| coverages.iter().any(|c| has(c, *r));
                    let allowed = Resolution::ALL.into_iter().rev().filter(|r| *r <= coarsest).find(there);
                    let coarser = Resolution::ALL.into_iter().filter(|r| fallback && *r > coarsest).find(there);
                    allowed.or(coarser)
                };
                let all: Vec<Coverage> = stores.iter().flat_map(of_stream).collect();
                let expected = best(&all, falls_back);
                // all that could come, and what does if each label set answers as its own store
                // would
                let (mut possible, mut certain) = (Vec::new(), Vec::new());
                for (made, part) in stores.iter().zip(&parts) {
                    let Some(part) = part else { continue };
                    let counts = |r: Resolution| {
                        let counts = part.keep.as_ref().and_then(|keep| keep.of(&series));
                        counts.is_none_or(|counts| counts.of(r).cover_closed(t, t))
                    };
                    for coverage in of_stream(made) {
                        let may_come = |r: &Resolution| {
                            has(&coverage, *r) && (*r <= coarsest || !part.coarser_within.is_empty())
                        };
                        possible.extend(Resolution::ALL.into_iter().filter(may_come).filter(|r| counts(*r)));
                        let own = best(&[coverage], part.coarser_within.cover_closed(t, t));
                        certain.extend(own.filter(|r| part.range.contains(t) && counts(*r)));
                    }
                }
                prop_assert!(possible.iter().all(|r| Some(*r) == expected), "{stream} at {t}: \
                    {possible:?}");
                prop_assert_eq!(certain.first().copied(), expected, "{} at {}", stream, t);
            }
        }
    }
}
