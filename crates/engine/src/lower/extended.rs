//! Ranges that reach past their borders: those of `anchored` and `smoothed` selectors, and those of
//! Thanos' `xrate`.

use promql::ast::Extension;
use promql::functions::{ANCHORED_FUNCTIONS, SMOOTHED_FUNCTIONS};
use promql::kernels::extended::ExtendedFunction;
use promql::kernels::xrate::{ExtendedRate, REACH_MS};

use super::{Lowering, RangeInput, RangeSource, Reach, Result};
use crate::error::{Error, Kind};
use crate::ops::window::WindowFunction;

impl Lowering {
    /// How far before and after its range a selector is read; `function` is the one around it, if
    /// any.
    pub(super) fn reach(&self, extension: Option<Extension>, function: &str) -> Result<Reach> {
        let Some(extension) = extension else {
            let before = if ExtendedRate::from_name(function).is_some() { REACH_MS } else { 0 };
            return Ok(Reach { before, after: 0 });
        };
        if !function.is_empty() && ExtendedFunction::from_name(function, extension).is_none() {
            let (name, functions) = match extension {
                Extension::Anchored => ("anchored", &ANCHORED_FUNCTIONS[..]),
                Extension::Smoothed => ("smoothed", &SMOOTHED_FUNCTIONS[..]),
            };
            let functions = functions.join(", ");
            let text =
                format!("{name} modifier can only be used with: {functions} - not with {function}");
            return Err(Error::new(Kind::Execution, text));
        }
        let after = if extension == Extension::Smoothed { self.lookback_ms } else { 0 };
        Ok(Reach { before: self.lookback_ms, after })
    }

    /// The window function for a function over this range.
    pub(super) fn of_range(
        &self,
        function: WindowFunction,
        input: &RangeInput,
        name: &str,
    ) -> Result<WindowFunction> {
        if matches!(
            (function, &input.node),
            (WindowFunction::Reaching(_), RangeSource::Subquery { .. })
        ) {
            // Its windows would reach past the steps of the subquery.
            return Err(Error::new(
                Kind::Execution,
                format!("{name}() of a subquery is not supported"),
            ));
        }
        let extended =
            input.extension.and_then(|extension| ExtendedFunction::from_name(name, extension));
        Ok(extended.map_or(function, |function| WindowFunction::Extended {
            function,
            lookback: self.lookback_ms,
        }))
    }
}
