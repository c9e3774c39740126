//! Turns matchers into postings.
//!
//! A matcher that the empty value fails is satisfied only by series that have the label with a
//! matching value; one that the empty value satisfies, by all series except those that have the
//! label with another value. So the answer is: of the series that every matcher of the first kind
//! keeps (all series, if there is none), those that no matcher of the second kind removes.

use std::ops::Range;

use model::{MatchOp, Matcher};

use super::IndexHeader;
use crate::Error;
use crate::postings;

/// Postings of up to this many bytes are always fetched rather than tested on the series.
const ALWAYS_FETCHED: u64 = 64 << 10;

/// The approximate cost of fetching a series entry, to weigh fetching postings against testing
/// series.
const SERIES_COST: u64 = 128;

/// Which postings lists answer a set of matchers.
#[derive(Clone, Debug, Default)]
pub struct PostingsPlan {
    /// One of these lists per matcher of the first kind must hold the series; indices into
    /// `ranges`.
    keep: Vec<Range<usize>>,
    /// None of these may hold it.
    remove: Vec<Range<usize>>,
    ranges: Vec<Range<u64>>,
    /// Matchers left out of the lists, because testing them on the series is cheaper.
    residual: Vec<Matcher>,
    nothing: bool,
}

impl IndexHeader {
    /// Plans how to find the series that satisfy all matchers; without matchers that is all series.
    ///
    /// # Errors
    /// A value is too long for a regex.
    pub fn plan(&self, matchers: &[Matcher]) -> Result<PostingsPlan, Error> {
        self.plan_while(&|| true, matchers)
    }

    /// The same; what it gives once it is not wanted any more means nothing. There may be millions
    /// of values for which it is asked whether they match.
    ///
    /// # Errors
    /// As [`plan`](IndexHeader::plan).
    pub fn plan_while(
        &self,
        is_wanted: &dyn Fn() -> bool,
        matchers: &[Matcher],
    ) -> Result<PostingsPlan, Error> {
        let nothing = || Ok(PostingsPlan { nothing: true, ..PostingsPlan::default() });
        let mut keep: Vec<(&Matcher, Vec<Range<u64>>)> = Vec::new();
        let mut remove: Vec<(&Matcher, Vec<Range<u64>>)> = Vec::new();
        for matcher in matchers {
            if matcher.matches_empty() {
                remove.push((matcher, self.lists_failing(matcher, is_wanted)?));
                continue;
            }
            let lists = self.lists_matching(matcher, is_wanted)?;
            if lists.is_empty() {
                return nothing();
            }
            keep.push((matcher, lists));
        }
        // the smallest first: it bounds the work of all that follow
        keep.sort_by_key(|(_, lists)| bytes_of(lists));
        if keep.is_empty() {
            match self.postings_range(b"", b"") {
                Some(all) => return Ok(PostingsPlan::new(Some(all), Vec::new(), remove)),
                None => return nothing(),
            }
        }
        Ok(PostingsPlan::new(None, keep, remove))
    }

    /// The postings of values that satisfy the matcher; the empty value does not.
    fn lists_matching(
        &self,
        matcher: &Matcher,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Range<u64>>, Error> {
        let name = matcher.name.as_bytes();
        match matcher.set_matches() {
            Some(values) => {
                let mut lists: Vec<_> =
                    values.iter().filter_map(|value| self.postings_range(name, value)).collect();
                lists.sort_unstable_by_key(|r| r.start);
                lists.dedup();
                Ok(lists)
            }
            None => self.lists_where(matcher, true, is_wanted),
        }
    }

    /// The postings of values that do not satisfy the matcher; the empty value does.
    fn lists_failing(
        &self,
        matcher: &Matcher,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Range<u64>>, Error> {
        let name = matcher.name.as_bytes();
        match matcher.op() {
            MatchOp::NotEqual => {
                Ok(self.postings_range(name, &matcher.value).into_iter().collect())
            }
            MatchOp::Regex if matcher.value == b".*" => Ok(Vec::new()),
            _ => self.lists_where(matcher, false, is_wanted),
        }
    }

    /// The postings of values for which the matcher says so.
    fn lists_where(
        &self,
        matcher: &Matcher,
        says: bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Range<u64>>, Error> {
        /// Bytes of values between two questions whether to go on.
        const AT_ONCE: usize = 16 << 10;
        let (mut lists, mut looked_at) = (Vec::new(), 0);
        for (value, list) in self.label_values(matcher.name.as_bytes()) {
            if matcher.try_matches(value)? == says {
                lists.push(list);
            }
            looked_at += 16 + value.len();
            if looked_at > AT_ONCE {
                looked_at = 0;
                if !is_wanted() {
                    break;
                }
            }
        }
        Ok(lists)
    }
}

fn bytes_of(lists: &[Range<u64>]) -> u64 {
    lists.iter().map(|r| r.end - r.start).sum()
}

impl PostingsPlan {
    fn new(
        all: Option<Range<u64>>,
        keep: Vec<(&Matcher, Vec<Range<u64>>)>,
        remove: Vec<(&Matcher, Vec<Range<u64>>)>,
    ) -> PostingsPlan {
        let mut plan = PostingsPlan::default();
        let base = match &all {
            Some(range) => range.end - range.start,
            None => keep.first().map_or(0, |(_, lists)| bytes_of(lists)),
        };
        let worth = ((base / 4).saturating_mul(SERIES_COST)).max(ALWAYS_FETCHED);
        if let Some(range) = all {
            plan.ranges.push(range);
            plan.keep.push(0..1);
        }
        for (kept, (matcher, lists)) in keep
            .into_iter()
            .map(|group| (true, group))
            .chain(remove.into_iter().map(|group| (false, group)))
        {
            if !plan.keep.is_empty() && bytes_of(&lists) > worth {
                plan.residual.push(matcher.clone());
                continue;
            }
            let from = plan.ranges.len();
            plan.ranges.extend(lists);
            let group = from..plan.ranges.len();
            if kept { plan.keep.push(group) } else { plan.remove.push(group) }
        }
        plan
    }

    /// The ranges of the index to fetch, one postings list each.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Matchers that must still be checked against the series themselves.
    pub fn residual(&self) -> &[Matcher] {
        &self.residual
    }

    /// The ids of the series, sorted; `lists` are the postings of [`ranges`](PostingsPlan::ranges),
    /// in that order.
    pub fn evaluate(&self, mut lists: Vec<Vec<u32>>) -> Vec<u32> {
        if self.nothing || lists.len() != self.ranges.len() {
            debug_assert!(self.nothing, "one list per range");
            return Vec::new();
        }
        let mut group = |range: &Range<usize>| {
            postings::union(lists[range.clone()].iter_mut().map(std::mem::take).collect())
        };
        let mut keep = self.keep.iter();
        let mut ids = keep.next().map(&mut group).unwrap_or_default();
        for range in keep {
            if ids.is_empty() {
                return ids;
            }
            postings::intersect(&mut ids, &group(range));
        }
        for range in &self.remove {
            postings::subtract(&mut ids, &group(range));
        }
        ids
    }
}
