use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set(steps: usize, within: &BTreeSet<usize>) -> StepSet {
    let mut set = StepSet::none(steps);
    within.iter().filter(|k| **k < steps).for_each(|k| set.insert(*k));
    set
}

fn listed(set: StepsView<'_>) -> Vec<usize> {
    let mut listed = Vec::new();
    set.for_each(|k| listed.push(k));
    assert!(set.into_iter().eq(listed.iter().copied()));
    assert_eq!(
        (set.first(), set.len(), set.is_empty()),
        (listed.first().copied(), listed.len(), listed.is_empty())
    );
    listed
}

proptest! {
    #[test]
    fn step_sets_are_sets(
        steps in 0usize..200,
        a in prop::collection::btree_set(0usize..200, 0..100),
        b in prop::collection::btree_set(0usize..200, 0..100),
    ) {
        let (x, y) = (set(steps, &a), set(steps, &b));
        let a: BTreeSet<usize> = a.into_iter().filter(|k| *k < steps).collect();
        let b: BTreeSet<usize> = b.into_iter().filter(|k| *k < steps).collect();
        prop_assert!((0..steps).all(|k| x.contains(k) == a.contains(&k)));
        let pairs = [
            (x.or(y.view()), &a | &b),
            (x.and(y.view()), &a & &b),
            (x.minus(y.view()), &a - &b),
        ];
        for (set, expected) in pairs {
            prop_assert_eq!(listed(set.view()), expected.into_iter().collect::<Vec<_>>());
        }
        let changed = |change: &dyn Fn(&mut StepSet)| { let mut set = x.clone(); change(&mut set); set };
        prop_assert_eq!(changed(&|set| set.add(y.view())), x.or(y.view()));
        prop_assert_eq!(changed(&|set| set.keep(y.view())), x.and(y.view()));
        prop_assert_eq!(changed(&|set| set.retain_by_word(|from| y.word_at(from))), x.and(y.view()));
        prop_assert_eq!(changed(&|set| set.subtract(y.view())), x.minus(y.view()));
        prop_assert_eq!(changed(&|set| set.retain(|k| !b.contains(&k))), x.minus(y.view()));
        prop_assert_eq!(changed(&|set| b.iter().for_each(|k| set.remove(*k))), x.minus(y.view()));
        prop_assert_eq!(x.overlaps(y.view()), !a.is_disjoint(&b));
        prop_assert_eq!(listed(StepSet::all(steps).view()), (0..steps).collect::<Vec<_>>());

        let mut sets = StepSets::with_len(steps, 1);
        sets.push(x.view());
        sets.get_mut(0).copy_from(y.view());
        prop_assert_eq!((sets.get(0), sets.get(1)), (y.view(), x.view()));
    }
}
