//! How functions are answered over downsampled data: which aggregate stands for samples, how coarse
//! data may be, and what becomes of windows where only coarser data exists.
//! `docs/downsampled-answers.md` says the same to users, with the bounds of the answers.

use merge::ValueOf;
use model::Resolution;
use promql::kernels::coarse::{Filling, ValueAt};
use tsdb::chunk::Aggregate;

/// So many windows in the range of a rate make it of little use to know when their samples were
/// taken.
const WINDOWS_ENOUGH: i64 = 10;

/// How the samples of a selector are to be treated, by what is done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Treatment {
    /// What stands for the samples of a window.
    pub(crate) value: ValueOf,
    coarsest: Coarsest,
    pub(crate) short: Short,
}

/// The longest windows from which a function can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coarsest {
    Any,
    /// One sample in its range.
    Range,
    /// Two samples in its range.
    HalfRange,
    /// No aggregate holds what it needs.
    Raw,
}

/// How a function is answered where its range is too short for the only data that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// From the samples around it, however far apart.
    Filled(Filling),
    /// As a share of the difference between the two samples around it.
    Rise(Rise),
    /// As shares of what the windows around it add up to.
    Share,
    /// As the mean of the windows around it, each weighted by how many of its samples lie in the
    /// range.
    Mean,
    /// Not at all: the function itself reaches for the samples it needs.
    Fixed,
}

/// What is asked about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rise {
    PerSecond,
    /// In the range that was asked for.
    InRange,
}

impl Treatment {
    /// The treatment for a function or aggregation over a selector, by its name in the query.
    /// `directly`: nothing stands between them, so that an aggregate of the samples can be used as
    /// it is.
    pub(crate) fn of(function: &str, directly: bool) -> Treatment {
        use Coarsest::{Any, HalfRange, Range, Raw};
        let around = Short::Filled(Filling::Around);
        let pair = Short::Filled(Filling::Pair);
        let new = |value, coarsest, short| Treatment { value, coarsest, short };
        let counter = |coarsest, short| new(ValueOf::Counter, coarsest, short);
        let instant = Short::Filled(Filling::Last);
        if !directly {
            return new(ValueOf::Average, Any, instant);
        }
        match function {
            "rate" => counter(HalfRange, Short::Rise(Rise::PerSecond)),
            "increase" => counter(HalfRange, Short::Rise(Rise::InRange)),
            "irate" => counter(HalfRange, pair),
            "xrate" | "xincrease" => new(ValueOf::Counter, HalfRange, Short::Fixed),
            "xdelta" => new(ValueOf::Average, HalfRange, Short::Fixed),
            "delta" => new(ValueOf::Average, HalfRange, Short::Rise(Rise::InRange)),
            "deriv" | "predict_linear" | "double_exponential_smoothing" => {
                new(ValueOf::Average, HalfRange, pair)
            }
            // replicas are merged as those of counters are; the aggregate rises for ever
            "resets" => counter(Raw, pair),
            "idelta" | "changes" => new(ValueOf::Average, Raw, pair),
            "quantile_over_time" | "stddev_over_time" | "stdvar_over_time" | "mad_over_time" => {
                new(ValueOf::Average, Raw, around)
            }
            "sum_over_time" => new(ValueOf::Sum, Range, Short::Share),
            "count_over_time" => new(ValueOf::Count, Range, Short::Share),
            "min_over_time" | "ts_of_min_over_time" => new(ValueOf::Min, Range, around),
            "max_over_time" | "ts_of_max_over_time" => new(ValueOf::Max, Range, around),
            "avg_over_time" => new(ValueOf::Average, Range, Short::Mean),
            name if name.ends_with("_over_time") => new(ValueOf::Average, Range, around),
            "min" => new(ValueOf::Min, Any, instant),
            "max" => new(ValueOf::Max, Any, instant),
            // counts series, whatever their values
            "count" => new(ValueOf::Count, Any, instant),
            "count_values" => new(ValueOf::Average, Raw, instant),
            _ => new(ValueOf::Average, Any, instant),
        }
    }

    /// The same over an anchored or smoothed range.
    pub(crate) fn fixed(self) -> Treatment {
        Treatment { short: Short::Fixed, ..self }
    }

    /// The coarsest resolution to ask for, in milliseconds, where `allowed_ms` is what the user
    /// allows; `range_ms` is 0 for instant selectors.
    pub(crate) fn max_resolution_ms(self, allowed_ms: i64, range_ms: i64) -> i64 {
        match self.coarsest {
            Coarsest::Any => allowed_ms,
            Coarsest::Range => allowed_ms.min(range_ms),
            Coarsest::HalfRange => allowed_ms.min(range_ms / 2),
            Coarsest::Raw => 0,
        }
    }

    /// The shortest windows, in milliseconds, whose times of samples are worth asking for;
    /// `range_ms` is 0 for instant selectors.
    pub(crate) fn times_from_ms(self, range_ms: i64) -> i64 {
        match (self.value, self.short) {
            // a counter begins with its first sample whatever is known, and over so many windows
            // it makes little difference where in its window each sample is
            (ValueOf::Counter, Short::Rise(_)) => (range_ms / WINDOWS_ENOUGH).max(1),
            _ => 1,
        }
    }

    /// Where in its window the value of a downsampled sample belongs.
    pub(crate) fn value_at(self) -> ValueAt {
        if self.value == ValueOf::Average { ValueAt::Middle } else { ValueAt::End }
    }

    /// Whether data coarser than asked for makes the answer a different one, not merely a blurred
    /// one.
    pub(crate) fn needs_raw(self) -> bool {
        self.coarsest == Coarsest::Raw
    }

    /// The aggregates to ask for.
    pub(crate) fn aggregates(self) -> Vec<Aggregate> {
        match self.value {
            ValueOf::Count => vec![Aggregate::Count],
            ValueOf::Sum => vec![Aggregate::Sum],
            ValueOf::Min => vec![Aggregate::Min],
            ValueOf::Max => vec![Aggregate::Max],
            ValueOf::Counter => vec![Aggregate::Counter],
            ValueOf::Average => vec![Aggregate::Count, Aggregate::Sum],
        }
    }
}

/// A resolution as messages name it.
pub(crate) fn resolution_name(resolution_ms: i64) -> String {
    match Resolution::from_millis(resolution_ms) {
        Some(resolution) => resolution.to_string(),
        None => promql::format_duration(resolution_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_bounds_how_coarse_data_may_be() {
        let coarsest = |function, range_ms, allowed_ms| {
            Treatment::of(function, true).max_resolution_ms(allowed_ms, range_ms)
        };
        assert_eq!(coarsest("rate", 1_200_000, 3_600_000), 600_000);
        assert_eq!(coarsest("rate", 7_200_000, 300_000), 300_000);
        assert_eq!(coarsest("sum_over_time", 1_200_000, 3_600_000), 1_200_000);
        assert_eq!(coarsest("quantile_over_time", 86_400_000, 3_600_000), 0);
        assert_eq!(coarsest("", 0, 3_600_000), 3_600_000);
        assert_eq!(coarsest("max", 0, 3_600_000), 3_600_000);
    }

    #[test]
    fn a_rate_over_many_windows_needs_no_times() {
        let from = |function, range_ms| Treatment::of(function, true).times_from_ms(range_ms);
        assert_eq!(from("rate", 3_600_000), 360_000, "of hours, not of five minutes");
        assert_eq!(from("increase", 600_000), 60_000);
        assert_eq!(from("rate", 0), 1);
        assert_eq!(from("sum_over_time", 86_400_000), 1);
        assert_eq!(from("", 0), 1);
    }

    #[test]
    fn an_aggregate_is_used_by_what_stands_right_over_the_selector() {
        let value = |function, directly| Treatment::of(function, directly).value;
        assert_eq!(value("max", true), ValueOf::Max);
        assert_eq!(value("max", false), ValueOf::Average);
        assert_eq!(value("sum_over_time", true), ValueOf::Sum);
        assert_eq!(value("sum_over_time", false), ValueOf::Average);
        assert_eq!(value("count_values", true), ValueOf::Average);
        assert_eq!(value("sum", true), ValueOf::Average, "adds up what series have, not samples");
    }
}
