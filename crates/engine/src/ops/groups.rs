//! Groups of series by their labels.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME, join_label_bytes};

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
    /// Whether the name of a group is to be dropped at the end: when that of any of its series is.
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
    pub(crate) fn sorted(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| self.labels[*a].cmp(&self.labels[*b]));
        order
    }
}
