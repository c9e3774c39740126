//! How a compactor that could not do its work ends, and what it says when there is none.

use std::time::Duration;

use testkit::Fault;

use super::gateway::Reader;
use super::made::{Made, stream};
use super::run;
use super::served::Served;
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, compact_args};
use crate::harness::{now, scratch};

const RAW: &[&str] = &["--downsampling.disable"];

/// Six blocks of 96 samples each; first the one of 4 h to 6 h cannot be looked at, then none of
/// them.
fn check_hidden(binaries: &Binaries, fault: Fault) {
    let folder = scratch();
    let filled = folder.path().join("filled");
    let blocks = stream(&filled, &Made::new(0..2), 6);
    let bucket = Served::start(folder.path(), &filled, fault, Duration::ZERO);
    let before = bucket.keys();
    let compact =
        |name: &str| run(binaries, Maker::Drumlin, &folder.path().join(name), &bucket.config, RAW);

    bucket.hidden.hide(blocks.iter().map(|block| block.ulid.to_string()));
    let (succeeded, log) = compact("all");
    assert!(!succeeded, "{fault:?}: it saw nothing and ended well\n{log}");
    assert_eq!(bucket.keys(), before, "{fault:?}: written without having seen anything");

    bucket.hidden.show_all();
    let hidden = blocks[2].ulid.to_string();
    bucket.hidden.hide([hidden.clone()]);
    let (succeeded, log) = compact("one");
    assert!(!succeeded, "{fault:?}: it saw a part and ended well\n{log}");
    assert!(log.contains(&hidden), "{fault:?}: the log does not name {hidden}\n{log}");
    let lost: Vec<String> =
        before.iter().filter(|key| !bucket.keys().contains(key)).cloned().collect();
    assert!(lost.is_empty(), "{fault:?}: deleted while a part was hidden: {lost:?}");

    bucket.hidden.show_all();
    for name in ["once", "twice"] {
        let (succeeded, log) = compact(name);
        assert!(succeeded, "{fault:?}: {name}\n{log}");
    }
    let reader = Reader::start(binaries, folder.path(), &bucket.config);
    assert_eq!(reader.all().expect("an answer"), (6 * 96, String::new()), "{fault:?}: in the end");
}

#[test]
fn a_compactor_that_cannot_see_a_block_fails_and_names_it() {
    let Some(binaries) = binaries() else { return };
    check_hidden(binaries, Fault::Unavailable);
    check_hidden(binaries, Fault::Denied);
}

#[test]
fn a_run_that_was_stopped_half_way_did_not_end_well() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let filled = folder.path().join("filled");
    stream(&filled, &Made::new(0..2), 37);
    // enough latency for the signal to arrive between two requests
    let bucket =
        Served::start(folder.path(), &filled, Fault::Unavailable, Duration::from_millis(20));
    let args = compact_args(folder.path(), &bucket.config);
    let mut compactor =
        Component::start_unready(binaries, Maker::Drumlin, folder.path(), "compact", &args);
    let deadline = now() + Duration::from_secs(60);
    while bucket.server.counts().puts < 4 {
        assert!(compactor.process.ended().is_none(), "it ended: {}", compactor.process.log());
        assert!(now() < deadline, "nothing was written: {}", compactor.process.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = compactor.process.terminate();
    let log = compactor.process.log();
    // finally one block of two days and the newest one are left
    assert!(bucket.live_blocks() > 2, "it was done before it was stopped\n{log}");
    assert!(!status.success(), "{status} although there was work left\n{log}");

    let (succeeded, log) = run(binaries, Maker::Drumlin, folder.path(), &bucket.config, &[]);
    assert!(succeeded, "the next run goes on\n{log}");
}

#[test]
fn a_run_without_work_says_so() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let bucket = Bucket::folder(folder.path());
    stream(bucket.path(), &Made::new(0..2), 5);
    let compact =
        |name: &str| run(binaries, Maker::Drumlin, &folder.path().join(name), &bucket.config, RAW);
    let (succeeded, log) = compact("first");
    assert!(succeeded && !log.contains("nothing to do"), "there was work: {log}");
    let (succeeded, log) = compact("second");
    assert!(succeeded && log.contains("nothing to do"), "there was none: {log}");
}
