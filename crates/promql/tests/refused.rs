//! What Prometheus refuses is refused here with the same text.

use promql::ParserOptions;

const REFUSED: &str = include_str!("data/refused.txt");

#[test]
fn errors_are_those_of_prometheus() {
    let cases: Vec<(&str, &str)> = REFUSED
        .split("\n\n")
        .skip(1)
        .map(|case| {
            case.trim_end_matches('\n').split_once("\n    ").unwrap_or_else(|| panic!("{case:?}"))
        })
        .collect();
    assert!(cases.len() > 100);
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(text, wanted)| match ParserOptions::ALL.parse_expr(text) {
            Ok(expr) => Some(format!("{text}\n    wanted {wanted}\n    read as {expr}")),
            Err(error) if error.to_string() != wanted => {
                Some(format!("{text}\n    wanted {wanted}\n    got    {error}"))
            }
            Err(_) => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
