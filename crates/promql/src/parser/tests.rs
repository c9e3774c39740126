mod round_trip;

use super::*;

/// Lines of `query ⇒ result`; a line without the arrow has itself as the result.
fn cases(data: &'static str) -> impl Iterator<Item = (String, String)> {
    data.lines().filter(|line| !line.starts_with("# ")).map(|line| {
        let (query, result) = line.split_once(" ⇒ ").unwrap_or((line, line));
        (query.replace('␊', "\n"), result.replace('␊', "\n"))
    })
}

fn parse(text: &str) -> Result<Expr> {
    ParserOptions { extended_rate_functions: false, ..ParserOptions::ALL }.parse_expr(text)
}

#[test]
fn queries_print_as_prometheus_prints_them_and_read_back() {
    for (query, printed) in cases(include_str!("tests/printed.txt")) {
        let expr = parse(&query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(expr.to_string(), printed, "{query}");
        assert_eq!(parse(&printed).unwrap().to_string(), printed, "{query}");
    }
}

#[test]
fn wrong_queries_get_the_errors_of_prometheus() {
    for (query, error) in cases(include_str!("tests/errors.txt")) {
        match parse(&query) {
            Ok(expr) => panic!("{query:?} is read as {expr}"),
            Err(found) => assert_eq!(found.to_string(), error, "{query:?}"),
        }
    }
}

#[test]
fn what_is_not_enabled_is_refused() {
    for (query, error) in cases(include_str!("tests/gated.txt")) {
        assert_eq!(parse_expr(&query).unwrap_err().to_string(), error, "{query:?}");
        ParserOptions::ALL.parse_expr(&query).unwrap();
    }
}

#[test]
fn selectors_of_match_parameters() {
    for (query, result) in cases(include_str!("tests/selectors.txt")) {
        let found = match parse_selector(&query) {
            Ok(matchers) => matchers.iter().map(crate::print_matcher).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, result, "{query:?}");
    }
}

/// The answers of a Prometheus server to wrong queries, without the prefix that the API adds.
#[test]
fn errors_of_a_real_server() {
    for (query, error) in [
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("up{", "1:4: parse error: unexpected end of input inside braces"),
        (
            "rate(up)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got \
             instant vector",
        ),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("sum by (", "1:9: parse error: unclosed left parenthesis"),
        (
            "up[5m] + 1",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        ),
        ("up{job=~\"(\"}", "1:4: parse error: error parsing regexp: missing closing ): `(`"),
        ("nonexistent_fn(up)", "1:1: parse error: unknown function with name \"nonexistent_fn\""),
        (
            "up offset",
            "1:10: parse error: unexpected end of input in offset, expected number, duration, \
             step(), or range()",
        ),
        (
            "topk(up, up)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "1 and up",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
    ] {
        assert_eq!(parse_expr(query).unwrap_err().to_string(), error);
    }
}

#[test]
fn spans_name_the_text_of_every_expression() {
    let text = "sum by (a) (-rate(foo{x=\"y\"}[5m] offset 1m)) / (2 ^ bar[1m:5s] @ 3)";
    let text = text.replace("bar[1m:5s] @ 3", "max_over_time(bar[1m:5s] @ 3)");
    let expr = parse(&text).unwrap();
    let mut found = Vec::new();
    expr.walk(&mut |e| {
        found.push(&text[e.span.start..e.span.end]);
        true
    });
    let wanted = [
        text.as_str(),
        "sum by (a) (-rate(foo{x=\"y\"}[5m] offset 1m))",
        "-rate(foo{x=\"y\"}[5m] offset 1m)",
        "rate(foo{x=\"y\"}[5m] offset 1m)",
        "foo{x=\"y\"}[5m] offset 1m",
        "(2 ^ max_over_time(bar[1m:5s] @ 3))",
        "2 ^ max_over_time(bar[1m:5s] @ 3)",
        "2",
        "max_over_time(bar[1m:5s] @ 3)",
        "bar[1m:5s] @ 3",
        "bar",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn what_matching_means_is_settled_by_types() {
    let matching = |text: &str| match parse(text).unwrap().kind {
        ExprKind::Binary(binary) => binary.matching,
        other => panic!("{other:?}"),
    };
    assert_eq!(matching("a + 1"), None);
    assert_eq!(matching("a + b").unwrap().cardinality, Cardinality::OneToOne);
    assert_eq!(matching("a or b").unwrap().cardinality, Cardinality::ManyToMany);
    let grouped = matching("a * on (x) group_right (y) fill_left (2) b").unwrap();
    assert_eq!(
        (grouped.cardinality, grouped.on, grouped.fill_left),
        (Cardinality::OneToMany, true, Some(2.0))
    );
    assert_eq!(
        (grouped.labels, grouped.include, grouped.fill_right),
        (vec!["x".into()], vec!["y".into()], None)
    );
}

#[test]
fn literals_keep_their_bits_and_bytes() {
    let number = |text: &str| match parse(text).unwrap().kind {
        ExprKind::Number(number) => number.value.to_bits(),
        other => panic!("{other:?}"),
    };
    assert_eq!(number("NaN"), 0x7ff8_0000_0000_0001);
    assert_eq!(number("-0"), (-0.0f64).to_bits());
    assert_eq!(number("1s5ms"), 1.005f64.to_bits());
    let string = parse(r#""\xff\n\u00e9""#).unwrap();
    assert_eq!(string.kind, ExprKind::String(StringLiteral { value: b"\xff\n\xc3\xa9".to_vec() }));
}

#[test]
fn constant_durations_are_known_at_once() {
    let ExprKind::Matrix(matrix) = parse("foo[1h30m] offset -1.5").unwrap().kind else {
        panic!("no range")
    };
    assert_eq!(
        (matrix.range.millis, matrix.selector.offset.unwrap().millis),
        (Some(5_400_000), Some(-1500))
    );
    let ExprKind::Matrix(matrix) = parse("foo[step() * 3 + min_of(range(), 1s)]").unwrap().kind
    else {
        panic!()
    };
    assert_eq!(matrix.range.millis, None);
    assert_eq!(matrix.range.resolve_positive(10_000, 500), Ok(30_500));
}

#[test]
fn nesting_and_length_are_bounded() {
    let deep = [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "sum(".repeat(100_000),
        format!("foo[{}", "(".repeat(100_000)),
        format!("foo[{}1m]", "1m+".repeat(100_000)),
        format!("{}1", "1 ^ ".repeat(100_000)),
        format!("{}1", "1 + ".repeat(100_000)),
        format!("foo{}", "[5m:1m]".repeat(100_000)),
        format!("foo{}", " ".repeat(MAX_TEXT_BYTES)),
    ];
    for text in deep {
        assert_eq!(parse(&text).unwrap_err().kind(), error::Kind::Limit, "{}", &text[..20]);
    }
}

#[test]
fn the_cost_of_regexes_is_bounded_before_they_are_compiled() {
    let selector = |matcher: &str, count| format!("x{{{}}}", vec![matcher; count].join(","));
    let replace = r#"label_replace(x, "a", "b", "c", "\\pL{1000}")"#;
    for text in [
        selector(r#"a=~"b.*""#, 58_000),
        selector(r#"a!~"\\pL{400}""#, 10_000),
        vec![replace; 16].join(" + "),
    ] {
        assert_eq!(parse(&text).unwrap_err().kind(), error::Kind::Limit, "{}", &text[..20]);
    }
    let longest = format!(r#"x{{a=~"({})"}}"#, vec!["host-1"; 20_000].join("|"));
    for text in [selector(r#"a=~"b.*""#, 1000), selector(r#"a=~"b|c""#, 58_000), longest] {
        assert!(parse(&text).is_ok(), "{}", &text[..20]);
    }
}

#[test]
fn what_is_within_the_bounds_fits_a_small_stack() {
    let texts = [
        format!("{}1{}", "(".repeat(MAX_NESTING - 1), ")".repeat(MAX_NESTING - 1)),
        format!("{}a", "a + ".repeat(MAX_DEPTH - 1)),
        format!("{}a{}", "sum(".repeat(MAX_NESTING - 1), ")".repeat(MAX_NESTING - 1)),
        format!("foo[{}1m{}]", "(".repeat(MAX_NESTING - 2), ")".repeat(MAX_NESTING - 2)),
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for text in texts {
            let expr = parse(&text).unwrap();
            assert!(!expr.to_string().is_empty());
            assert_eq!(expr.clone(), expr);
        }
    });
    thread.unwrap().join().unwrap();
}
