//! `topk` and `bottomk`: the k best of a group at one step.

/// Keeps the k best values seen, the best first. NaN is worse than any number; of equal values the earlier stays.
#[derive(Clone, Debug, Default)]
pub struct Best {
    kept: Vec<(f64, u32)>,
}

impl Best {
    /// Offers the value of a row.
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
        self.kept.insert(at, (value, row));
        self.kept.truncate(k);
    }

    /// The rows kept, the best first.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.kept.iter().map(|(_, row)| *row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
