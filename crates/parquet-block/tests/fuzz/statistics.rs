use model::BlockId;
use parquet_block::statistics::{Ranking, Statistics};
use parquet_block::{Error, Kind};

const FILE: &str = "01KF0/statistics.parquet";

/// Statistics are refused with the name of their file, or come back when they are written again.
pub(crate) fn statistics(bytes: &[u8]) -> Result<(), Error> {
    let read = |bytes: &[u8]| Statistics::decode(FILE, bytes.to_vec().into());
    let statistics = read(bytes).inspect_err(|error| {
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unsupported), "{error:?}");
        assert!(error.to_string().contains(FILE), "{error}");
    })?;
    let rankings = |s: &Statistics| {
        for ranking in [s.by_metric(), s.by_label_name(), s.by_label_pair()] {
            check(&ranking);
        }
    };
    rankings(&statistics);
    let written = statistics.encode(BlockId::from_parts(1, 1)).expect("what was read is written");
    let again = read(&written).expect("what was written is read");
    assert_eq!(again.totals(), statistics.totals());
    assert_eq!(again.by_metric(), statistics.by_metric());
    assert_eq!(again.by_label_pair(), statistics.by_label_pair());
    let mut doubled = again.clone();
    doubled.merge(&again);
    assert_eq!(doubled.by_metric().rows.len(), again.by_metric().rows.len());
    Ok(())
}

fn check(ranking: &Ranking<'_>) {
    let order = ranking.rows.is_sorted_by(|a, b| {
        (b.counts.series, a.name, a.value) < (a.counts.series, b.name, b.value)
    });
    assert!(order, "by series, and each once");
}
