//! External labels: which matchers they decide, and whether a store can hold anything at all.

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

/// Decides the matchers on external labels. `None`: they contradict, nothing here can match. Else
/// the matchers that are left for the data.
pub fn match_external(matchers: &[Matcher], external: &Labels) -> Option<Vec<Matcher>> {
    let mut left = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match external.get(&matcher.name) {
            None => left.push(matcher.clone()),
            Some(value) if matcher.matches(value) => {}
            Some(_) => return None,
        }
    }
    Some(left)
}

/// Whether a store with these label sets may hold a match: one set has no label that contradicts a
/// matcher. A label that a set lacks contradicts nothing, because series may carry it. Without sets
/// a store may hold anything.
pub fn label_sets_match(label_sets: &[Labels], matchers: &[Matcher]) -> bool {
    let agrees = |set: &Labels| {
        matchers.iter().all(|m| set.get(&m.name).is_none_or(|value| m.matches(value)))
    };
    label_sets.is_empty() || label_sets.iter().any(agrees)
}

/// A matcher that any series satisfies, for stores that refuse to be asked with none. For requests
/// for labels only, it is one that series without a name do not satisfy: Prometheus, which has
/// practically none, refuses any other there.
pub fn any_series(labels_alone: bool) -> Option<Matcher> {
    Matcher::new(MatchOp::Regex, METRIC_NAME, if labels_alone { ".+" } else { ".*" }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_on_external_labels_are_decided_here() {
        let external = Labels::from_pairs([("region", "eu")]);
        let (hit, miss) = (Matcher::equal("region", "eu"), Matcher::equal("region", "us"));
        let inner = Matcher::equal("job", "x");
        assert_eq!(
            match_external(&[hit.clone(), inner.clone()], &external),
            Some(vec![inner.clone()])
        );
        assert_eq!(match_external(&[miss, inner], &external), None);
        assert_eq!(match_external(&[hit], &external), Some(vec![]));
    }

    #[test]
    fn a_store_is_asked_unless_every_label_set_contradicts() {
        let sets = [Labels::from_pairs([("a", "1")]), Labels::from_pairs([("a", "2"), ("b", "1")])];
        assert!(label_sets_match(&sets, &[Matcher::equal("a", "2")]));
        assert!(
            label_sets_match(&sets, &[Matcher::equal("b", "7")]),
            "series behind the first set may carry b"
        );
        assert!(!label_sets_match(&sets, &[Matcher::equal("a", "3")]));
        assert!(label_sets_match(&[], &[Matcher::equal("a", "3")]));
    }
}
