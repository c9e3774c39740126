use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn ids() -> impl Strategy<Value = Vec<u32>> {
    let spread = prop_oneof![Just(20u32), Just(1000), Just(u32::MAX)];
    (spread, 0..200usize).prop_flat_map(|(max, len)| {
        proptest::collection::btree_set(0..max, 0..=len.min(max as usize))
            .prop_map(|s| s.into_iter().collect())
    })
}

proptest! {
    #[test]
    fn set_operations_are_those_of_sets(a in ids(), b in ids(), c in ids()) {
        let (sa, sb): (BTreeSet<u32>, BTreeSet<u32>) = (a.iter().copied().collect(), b.iter().copied().collect());
        let mut both = a.clone();
        intersect(&mut both, &b);
        prop_assert!(both.iter().eq(sa.intersection(&sb)));
        let mut without = a.clone();
        subtract(&mut without, &b);
        prop_assert!(without.iter().eq(sa.difference(&sb)));
        let all: BTreeSet<u32> = a.iter().chain(&b).chain(&c).copied().collect();
        prop_assert!(union(vec![a, b, c]).iter().eq(all.iter()));
    }
}

#[test]
fn a_short_list_against_a_long_one() {
    let long: Vec<u32> = (0..10_000).map(|i| i * 3).collect();
    let mut list = long.clone();
    intersect(&mut list, &[1, 3, 29_997, 40_000]);
    assert_eq!(list, [3, 29_997]);
    assert_eq!(union(Vec::new()), Vec::<u32>::new());
}
