//! The same expressions over a fleet whose history is split at random into raw, 5m and 1h data,
//! replicas, a sidecar and gateways, compared with Prometheus on all raw samples.
//!
//! Time is stretched eightfold, so that two hours of data become sixteen. Where only raw data
//! answers, the values are those of Prometheus. Elsewhere the selectors of the expression are
//! queried with the functions directly around them: the values lie within what Prometheus gives for
//! the raw samples around them, without gaps and without anything extra. The bounds are those of
//! `docs/downsampled-answers.md`.
//!
//! `DRUMLIN_COARSE_COUNT=5000 DRUMLIN_FUZZ_SEED=7` runs more expressions, or others;
//! `DRUMLIN_COARSE_ONLY=855` that one.

mod bounds;
mod fleet;
mod scrapes;
mod stretch;

use std::fmt;

use promql::value::Grid;
use promql::{ParserOptions, QueryTimes, needed_time_range};
use synthetic::Rng;

use super::outcome::{Exactness, Outcome};
use super::sides::LOOKBACK_MS;
use super::{data, generate, number, sides};
use crate::harness::fleet::{Prometheus, PrometheusSettings};
use crate::harness::{binaries, scratch};
use bounds::Checked;
use fleet::{Fleet, Levels, Split};

const SEED: u64 = 4;
const COUNT: u64 = 300;
/// Expressions that one fleet answers.
const PER_FLEET: u64 = 60;

/// Which resolution a query allows.
const ALLOWED: [&str; 6] = ["0s", "0s", "0s", "0s", "5m", "1h"];

/// All raw samples.
struct Truth {
    prometheus: Prometheus,
    series: Vec<data::Series>,
}

/// The results of all expressions.
#[derive(Default)]
struct Tally {
    exact: usize,
    exact_non_empty: usize,
    bounded: usize,
    skipped: usize,
    checked: Checked,
    wrong: Vec<String>,
}

#[test]
fn a_fleet_split_into_resolutions_answers_within_its_bounds() {
    let Some(binaries) = binaries::binaries() else { return };
    let (seed, count) = (number("DRUMLIN_FUZZ_SEED", SEED), number("DRUMLIN_COARSE_COUNT", COUNT));
    println!("DRUMLIN_FUZZ_SEED={seed} DRUMLIN_COARSE_COUNT={count}");
    let folder = scratch();
    let series: Vec<data::Series> =
        data::series(seed).iter().map(|s| s.stretched(stretch::FACTOR)).collect();
    let levels = Levels::write(&folder.path().join("levels"), &series);
    let settings = PrometheusSettings {
        blocks: levels.plain.clone(),
        features: features(),
        ..Default::default()
    };
    let truth = Truth {
        prometheus: Prometheus::start(binaries, &folder.path().join("truth"), &settings),
        series,
    };
    let mut tally = Tally::default();
    let mut fleet = None;
    let only =
        std::env::var("DRUMLIN_COARSE_ONLY").ok().map(|only| only.parse().expect("a number"));
    for number in only.map_or(0..count, |only| only..only + 1) {
        let first = number - number % PER_FLEET;
        if number == first || fleet.is_none() {
            // the one before ends first
            drop(fleet.take());
            let split = Split::random(&mut Rng::new(seed ^ Rng::new(first).next_u64()));
            let place = folder.path().join(format!("fleet-{first}"));
            fleet = Some(Fleet::start(binaries, &place, &levels, split));
        }
        let fleet = fleet.as_ref().expect("a fleet was started");
        let mut rng = Rng::new(seed.wrapping_mul(31) ^ number);
        let allowed = ALLOWED[(rng.next_u64() % ALLOWED.len() as u64) as usize];
        tally.check(number, (&truth, fleet), allowed, generate::case(seed, number));
    }
    println!("{tally}");
    let wrong = tally.wrong.len();
    assert_eq!(wrong, 0, "{wrong} of {count} are wrong:\n\n{}", tally.wrong.join("\n\n"));
    assert!(
        only.is_some() || tally.exact_non_empty > 0 && tally.checked.values > 0,
        "nothing was compared"
    );
}

fn features() -> Vec<String> {
    ["promql-extended-range-selectors", "promql-binop-fill-modifiers"].map(str::to_owned).to_vec()
}

impl Tally {
    fn check(&mut self, number: u64, asked: (&Truth, &Fleet), allowed: &str, case: generate::Case) {
        let (truth, fleet) = asked;
        let Some(case) = stretch::case(&case) else {
            self.skipped += 1;
            return;
        };
        let grid = case.grid;
        let expr =
            ParserOptions::ALL.parse_expr(&case.text).expect("what was printed can be parsed");
        let times = QueryTimes {
            start: grid.start_ms,
            end: grid.end_ms,
            step: grid.step_ms,
            lookback: LOOKBACK_MS,
        };
        let needed = needed_time_range(&expr, &times).expect("durations without arithmetic");
        let named = format!("{number}: {} {grid:?} at {allowed}, {}", case.text, fleet.split);
        if needed.is_none_or(|range| fleet.split.is_raw_alone(range)) {
            let want = sides::ask(&truth.prometheus.url, &case.text, grid, &[]);
            let got = fleet.ask(&case.text, grid, allowed);
            self.exact += 1;
            self.exact_non_empty += usize::from(want.is_non_empty());
            // what Prometheus leaves to chance is found by comparing the two engines
            let difference = if want.is_peer_bug() {
                None
            } else {
                want.difference(&got, Exactness::CloseValues)
            };
            let undecided = |difference: String| {
                let again = || sides::ask(&truth.prometheus.url, &case.text, grid, &[]);
                let chance =
                    (0..24).any(|_| want.difference(&again(), Exactness::CloseValues).is_some());
                let own = fleet.raw.evaluate(&case.text, grid);
                let same_engine = own.difference(&got, Exactness::CloseValues).is_none();
                (!chance && !same_engine).then_some(difference)
            };
            if let Some(difference) = difference.and_then(undecided) {
                self.wrong.push(format!("{named}\n  not exact: {difference}"));
            }
            return;
        }
        self.bounded += 1;
        for leaf in bounds::leaves(&expr) {
            let got = fleet.ask(&leaf.text, grid, allowed);
            if let Err(fault) =
                bounds::check(&leaf, (truth, &fleet.split), grid, &got, &mut self.checked)
            {
                self.wrong.push(format!("{named}\n  {}: {fault}", leaf.text));
            }
        }
        // the whole expression must not fail where Prometheus does not
        if let (Outcome::Success(_), Outcome::Failed { text, .. }) = (
            sides::ask(&truth.prometheus.url, &case.text, grid, &[]),
            fleet.ask(&case.text, grid, allowed),
        ) && !bounds::may_fail(&text)
        {
            self.wrong.push(format!("{named}\n  fails: {text}"));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} answered by raw data alone, {} of them with values; {} with coarser data; {} not \
             stretched; {} wrong",
            self.exact,
            self.exact_non_empty,
            self.bounded,
            self.skipped,
            self.wrong.len()
        )?;
        write!(f, "{}", self.checked)
    }
}

/// A grid over a grid and what is around it.
fn around(grid: Grid, reach: i64, step: i64) -> Grid {
    Grid { start_ms: grid.start_ms - reach, end_ms: grid.end_ms + reach, step_ms: step }
}
