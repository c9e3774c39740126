//! `topk` and `bottomk`: the k best of a group at one step.

/// Keeps the k best values seen, the best first. NaN is worse than any number; of equal values the
/// earlier stays.
#[derive(Clone, Debug, Default)]
pub struct Best {
    kept: Vec<(f64, u32)>,
}

impl Best {
    /// Offers the value of a row.
    #[inline]
    pub fn offer(&mut self, k: usize, bottom: bool, value: f64, row: u32) {
        let better = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
            (true, _) => false,
            (false, true) => true,
            _ if bottom => a < b,
            _ => a > b,
        };
        if self.kept.len() >= k && !self.kept.last().is_some_and(|worst| better(value, worst.0)) {
            return;
        }
        let at = self.kept.partition_point(|(kept, _)| !better(value, *kept));
        self.keep(at, k, (value, row));
    }

    fn keep(&mut self, at: usize, k: usize, offered: (f64, u32)) {
        self.kept.insert(at, offered);
        self.kept.truncate(k);
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// The rows kept, the best first.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.kept.iter().map(|(_, row)| *row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f64> {
        let odd =
            prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0)];
        prop_oneof![4 => (-5..5i32).prop_map(f64::from), 1 => odd]
    }

    proptest! {
        #[test]
        fn the_best_are_the_first_of_all_in_order(
            values in prop::collection::vec(value(), 0..20), k in 0..12usize, bottom: bool,
        ) {
            let mut best = Best::default();
            for (row, value) in values.iter().enumerate() {
                best.offer(k, bottom, *value, row as u32);
            }
            let mut rows: Vec<u32> = (0..values.len() as u32).collect();
            rows.sort_by(|a, b| {
                let (a, b) = (values[*a as usize], values[*b as usize]);
                let ascending = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                let by_value = if bottom { ascending } else { ascending.reverse() };
                a.is_nan().cmp(&b.is_nan()).then(by_value)
            });
            rows.truncate(k);
            prop_assert_eq!(best.rows().collect::<Vec<_>>(), rows);
        }
    }

    #[test]
    fn nan_comes_last_and_ties_keep_the_first() {
        let values = [f64::NAN, 2.0, 5.0, 2.0, f64::INFINITY];
        let pick = |k, bottom| {
            let mut best = Best::default();
            for (row, v) in values.iter().enumerate() {
                best.offer(k, bottom, *v, row as u32);
            }
            best.rows().collect::<Vec<_>>()
        };
        assert_eq!(pick(3, false), [4, 2, 1]);
        assert_eq!(pick(2, true), [1, 3]);
        assert_eq!(pick(9, false), [4, 2, 1, 3, 0]);
        assert_eq!(pick(0, false), [0; 0]);
    }
}
