//! The table of functions: names, argument types and what planning a query needs to know about
//! them.
//!
//! Names and signatures are those of Prometheus 3.15, plus `xrate`, `xincrease` and `xdelta` of
//! Thanos' engine.

use crate::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// What must be enabled before a function may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureGate {
    None,
    /// `--enable-feature=promql-experimental-functions`.
    Experimental,
    /// `--query.enable-x-functions`.
    ExtendedRate,
}

/// One function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    pub arg_types: &'static [ValueType],
    /// 0: exactly the arguments of `arg_types`. Otherwise the last of them may be left out, and at
    /// most `variadic` arguments follow those before it; negative means any number.
    pub variadic: i32,
    pub return_type: ValueType,
    pub gate: FeatureGate,
}

impl Function {
    const fn variadic(mut self, variadic: i32) -> Function {
        self.variadic = variadic;
        self
    }

    const fn gate(mut self, gate: FeatureGate) -> Function {
        self.gate = gate;
        self
    }

    /// The type of the argument at `index`; those past the end of a variadic function repeat the
    /// last.
    pub fn arg_type(&self, index: usize) -> Option<ValueType> {
        match self.arg_types.get(index) {
            Some(arg_type) => Some(*arg_type),
            None if self.variadic == 0 => None,
            None => self.arg_types.last().copied(),
        }
    }

    /// Whether the result depends on the time of evaluation even when all arguments are fixed by
    /// `@`.
    pub fn is_at_modifier_unsafe(&self) -> bool {
        matches!(
            self.name,
            "day_of_month"
                | "day_of_week"
                | "day_of_year"
                | "days_in_month"
                | "end"
                | "hour"
                | "minute"
                | "month"
                | "predict_linear"
                | "range"
                | "start"
                | "step"
                | "time"
                | "timestamp"
                | "year"
        )
    }
}

/// The functions that take `anchored` selectors, in alphabetical order as error texts list them.
pub const ANCHORED_FUNCTIONS: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];

/// The functions that take `smoothed` selectors.
pub const SMOOTHED_FUNCTIONS: [&str; 3] = ["delta", "increase", "rate"];

/// The function of that name; names are case-sensitive.
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

const fn f(
    name: &'static str,
    arg_types: &'static [ValueType],
    return_type: ValueType,
) -> Function {
    Function { name, arg_types, variadic: 0, return_type, gate: FeatureGate::None }
}

/// All functions, sorted by name.
pub static FUNCTIONS: [Function; 93] = [
    f("abs", &[Vector], Vector),
    f("absent", &[Vector], Vector),
    f("absent_over_time", &[Matrix], Vector),
    f("acos", &[Vector], Vector),
    f("acosh", &[Vector], Vector),
    f("asin", &[Vector], Vector),
    f("asinh", &[Vector], Vector),
    f("atan", &[Vector], Vector),
    f("atanh", &[Vector], Vector),
    f("avg_over_time", &[Matrix], Vector),
    f("ceil", &[Vector], Vector),
    f("changes", &[Matrix], Vector),
    f("clamp", &[Vector, Scalar, Scalar], Vector),
    f("clamp_max", &[Vector, Scalar], Vector),
    f("clamp_min", &[Vector, Scalar], Vector),
    f("cos", &[Vector], Vector),
    f("cosh", &[Vector], Vector),
    f("count_over_time", &[Matrix], Vector),
    f("day_of_month", &[Vector], Vector).variadic(1),
    f("day_of_week", &[Vector], Vector).variadic(1),
    f("day_of_year", &[Vector], Vector).variadic(1),
    f("days_in_month", &[Vector], Vector).variadic(1),
    f("deg", &[Vector], Vector),
    f("delta", &[Matrix], Vector),
    f("deriv", &[Matrix], Vector),
    f("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector)
        .gate(FeatureGate::Experimental),
    f("end", &[], Scalar).gate(FeatureGate::Experimental),
    f("exp", &[Vector], Vector),
    f("first_over_time", &[Matrix], Vector),
    f("floor", &[Vector], Vector),
    f("histogram_avg", &[Vector], Vector),
    f("histogram_count", &[Vector], Vector),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    f("histogram_quantile", &[Scalar, Vector], Vector),
    f("histogram_quantiles", &[Vector, String, Scalar, Scalar], Vector)
        .variadic(9)
        .gate(FeatureGate::Experimental),
    f("histogram_stddev", &[Vector], Vector),
    f("histogram_stdvar", &[Vector], Vector),
    f("histogram_sum", &[Vector], Vector),
    f("hour", &[Vector], Vector).variadic(1),
    f("idelta", &[Matrix], Vector),
    f("increase", &[Matrix], Vector),
    f("info", &[Vector, Vector], Vector).variadic(1).gate(FeatureGate::Experimental),
    f("irate", &[Matrix], Vector),
    f("label_join", &[Vector, String, String, String], Vector).variadic(-1),
    f("label_replace", &[Vector, String, String, String, String], Vector),
    f("last_over_time", &[Matrix], Vector),
    f("ln", &[Vector], Vector),
    f("log10", &[Vector], Vector),
    f("log2", &[Vector], Vector),
    f("mad_over_time", &[Matrix], Vector).gate(FeatureGate::Experimental),
    f("max_of", &[Scalar, Scalar], Scalar).gate(FeatureGate::Experimental),
    f("max_over_time", &[Matrix], Vector),
    f("min_of", &[Scalar, Scalar], Scalar).gate(FeatureGate::Experimental),
    f("min_over_time", &[Matrix], Vector),
    f("minute", &[Vector], Vector).variadic(1),
    f("month", &[Vector], Vector).variadic(1),
    f("pi", &[], Scalar),
    f("predict_linear", &[Matrix, Scalar], Vector),
    f("present_over_time", &[Matrix], Vector),
    f("quantile_over_time", &[Scalar, Matrix], Vector),
    f("rad", &[Vector], Vector),
    f("range", &[], Scalar).gate(FeatureGate::Experimental),
    f("rate", &[Matrix], Vector),
    f("resets", &[Matrix], Vector),
    f("round", &[Vector, Scalar], Vector).variadic(1),
    f("scalar", &[Vector], Scalar),
    f("sgn", &[Vector], Vector),
    f("sin", &[Vector], Vector),
    f("sinh", &[Vector], Vector),
    f("sort", &[Vector], Vector),
    f("sort_by_label", &[Vector, String], Vector).variadic(-1).gate(FeatureGate::Experimental),
    f("sort_by_label_desc", &[Vector, String], Vector).variadic(-1).gate(FeatureGate::Experimental),
    f("sort_desc", &[Vector], Vector),
    f("sqrt", &[Vector], Vector),
    f("start", &[], Scalar).gate(FeatureGate::Experimental),
    f("start_timestamp", &[Vector], Vector).gate(FeatureGate::Experimental),
    f("stddev_over_time", &[Matrix], Vector),
    f("stdvar_over_time", &[Matrix], Vector),
    f("step", &[], Scalar).gate(FeatureGate::Experimental),
    f("sum_over_time", &[Matrix], Vector),
    f("tan", &[Vector], Vector),
    f("tanh", &[Vector], Vector),
    f("time", &[], Scalar),
    f("timestamp", &[Vector], Vector),
    f("ts_of_first_over_time", &[Matrix], Vector).gate(FeatureGate::Experimental),
    f("ts_of_last_over_time", &[Matrix], Vector).gate(FeatureGate::Experimental),
    f("ts_of_max_over_time", &[Matrix], Vector).gate(FeatureGate::Experimental),
    f("ts_of_min_over_time", &[Matrix], Vector).gate(FeatureGate::Experimental),
    f("vector", &[Scalar], Vector),
    f("xdelta", &[Matrix], Vector).gate(FeatureGate::ExtendedRate),
    f("xincrease", &[Matrix], Vector).gate(FeatureGate::ExtendedRate),
    f("xrate", &[Matrix], Vector).gate(FeatureGate::ExtendedRate),
    f("year", &[Vector], Vector).variadic(1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        assert_eq!(FUNCTIONS.iter().filter(|f| f.gate != FeatureGate::ExtendedRate).count(), 90);
        assert_eq!(FUNCTIONS.iter().filter(|f| f.gate == FeatureGate::Experimental).count(), 17);
        assert_eq!(lookup("rate").map(|f| f.arg_types), Some(&[Matrix][..]));
        assert_eq!(lookup("Rate"), None);
    }

    #[test]
    fn variadic_functions_repeat_their_last_type() {
        let join = lookup("label_join").unwrap();
        assert_eq!((join.arg_type(0), join.arg_type(9)), (Some(Vector), Some(String)));
        assert_eq!(lookup("rate").unwrap().arg_type(1), None);
    }

    #[test]
    fn gated_lists_name_functions_of_the_table() {
        assert!(
            ANCHORED_FUNCTIONS.iter().chain(&SMOOTHED_FUNCTIONS).all(|name| lookup(name).is_some())
        );
    }
}
