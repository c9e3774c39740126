use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    regex::Regex::new(&format!("^(?s:{})$", translate(pattern).unwrap())).unwrap().is_match(text)
}

#[test]
fn what_go_accepts_means_the_same() {
    for (pattern, text) in [
        ("a{,5}", "a{,5}"),
        ("{a=b}", "{a=b}"),
        ("a{2,3}?", "aaa"),
        ("a{02}", "a{02}"),
        (r"\Qa.b\E+", "a.bb"),
        (r"[[:alpha:]\d&&~~-]+", "a1&~-"),
        (r"[]a]+", "]a"),
        ("[[a]+", "[a"),
        ("[^[:digit:]]", "x"),
        (r"\x{1F600}\x41\101\.", "😀AA."),
        (r"\p{Greek}\pL\P{^L}", "αab"),
        ("(?i)ABC(?-i:d)()", "abcd"),
        ("(?P<n>a)(?<m>b)|", "ab"),
        (r"\bfoo\b.bar", "foo\nbar"),
        ("b(?i)+c", "bbC"),
        ("a|", ""),
        ("(?i-i)a(?ii)B(?is-i:c)", "abc"),
        ("(?P<1>a)(?P<n>b)(?P<n>c)", "abc"),
        (r"a\Q\E+\Qb", "aab"),
        ("a{,}{1,2,3}", "a{,}{1,2,3}"),
        ("(a{2}){3}(b{0}){1000}", "aaaaaa"),
        (r"[\pN[:^digit:]]\P{Cs}\p{Any}", "½xy"),
        ("[[:a]+", ":["),
    ] {
        assert!(matches(pattern, text), "{pattern} on {text}");
    }
}

#[test]
fn perl_classes_are_ascii() {
    for (pattern, text) in [(r"\d", "٣"), (r"\w", "é"), (r"\s", "\u{a0}"), (r"[^\D]", "٣")] {
        assert!(!matches(pattern, text), "{pattern} on {text}");
    }
    assert!(matches(r"\D\W\S", "ééé"));
}

#[test]
fn what_go_refuses_is_refused_with_its_text() {
    for (pattern, message) in [
        ("(", "missing closing ): `(`"),
        ("a)?b", "unexpected ): `a)?b`"),
        ("x[0-9", "missing closing ]: `[0-9`"),
        ("+a", "missing argument to repetition operator: `+`"),
        ("a|*?", "missing argument to repetition operator: `*?`"),
        (".*?+ ", "invalid nested repetition operator: `*?+`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        ("(?c)", "invalid or unsupported Perl syntax: `(?c`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        (r"\p{greek}", r"invalid character class range: `\p{greek}`"),
        (r"\p{Letter}", r"invalid character class range: `\p{Letter}`"),
        ("(a{11}|b){91}", "invalid repeat count: `{91}`"),
        ("(((a{10}){10,}){10}){2}?", "invalid repeat count: `{2}?`"),
        (r"\Q\E*", "missing argument to repetition operator: `*`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"[\C]", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ] {
        assert_eq!(translate(pattern).unwrap_err(), message);
    }
}

#[test]
fn pathological_sizes_are_errors_within_bounded_time_and_stack() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let checks = move || {
        assert!(compile_anchored(&nested(240)).unwrap().is_match(b"a"));
        let message = compile_anchored(&nested(251)).unwrap_err();
        assert!(message.starts_with("expression nests too deeply: `("), "{message}");
        let message = compile_anchored(r"(?:\pL\pN\pS\pM){1000}").unwrap_err();
        assert_eq!(message, r"expression too large: `(?:\pL\pN\pS\pM){1000}`");
        for unit in ["[[:", "{", r"\pL", "{1,", "a|", r"\Q", "(?i)", "(?P<a>b)", ".*", "[a", "("] {
            let _ = compile_anchored(&unit.repeat((1 << 15) / unit.len()));
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(checks);
    thread.unwrap().join().unwrap();
}

#[test]
fn costs_grow_with_text_width_and_repetition() {
    assert_eq!(cost("(a"), 0);
    assert_eq!([cost("abc"), cost(".+")], [SMALLEST + 3, SMALLEST + 2 + ANY]);
    assert_eq!(cost(r"\pL{400}"), SMALLEST + (8 + UNICODE) * 400);
    assert_eq!(cost("(?i)((a{10}){20}|b{3})"), SMALLEST + 22 * FOLDING * 200);
}

proptest::proptest! {
    #[test]
    fn no_pattern_panics(pattern in r"[ab(){}\[\]*+?|^$.\\:<>PQEpxz0-9,é-]{0,12}") {
        let _ = translate(&pattern);
    }
}
