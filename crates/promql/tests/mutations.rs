//! A bounded run of what the fuzz targets check: every expression below and many broken variants of
//! each. The run is the same every time.

use promql::{ParserOptions, QueryTimes};

const EXPRESSIONS: &str = include_str!("data/expressions.txt");
const VARIANTS_OF_EACH: usize = 400;
const TIMES: QueryTimes = QueryTimes { start: 0, end: 3_600_000, step: 15_000, lookback: 300_000 };

/// What a mutation puts in.
const SNIPPETS: [&str; 40] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "[5m]",
    "[5m:]",
    ":",
    ",",
    "=",
    "=~",
    "!~",
    "\"",
    "'",
    "`",
    "\\",
    "#",
    "\n",
    "@",
    "@ end()",
    "offset 1m",
    "offset -(",
    "-",
    "+",
    "^",
    "</",
    "==",
    "bool",
    "on ()",
    "group_left",
    "fill(1)",
    "by (a)",
    "sum",
    "rate(",
    "1e",
    "0x",
    "5m",
    "\u{0}",
    "é",
];

/// A xorshift generator: the standard library has none.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn mutated(text: &str, other: &str, random: &mut Random) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let (from, to) = (random.below(text.len() + 1), random.below(text.len() + 1));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 12));
        match random.below(5) {
            0 => drop(text.drain(from..to)),
            1 => drop(text.splice(from..from, SNIPPETS[random.below(SNIPPETS.len())].chars())),
            2 => drop(text.splice(from..to, SNIPPETS[random.below(SNIPPETS.len())].chars())),
            3 => {
                let copy = text[from..to].to_vec();
                drop(text.splice(to..to, copy));
            }
            _ => drop(text.splice(from.., other.chars().skip(from))),
        }
    }
    text.into_iter().collect()
}

/// Whether the text is an expression; then it must survive printing.
fn check(text: &str) -> bool {
    let _ = promql::parse_selector(text);
    let _ = ParserOptions::default().parse_expr(text);
    let expr = match ParserOptions::ALL.parse_expr(text) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(error.span.start <= text.len(), "{text:?}: {error} is outside");
            return false;
        }
    };
    let printed = expr.to_string();
    for again in [&printed, &expr.pretty()] {
        match ParserOptions::ALL.parse_expr(again) {
            Ok(expr) => assert_eq!(expr.to_string(), printed, "{text:?}"),
            Err(error) => panic!("{text:?} is printed as {again:?}, which is not read: {error}"),
        }
    }
    let _ = promql::needed_time_range(&expr, &TIMES);
    promql::visit_selectors(&expr, &mut |visit| {
        assert!(text.get(visit.span.start..visit.span.end).is_some(), "{text:?}: {:?}", visit.span);
    });
    true
}

#[test]
fn expressions_survive_printing_and_broken_ones_break_nothing() {
    let expressions: Vec<&str> = EXPRESSIONS.lines().collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut valid, mut broken) = (0, 0);
    for expression in &expressions {
        assert!(
            check(expression),
            "{expression:?}: {:?}",
            ParserOptions::ALL.parse_expr(expression)
        );
        for _ in 0..VARIANTS_OF_EACH {
            let other = expressions[random.below(expressions.len())];
            let counter = if check(&mutated(expression, other, &mut random)) {
                &mut valid
            } else {
                &mut broken
            };
            *counter += 1;
        }
    }
    assert!(
        valid > 2_000 && broken > 10_000,
        "the mutations test one side only: {valid} valid, {broken} broken"
    );
}

#[test]
fn arbitrary_bytes_break_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        check(&String::from_utf8_lossy(&bytes));
    }
}
