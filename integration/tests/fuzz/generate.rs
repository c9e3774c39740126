//! Random expressions, built so that most of them have an answer: the generator knows which labels
//! tell the series of its expressions apart, and whether they are floats or histograms.

mod calls;
mod operators;
mod selectors;

use std::collections::BTreeSet;

use promql::ast::{AggregateOp, ValueType};
use promql::value::Grid;
use synthetic::Rng;

use super::data::{END_MS, START_MS};
use super::feature::{self, Feature};

/// The names of the labels that tell series apart.
type Keys = BTreeSet<&'static str>;

/// An expression and when to evaluate it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) text: String,
    pub(super) grid: Grid,
}

/// What the samples of a vector should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Floats,
    Histograms,
}

/// An instant vector.
#[derive(Clone, Debug)]
struct Vector {
    text: String,
    keys: Keys,
    /// It may have labels besides its keys, so that only `on` matches it reliably.
    extra: bool,
}

impl Vector {
    fn new(text: String, keys: Keys) -> Vector {
        Vector { text, keys, extra: false }
    }

    /// The vector after a function that keeps its labels.
    fn wrapped(self, text: String) -> Vector {
        Vector { text, ..self }
    }
}

struct Generator {
    rng: Rng,
}

/// The case of this number; it depends on nothing but seed and number.
pub(super) fn case(seed: u64, number: u64) -> Case {
    let mut mixer = Rng::new(seed);
    let mut generator = Generator { rng: Rng::new(mixer.next_u64() ^ Rng::new(number).next_u64()) };
    let features = feature::all();
    let grid = generator.grid();
    let text = match generator.rng.unit() {
        // only for instant queries
        p if p < 0.02 && grid.is_instant() => generator.range(2, Content::Floats, "").0,
        p if p < 0.03 && grid.is_instant() => generator.range(0, Content::Histograms, "").0,
        p if p < 0.04 && grid.is_instant() => "\"some \\\"text\\\"\"".to_owned(),
        p if p < 0.06 => generator.scalar(3),
        _ => generator.root(features[(number % features.len() as u64) as usize]),
    };
    Case { text, grid }
}

impl Generator {
    fn chance(&mut self, p: f64) -> bool {
        self.rng.unit() < p
    }

    fn below(&mut self, count: usize) -> usize {
        (self.rng.next_u64() % count as u64) as usize
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Half of the queries are instant ones; times lie on samples, between them, and just outside
    /// the data.
    fn grid(&mut self) -> Grid {
        let round = self.pick(&[1, 1_000, 5_000, 60_000]);
        let start_ms = self.rng.between_ms(START_MS + 60_000, END_MS + 60_000) / round * round;
        if self.chance(0.5) {
            return Grid::instant(start_ms);
        }
        let step_ms = self.pick(&[5_000, 15_000, 30_000, 60_000, 60_000, 97_000, 180_000, 777]);
        let steps = self.rng.between_ms(10, 60);
        // most of the grid lies where there is data
        let start_ms =
            start_ms.min(END_MS - steps * step_ms / 2).max(START_MS - 120_000) / round * round;
        Grid { start_ms, end_ms: start_ms + steps * step_ms + self.pick(&[0, 0, 333]), step_ms }
    }

    /// An expression that has the feature, and often something around it.
    fn root(&mut self, feature: Feature) -> String {
        let built = match feature {
            Feature::Function(name) if is_scalar(name) => {
                let call = self.scalar_call(name, 2);
                if self.chance(0.3) {
                    return call;
                }
                Vector::new(format!("vector({call})"), Keys::new())
            }
            Feature::Function(name) => self.call(name, 3),
            Feature::Aggregation(name) => self.aggregation(name, 3),
            Feature::Operator(name) => self.operation(feature::operator_named(name), 3),
            Feature::Modifier(name) => self.with_modifier(name, 3),
        };
        match self.rng.unit() {
            p if p < 0.08 => {
                let op = self.pick(&["sum", "max", "count", "avg"]);
                format!("{op}({})", built.text)
            }
            p if p < 0.16 => {
                let (op, number) = (self.pick(&["+", "*", "<", ">=", "/"]), self.number());
                format!("({}) {op} {number}", built.text)
            }
            p if p < 0.22 => {
                let (function, range) =
                    (self.pick(&["max_over_time", "avg_over_time", "changes"]), self.short_range());
                format!("{function}(({})[{range}:1m])", built.text)
            }
            p if p < 0.28 => {
                let name = self.pick(&["sort", "sort_desc", "abs", "timestamp"]);
                format!("{name}({})", built.text)
            }
            _ => built.text,
        }
    }

    /// An instant vector with the given modifier somewhere in it.
    fn with_modifier(&mut self, name: &'static str, depth: u32) -> Vector {
        match name {
            "offset" | "offset -" | "offset expression" | "@ time" | "@ start()" | "@ end()" => {
                self.modified_selector(name)
            }
            "range expression" => self.computed_range(),
            "anchored" | "smoothed" => self.extended(name),
            "subquery" | "subquery without step" | "subquery offset" | "subquery @" => {
                let inner = self.floats(depth - 1);
                let (range, step) = (
                    self.range_duration(),
                    if name == "subquery without step" { "" } else { "30s" },
                );
                let modifier = match name {
                    "subquery offset" => {
                        self.any_modifier(&["offset", "offset -", "offset expression"])
                    }
                    "subquery @" => self.any_modifier(&["@ time", "@ start()", "@ end()"]),
                    _ => String::new(),
                };
                let function = self.pick(&[
                    "sum_over_time",
                    "min_over_time",
                    "rate",
                    "last_over_time",
                    "deriv",
                ]);
                let text =
                    format!("{function}({}[{range}:{step}]{modifier})", in_parens(&inner.text));
                inner.wrapped(text)
            }
            "by" | "without" => {
                let op = self.pick(&["sum", "avg", "max", "min", "count", "stddev"]);
                let inner = self.floats(depth - 1);
                self.grouped(op, "", inner, Some(name))
            }
            "unary -" | "unary +" => {
                let inner = self.floats(depth - 1);
                let text =
                    format!("{}{}", name.trim_start_matches("unary "), in_parens(&inner.text));
                inner.wrapped(text)
            }
            matching => self.matched(matching, depth),
        }
    }

    fn vector(&mut self, depth: u32, content: Content) -> Vector {
        match content {
            Content::Floats => self.floats(depth),
            Content::Histograms => self.histograms(depth),
        }
    }

    fn floats(&mut self, depth: u32) -> Vector {
        if depth == 0 {
            return self.selector(Content::Floats);
        }
        match self.rng.unit() {
            p if p < 0.08 => self.selector(Content::Floats),
            p if p < 0.34 => {
                let name = self.function_where(|types| types.contains(&ValueType::Matrix));
                self.call(name, depth)
            }
            p if p < 0.46 => {
                let name = self.function_where(|types| types == [ValueType::Vector]);
                self.call(name, depth)
            }
            p if p < 0.54 => {
                let name = self.function_where(|types| types.contains(&ValueType::Vector));
                self.call(name, depth)
            }
            p if p < 0.76 => {
                let ops = AggregateOp::ALL.map(AggregateOp::as_str);
                let op = self.pick(&ops);
                self.aggregation(op, depth)
            }
            _ => {
                let (arithmetic, others) =
                    (["+", "-", "*", "/", "%", "^", "atan2"], ["and", "or", "unless"]);
                let comparisons = ["==", "!=", ">", "<", ">=", "<="];
                let op = match self.rng.unit() {
                    p if p < 0.5 => self.pick(&arithmetic),
                    p if p < 0.8 => self.pick(&comparisons),
                    _ => self.pick(&others),
                };
                self.operation(feature::operator_named(op), depth)
            }
        }
    }

    /// A function of vectors with such arguments.
    fn function_where(&mut self, wanted: impl Fn(&[ValueType]) -> bool) -> &'static str {
        let fits = |f: &&promql::functions::Function| {
            !is_scalar(f.name) && f.name != "absent" && wanted(f.arg_types)
        };
        let names: Vec<&'static str> = feature::functions().filter(fits).map(|f| f.name).collect();
        self.pick(&names)
    }

    fn histograms(&mut self, depth: u32) -> Vector {
        if depth == 0 {
            return self.selector(Content::Histograms);
        }
        match self.rng.unit() {
            p if p < 0.2 => self.selector(Content::Histograms),
            p if p < 0.6 => {
                let counters = ["rate", "increase", "rate", "delta", "irate", "idelta"];
                let others =
                    ["sum_over_time", "avg_over_time", "last_over_time", "first_over_time"];
                let name = if self.chance(0.6) { self.pick(&counters) } else { self.pick(&others) };
                let (range, keys) = self.range(depth - 1, Content::Histograms, name);
                Vector::new(format!("{name}({range})"), keys)
            }
            p if p < 0.75 => {
                let op = self.pick(&["sum", "sum", "avg"]);
                let inner = self.histograms(depth - 1);
                self.grouped(op, "", inner, None)
            }
            p if p < 0.85 => {
                let (inner, op) = (self.histograms(depth - 1), self.pick(&["*", "/"]));
                let number = self.number();
                let text = format!("{} {op} {number}", in_parens(&inner.text));
                inner.wrapped(text)
            }
            p if p < 0.97 => {
                let op = self.pick(&["+", "-", "+", "==", "!=", "and", "or", "unless"]);
                self.between(feature::operator_named(op), depth, [Content::Histograms; 2])
            }
            _ => {
                let inner = self.histograms(depth - 1);
                let text = format!("-{}", in_parens(&inner.text));
                inner.wrapped(text)
            }
        }
    }

    /// A number in one of its notations.
    fn number(&mut self) -> &'static str {
        self.pick(&[
            "0", "1", "2", "0.5", "3", "10", "-1", "7.25", "1e3", "0x1F", "Inf", "-Inf", "NaN",
            "5m", "1_000",
        ])
    }

    fn scalar(&mut self, depth: u32) -> String {
        if depth == 0 || self.chance(0.35) {
            return self.number().to_owned();
        }
        match self.rng.unit() {
            p if p < 0.5 => {
                let names = [
                    "time", "pi", "start", "end", "range", "step", "max_of", "min_of", "scalar",
                    "scalar",
                ];
                let name = self.pick(&names);
                self.scalar_call(name, depth)
            }
            p if p < 0.9 => {
                let ops = [
                    "+", "-", "*", "/", "%", "^", "atan2", "== bool", "< bool", ">= bool",
                    "!= bool",
                ];
                let (a, b, op) = (self.scalar(depth - 1), self.scalar(depth - 1), self.pick(&ops));
                // without parentheses around it, precedence decides on its operands
                if self.chance(0.2) { format!("{a} {op} {b}") } else { format!("({a} {op} {b})") }
            }
            _ => format!("-{}", in_parens(&self.scalar(depth - 1))),
        }
    }

    fn scalar_call(&mut self, name: &str, depth: u32) -> String {
        match name {
            "max_of" | "min_of" => {
                format!("{name}({}, {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            "scalar" => {
                let inner = self.floats(depth - 1);
                let op = self.pick(&["sum", "max", "avg", "count"]);
                format!("scalar({op}({}))", inner.text)
            }
            _ => format!("{name}()"),
        }
    }
}

fn is_scalar(name: &str) -> bool {
    promql::functions::lookup(name).is_some_and(|f| f.return_type == ValueType::Scalar)
}

fn in_parens(text: &str) -> String {
    format!("({text})")
}
