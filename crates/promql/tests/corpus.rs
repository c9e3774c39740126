//! Reads the test files of Prometheus completely, where they are present: every command, series and
//! query.

use std::path::PathBuf;

use promql::ParserOptions;
use promql::testlang::{Command, parse_test};

#[test]
fn every_query_of_the_upstream_corpus_parses_and_prints_and_reads_back() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/promqltest");
    let folder = std::env::var_os("DRUMLIN_PROMQLTEST_DIR")
        .map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no upstream corpus beside the repository");
        return;
    };
    let (mut files, mut evals) = (0, 0);
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "test") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let commands = parse_test(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let written = text.lines().filter(|line| line.trim_start().starts_with("eval")).count();
        let before = evals;
        for command in &commands {
            let Command::Eval(eval) = command else { continue };
            evals += 1;
            let printed = ParserOptions::ALL.parse_expr(&eval.text).unwrap().to_string();
            let again = ParserOptions::ALL.parse_expr(&printed).map(|e| e.to_string());
            assert_eq!(again.as_ref(), Ok(&printed), "{}: {}", path.display(), eval.text);
        }
        assert_eq!(evals - before, written, "{}", path.display());
        files += 1;
    }
    println!("{evals} queries of {files} files");
    assert!(files > 0, "no test files in {}", folder.display());
}
