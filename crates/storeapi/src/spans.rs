//! Sets of points in time.

use model::TimeRange;

/// Points in time as ascending spans that do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<TimeRange>);

impl Spans {
    /// All of time.
    pub fn all() -> Spans {
        Spans(vec![TimeRange::ALL])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = TimeRange> + '_ {
        self.0.iter().copied()
    }

    /// From the first point to the last.
    pub fn hull(&self) -> Option<TimeRange> {
        Some(TimeRange::new(self.0.first()?.start, self.0.last()?.end))
    }

    pub fn union(&self, other: &Spans) -> Spans {
        self.iter().chain(other.iter()).collect()
    }

    pub fn intersect(&self, other: &Spans) -> Spans {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = Vec::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let both = x.intersect(**y);
            if !both.is_empty() {
                common.push(both);
            }
            if x.end <= y.end {
                a.next()
            } else {
                b.next()
            };
        }
        Spans(common)
    }

    pub fn without(&self, other: &Spans) -> Spans {
        let mut gone = other.0.iter().peekable();
        let mut left = Vec::new();
        for span in &self.0 {
            let mut start = span.start;
            while let Some(next) = gone.peek().filter(|next| next.start < span.end) {
                if next.start > start {
                    left.push(TimeRange::new(start, next.start));
                }
                start = start.max(next.end);
                if next.end > span.end {
                    break;
                }
                gone.next();
            }
            if start < span.end {
                left.push(TimeRange::new(start, span.end));
            }
        }
        Spans(left)
    }

    /// Whether every point of the closed span `[min, max]` is in the set.
    pub fn cover_closed(&self, min: i64, max: i64) -> bool {
        let after = self.0.partition_point(|span| span.start <= min);
        after.checked_sub(1).is_some_and(|at| max <= self.0[at].last())
    }

    /// The spans that touch the closed span `[min, max]`.
    pub fn touching(&self, min: i64, max: i64) -> impl Iterator<Item = TimeRange> + '_ {
        let from = self.0.partition_point(|span| span.last() < min);
        self.0[from..].iter().copied().take_while(move |span| span.start <= max)
    }

    /// The same points; where there are more than `most` spans, also those in the shortest gaps
    /// between them.
    #[must_use]
    pub fn at_most(self, most: usize) -> Spans {
        let surplus = self.0.len().saturating_sub(most.max(1));
        if surplus == 0 {
            return self;
        }
        let mut gaps: Vec<TimeRange> =
            self.0.windows(2).map(|w| TimeRange::new(w[0].end, w[1].start)).collect();
        gaps.sort_by_key(|gap| gap.duration_ms());
        gaps.truncate(surplus);
        self.iter().chain(gaps).collect()
    }
}

impl From<TimeRange> for Spans {
    fn from(range: TimeRange) -> Spans {
        Spans::from_iter([range])
    }
}

impl IntoIterator for Spans {
    type Item = TimeRange;
    type IntoIter = std::vec::IntoIter<TimeRange>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<TimeRange> for Spans {
    /// Takes spans in any order, which may overlap.
    fn from_iter<I: IntoIterator<Item = TimeRange>>(spans: I) -> Spans {
        let mut all: Vec<TimeRange> = spans.into_iter().filter(|span| !span.is_empty()).collect();
        all.sort_unstable_by_key(|span| span.start);
        let mut joined: Vec<TimeRange> = Vec::with_capacity(all.len());
        for span in all {
            match joined.last_mut().filter(|last| span.start <= last.end) {
                Some(last) => last.end = last.end.max(span.end),
                None => joined.push(span),
            }
        }
        Spans(joined)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Spans> {
        let span = (0i64..40, 0i64..10).prop_map(|(start, len)| TimeRange::new(start, start + len));
        prop::collection::vec(span, 0..8).prop_map(Spans::from_iter)
    }

    fn points(spans: &Spans) -> BTreeSet<i64> {
        spans.iter().flat_map(|span| span.start..span.end).collect()
    }

    proptest! {
        #[test]
        fn spans_are_sets_of_points(a in spans(), b in spans(), min in 0i64..50, len in 0i64..5, most in 1usize..4) {
            let (x, y) = (points(&a), points(&b));
            prop_assert_eq!(points(&a.union(&b)), &x | &y);
            prop_assert_eq!(points(&a.intersect(&b)), &x & &y);
            prop_assert_eq!(points(&a.without(&b)), &x - &y);
            let max = min + len;
            prop_assert_eq!(a.cover_closed(min, max), (min..=max).all(|t| x.contains(&t)));
            let touching: Spans = a.touching(min, max).collect();
            prop_assert_eq!(touching.is_empty(), !(min..=max).any(|t| x.contains(&t)));
            prop_assert_eq!(a.iter().filter(|s| s.overlaps_closed(min, max)).collect::<Spans>(), touching);
            for made in [a.union(&b), a.intersect(&b), a.without(&b), a.clone()] {
                prop_assert!(made.0.windows(2).all(|w| w[0].end < w[1].start) && !made.0.iter().any(|s| s.is_empty()));
            }
            let fewer = a.clone().at_most(most);
            prop_assert!(fewer.len() <= most && points(&fewer).is_superset(&x));
            prop_assert_eq!(fewer.hull(), a.hull());
            prop_assert!(a.len() > most || fewer == a);
        }
    }

    #[test]
    fn what_is_unbounded_stays_so() {
        let later = Spans::from(TimeRange::new(7, i64::MAX));
        assert_eq!(Spans::all().without(&later), Spans::from(TimeRange::new(i64::MIN, 7)));
        assert!(Spans::all().cover_closed(i64::MIN, i64::MAX) && !later.cover_closed(6, 8));
        assert!(later.cover_closed(7, i64::MAX));
        assert_eq!(
            later.union(&Spans::from(TimeRange::new(0, 7))).hull(),
            Some(TimeRange::new(0, i64::MAX))
        );
    }
}
