//! What a kernel reports about its input besides the result. Texts are those of Prometheus'
//! annotations.

use std::collections::{BTreeSet, btree_set};

use crate::ast::BinaryOp;
use crate::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Info,
}

/// What was done when two histograms did not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HistogramOperation {
    Addition,
    Subtraction,
    Aggregation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleKind {
    Float,
    Histogram,
}

/// A warning or an info about native histograms, or about a mix of them with floats. Those of range
/// functions refer to the call's first argument, those of aggregations to the aggregated
/// expression, those of operators to the whole operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Note {
    /// Floats and histograms in one range, where the function can only be of one kind.
    MixedFloatsAndHistograms,
    /// Floats and histograms in one group.
    MixedFloatsAndHistogramsInAggregation,
    MixedClassicAndNative,
    /// A counter's function was given gauges.
    NotACounterHistogram,
    /// A gauge's function was given counters.
    NotAGaugeHistogram,
    MixedExponentialAndCustom,
    IncompatibleBucketLayout(BinaryOp),
    CounterResetCollision(HistogramOperation),
    IncompatibleTypes(SampleKind, BinaryOp, SampleKind),
    /// The aggregation (named as in PromQL) is defined only for floats.
    IgnoredInAggregation(&'static str),
    /// The range function is defined only for floats.
    IgnoredInMixedRange,
    QuantileOfNanIsNan,
    QuantileSkewedByNan,
    FractionExcludesNan,
    MismatchedCustomBuckets(HistogramOperation),
}

impl Note {
    pub fn severity(&self) -> Severity {
        use Note::*;
        match self {
            MixedFloatsAndHistograms
            | MixedFloatsAndHistogramsInAggregation
            | MixedClassicAndNative
            | NotACounterHistogram
            | NotAGaugeHistogram
            | MixedExponentialAndCustom
            | IncompatibleBucketLayout(_)
            | CounterResetCollision(_) => Severity::Warning,
            IncompatibleTypes(..)
            | IgnoredInAggregation(_)
            | IgnoredInMixedRange
            | QuantileOfNanIsNan
            | QuantileSkewedByNan
            | FractionExcludesNan
            | MismatchedCustomBuckets(_) => Severity::Info,
        }
    }

    /// Whether the text depends on the metric's name.
    pub fn names_metric(&self) -> bool {
        use Note::*;
        !matches!(
            self,
            MixedFloatsAndHistogramsInAggregation
                | IncompatibleBucketLayout(_)
                | CounterResetCollision(_)
                | IncompatibleTypes(..)
                | IgnoredInAggregation(_)
                | MismatchedCustomBuckets(_)
        )
    }

    /// The text without severity and position.
    pub fn message(&self, metric_name: &str) -> String {
        use Note::*;
        let name = || quote(metric_name.as_bytes());
        match self {
            MixedFloatsAndHistograms => {
                format!("encountered a mix of histograms and floats for metric name {}", name())
            }
            MixedFloatsAndHistogramsInAggregation => {
                "encountered a mix of histograms and floats for aggregation".to_owned()
            }
            MixedClassicAndNative => {
                of_metric("vector contains a mix of classic and native histograms", metric_name)
            }
            NotACounterHistogram => {
                format!("this native histogram metric is not a counter: {}", name())
            }
            NotAGaugeHistogram => {
                format!("this native histogram metric is not a gauge: {}", name())
            }
            MixedExponentialAndCustom => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas \
                 for metric name {}",
                name()
            ),
            IncompatibleBucketLayout(op) => {
                format!(
                    "incompatible bucket layout encountered for binary operator {}",
                    op.as_str()
                )
            }
            CounterResetCollision(operation) => {
                format!("conflicting counter resets during histogram {}", operation.name())
            }
            IncompatibleTypes(left, op, right) => {
                let (left, op, right) = (left.name(), op.as_str(), right.name());
                format!(
                    "incompatible sample types encountered for binary operator \"{op}\": {left} \
                     {op} {right}"
                )
            }
            IgnoredInAggregation(aggregation) => {
                format!("ignored histogram in {aggregation} aggregation")
            }
            IgnoredInMixedRange => format!(
                "ignored histograms in a range containing both floats and histograms for metric \
                 name {}",
                name()
            ),
            QuantileOfNanIsNan => of_metric(
                "input to histogram_quantile has NaN observations, result is NaN",
                metric_name,
            ),
            QuantileSkewedByNan => of_metric(
                "input to histogram_quantile has NaN observations, result is skewed higher",
                metric_name,
            ),
            FractionExcludesNan => of_metric(
                "input to histogram_fraction has NaN observations, which are excluded from all \
                 fractions",
                metric_name,
            ),
            MismatchedCustomBuckets(operation) => {
                format!("mismatched custom buckets were reconciled during {}", operation.name())
            }
        }
    }
}

/// Some texts name the metric only where it has a name.
fn of_metric(text: &str, metric_name: &str) -> String {
    if metric_name.is_empty() {
        return text.to_owned();
    }
    format!("{text} for metric name {}", quote(metric_name.as_bytes()))
}

impl HistogramOperation {
    fn name(self) -> &'static str {
        match self {
            HistogramOperation::Addition => "addition",
            HistogramOperation::Subtraction => "subtraction",
            HistogramOperation::Aggregation => "aggregation",
        }
    }
}

impl SampleKind {
    fn name(self) -> &'static str {
        match self {
            SampleKind::Float => "float",
            SampleKind::Histogram => "histogram",
        }
    }
}

/// A set of notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeSet<Note>);

impl Notes {
    pub fn push(&mut self, note: Note) {
        self.0.insert(note);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, note: Note) -> bool {
        self.0.contains(&note)
    }

    pub fn append(&mut self, mut other: Notes) {
        self.0.append(&mut other.0);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn iter(&self) -> btree_set::Iter<'_, Note> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Notes {
    type Item = &'a Note;
    type IntoIter = btree_set::Iter<'a, Note>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_prometheus() {
        use Note::*;
        let of_m: [(Note, Severity, &str); 15] = [
            (
                MixedFloatsAndHistograms,
                Severity::Warning,
                r#"encountered a mix of histograms and floats for metric name "m""#,
            ),
            (
                MixedFloatsAndHistogramsInAggregation,
                Severity::Warning,
                "encountered a mix of histograms and floats for aggregation",
            ),
            (
                MixedClassicAndNative,
                Severity::Warning,
                r#"vector contains a mix of classic and native histograms for metric name "m""#,
            ),
            (
                NotACounterHistogram,
                Severity::Warning,
                r#"this native histogram metric is not a counter: "m""#,
            ),
            (
                NotAGaugeHistogram,
                Severity::Warning,
                r#"this native histogram metric is not a gauge: "m""#,
            ),
            (
                MixedExponentialAndCustom,
                Severity::Warning,
                r#"vector contains a mix of histograms with exponential and custom buckets schemas for metric name "m""#,
            ),
            (
                IncompatibleBucketLayout(BinaryOp::Add),
                Severity::Warning,
                "incompatible bucket layout encountered for binary operator +",
            ),
            (
                CounterResetCollision(HistogramOperation::Addition),
                Severity::Warning,
                "conflicting counter resets during histogram addition",
            ),
            (
                IncompatibleTypes(SampleKind::Float, BinaryOp::TrimLower, SampleKind::Histogram),
                Severity::Info,
                r#"incompatible sample types encountered for binary operator ">/": float >/ histogram"#,
            ),
            (
                IgnoredInAggregation("stddev"),
                Severity::Info,
                "ignored histogram in stddev aggregation",
            ),
            (
                IgnoredInMixedRange,
                Severity::Info,
                r#"ignored histograms in a range containing both floats and histograms for metric name "m""#,
            ),
            (
                QuantileOfNanIsNan,
                Severity::Info,
                r#"input to histogram_quantile has NaN observations, result is NaN for metric name "m""#,
            ),
            (
                QuantileSkewedByNan,
                Severity::Info,
                r#"input to histogram_quantile has NaN observations, result is skewed higher for metric name "m""#,
            ),
            (
                FractionExcludesNan,
                Severity::Info,
                r#"input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name "m""#,
            ),
            (
                MismatchedCustomBuckets(HistogramOperation::Subtraction),
                Severity::Info,
                "mismatched custom buckets were reconciled during subtraction",
            ),
        ];
        for (note, severity, text) in of_m {
            assert_eq!(note.message("m"), text);
            assert_eq!(note.severity(), severity, "{note:?}");
            assert_eq!(note.names_metric(), note.message("m") != note.message("n"), "{note:?}");
        }
    }

    #[test]
    fn without_a_name_some_texts_end_before_it() {
        assert_eq!(
            Note::MixedClassicAndNative.message(""),
            "vector contains a mix of classic and native histograms"
        );
        assert_eq!(
            Note::NotAGaugeHistogram.message(""),
            r#"this native histogram metric is not a gauge: """#
        );
    }

    #[test]
    fn notes_are_kept_once() {
        let mut notes = Notes::default();
        notes.push(Note::NotAGaugeHistogram);
        notes.push(Note::NotAGaugeHistogram);
        let mut more = notes.clone();
        more.push(Note::IgnoredInMixedRange);
        notes.append(more);
        assert_eq!(notes.iter().count(), 2);
        assert!(notes.contains(Note::IgnoredInMixedRange));
    }
}
