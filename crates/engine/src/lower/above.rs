//! What a selector knows about its surroundings.

use promql::ast::BinaryOp;

/// The expressions around an expression; there are none around the whole query.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    /// The innermost function or aggregation.
    pub(super) function: String,
    /// Something stands between it and the expression.
    pub(super) indirectly: bool,
    histograms: HistogramParts,
}

/// Which parts of native histograms the functions around ask for.
#[derive(Clone, Copy, Debug, Default)]
struct HistogramParts {
    totals: bool,
    buckets: bool,
}

impl Above {
    /// Directly inside a function or aggregation at this place.
    pub(super) fn function(&self, name: &str) -> Above {
        let is_of_totals = matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg");
        let mut histograms = self.histograms;
        histograms.totals |= is_of_totals;
        histograms.buckets |= !is_of_totals && name.starts_with("histogram_");
        Above { function: name.to_owned(), indirectly: false, histograms }
    }

    /// The same, through something that is not an aggregation.
    pub(super) fn indirect(&self) -> Above {
        Above { indirectly: true, ..self.clone() }
    }

    /// Inside a subquery, whose steps hide resets, so that totals do not show them.
    pub(super) fn subquery(&self) -> Above {
        let mut inside = self.indirect();
        inside.histograms.buckets = true;
        inside
    }

    /// A side of an operator.
    pub(super) fn side(&self, op: BinaryOp) -> Above {
        let mut side = self.parameter();
        side.histograms.buckets |= matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        side
    }

    /// Where no function says how samples are to be read.
    pub(super) fn parameter(&self) -> Above {
        Above { histograms: self.histograms, ..Above::default() }
    }

    /// Count and sum of histograms are asked for, and nothing that needs their buckets: neither
    /// functions that read them nor subqueries.
    pub(super) fn wants_totals_only(&self) -> bool {
        self.histograms.totals && !self.histograms.buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_wanted_where_anything_above_asks_for_them() {
        let top = Above::default();
        assert!(!top.function("rate").wants_totals_only());
        let count = top.function("histogram_count");
        assert!(count.function("rate").wants_totals_only());
        assert!(count.side(BinaryOp::Add).indirect().function("sum").wants_totals_only());
        assert!(!count.side(BinaryOp::TrimLower).wants_totals_only());
        assert!(!count.subquery().function("rate").wants_totals_only());
        assert!(
            !top.function("histogram_quantile").function("histogram_count").wants_totals_only()
        );
    }
}
