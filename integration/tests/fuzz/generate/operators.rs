//! Aggregations and binary operators.

use promql::ast::BinaryOp;

use super::super::feature::operator_named;
use super::{Content, Generator, Keys, Vector, in_parens};

impl Generator {
    pub(super) fn aggregation(&mut self, op: &str, depth: u32) -> Vector {
        let content = if self.chance(0.12) { Content::Histograms } else { Content::Floats };
        match op {
            // they may take any of tied series: they get values that differ
            "topk" | "bottomk" => {
                let mut inner = self.distinct();
                let k = self.parameter(depth, &["1", "2", "3", "5", "100", "0"]);
                if self.chance(0.2) {
                    inner = self.grouped("sum", "", inner, Some("by"));
                }
                self.grouped(op, &k, inner, None)
            }
            // they take the first series: they get series in the order of labels
            "limitk" => {
                let inner = self.ordered();
                let k = self.parameter(depth, &["1", "2", "3", "5", "0"]);
                self.grouped(op, &k, inner, None)
            }
            "limit_ratio" => {
                let ratio = self.parameter(depth, &["0.5", "-0.5", "0.9", "1", "-0.3"]);
                let inner = self.vector(depth - 1, content);
                self.grouped(op, &ratio, inner, None)
            }
            "quantile" => {
                let (inner, q) = (self.vector(depth - 1, content), self.quantile(depth));
                self.grouped(op, &q, inner, None)
            }
            "count_values" => {
                let metric = self.pick(&["level", "ratio", "weird", "target_info", "sized_bytes"]);
                let inner = match self.below(3) {
                    0 => self.vector(depth - 1, content),
                    1 => Vector::new(metric.to_owned(), Keys::from(["job", "instance"])),
                    _ => Vector::new(format!("round({metric})"), Keys::from(["job", "instance"])),
                };
                let mut counted = self.grouped(op, "\"value\"", inner, None);
                counted.keys.insert("value");
                counted
            }
            _ => {
                let inner = self.vector(depth - 1, content);
                self.grouped(op, "", inner, None)
            }
        }
    }

    /// One of the usual parameters, mostly; now and then any scalar.
    fn parameter(&mut self, depth: u32, usual: &[&str]) -> String {
        if self.chance(0.07) { self.scalar(depth - 1) } else { self.pick(usual).to_owned() }
    }

    /// `op [by|without (labels)] ([parameter,] inner)`.
    pub(super) fn grouped(
        &mut self,
        op: &str,
        parameter: &str,
        inner: Vector,
        modifier: Option<&str>,
    ) -> Vector {
        let keeps_series = ["topk", "bottomk", "limitk", "limit_ratio"].contains(&op);
        let known: Vec<&'static str> = inner.keys.iter().copied().collect();
        let chosen: Vec<&'static str> =
            known.iter().copied().filter(|_| self.chance(0.5)).collect();
        let modifier = match modifier {
            Some(modifier) => modifier,
            None => self.pick(&["", "by", "by", "without"]),
        };
        let mut named = chosen.join(", ");
        if modifier == "by" && chosen.is_empty() {
            named = self.pick(&["job", "nosuch", "__name__"]).to_owned();
        }
        let rest: Keys = match modifier {
            "by" => named
                .split(", ")
                .filter_map(|n| known.iter().copied().find(|key| *key == n))
                .collect(),
            "without" => known.iter().copied().filter(|key| !chosen.contains(key)).collect(),
            _ => Keys::new(),
        };
        let head =
            if modifier.is_empty() { String::new() } else { format!(" {modifier} ({named})") };
        let arguments =
            if parameter.is_empty() { inner.text } else { format!("{parameter}, {}", inner.text) };
        // the grouping may come before or after the operand
        let text = match self.chance(0.8) {
            true => format!("{op}{head} ({arguments})"),
            false => format!("{op}({arguments}){head}"),
        };
        let extra = inner.extra && (modifier == "without" || keeps_series);
        Vector { text, keys: if keeps_series { inner.keys } else { rest }, extra }
    }

    /// An operator between operands that it accepts.
    pub(super) fn operation(&mut self, op: BinaryOp, depth: u32) -> Vector {
        let trims = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        if trims {
            let left = self.histograms(depth - 1);
            let bound = match self.chance(0.8) {
                true => {
                    self.pick(&["0.5", "1", "2.7", "5", "0", "-1", "Inf", "0.001", "12"]).to_owned()
                }
                false => self.scalar(depth - 1),
            };
            let text = format!("{} {} {bound}", in_parens(&left.text), op.as_str());
            return left.wrapped(text);
        }
        if op.is_set_operator() || self.chance(0.65) {
            let contents = match self.rng.unit() {
                p if p < 0.88 => [Content::Floats; 2],
                p if p < 0.94 => [Content::Histograms; 2],
                p if p < 0.97 => [Content::Histograms, Content::Floats],
                _ => [Content::Floats, Content::Histograms],
            };
            return self.between(op, depth, contents);
        }
        let (vector, scalar) = (self.floats(depth - 1), self.scalar(depth - 1));
        let bool = if op.is_comparison() && self.chance(0.4) { " bool" } else { "" };
        let (own, op) = (in_parens(&vector.text), op.as_str());
        let text = if self.chance(0.6) {
            format!("{own} {op}{bool} {scalar}")
        } else {
            format!("{scalar} {op}{bool} {own}")
        };
        vector.wrapped(text)
    }

    /// An operator between two vectors, matched so that most series find a partner.
    pub(super) fn between(&mut self, op: BinaryOp, depth: u32, contents: [Content; 2]) -> Vector {
        let left = self.vector(depth - 1, contents[0]);
        let right = match self.chance(0.15) {
            true => left.clone(),
            false => self.vector(depth - 1, contents[1]),
        };
        let bool = if op.is_comparison() && self.chance(0.3) { " bool" } else { "" };
        let fill = match self.rng.unit() {
            p if p < 0.08 && !op.is_set_operator() => {
                self.pick(&["fill", "fill_left", "fill_right"])
            }
            _ => "",
        };
        self.join((op, bool), left, right, ("", fill))
    }

    /// An operator with the matching or the fill that is asked for.
    pub(super) fn matched(&mut self, modifier: &'static str, depth: u32) -> Vector {
        let arithmetic = self.pick(&["+", "-", "*", "/", "==", ">", "<="]);
        let op = operator_named(arithmetic);
        let (left, right) = (self.floats(depth - 1), self.floats(depth - 1));
        match modifier {
            "bool" => {
                let op = operator_named(self.pick(&["==", "!=", ">", "<", ">=", "<="]));
                self.join((op, " bool"), left, right, ("", ""))
            }
            "fill" | "fill_left" | "fill_right" => {
                let (left, right) = (self.distinct(), self.distinct());
                self.join((op, ""), left, right, ("", modifier))
            }
            "on" | "ignoring" => self.join((op, ""), left, right, (modifier, "")),
            grouping => {
                let many =
                    self.selector_with_keys(&["job", "instance", "code"], "http_requests_total");
                let one = match grouping {
                    "group_x with labels" => {
                        self.selector_with_keys(&["job", "instance"], "target_info")
                    }
                    _ => self.selector_with_keys(&["job", "instance"], "load1"),
                };
                let (many, one) = (many.text, one.text);
                let op = self.pick(&["*", "+", ">", "/"]);
                let text = match grouping {
                    "group_left" => format!("{many} {op} on (job, instance) group_left () {one}"),
                    "group_right" => format!("{one} {op} ignoring (code) group_right () {many}"),
                    _ => format!(
                        "rate({many}[5m]) {op} on (job, instance) group_left (version, region) \
                         {one}"
                    ),
                };
                Vector { text, keys: Keys::from(["job", "instance", "code"]), extra: true }
            }
        }
    }

    fn selector_with_keys(&mut self, keys: &[&'static str], name: &str) -> Vector {
        let job = self.pick(&["", "", "{job=\"api\"}", "{instance!=\"1\"}"]);
        Vector::new(format!("{name}{job}"), keys.iter().copied().collect())
    }

    /// Joins two vectors by the labels they share.
    fn join(
        &mut self,
        (op, bool): (BinaryOp, &str),
        left: Vector,
        mut right: Vector,
        (wanted, fill): (&str, &str),
    ) -> Vector {
        let set = op.is_set_operator();
        let mut left = left;
        let common: Keys = left.keys.intersection(&right.keys).copied().collect();
        // neither has all labels of the other: the right side loses those that only it has
        if !set && !common.is_superset(&left.keys) && !common.is_superset(&right.keys) {
            let by: Vec<&str> = common.iter().copied().collect();
            right =
                Vector::new(format!("max by ({}) ({})", by.join(", "), right.text), common.clone());
        }
        let list = |keys: &Keys| keys.iter().copied().collect::<Vec<_>>().join(", ");
        let mut matching = String::new();
        let mut keys = left.keys.clone();
        let mut extra = left.extra;
        let careless = wanted.is_empty() && self.chance(0.03);
        if careless {
            matching = String::new();
        } else if left.keys == right.keys {
            match wanted {
                "ignoring" => matching = " ignoring (nosuch)".to_owned(),
                "" if !left.extra && !right.extra && self.chance(0.5) => {}
                _ => {
                    matching = format!(" on ({})", list(&common));
                    extra &= set;
                }
            }
        } else if set {
            matching = format!(" on ({})", list(&common));
            if op == BinaryOp::Or {
                keys.extend(right.keys.iter());
            }
        } else {
            let many_left = right.keys.is_subset(&left.keys);
            let (many, one) = if many_left { (&left, &right) } else { (&right, &left) };
            let side = if many_left { "group_left" } else { "group_right" };
            let surplus: Keys = many.keys.difference(&one.keys).copied().collect();
            let ignoring = wanted == "ignoring"
                || (wanted.is_empty() && !left.extra && !right.extra && self.chance(0.4));
            matching = match ignoring {
                true => format!(" ignoring ({}) {side} ()", list(&surplus)),
                false => format!(" on ({}) {side} ()", list(&one.keys)),
            };
            keys = many.keys.clone();
            extra = many.extra;
        }
        if !fill.is_empty() {
            matching.push_str(&format!(" {fill} ({})", self.pick(&["0", "1.5", "-3", "NaN"])));
        }
        left.text = in_parens(&left.text);
        let text =
            format!("{} {}{bool}{matching} {}", left.text, op.as_str(), in_parens(&right.text));
        Vector { text, keys, extra }
    }
}
