//! Wherever a panel or an alert of Thanos' mixin has data over the metrics of Thanos, it has data
//! over ours.
//!
//! Two equal fleets, of ours and of Thanos, get the same load and are scraped by a Prometheus each,
//! which then evaluates the expressions, and every selector in them. What is empty with ours alone
//! is listed in `dashboards/empty.txt`.

mod fleet;
mod mixin;

use std::collections::BTreeMap;

use crate::harness::binaries::binaries;
use crate::harness::fleet::Maker;
use crate::harness::{http, scratch};
use fleet::Observed;
use mixin::Expression;

const EMPTY: &str = include_str!("dashboards/empty.txt");

/// Of the mixin of Thanos 0.42.4, for the components that there are here.
const PANELS: usize = 160;
/// Of all components.
const ALERTS: usize = 48;

#[test]
fn panels_and_alerts_of_thanos_have_data_over_our_metrics() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let (panels, alerts) = (mixin::panels(), mixin::alerts());
    assert_eq!((panels.wanted.len(), alerts.wanted.len() + alerts.skipped), (PANELS, ALERTS));
    println!(
        "skipped, as of components that are not here: {} panels, {} alerts",
        panels.skipped, alerts.skipped
    );
    let start = |maker, name| Observed::start(binaries, maker, &folder.path().join(name));
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| start(Maker::Thanos, "thanos"));
        let ours = start(Maker::Drumlin, "drumlin");
        (theirs.join().expect("the fleet of Thanos starts"), ours)
    });
    fleet::load(&[&theirs, &ours]);

    let listed = listed();
    let (mut wrong, mut counts) = (Vec::new(), [0, 0]);
    let mut asked = BTreeMap::new();
    for Expression { place, text, .. } in panels.wanted.iter().chain(&alerts.wanted) {
        let parts = mixin::selectors(text);
        for part in std::iter::once(text).chain(&parts) {
            let known = asked.get(part).copied();
            let [of_theirs, of_ours] =
                known.unwrap_or_else(|| [&theirs, &ours].map(|one| rows(&one.meta.url, part)));
            asked.insert(part.clone(), [of_theirs, of_ours]);
            let is_missing = of_theirs > 0 && of_ours == 0;
            if part == text {
                counts[0] += u32::from(of_theirs > 0);
                counts[1] += u32::from(is_missing);
            }
            match (is_missing, listed.contains_key(part.as_str())) {
                (true, false) => wrong.push(format!("{place}: {part}\n  is empty with ours")),
                (false, true) => wrong.push(format!("{place}: {part}\n  is listed, but not empty")),
                _ => {}
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    let all = panels.wanted.len() + alerts.wanted.len();
    println!(
        "{all} expressions with {} parts: {} have data with Thanos, {} of these none with ours",
        asked.len(),
        counts[0],
        counts[1]
    );
    assert!(counts[0] > 110, "the load shows in {} expressions only", counts[0]);
    assert!(wrong.is_empty(), "{} are not as listed:\n{}", wrong.len(), wrong.join("\n"));
}

/// The expressions that may be empty, with their reasons.
fn listed() -> BTreeMap<&'static str, &'static str> {
    let lines: Vec<&str> =
        EMPTY.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let pair = |pair: &[&'static str]| {
        let reason = pair.get(1).and_then(|reason| reason.strip_prefix("  "));
        (pair[0], reason.expect("an indented reason below an expression"))
    };
    lines.chunks(2).map(pair).collect()
}

/// How many rows an expression has now.
#[track_caller]
fn rows(server: &str, expression: &str) -> usize {
    let fields = [("query".to_owned(), expression.to_owned())];
    let answer = http::post_form(&format!("{server}/api/v1/query"), &fields).expect("an answer");
    let body = answer.json().expect("JSON");
    let result = body["data"]["result"].as_array();
    result.unwrap_or_else(|| panic!("{expression}: {body}")).len()
}
