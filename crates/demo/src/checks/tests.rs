use super::*;

fn external(cluster: &str) -> Labels {
    Labels::from_pairs([("cluster", cluster), ("replica", "a")])
}

fn counts(entries: &[(&str, &str, u64)]) -> SamplesByMetric {
    entries
        .iter()
        .map(|(cluster, metric, n)| ((external(cluster), (*metric).to_owned()), *n))
        .collect()
}

#[test]
fn one_sample_too_few_fails() {
    let expected = counts(&[("eu", "up", 10), ("eu", "probe_success", 5)]);
    assert!(same_counts(&expected, &expected).is_ok());
    let few = same_counts(&expected, &counts(&[("eu", "up", 9), ("eu", "probe_success", 5)]))
        .unwrap_err();
    assert!(few.to_string().contains("up"), "{few}");
    assert!(same_counts(&expected, &counts(&[("eu", "up", 10)])).is_err(), "a metric is missing");
    let more = counts(&[("eu", "up", 10), ("eu", "probe_success", 5), ("eu", "x", 1)]);
    assert!(same_counts(&expected, &more).is_err(), "a metric too many");
    assert!(
        same_counts(&SamplesByMetric::new(), &SamplesByMetric::new()).is_err(),
        "nothing is not as generated"
    );
}

#[test]
fn clusters_are_told_apart() {
    let both = counts(&[("eu", "up", 10), ("us", "up", 20)]);
    assert_eq!(of_cluster(&both, "us"), counts(&[("us", "up", 20)]));
}

#[test]
fn a_wrong_aggregate_of_one_series_fails() {
    let key = (external("eu"), Labels::from_pairs([("__name__", "up")]));
    let truth = Truth { samples: 2, stale_markers: 0, sum: 3.0, min: 1.0, max: 2.0 };
    let truths: Truths<'_> = [(&key, (Kind::Gauge, truth))].into();
    let seen = Aggregated { count: 2, sum: 3.0 + 1e-12, min: 1.0, max: 2.0 };
    let mut found = Downsampled::default();
    assert!(same_series(&truths, &found, |_, _| true).is_err(), "the series is missing");
    found.floats.insert(key.clone(), seen);
    assert!(same_series(&truths, &found, |seen, truth| close(seen.sum, truth.sum)).is_ok());
    found.floats.insert(key.clone(), Aggregated { sum: 3.1, ..seen });
    assert!(same_series(&truths, &found, |seen, truth| close(seen.sum, truth.sum)).is_err());
    assert!(same_series(&truths, &found, |seen, truth| seen.max == truth.max).is_ok());
}

#[test]
fn spans_that_touch_become_one() {
    let span = TimeRange::new;
    assert_eq!(joined(&[span(10, 20), span(0, 10), span(30, 40)]), [span(0, 20), span(30, 40)]);
}

#[test]
fn a_failed_check_says_so() {
    let check = Check::new("samples", Err(anyhow::anyhow!("one is missing")));
    assert!(!check.passed());
    assert_eq!(check.to_string(), "FAIL  samples: one is missing");
    assert_eq!(Check::new("samples", Ok("all".into())).to_string(), "ok    samples: all");
}
