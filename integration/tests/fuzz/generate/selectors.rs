//! Selectors with their modifiers, ranges and subqueries.

use super::super::data::{Kind, METRICS, Metric, values_of};
use super::{Content, Generator, Keys, Vector, in_parens};

const COMPUTED_RANGES: [&str; 5] =
    ["2m + 3m", "step() + 4m", "max_of(step(), 5m)", "5m * 2", "(10m - 15s)"];

fn content_of(kind: Kind) -> Content {
    match kind {
        Kind::NativeCounter | Kind::NativeGauge | Kind::NativeCustom => Content::Histograms,
        _ => Content::Floats,
    }
}

impl Generator {
    fn metric(&mut self, wanted: impl Fn(Kind) -> bool) -> &'static Metric {
        let fitting: Vec<&'static Metric> = METRICS.iter().filter(|m| wanted(m.kind)).collect();
        self.pick(&fitting)
    }

    /// The metric for a function: counters for those that want them, mostly.
    fn metric_for(&mut self, content: Content, function: &str) -> &'static Metric {
        let counters =
            ["rate", "increase", "irate", "resets"].contains(&function) && self.chance(0.7);
        match content {
            Content::Floats if counters => {
                self.metric(|kind| matches!(kind, Kind::Counter | Kind::Bucket))
            }
            Content::Floats => self.metric(|kind| content_of(kind) == Content::Floats),
            Content::Histograms if self.chance(0.1) => self.metric(|kind| kind == Kind::Switching),
            Content::Histograms if counters => {
                self.metric(|kind| matches!(kind, Kind::NativeCounter | Kind::NativeCustom))
            }
            Content::Histograms => self.metric(|kind| content_of(kind) == Content::Histograms),
        }
    }

    /// A selector without modifiers.
    pub(super) fn plain(&mut self, metric: &Metric) -> Vector {
        let quoted = metric.name.contains('.');
        let mut matchers = if quoted { vec![format!("{:?}", metric.name)] } else { Vec::new() };
        for key in metric.keys {
            if self.chance(0.15) {
                matchers.push(self.matcher(key));
            }
        }
        if self.chance(0.05) {
            matchers.push(
                self.pick(&["nosuch=\"\"", "job!=\"\"", "job=~\".+\"", "job!~\"x.*\""]).to_owned(),
            );
        }
        let braces =
            if matchers.is_empty() { String::new() } else { format!("{{{}}}", matchers.join(",")) };
        let text = if quoted { braces } else { format!("{}{braces}", metric.name) };
        Vector {
            text,
            keys: metric.keys.iter().copied().collect(),
            extra: metric.kind == Kind::Info,
        }
    }

    fn matcher(&mut self, key: &str) -> String {
        let values = values_of(key);
        let (one, other) = (self.pick(values), self.pick(values));
        let escape = |value: &str| value.replace('+', "\\\\+").replace('.', "\\\\.");
        match self.below(4) {
            0 => format!("{key}={one:?}"),
            1 => format!("{key}!={one:?}"),
            2 => format!("{key}=~\"{}|{}\"", escape(one), escape(other)),
            _ => format!("{key}!~\"{}\"", escape(one)),
        }
    }

    pub(super) fn selector(&mut self, content: Content) -> Vector {
        if content == Content::Floats && self.chance(0.03) {
            // two metrics at once: without their names they are the same series
            let text = "{__name__=~\"load1|uptime\"}".to_owned();
            return Vector { text, keys: Keys::from(["job", "instance"]), extra: true };
        }
        let metric = self.metric_for(content, "");
        let mut vector = self.plain(metric);
        if self.chance(0.02) {
            vector.text.push_str(" smoothed");
        }
        let modifiers = self.time_modifiers();
        vector.text.push_str(&modifiers);
        vector
    }

    /// None, mostly; else `offset`, `@` or both.
    fn time_modifiers(&mut self) -> String {
        let mut text = String::new();
        if self.chance(0.1) {
            text.push_str(&self.any_modifier(&[
                "offset",
                "offset",
                "offset -",
                "offset expression",
            ]));
        }
        if self.chance(0.07) {
            let at = self.any_modifier(&["@ time", "@ start()", "@ end()"]);
            if self.chance(0.5) { text.push_str(&at) } else { text.insert_str(0, &at) }
        }
        text
    }

    pub(super) fn any_modifier(&mut self, names: &[&str]) -> String {
        let name = self.pick(names);
        self.modifier_text(name)
    }

    fn modifier_text(&mut self, name: &str) -> String {
        match name {
            "offset" => {
                format!(" offset {}", self.pick(&["1m", "17s", "5m", "20m", "1h", "15000ms", "90"]))
            }
            "offset -" => format!(" offset -{}", self.pick(&["1m", "45s", "10m"])),
            "offset expression" => {
                let texts = [
                    "(1m + 30s)",
                    "(step() + 1s)",
                    "(5m - 10s)",
                    "-(30s * 2)",
                    "min_of(2m, 90s)",
                    "(2m / 3)",
                ];
                format!(" offset {}", self.pick(&texts))
            }
            "@ time" => {
                format!(" @ {}", self.pick(&["7200", "5400.5", "9000", "7199.999", "4000"]))
            }
            at => format!(" {at}"),
        }
    }

    /// A selector, or a function of one with a range, with this modifier.
    pub(super) fn modified_selector(&mut self, name: &str) -> Vector {
        let content = if self.chance(0.8) { Content::Floats } else { Content::Histograms };
        let metric = self.metric_for(content, "");
        let vector = self.plain(metric);
        let modifier = self.modifier_text(name);
        if self.chance(0.5) {
            let text = format!("{}{modifier}", vector.text);
            return vector.wrapped(text);
        }
        let range = self.range_duration();
        self.in_a_function(vector, range, &modifier)
    }

    /// A function over a range that is computed.
    pub(super) fn computed_range(&mut self) -> Vector {
        let content = if self.chance(0.8) { Content::Floats } else { Content::Histograms };
        let metric = self.metric_for(content, "");
        let (vector, modifiers) = (self.plain(metric), self.time_modifiers());
        let range = self.pick(&COMPUTED_RANGES);
        self.in_a_function(vector, range, &modifiers)
    }

    fn in_a_function(&mut self, vector: Vector, range: &str, modifiers: &str) -> Vector {
        let function =
            self.pick(&["last_over_time", "increase", "count_over_time", "avg_over_time"]);
        let text = format!("{function}({}[{range}]{modifiers})", vector.text);
        vector.wrapped(text)
    }

    /// `anchored` and `smoothed`.
    pub(super) fn extended(&mut self, name: &str) -> Vector {
        let content = if self.chance(0.9) { Content::Floats } else { Content::Histograms };
        if name == "smoothed" && self.chance(0.3) {
            let metric = self.metric_for(content, "");
            let vector = self.plain(metric);
            let text = format!("{} smoothed{}", vector.text, self.time_modifiers());
            return vector.wrapped(text);
        }
        let smoothed = ["rate", "increase", "delta"];
        let anchored = ["rate", "increase", "delta", "changes", "resets"];
        let function = if name == "smoothed" { self.pick(&smoothed) } else { self.pick(&anchored) };
        let metric = self.metric_for(content, function);
        let vector = self.plain(metric);
        let (range, modifiers) = (self.range_duration(), self.time_modifiers());
        let text = format!("{function}({}[{range}] {name}{modifiers})", vector.text);
        vector.wrapped(text)
    }

    pub(super) fn short_range(&mut self) -> &'static str {
        self.pick(&["2m", "3m", "5m"])
    }

    pub(super) fn range_duration(&mut self) -> &'static str {
        match self.rng.unit() {
            p if p < 0.05 => self.pick(&COMPUTED_RANGES),
            p if p < 0.15 => self.pick(&["15s", "30s", "45s", "1m"]),
            _ => self.pick(&["1m30s", "2m", "5m", "5m", "10m", "10m", "20m", "37m", "1h", "301s"]),
        }
    }

    /// A range vector for the named function, and the labels that tell its series apart.
    pub(super) fn range(&mut self, depth: u32, content: Content, function: &str) -> (String, Keys) {
        if depth > 0 && self.chance(0.25) {
            let inner = self.vector(depth - 1, content);
            let (range, modifiers) = (self.range_duration(), self.time_modifiers());
            let step = self.pick(&["1m", "30s", "15s", "2m", "", "47s", "step() + 30s"]);
            return (format!("{}[{range}:{step}]{modifiers}", in_parens(&inner.text)), inner.keys);
        }
        let metric = self.metric_for(content, function);
        let vector = self.plain(metric);
        let extension = match function {
            "rate" | "increase" | "delta" if self.chance(0.08) => {
                self.pick(&[" anchored", " smoothed"])
            }
            "changes" | "resets" if self.chance(0.08) => " anchored",
            _ => "",
        };
        let (range, modifiers) = (self.range_duration(), self.time_modifiers());
        (format!("{}[{range}]{extension}{modifiers}", vector.text), vector.keys)
    }

    /// Series of values that are all different, in the order of their labels: an operator returns
    /// its result in any order.
    pub(super) fn ordered(&mut self) -> Vector {
        let metric = self.metric(|kind| matches!(kind, Kind::Gauge | Kind::Counter));
        let vector = self.plain(metric);
        let range = self.pick(&["5m", "10m", "20m"]);
        let text = match self.below(3) {
            0 => return vector,
            1 => format!("rate({}[{range}])", vector.text),
            _ => format!("avg_over_time({}[{range}])", vector.text),
        };
        vector.wrapped(text)
    }

    /// Series of values that are all different.
    pub(super) fn distinct(&mut self) -> Vector {
        let vector = self.ordered();
        if self.chance(0.7) {
            return vector;
        }
        let text = format!("{} * 1.5", vector.text);
        vector.wrapped(text)
    }

    /// Classic buckets.
    pub(super) fn buckets(&mut self, depth: u32) -> Vector {
        let metric = self.metric(|kind| kind == Kind::Bucket);
        let mut vector = self.plain(metric);
        if self.chance(0.1) {
            vector.text = vector.text.replacen("latency_seconds_bucket", "", 1);
            let rest = vector.text.trim_start_matches('{').trim_end_matches('}').to_owned();
            vector.text =
                format!("{{__name__=~\"latency_seconds(_bucket)?\",{rest}}}").replace(",}", "}");
        }
        vector.keys.remove("le");
        let range = self.pick(&["5m", "10m", "2m"]);
        let function = self.pick(&["rate", "increase"]);
        let text = match self.below(4) {
            0 => return vector,
            1 if depth > 1 => {
                vector.keys.remove("handler");
                format!("sum by (le, job) ({function}({}[{range}]))", vector.text)
            }
            2 if depth > 1 => {
                vector.keys.remove("job");
                format!("sum without (job) ({function}({}[{range}]))", vector.text)
            }
            _ => format!("{function}({}[{range}])", vector.text),
        };
        vector.wrapped(text)
    }
}
