//! The operators. Each takes rows and gives rows; what they compute is in `promql::kernels`.

pub(crate) mod absent;
pub(crate) mod aggregate;
pub(crate) mod count_values;
pub(crate) mod distinct;
pub(crate) mod groups;
pub(crate) mod histogram_statistic;
pub(crate) mod info;
pub(crate) mod join;
pub(crate) mod map;
pub(crate) mod quantile;
pub(crate) mod range_vector;
pub(crate) mod scalar;
pub(crate) mod select_k;
pub(crate) mod series_scan;
pub(crate) mod set_operation;
pub(crate) mod window;
