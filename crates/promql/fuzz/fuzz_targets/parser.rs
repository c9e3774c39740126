//! No text makes the parsers panic, overflow the stack or point outside of the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::{ParserOptions, QueryTimes};

const TIMES: QueryTimes = QueryTimes { start: 0, end: 3_600_000, step: 15_000, lookback: 300_000 };

fuzz_target!(|text: &str| {
    for options in [ParserOptions::ALL, ParserOptions::default()] {
        match options.parse_expr(text) {
            Ok(expr) => {
                let _ = promql::needed_time_range(&expr, &TIMES);
                promql::visit_selectors(&expr, &mut |visit| assert!(text.get(visit.span.start..visit.span.end).is_some()));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = promql::parse_selector(text);
    let _ = promql::parse_duration(text);
    let _ = promql::unquote(text);
    let _ = promql::testlang::parse_test(text);
});
