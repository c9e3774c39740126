//! What the printer prints is read back as the same expression, on one line and on many.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::ParserOptions;

fuzz_target!(|text: &str| {
    let Ok(expr) = ParserOptions::ALL.parse_expr(text) else { return };
    let printed = expr.to_string();
    for again in [&printed, &expr.pretty()] {
        match ParserOptions::ALL.parse_expr(again) {
            Ok(expr) => assert_eq!(expr.to_string(), printed),
            Err(error) => panic!("{again} is printed and not read: {error}"),
        }
    }
});
