//! Groups of series by their labels, and what aggregations over them have in common.

use std::collections::HashMap;

use datafusion_common::Result;
use model::{Labels, METRIC_NAME, join_label_bytes};
use promql::ast::Span;
use promql::kernels::interrupt::{Interrupt, sort};
use promql::kernels::math;
use promql::kernels::notes::{Note, Notes};

use crate::batch::Rows;
use crate::context::{Check, QueryContext};

/// What finding the group of a series takes, for an interrupt: its labels may be megabytes.
pub(crate) fn grouping_units(labels: &Labels) -> usize {
    GROUPING_UNITS + labels.as_packed().len()
}

/// What it takes at least.
pub(crate) const GROUPING_UNITS: usize = 256;

/// `by (…)` or `without (…)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) labels: Vec<String>,
    pub(crate) without: bool,
}

impl Grouping {
    /// The labels of the group a series belongs to.
    pub(crate) fn labels_of(&self, labels: &Labels) -> Labels {
        if !self.without {
            return labels.keep(&self.labels);
        }
        let names = self.labels.iter().map(String::as_str).chain([METRIC_NAME]);
        labels.without(&names.collect::<Vec<_>>())
    }
}

/// Numbers groups in order of first appearance.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    ids: HashMap<Vec<u8>, usize>,
    pub(crate) labels: Vec<Labels>,
    /// Whether the name of a group is to be dropped at the end, as it is if that of any of its
    /// series is.
    pub(crate) drop_name: Vec<bool>,
    key: Vec<u8>,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The group of a series.
    pub(crate) fn of(&mut self, grouping: &Grouping, labels: &Labels, drop_name: bool) -> usize {
        if grouping.without {
            let group = grouping.labels_of(labels);
            self.key.clear();
            self.key.extend_from_slice(group.as_packed());
        } else {
            join_label_bytes(labels, &grouping.labels, &mut self.key);
        }
        if let Some(id) = self.ids.get(&self.key) {
            self.drop_name[*id] |= drop_name && self.labels[*id].metric_name().is_some();
            return *id;
        }
        let id = self.labels.len();
        self.ids.insert(self.key.clone(), id);
        self.labels.push(grouping.labels_of(labels));
        self.drop_name.push(drop_name && self.labels[id].metric_name().is_some());
        id
    }

    /// Group ids in order of their labels.
    pub(crate) fn sorted(&self, interrupt: &Interrupt<'_>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        sort(&mut order, |a, b| self.labels[*a].cmp(&self.labels[*b]), interrupt);
        order
    }
}

/// The groups of collected rows, and the rows of each.
pub(crate) fn group_rows(
    query: &QueryContext,
    grouping: &Grouping,
    rows: &Rows,
    interrupt: &Interrupt<'_>,
) -> Result<(Groups, Vec<Vec<usize>>)> {
    let mut groups = Groups::default();
    let mut members: Vec<Vec<usize>> = Vec::new();
    query.for_each_labels(rows, |row, labels| {
        let group = groups.of(grouping, labels, rows.drop_name[row]);
        members.resize_with(groups.len(), Vec::new);
        members[group].push(row);
        interrupt.check(grouping_units(labels))
    })?;
    Ok((groups, members))
}

/// An aggregation that is defined for floats only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfFloats {
    pub(crate) name: &'static str,
    /// What is aggregated.
    pub(crate) span: Span,
}

/// Leaves out the histograms, for which an aggregation is not defined, and says so.
pub(crate) fn ignore_histograms(query: &QueryContext, rows: &mut Rows, of: OfFloats) {
    if rows.has_histograms() && rows.drop_histograms() {
        let mut notes = Notes::default();
        notes.push(Note::IgnoredInAggregation(of.name));
        query.note(&notes, of.span, "");
    }
}

/// The least and the greatest value: of the parameters of all steps only these cause warnings. NaN
/// if one of them is, unless another is the infinity in that direction, as in Go.
pub(crate) fn extremes(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    (fold(math::min), fold(math::max))
}
