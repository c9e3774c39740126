use expect_test::expect;

use super::*;

fn values(text: &str) -> String {
    let series = parse_series_description(text).unwrap();
    let print = |value: &SequenceValue| match value {
        SequenceValue::Omitted => "_".to_owned(),
        SequenceValue::Float(f) if model::is_stale_nan(*f) => "stale".to_owned(),
        SequenceValue::Float(f) => f.to_string(),
        SequenceValue::Histogram(h) => {
            format!(
                "h(count {} sum {} {:?} hint {})",
                h.histogram.count, h.histogram.sum, h.histogram.hint, h.hint_written
            )
        }
    };
    format!(
        "{:?}: {}",
        series.labels,
        series.values.iter().map(print).collect::<Vec<_>>().join(" ")
    )
}

#[test]
fn values_repeat_and_grow() {
    let text = r#"m{a="b",} 1 2x1 1+2x2 10-5x2 -3 _ _x2 stale Inf -Inf 1e-2 +1.5e+1x0"#;
    expect![[r#"{__name__="m", a="b"}: 1 2 2 1 3 5 10 5 0 -3 _ _ _ stale inf -inf 0.01 15"#]]
        .assert_eq(&values(text));
    expect![[r#"{__name__="sum"}: 0 1"#]].assert_eq(&values("sum 0 1"));
    expect![[r#"{__name__="a b", "x.y"="z"}: "#]].assert_eq(&values(r#"{"a b", "x.y"='z'}"#));
    expect!["{}: 5"].assert_eq(&values("{} 5"));
}

#[test]
fn histograms_are_read_with_their_buckets() {
    let text = r#"m {{schema:1 sum:-3 count:22 z_bucket:1 z_bucket_w:0.1 buckets:[2 3 4] offset:-1
        n_buckets:[5 6] n_offset:2 counter_reset_hint:gauge}} {{}}x1"#;
    let series = parse_series_description(&text.replace("\n        ", " ")).unwrap();
    assert_eq!(series.values.len(), 3);
    let SequenceValue::Histogram(first) = &series.values[0] else { panic!("no histogram") };
    let h = &first.histogram;
    assert_eq!(
        (h.schema, h.sum, h.count, h.zero_count, h.zero_threshold),
        (1, -3.0, 22.0, 1.0, 0.1)
    );
    assert_eq!(
        (&h.positive_buckets[..], &h.negative_buckets[..]),
        (&[2.0, 3.0, 4.0][..], &[5.0, 6.0][..])
    );
    assert_eq!((h.positive_spans[0].offset, h.negative_spans[0].length), (-1, 2));
    expect![[r#"{__name__="m"}: h(count 1 sum 2 Unknown hint false) h(count 2 sum 3 Unknown hint false) h(count 3 sum 4 Unknown hint false)"#]]
        .assert_eq(&values("m {{count:1 sum:2 buckets:[1]}}+{{count:1 sum:1 buckets:[1]}}x2"));
}

#[test]
fn broken_series_are_told() {
    let errors: Vec<String> = [
        "m 1 foo",
        "m 1+2",
        "m _x",
        "m{a=} 1",
        "m 1x99999999999",
        "m {{schema:1",
        "m {{nope:1}}",
        "m {{sum:1 sum:2}}",
        "m {{buckets:[1 2}}",
        "5",
    ]
    .iter()
    .map(|text| parse_series_description(text).unwrap_err())
    .collect();
    expect![[r#"
        unexpected identifier "foo" in series values, expected number or "stale"
        an increment needs a repetition
        invalid repetition in series values: ""
        1:5: parse error: unexpected "}" in label set, expected string
        invalid repetition in series values: "99999999999"
        histogram description is not closed
        bad histogram descriptor found: "nope"
        duplicate key "sum" in histogram
        list of "buckets" is not closed
        1:1: parse error: unexpected number "5""#]]
    .assert_eq(&errors.join("\n"));
}

const FILE: &str = r#"
# a comment
clear
load_with_nhcb 5m
    metric{a="x"}@st  _ -1m -30s-1mx1
    metric{a="x"}     1 2 3x1
    other             0+10x2

eval instant at 50m sum by (a) (metric)
  expect warn msg: odd thing (1:5)
  expect no_info
  expect ordered
  {a="x"} 3

eval range from 0 to 10m step 5m metric + 1
    {a="x"} 2 3 4

eval_fail instant at 0 rate(other[1m]) + ignoring(a) rate(other[1m])
  expected_fail_message cannot be

eval instant at 1m "a\"b"
  expect string 'a"b'

eval instant at 1m 1 - 2
  -1
eval instant at 10m other[10m]
  expect range vector from 5m to 10m step 5m
  other 10 20
"#;

#[test]
fn files_are_read_command_by_command() {
    let commands = parse_test(FILE).unwrap();
    let summary: Vec<String> = commands
        .iter()
        .map(|command| match command {
            Command::Clear => "clear".to_owned(),
            Command::Load(load) => {
                let starts =
                    load.series.iter().map(|s| s.start_offsets_ms.clone()).collect::<Vec<_>>();
                format!(
                    "{} load {} nhcb {} {starts:?}",
                    load.line, load.interval_ms, load.with_nhcb
                )
            }
            Command::Eval(eval) => {
                let result = &eval.result;
                let found =
                    (result.string.is_some(), result.scalar, result.range, result.series.len());
                format!(
                    "{} {:?} {} {:?} {found:?}",
                    eval.line, eval.times, eval.text, eval.expectations
                )
            }
        })
        .collect();
    expect![[r#"
        clear
        4 load 300000 nhcb true [Some([None, Some(-60000), Some(-30000), Some(-90000)]), None]
        9 Instant { at: 3000000 } sum by (a) (metric) [Expectation { kind: Warn, text: Message("odd thing (1:5)") }, Expectation { kind: NoInfo, text: Any }, Expectation { kind: Ordered, text: Any }] (false, None, None, 1)
        15 Range { start: 0, end: 600000, step: 300000 } metric + 1 [] (false, None, None, 1)
        18 Instant { at: 0 } rate(other[1m]) + ignoring(a) rate(other[1m]) [Expectation { kind: Fail, text: Message("cannot be") }] (false, None, None, 0)
        21 Instant { at: 60000 } "a\"b" [] (true, None, None, 0)
        24 Instant { at: 60000 } 1 - 2 [] (false, Some(-1.0), None, 0)
        26 Instant { at: 600000 } other[10m] [] (false, None, Some((300000, 600000, 300000)), 1)"#]]
    .assert_eq(&summary.join("\n"));
}

#[test]
fn broken_files_name_the_line() {
    for (text, message) in [
        ("\nfoo", "line 2: invalid command \"foo\""),
        ("load x", "line 1: invalid duration \"x\": not a valid duration string: \"x\""),
        (
            "eval instant at 5m sum(",
            "line 1: query \"sum(\": 1:5: parse error: unclosed left parenthesis",
        ),
        ("eval instant 5m foo", "line 1: want \"at\", found \"5m\""),
        ("load 1m\n m@st _\n", "line 2: start timestamps without samples in the line below them"),
    ] {
        assert_eq!(parse_test(text).unwrap_err().to_string(), message);
    }
}
