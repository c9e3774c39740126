use std::collections::BTreeSet;

use model::{TimeRange, is_stale_nan};

use crate::*;

const DAY_MS: i64 = 12 * BLOCK_MS;
const START: i64 = 1_767_225_600_000;

fn kubernetes(days: i64) -> Fleet {
    Fleet::new(Settings::kubernetes(7, TimeRange::new(START, START + days * DAY_MS))).unwrap()
}

/// All samples of one series, joined from windows of `step_ms`.
fn joined(fleet: &Fleet, replica: &Replica, series: &SeriesSpec, step_ms: i64) -> GeneratedSamples {
    let TimeRange { start, end } = fleet.settings().range;
    let (mut all, mut part) = (GeneratedSamples::default(), GeneratedSamples::default());
    for t in (start..end).step_by(step_ms as usize) {
        ServerScrapes::new(fleet, replica, TimeRange::new(t, t + step_ms))
            .samples(series, &mut part);
        all.stale.extend(part.stale.iter().map(|i| i + all.ts.len()));
        all.ts.extend(&part.ts);
        all.floats.extend(&part.floats);
        all.histograms.append(&mut part.histograms);
    }
    all
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn settings_that_describe_no_fleet_are_refused() {
    let good = Settings::kubernetes(1, TimeRange::new(0, BLOCK_MS));
    let refused = |settings: Settings| Fleet::new(settings).unwrap_err();
    assert!(matches!(
        refused(Settings { range: TimeRange::new(0, 0), ..good.clone() }),
        Error::Range { .. }
    ));
    assert!(matches!(
        refused(Settings { range: TimeRange::new(1, BLOCK_MS), ..good.clone() }),
        Error::Range { .. }
    ));
    assert_eq!(refused(Settings { scrape_interval_ms: 5, ..good.clone() }), Error::Interval(5));
    assert_eq!(refused(Settings { clusters: vec![], ..good.clone() }), Error::Empty("clusters"));
    assert_eq!(refused(Settings { replicas: vec![], ..good }).kind(), ErrorKind::Invalid);
}

#[test]
fn the_seed_decides_everything() {
    let (a, b) = (kubernetes(1), kubernetes(1));
    let other = Fleet::new(Settings { seed: 8, ..a.settings().clone() }).unwrap();
    let first = |fleet: &Fleet| {
        let window =
            ServerScrapes::new(fleet, &fleet.replicas()[0], fleet.block_ranges().next().unwrap());
        let mut samples = GeneratedSamples::default();
        let series: Vec<(String, GeneratedSamples)> = window
            .series()
            .filter(|series| series.metric() != "up")
            .map(|series| {
                window.samples(series, &mut samples);
                (series.labels().to_string(), samples.clone())
            })
            .collect();
        series
    };
    assert_eq!(format!("{:?}", first(&a)), format!("{:?}", first(&b)));
    assert_ne!(format!("{:?}", first(&a)), format!("{:?}", first(&other)));
}

#[test]
fn windows_of_any_length_join_to_the_same_series() {
    let fleet = kubernetes(2);
    let replica = &fleet.replicas()[1];
    for series in fleet.clusters()[0].series().iter().step_by(17) {
        let (short, long) = (
            joined(&fleet, replica, series, BLOCK_MS),
            joined(&fleet, replica, series, 2 * DAY_MS),
        );
        assert_eq!(short.ts, long.ts, "{}", series.labels());
        assert_eq!(short.stale, long.stale, "{}", series.labels());
        assert_eq!(bits(&short.floats), bits(&long.floats), "{}", series.labels());
        assert_eq!(short.histograms.len(), long.histograms.len());
        assert!(short.ts.windows(2).all(|t| t[0] < t[1]));
        assert_eq!(short.floats.len().max(short.histograms.len()), short.ts.len());
    }
}

#[test]
fn five_hundred_series_are_there_at_any_time() {
    let fleet = kubernetes(4);
    for cluster in fleet.clusters() {
        assert!(
            cluster.series().windows(2).all(|w| w[0].labels() < w[1].labels()),
            "sorted and unique"
        );
        for t in (START..START + 4 * DAY_MS).step_by(1_800_000) {
            let alive = cluster.series().iter().filter(|series| series.life().contains(t)).count();
            assert!((500..560).contains(&alive), "{alive} series");
        }
        let gone = cluster.series().iter().filter(|s| s.life().end < START + 4 * DAY_MS).count();
        assert!(gone > 200, "pods come and go: {gone} series ended");
    }
}

#[test]
fn thirty_days_of_four_servers_are_eighty_million_samples() {
    let fleet = kubernetes(3);
    let samples: u64 = fleet
        .replicas()
        .iter()
        .flat_map(|r| fleet.counts(r, TimeRange::ALL).into_values().collect::<Vec<_>>())
        .map(|c| c.samples)
        .sum();
    assert!(samples * 10 > 82_000_000, "{} in 30 days", samples * 10);
    assert_eq!(fleet.block_ranges().count(), 36);
}

#[test]
fn a_series_that_ends_is_marked_once_by_every_server_that_looked() {
    let fleet = kubernetes(3);
    let end = fleet.settings().range.end;
    let ended: Vec<&SeriesSpec> = fleet.clusters()[0]
        .series()
        .iter()
        .filter(|s| s.metric() == "kube_pod_info" && s.life().end < end - DAY_MS / 2)
        .collect();
    assert!(ended.len() > 5);
    let mut marked = 0;
    for replica in &fleet.replicas()[..2] {
        for series in &ended {
            let samples = joined(&fleet, replica, series, BLOCK_MS);
            assert!(samples.stale.iter().all(|i| is_stale_nan(samples.floats[*i])));
            let last = *samples.ts.last().unwrap();
            if samples.stale.last() == Some(&(samples.len() - 1)) && last >= series.life().end {
                marked += 1;
                assert!(last < series.life().end + 70_000);
            }
        }
    }
    assert!(marked * 10 >= ended.len() * 2 * 9, "{marked} of {} markers", ended.len() * 2);
}

#[test]
fn replicas_see_the_same_truth_at_other_instants() {
    let fleet = kubernetes(1);
    let (a, b) = (&fleet.replicas()[0], &fleet.replicas()[1]);
    let series = fleet.clusters()[0]
        .series()
        .iter()
        .find(|s| s.metric() == "node_memory_MemAvailable_bytes")
        .unwrap();
    let (of_a, of_b) = (joined(&fleet, a, series, DAY_MS), joined(&fleet, b, series, DAY_MS));
    assert!(of_a.ts.iter().filter(|t| of_b.ts.contains(t)).count() < 50, "other offsets");
    let (truth_a, truth_b) =
        (fleet.truth(a, series, TimeRange::ALL), fleet.truth(b, series, TimeRange::ALL));
    let (mean_a, mean_b) =
        (truth_a.sum / truth_a.samples as f64, truth_b.sum / truth_b.samples as f64);
    assert!((mean_a / mean_b - 1.0).abs() < 0.01);
    assert!((truth_a.max / truth_b.max - 1.0).abs() < 0.05);
}

#[test]
fn replicas_have_gaps_of_their_own() {
    let fleet = kubernetes(12);
    let up = fleet.clusters()[0].series().iter().find(|s| s.metric() == "up").unwrap();
    let longest = |replica| {
        let ts = joined(&fleet, replica, up, DAY_MS).ts;
        let gap = ts.windows(2).max_by_key(|t| t[1] - t[0]).unwrap();
        (gap[0], gap[1] - gap[0])
    };
    let (a, b) = (longest(&fleet.replicas()[0]), longest(&fleet.replicas()[1]));
    assert!(a.1 > 110_000 && b.1 > 110_000, "{a:?} {b:?}");
    assert_ne!(a.0, b.0);
}

#[test]
fn the_truth_is_what_a_naive_reader_finds() {
    let fleet = kubernetes(2);
    let replica = &fleet.replicas()[2];
    let range = TimeRange::new(START + BLOCK_MS / 3, START + DAY_MS + 12_345);
    let mut stale = 0;
    for series in fleet.clusters()[1].series().iter().step_by(11) {
        let all = joined(&fleet, replica, series, BLOCK_MS);
        let truth = fleet.truth(replica, series, range);
        let inside: Vec<usize> = (0..all.len()).filter(|i| range.contains(all.ts[*i])).collect();
        let live: Vec<usize> = inside.iter().copied().filter(|i| !all.stale.contains(i)).collect();
        assert_eq!(truth.samples as usize, live.len(), "{}", series.labels());
        assert_eq!(truth.stale_markers as usize, inside.len() - live.len());
        stale += truth.stale_markers;
        if series.kind() != Kind::Histogram {
            let values: Vec<f64> = live.iter().map(|i| all.floats[*i]).collect();
            assert_eq!(truth.sum, values.iter().fold(0.0, |sum, v| sum + v));
            assert_eq!(truth.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(truth.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
    assert!(stale > 0);
    for (series, truth) in fleet.truths(replica, range).into_iter().step_by(13) {
        assert_eq!(truth, fleet.truth(replica, series, range), "{}", series.labels());
    }
}

#[test]
fn counters_gain_what_the_truth_says_within_a_scrape_per_reset() {
    let fleet = kubernetes(3);
    let replica = &fleet.replicas()[0];
    let mut resets = 0;
    for series in
        fleet.clusters()[0].series().iter().filter(|s| s.metric() == "http_requests_total")
    {
        let samples = joined(&fleet, replica, series, DAY_MS);
        let live: Vec<(i64, f64)> = (0..samples.len())
            .filter(|i| !samples.stale.contains(i))
            .map(|i| (samples.ts[i], samples.floats[i]))
            .collect();
        let (Some(first), Some(last)) = (live.first(), live.last()) else { continue };
        let (mut gained, mut drops) = (0.0, 0);
        for pair in live.windows(2) {
            let reset = pair[1].1 < pair[0].1;
            gained += if reset { pair[1].1 } else { pair[1].1 - pair[0].1 };
            drops += u32::from(reset);
        }
        assert!(drops as usize <= fleet.resets(series, TimeRange::ALL));
        resets += drops;
        let truth = fleet.growth(series, TimeRange::new(first.0, last.0)).unwrap();
        // a reset hides the growth between the last scrape before it and itself
        let hidden = (truth - gained) / truth;
        assert!(
            hidden > -0.02 && hidden < 0.05 + 0.05 * f64::from(drops),
            "gained {gained} of {truth}, {drops} resets"
        );
    }
    assert!(resets > 5, "{resets} resets");
}

#[test]
fn buckets_are_cumulative_and_end_in_the_count() {
    let fleet = kubernetes(1);
    let replica = &fleet.replicas()[3];
    let window = ServerScrapes::new(&fleet, replica, fleet.block_ranges().next().unwrap());
    let of = |metric: &'static str| window.series().filter(move |s| s.metric() == metric);
    let mut samples = GeneratedSamples::default();
    let mut groups = 0;
    for count in of("http_request_duration_seconds_count") {
        window.samples(count, &mut samples);
        let Some(total) = samples.floats.last().copied() else { continue };
        let group = |s: &&SeriesSpec| {
            s.labels().get("pod") == count.labels().get("pod")
                && s.labels().get("handler") == count.labels().get("handler")
        };
        let mut buckets: Vec<(f64, f64)> = of("http_request_duration_seconds_bucket")
            .filter(group)
            .map(|s| {
                window.samples(s, &mut samples);
                let le = std::str::from_utf8(s.labels().get("le").unwrap()).unwrap();
                (le.parse().unwrap(), samples.floats.last().copied().unwrap())
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(buckets.len(), 10);
        assert!(buckets.windows(2).all(|w| w[0].1 <= w[1].1), "{buckets:?}");
        assert!(is_stale_nan(total) || buckets[9].1 == total);
        groups += 1;
    }
    assert!(groups >= 8);
}

#[test]
fn native_histograms_add_up_and_count_up() {
    let fleet = kubernetes(1);
    let series = fleet.clusters()[0].series().iter().find(|s| s.kind() == Kind::Histogram).unwrap();
    let samples = joined(&fleet, &fleet.replicas()[0], series, DAY_MS);
    assert!(samples.floats.is_empty() && samples.len() > 100);
    let mut last = 0;
    for (i, histogram) in samples.histograms.iter().enumerate() {
        if samples.stale.contains(&i) {
            assert!(is_stale_nan(histogram.sum));
            continue;
        }
        let mut in_bucket = 0;
        let mut add = |delta: &i64| {
            in_bucket += delta;
            in_bucket
        };
        let buckets: Vec<i64> = histogram.positive_buckets.iter().map(&mut add).collect();
        assert!(buckets.iter().all(|count| *count >= 0));
        assert_eq!(histogram.count as i64, buckets.iter().sum::<i64>());
        let spans: u32 = histogram.positive_spans.iter().map(|s| s.length).sum();
        assert_eq!(spans as usize, histogram.positive_buckets.len());
        let resets = histogram.count < last;
        assert!(!resets || histogram.count < 10_000);
        last = histogram.count;
    }
    let mean = samples.histograms[50].sum / samples.histograms[50].count as f64;
    assert!((0.01..0.2).contains(&mean), "mean duration {mean} s");
}

#[test]
fn the_fleet_has_what_the_alerts_look_for() {
    let fleet = kubernetes(1);
    for cluster in fleet.clusters() {
        let has = |metric: &str, name: &str, value: &str| {
            cluster
                .series()
                .iter()
                .any(|s| s.metric() == metric && s.labels().get(name) == Some(value.as_bytes()))
        };
        assert!(has("http_requests_total", "status", "503"));
        assert!(has("node_cpu_seconds_total", "mode", "idle"));
        assert!(has("kube_pod_container_resource_requests", "resource", "cpu"));
        assert!(has("node_filesystem_avail_bytes", "fstype", "tmpfs"));
        let failing =
            cluster.series().iter().filter(|s| s.metric() == "probe_success").filter(|s| {
                let truth = fleet.truth(&fleet.replicas()[0], s, TimeRange::ALL);
                truth.max == 0.0
            });
        assert!(failing.count() >= 1);
        let idle = cluster.series().iter().filter(|s| s.labels().get("mode") == Some(b"idle"));
        let busiest = idle
            .map(|s| fleet.growth(s, TimeRange::new(START + DAY_MS / 2, START + DAY_MS)).unwrap())
            .fold(f64::INFINITY, f64::min);
        assert!(busiest / (DAY_MS as f64 / 2000.0) < 0.06, "one node is more than 90 % busy");
    }
    assert_eq!(kubernetes_queries().count(), 20);
    let metrics: BTreeSet<&str> =
        fleet.clusters()[0].series().iter().map(SeriesSpec::metric).collect();
    for query in kubernetes_queries() {
        assert!(metrics.iter().any(|metric| query.contains(metric)), "no metric for {query}");
    }
}

#[test]
fn the_bench_shape_is_ten_thousand_series_at_any_time() {
    let fleet = Fleet::new(Settings::bench(1, START)).unwrap();
    let series = fleet.clusters()[0].series();
    for hour in 1..24 {
        let alive = |s: &&SeriesSpec| s.life().contains(START + hour * 3_600_000);
        let named = |name: &str| series.iter().filter(alive).filter(|s| s.metric() == name).count();
        assert_eq!(series.iter().filter(alive).count(), 10_000);
        assert_eq!(named("http_requests_total"), 2_000);
        assert_eq!(named("http_request_duration_seconds_bucket"), 2_400);
        assert_eq!(named("rpc_duration_seconds"), 100);
        assert_eq!(named("node_load1"), 100);
        assert_eq!(named("app_gauge_00"), 100);
        assert_eq!(named("kube_pod_info"), 200);
        assert_eq!(named("container_memory_working_set_bytes"), 400);
    }
    let pods = series.iter().filter(|s| s.metric() == "kube_pod_info").count();
    assert!((600..=1000).contains(&pods), "{pods} pods in a day");
    let range = fleet.block_ranges().nth(5).unwrap();
    let window = ServerScrapes::new(&fleet, &fleet.replicas()[0], range);
    let mut samples = GeneratedSamples::default();
    for series in
        window.series().filter(|s| s.life().start <= START && s.life().end > range.end).step_by(97)
    {
        window.samples(series, &mut samples);
        assert!((479..=481).contains(&samples.len()), "{} samples", samples.len());
        assert!(samples.stale.is_empty());
    }
}

#[test]
fn native_histograms_of_the_bench_shape_fill_twenty_buckets_and_more() {
    let fleet = Fleet::new(Settings::bench(1, START)).unwrap();
    let series = fleet.clusters()[0].series().iter().find(|s| s.kind() == Kind::Histogram).unwrap();
    let window =
        ServerScrapes::new(&fleet, &fleet.replicas()[0], fleet.block_ranges().next().unwrap());
    let mut samples = GeneratedSamples::default();
    window.samples(series, &mut samples);
    let last = samples.histograms.last().unwrap();
    let mut in_bucket = 0;
    let filled = last.positive_buckets.iter().filter(|delta| {
        in_bucket += **delta;
        in_bucket > 0
    });
    assert!((20..=40).contains(&filled.count()));
    let mean = last.sum / last.count as f64;
    assert!((0.05..0.2).contains(&mean), "mean duration {mean} s");
}
