//! Warnings and infos of a query, with Prometheus' texts and positions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::Notes;
use promql::ast::Span;
use promql::format_float_general;
use promql::kernels::histogram::ForcedMonotonicity;

/// What is said of a query besides its value; each text once.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    warnings: BTreeMap<String, Span>,
    infos: BTreeMap<String, Span>,
    coarse: BTreeMap<String, Span>,
    source_warnings: SourceTexts,
    source_infos: SourceTexts,
    forced: BTreeMap<String, Forced>,
}

/// A source's own words, as far as there is room for them.
#[derive(Debug)]
struct SourceTexts {
    notes: Notes,
    texts: BTreeSet<String>,
}

impl Default for SourceTexts {
    fn default() -> SourceTexts {
        SourceTexts { notes: Notes::of_answer(), texts: BTreeSet::new() }
    }
}

impl SourceTexts {
    fn add(&mut self, text: &str) {
        self.texts.extend(self.notes.admit(text));
    }

    /// Leaves one text, and says nothing of the others.
    fn keep_first(&mut self) {
        let first = self.texts.pop_first();
        *self = SourceTexts { texts: first.into_iter().collect(), ..SourceTexts::default() };
    }

    /// The texts; `kind` says what those are that are only counted.
    fn finish(mut self, kind: &str) -> BTreeSet<String> {
        match self.notes.left_out() {
            0 => {}
            more => _ = self.texts.insert(format!("{more} further {kind}s of stores")),
        }
        self.texts
    }
}

/// More texts than this say nothing new: those of parameters name their values, of which there may
/// be one at every step.
const MOST_TEXTS: usize = 10_000;

/// Ranks places by order of evaluation: operands before what is done to them, left before right.
fn rank(place: Span) -> (usize, Reverse<usize>) {
    (place.end, Reverse(place.start))
}

/// Keeps the last place for each text, as Prometheus does.
fn keep_last(list: &mut BTreeMap<String, Span>, message: &str, place: Span) {
    if let Some(kept) = list.get_mut(message) {
        *kept = if rank(*kept) > rank(place) { *kept } else { place };
    } else if list.len() < MOST_TEXTS {
        list.insert(message.to_owned(), place);
    }
}

#[derive(Debug)]
struct Forced {
    span: Span,
    range: ForcedMonotonicity,
    count: u64,
    first_ms: i64,
    last_ms: i64,
}

/// `line:column` of a span's start, both from 1.
fn position(text: &str, span: Span) -> String {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!("{line}:{column}")
}

/// ` for metric name "…"`, or nothing for no name.
fn of_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {name:?}") }
}

/// What is said of a bucket of a metric without a bound.
pub(crate) fn bad_bucket_label(metric: &str, le: &str) -> String {
    format!(
        "bucket label \"le\" is missing or has a malformed value of {le:?}{}",
        of_metric(metric)
    )
}

impl Annotations {
    /// A warning about the expression at `span`.
    pub(crate) fn warn(&mut self, span: Span, message: impl AsRef<str>) {
        keep_last(&mut self.warnings, message.as_ref(), span);
    }

    pub(crate) fn info(&mut self, span: Span, message: impl AsRef<str>) {
        keep_last(&mut self.infos, message.as_ref(), span);
    }

    /// An info that downsampled data answered where it could not be expected. User interfaces show
    /// each as a notice, and all mean the same: only one is rendered.
    pub(crate) fn coarse(&mut self, span: Span, message: impl AsRef<str>) {
        keep_last(&mut self.coarse, message.as_ref(), span);
    }

    pub(crate) fn source_warning(&mut self, message: String) {
        self.source_warnings.add(&message);
    }

    pub(crate) fn source_info(&mut self, message: String) {
        self.source_infos.add(&message);
    }

    pub(crate) fn bad_quantile(&mut self, span: Span, q: f64) {
        self.warn(
            span,
            format!("quantile value should be between 0 and 1, got {}", format_float_general(q)),
        );
    }

    /// Records that buckets of a metric were raised at a time; reported once per metric, with the
    /// extent over all times.
    pub(crate) fn forced_monotonicity(
        &mut self,
        span: Span,
        name: &str,
        at_ms: i64,
        range: ForcedMonotonicity,
    ) {
        let fresh = Forced { span, range, count: 0, first_ms: at_ms, last_ms: at_ms };
        let entry = self.forced.entry(name.to_owned()).or_insert(fresh);
        entry.count += 1;
        entry.range.min_bucket = entry.range.min_bucket.min(range.min_bucket);
        entry.range.max_bucket = entry.range.max_bucket.max(range.max_bucket);
        entry.range.max_diff = entry.range.max_diff.max(range.max_diff);
        entry.first_ms = entry.first_ms.min(at_ms);
        entry.last_ms = entry.last_ms.max(at_ms);
    }

    /// Sorted warnings and infos.
    pub(crate) fn render(mut self, text: &str) -> (Vec<String>, Vec<String>) {
        // what is said of an expression says more than what a source says of its data
        match std::mem::take(&mut self.coarse).into_iter().min_by_key(|(_, span)| span.start) {
            Some((message, span)) => {
                self.info(span, message);
                self.source_infos = SourceTexts::default();
            }
            None => self.source_infos.keep_first(),
        }
        for (name, f) in std::mem::take(&mut self.forced) {
            let docs = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";
            let message = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see {docs}){}, \
                 from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                of_metric(&name),
                format_float_general(f.range.min_bucket),
                format_float_general(f.range.max_bucket),
                shorter(f.range.max_diff),
                f.count,
                rfc3339(f.first_ms),
                rfc3339(f.last_ms),
            );
            self.info(f.span, message);
        }
        let rendered = |kind: &str, list: BTreeMap<String, Span>, source: SourceTexts| {
            let source = source.finish(kind);
            if list.is_empty() && source.is_empty() {
                return Vec::new();
            }
            let own = list.into_iter().map(|(message, place)| {
                format!("PromQL {kind}: {message} ({})", position(text, place))
            });
            own.chain(source).collect::<BTreeSet<String>>().into_iter().collect()
        };
        (
            rendered("warning", self.warnings, self.source_warnings),
            rendered("info", self.infos, self.source_infos),
        )
    }
}

/// Two significant digits.
fn shorter(v: f64) -> String {
    format!("{v:.1e}").parse::<f64>().map_or_else(|_| format_float_general(v), format_float_general)
}

/// UTC to the second, with a fraction only where there is one.
fn rfc3339(ms: i64) -> String {
    use promql::kernels::calendar::by_name;
    let seconds = ms.div_euclid(1000) as f64;
    let field = |name: &str| by_name(name).map_or(0.0, |f| f(seconds));
    let fraction = match ms.rem_euclid(1000) {
        0 => String::new(),
        part => format!(".{part:03}").trim_end_matches('0').to_owned(),
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        field("year"),
        field("month"),
        field("day_of_month"),
        field("hour"),
        field("minute"),
        ms.div_euclid(1000).rem_euclid(60),
    )
}
