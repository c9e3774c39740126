//! The differential test against Thanos' compactor: what is alive in a bucket after each of the two
//! has worked on a copy.
//!
//! Thanos is a contract, not an oracle: a shape says what must be alive after ours, and if theirs
//! leaves something else, exactly what that is, and why ours is right. The table is printed as it
//! is in `integration/README.md`.

mod gateway;
mod living;
mod made;
mod refusals;
mod served;
mod shapes;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::living::{Living, leftovers, living};
use self::shapes::{SHAPES, Shape, Theirs};
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, compact_args};
use crate::harness::{root, scratch};

/// The README with the table that users read.
const README: &str = include_str!("../README.md");

/// No run over so little data takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A compactor that is not done after this time with what takes a second runs in circles.
const FOR_EVER: Duration = Duration::from_secs(10);

/// Shapes worked on at a time: the processes are small and wait more than they work.
const AT_A_TIME: usize = 2;

/// How the runs of a compactor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Well,
    WithError,
    /// It would run for ever, and was killed.
    Never,
}

/// What a compactor left of a bucket.
#[derive(Debug)]
struct Left {
    living: Vec<Living>,
    /// Folders without a `meta.json`.
    leftovers: usize,
    ending: Ending,
    /// What the runs logged.
    log: String,
}

impl Left {
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.living.iter().map(ToString::to_string).collect();
        if self.leftovers > 0 {
            lines.push(format!("{} left over", self.leftovers));
        }
        match self.ending {
            Ending::Well => {}
            Ending::WithError => lines.push("ends with an error".to_owned()),
            Ending::Never => lines = vec!["never ends".to_owned()],
        }
        lines
    }

    fn samples(&self) -> u64 {
        self.living.iter().map(|block| block.samples).sum()
    }
}

/// A bucket of the repository's cases.
pub(crate) fn case(name: &str) -> PathBuf {
    let folder = root().join("integration/testdata/cases/buckets").join(name);
    assert!(folder.is_dir(), "no case {name}");
    folder
}

fn start(
    binaries: &Binaries,
    maker: Maker,
    folder: &Path,
    objstore: &Path,
    args: &[&str],
) -> Component {
    let mut all = compact_args(folder, objstore);
    if maker == Maker::Thanos {
        // otherwise it stays idle for ever after what it gives up on
        all.push("--no-debug.halt-on-error".to_owned());
    }
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    Component::start_unready(binaries, maker, folder, "compact", &all)
}

/// Runs a compactor over the bucket again; returns whether it succeeded, and what it logged.
fn run(
    binaries: &Binaries,
    maker: Maker,
    folder: &Path,
    objstore: &Path,
    args: &[&str],
) -> (bool, String) {
    let mut compactor = start(binaries, maker, folder, objstore, args);
    let status = compactor.process.wait(LIMIT);
    let log = compactor.process.log();
    assert!(status.code().is_some() && !log.contains("panic"), "{maker:?}: {status}\n{log}");
    (status.success(), log)
}

/// Fills a bucket with the shape and lets one compactor work on it, twice.
fn work(binaries: &Binaries, maker: Maker, folder: &Path, shape: &Shape) -> Left {
    std::fs::create_dir_all(folder).expect("a folder for the bucket");
    let bucket = Bucket::folder(folder);
    (shape.fill)(bucket.path());
    let mut args = shape.args.to_vec();
    match maker {
        Maker::Drumlin => args.extend(shape.our_args),
        Maker::Thanos => args.extend(shape.their_args),
    }
    let mut left =
        Left { living: Vec::new(), leftovers: 0, ending: Ending::Well, log: String::new() };
    if maker == Maker::Thanos && matches!(shape.theirs, Theirs::NeverEnds { .. }) {
        let mut compactor = start(binaries, maker, folder, &bucket.config, &args);
        std::thread::sleep(FOR_EVER);
        left.ending =
            if compactor.process.ended().is_none() { Ending::Never } else { Ending::Well };
        left.log = compactor.process.log();
        return left;
    }
    for _ in 0..2 {
        let (succeeded, log) = run(binaries, maker, folder, &bucket.config, &args);
        if !succeeded {
            left.ending = Ending::WithError;
        }
        left.log = log;
    }
    left.living = living(bucket.path());
    left.leftovers = leftovers(bucket.path());
    if maker == Maker::Drumlin {
        // what is marked is finally deleted, and nothing alive with it
        args.push("--delete-delay=0s");
        run(binaries, maker, folder, &bucket.config, &args);
        let cleaned = living(bucket.path());
        assert_eq!(
            left.living, cleaned,
            "{}: once what is marked is deleted\n{}",
            shape.name, left.log
        );
    }
    left
}

/// What is wrong with the shape, and its row of the table.
fn compare(binaries: &Binaries, shape: &Shape) -> (Option<String>, String) {
    let folder = scratch();
    let ours = work(binaries, Maker::Drumlin, &folder.path().join("ours"), shape);
    let theirs = work(binaries, Maker::Thanos, &folder.path().join("theirs"), shape);
    let mut defect = String::new();
    let mut hold = |whose: &str, want: &[&str], left: &Left| {
        if left.lines() != want {
            let tail: Vec<&str> = left.log.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let (got, tail) = (left.lines(), tail.join("\n"));
            let _ = write!(
                defect,
                "{}: {whose}: got {got:#?}, not {want:#?}; log:\n{tail}\n",
                shape.name
            );
        }
    };
    hold("drumlin", shape.ours, &ours);
    let why = match shape.theirs {
        Theirs::Same => {
            hold("thanos", shape.ours, &theirs);
            if ours.living != theirs.living {
                let full =
                    |left: &Left| left.living.iter().map(Living::in_full).collect::<Vec<_>>();
                let _ = write!(
                    defect,
                    "{}: {:#?}\nis not\n{:#?}",
                    shape.name,
                    full(&ours),
                    full(&theirs)
                );
            }
            "same"
        }
        Theirs::Differs { leaves, why } => {
            assert_ne!(leaves, shape.ours, "{}: no difference", shape.name);
            hold("thanos", leaves, &theirs);
            why
        }
        Theirs::NeverEnds { why } => {
            hold("thanos", &["never ends"], &theirs);
            why
        }
    };
    let row = row(shape, &ours, &theirs, why);
    if !README.contains(&row) {
        let _ = write!(defect, "{}: the table of integration/README.md lacks\n{row}", shape.name);
    }
    ((!defect.is_empty()).then_some(defect), row)
}

fn row(shape: &Shape, ours: &Left, theirs: &Left, why: &str) -> String {
    let side = |left: &Left| {
        let (blocks, samples) = (left.living.len(), left.samples());
        let ending = match left.ending {
            Ending::Well => "",
            Ending::WithError => ", ends with an error",
            Ending::Never => return "never ends".to_owned(),
        };
        let disorder =
            if left.living.iter().any(Living::is_out_of_order) { ", out of order" } else { "" };
        let leftovers = if left.leftovers > 0 { ", one left over" } else { "" };
        format!("{samples} in {blocks}{leftovers}{disorder}{ending}")
    };
    format!("| {} | {} | {} | {why} |", shape.name, side(ours), side(theirs))
}

#[test]
fn what_lives_is_what_thanos_leaves_or_better_for_a_stated_reason() {
    let Some(binaries) = binaries() else { return };
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..SHAPES.len()).collect());
    let done = Mutex::new(Vec::new());
    let lock = |queue: &Mutex<VecDeque<usize>>| {
        queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(at) = lock(&queue) {
                    let shape = &SHAPES[at];
                    let compared = std::panic::catch_unwind(|| compare(binaries, shape));
                    let compared = compared.unwrap_or_else(|_| {
                        (Some(format!("{}: see the panic above", shape.name)), String::new())
                    });
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, compared));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    println!("| bucket | ours: samples in blocks | Thanos' | who is right |\n|---|---|---|---|");
    done.iter().for_each(|(_, (_, row))| println!("{row}"));
    let defects: Vec<&str> = done.iter().filter_map(|(_, (defect, _))| defect.as_deref()).collect();
    assert!(
        defects.is_empty(),
        "{} of {} shapes:\n{}",
        defects.len(),
        SHAPES.len(),
        defects.join("\n")
    );
    assert!(done.len() == SHAPES.len() && SHAPES.len() >= 16, "{} shapes", done.len());
}
