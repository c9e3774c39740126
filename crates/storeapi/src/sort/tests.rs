use model::Budget;
use proptest::prelude::*;

use super::*;

/// Feeds sorted label sets and collects what comes out, with the most that was held at once.
fn run(
    mut input: Vec<Labels>,
    change: &LabelChange,
    incoming: Incoming,
) -> Result<(Vec<Labels>, usize)> {
    input.sort();
    let mut sorter: ResortByRun =
        ResortByRun::new(change.clone(), incoming, Budget::unlimited().reserve("test"));
    let (mut out, mut most) = (Vec::new(), 0);
    for labels in input {
        sorter.push(&labels, Vec::new())?;
        while let Some((labels, _)) = sorter.pop()? {
            out.push(labels);
        }
        most = most.max(sorter.held.len());
    }
    sorter.end();
    while let Some((labels, _)) = sorter.pop()? {
        out.push(labels);
    }
    Ok((out, most))
}

fn label_sets(names: &'static [&'static str]) -> impl Strategy<Value = Vec<Labels>> {
    let pair = (prop::sample::select(names), prop::sample::select(&["", "1", "2", "3"][..]));
    let labels = (prop::sample::select(&["x", "y"][..]), prop::collection::vec(pair, 0..5))
        .prop_map(|(name, pairs)| Labels::from_pairs(pairs).with("__name__", name));
    prop::collection::vec(labels, 0..40)
}

proptest! {
    #[test]
    fn series_come_out_sorted_whatever_is_laid_over_and_taken_away(
        input in label_sets(&["a", "b", "c", "d", "e"]),
        overlay in label_sets(&["a", "b", "c", "d", "e"]),
        remove in prop::collection::vec(prop::sample::select(&["a", "b", "c", "d", "e"][..]), 0..3),
    ) {
        let overlay = overlay.first().map(|l| l.without(&["__name__"])).unwrap_or_default();
        let remove: Vec<String> = remove.into_iter().map(str::to_owned).collect();
        let change = LabelChange::new(&overlay, &remove);
        let mut expected: Vec<Labels> = input.iter().map(|l| l.overlaid(&overlay).without(&remove)).collect();
        expected.sort();
        let (got, _) = run(input, &change, Incoming::Any).unwrap();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn labels_nobody_carries_need_no_run(
        input in label_sets(&["a", "c", "e", "g"]),
        b in any::<bool>(), d in any::<bool>(), h in any::<bool>(),
    ) {
        let pairs = [("b", b), ("d", d), ("h", h)];
        let overlay = Labels::from_pairs(pairs.iter().filter(|p| p.1).map(|p| (p.0, "9")));
        let change = LabelChange::new(&overlay, &["f".to_owned()]);
        let mut expected: Vec<Labels> = input.iter().map(|l| l.overlaid(&overlay)).collect();
        expected.sort();
        let (got, _) = run(input, &change, Incoming::Untouched).unwrap();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn only_the_run_is_held_back() {
    let series = |name: &str, pod: usize| {
        Labels::from_pairs([("__name__", name), ("pod", &pod.to_string())])
    };
    let input: Vec<Labels> =
        (0..100).flat_map(|pod| [series("a", pod), series("b", pod)]).collect();
    let change = LabelChange::new(&Labels::from_pairs([("cluster", "c")]), &[]);
    assert_eq!(run(input.clone(), &change, Incoming::Any).unwrap().1, 100);
    assert_eq!(run(input, &change, Incoming::Untouched).unwrap().1, 0);
}

#[test]
fn a_run_over_budget_is_an_error() {
    let reservation = Budget::new(1000).reserve("sorting series");
    let change = LabelChange::new(&Labels::from_pairs([("a", "1")]), &[]);
    let mut sorter: ResortByRun = ResortByRun::new(change, Incoming::Any, reservation);
    let mut push = |i: u32| sorter.push(&Labels::from_pairs([("x", i.to_string())]), Vec::new());
    let error = (0..100).find_map(|i| push(i).err()).unwrap();
    assert_eq!(error.kind(), Kind::Memory);
    assert!(error.to_string().starts_with("sorting series needs "), "{error}");
}

#[test]
fn a_broken_promise_is_found() {
    let change = LabelChange::new(&Labels::from_pairs([("b", "5")]), &[]);
    let input = vec![
        Labels::from_pairs([("b", "7"), ("c", "2")]),
        Labels::from_pairs([("b", "8"), ("c", "1")]),
    ];
    assert_eq!(
        run(input.clone(), &change, Incoming::Untouched).unwrap_err().kind(),
        Kind::Unavailable
    );
    assert!(run(input, &change, Incoming::Any).is_ok());
}

#[test]
fn series_of_one_replica_have_its_number_wherever_its_labels_were() {
    let remove = ["replica".to_owned(), "az".to_owned()];
    let external =
        LabelChange::new(&Labels::from_pairs([("cluster", "eu"), ("replica", "a")]), &remove);
    let inside = LabelChange::new(&Labels::empty(), &remove);
    let up = Labels::from_pairs([("__name__", "up")]);
    let replica = external.replica(&up);
    assert!(replica.is_some());
    assert_eq!(
        inside.replica(&Labels::from_pairs([
            ("__name__", "up"),
            ("cluster", "eu"),
            ("replica", "a")
        ])),
        replica
    );
    // an external label replaces one of the series
    assert_eq!(external.replica(&up.with("replica", "z")), replica);
    let others = [up.with("replica", "b"), up.with("az", "1").with("replica", "a"), up.clone()];
    assert!(others.iter().all(|labels| inside.replica(labels) != replica));
    assert_eq!(LabelChange::new(&Labels::from_pairs([("replica", "a")]), &[]).replica(&up), None);
}
