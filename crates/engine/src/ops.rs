//! The operators. Each takes rows and gives rows; what they compute is in `promql::kernels`.

pub(crate) mod absent;
pub(crate) mod aggregate;
pub(crate) mod count_values;
pub(crate) mod distinct;
pub(crate) mod groups;
pub(crate) mod histogram;
pub(crate) mod info;
pub(crate) mod join;
pub(crate) mod map;
pub(crate) mod quantile;
pub(crate) mod raw;
pub(crate) mod scalar;
pub(crate) mod scan;
pub(crate) mod select_k;
pub(crate) mod set;
pub(crate) mod window;
