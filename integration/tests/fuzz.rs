//! Random expressions over awkward data, evaluated by our engine and by a real Prometheus, must
//! give the same results.
//!
//! `DRUMLIN_FUZZ_COUNT=20000 DRUMLIN_FUZZ_SEED=7 cargo test -p integration --features peers --test
//! integration fuzz -- --nocapture` runs more of them, or others; `DRUMLIN_FUZZ_FIRST` begins at
//! another number. A case depends on nothing but its seed and number.

mod coarse;
mod data;
mod feature;
mod generate;
mod outcome;
mod shrink;
mod sides;

use std::collections::BTreeMap;
use std::fmt;

use promql::ParserOptions;

use crate::harness::{binaries, scratch};
use feature::Coverage;
use generate::Case;
use outcome::{Exactness, Outcome};
use shrink::Verdict;
use sides::Sides;

const SEED: u64 = 4;
const COUNT: u64 = 2000;
/// One case in this many is evaluated with names removed at the end, as
/// `promql-delayed-name-removal` does it.
const DELAYED_EVERY: u64 = 8;
/// More failures than this are counted and not shrunk.
const MAX_SHRUNK: usize = 12;

/// The results of all cases.
#[derive(Default)]
struct Tally {
    cases: usize,
    non_empty: usize,
    both_failed: usize,
    coverage: Coverage,
    /// Cases that depend on which of equal values is chosen, on which side of a step a rounded
    /// value falls, or in which order values are added.
    chance: BTreeMap<&'static str, Vec<String>>,
    /// What our engine said it cannot do, with one example.
    not_supported: BTreeMap<String, (usize, String)>,
    peer_bugs: Vec<String>,
    wrong: usize,
    reports: Vec<String>,
}

#[test]
fn random_expressions_are_answered_as_prometheus_does() {
    let Some(program) = binaries::prometheus() else { return };
    let seed = number("DRUMLIN_FUZZ_SEED", SEED);
    let (first, count) = (number("DRUMLIN_FUZZ_FIRST", 0), number("DRUMLIN_FUZZ_COUNT", COUNT));
    println!("DRUMLIN_FUZZ_SEED={seed} DRUMLIN_FUZZ_FIRST={first} DRUMLIN_FUZZ_COUNT={count}");

    let folder = scratch();
    let series = data::series(seed);
    let blocks = data::write_blocks(&folder.path().join("blocks"), &series, &data::two_hours());
    let compacted =
        data::write_blocks(&folder.path().join("compacted"), &series, &data::compacted());
    let start = |name: &str, delayed| {
        Sides::start(&program, &folder.path().join(name), (&blocks, &compacted), delayed)
    };
    let (plain, delayed) = (start("plain", false), start("delayed", true));
    let mut tally = Tally::default();
    for number in first..first + count {
        let sides = if number % DELAYED_EVERY == DELAYED_EVERY - 1 { &delayed } else { &plain };
        tally.check(number, sides, &generate::case(seed, number), &series);
    }
    println!("{tally}");
    assert_eq!(
        tally.wrong,
        0,
        "{} of {} differ:\n\n{}",
        tally.wrong,
        tally.cases,
        tally.reports.join("\n\n")
    );
    assert!(
        tally.not_supported.is_empty(),
        "{} things are not supported",
        tally.not_supported.len()
    );
    assert!(
        tally.non_empty * 100 >= tally.cases * 70,
        "only {} of {} gave anything",
        tally.non_empty,
        tally.cases
    );
    let missing = tally.coverage.missing();
    assert!(count < COUNT || missing.is_empty(), "never seen to work: {missing:?}");
}

/// A number from a variable of the environment, or the default.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    }
}

impl Tally {
    fn check(&mut self, number: u64, sides: &Sides, case: &Case, series: &[data::Series]) {
        self.cases += 1;
        let (want, got) = sides.evaluate(&case.text, case.grid);
        let named = format!("{number}: {} {:?}", case.text, case.grid);
        if let Some(text) = got.not_supported() {
            let (count, _) = self.not_supported.entry(text.to_owned()).or_insert((0, named));
            *count += 1;
            return;
        }
        if want.is_peer_bug() {
            self.peer_bugs.push(named);
            return;
        }
        let difference = want.difference(&got, Exactness::Close);
        let difference =
            difference.or_else(|| sides.wrong_order(&case.text, case.grid, &want, &got));
        let both = difference.is_none() && want.is_non_empty();
        self.non_empty += usize::from(both);
        self.both_failed +=
            usize::from(matches!((&want, &got), (Outcome::Failed { .. }, Outcome::Failed { .. })));
        if let Ok(expr) = ParserOptions::ALL.parse_expr(&case.text) {
            self.coverage.add(&expr, both);
        }
        let Some(difference) = difference else { return };
        let chance = if sides.is_undecided(&case.text, case.grid, &want) {
            Some("Prometheus gives several answers")
        } else if sides.depends_on_blocks(&case.text, case.grid, &want, &got) {
            Some("Prometheus answers as we do when its blocks are compacted")
        } else {
            None
        };
        if let Some(why) = chance {
            self.chance.entry(why).or_default().push(named);
            return;
        }
        if self.reports.len() >= MAX_SHRUNK {
            self.wrong += 1;
            return;
        }
        match shrink::shrink(sides, case) {
            Verdict::Wrong(small) => {
                self.wrong += 1;
                self.reports.push(format!(
                    "{named}\n  {difference}\n{}",
                    shrink::report(sides, &small, series)
                ));
            }
            Verdict::Chance(why, small) => {
                self.chance.entry(why).or_default().push(format!("{number}: {}", small.text))
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, percent) = (self.cases, self.non_empty * 100 / self.cases.max(1));
        writeln!(f, "non-empty successes / expressions with it:\n{}", self.coverage)?;
        writeln!(
            f,
            "{cases} expressions: {} non-empty successes ({percent} %), {} errors on both sides, \
             {} wrong",
            self.non_empty, self.both_failed, self.wrong
        )?;
        for (why, cases) in &self.chance {
            writeln!(f, "left to chance, {why}: {}\n  {}", cases.len(), cases.join("\n  "))?;
        }
        for (what, (count, example)) in &self.not_supported {
            writeln!(f, "not supported ({count}): {what}; {example}")?;
        }
        for case in &self.peer_bugs {
            writeln!(f, "the real one panicked: {case}")?;
        }
        Ok(())
    }
}
