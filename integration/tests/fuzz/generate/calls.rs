//! Calls of every function that gives a vector.

use super::{Content, Generator, Keys, Vector, in_parens};

/// The order that `sort` and the like give is kept only at the root, and so is that of `absent`'s
/// labels.
const OVER_HISTOGRAMS: [&str; 18] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "sum_over_time",
    "avg_over_time",
    "count_over_time",
    "present_over_time",
    "last_over_time",
    "first_over_time",
    "absent_over_time",
    "resets",
    "changes",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "timestamp",
    "absent",
];

impl Generator {
    /// A call of any function that gives a vector.
    pub(super) fn call(&mut self, name: &'static str, depth: u32) -> Vector {
        let on_histograms = self.chance(if OVER_HISTOGRAMS.contains(&name) { 0.25 } else { 0.04 });
        let content = if on_histograms { Content::Histograms } else { Content::Floats };
        match name {
            "vector" => Vector::new(format!("vector({})", self.scalar(depth - 1)), Keys::new()),
            "absent" | "absent_over_time" => self.absent(name, depth, content),
            "clamp" => {
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                self.with_scalars(name, depth, content, &[a, b])
            }
            "clamp_max" | "clamp_min" => {
                let bound = self.scalar(depth - 1);
                self.with_scalars(name, depth, content, &[bound])
            }
            "round" => {
                let nearest = self.pick(&["", "0.5", "10", "0.1", "-2", "1e-3"]);
                let arguments =
                    if nearest.is_empty() { Vec::new() } else { vec![nearest.to_owned()] };
                self.with_scalars(name, depth, content, &arguments)
            }
            "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour"
            | "minute" | "month" | "year" => self.calendar(name, depth),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.buckets_call(name, depth)
            }
            "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev"
            | "histogram_stdvar" => {
                let content = if self.chance(0.95) { Content::Histograms } else { Content::Floats };
                self.with_scalars(name, depth, content, &[])
            }
            "info" => self.info(depth),
            "label_join" | "label_replace" => self.relabelled(name, depth, content),
            "sort_by_label" | "sort_by_label_desc" => {
                let label = self.pick(&[
                    "\"job\"",
                    "\"instance\"",
                    "\"job\", \"instance\"",
                    "\"nosuch\", \"job\"",
                ]);
                self.with_scalars(name, depth, content, &[label.to_owned()])
            }
            _ if promql::functions::lookup(name)
                .is_some_and(|f| f.arg_types == [promql::ast::ValueType::Vector]) =>
            {
                self.with_scalars(name, depth, content, &[])
            }
            _ => self.over_range(name, depth, content),
        }
    }

    /// `name(vector, scalars…)`.
    fn with_scalars(
        &mut self,
        name: &str,
        depth: u32,
        content: Content,
        scalars: &[String],
    ) -> Vector {
        let inner = self.vector(depth - 1, content);
        let rest: String = scalars.iter().map(|scalar| format!(", {scalar}")).collect();
        let text = format!("{name}({}{rest})", inner.text);
        inner.wrapped(text)
    }

    /// Functions of range vectors.
    fn over_range(&mut self, name: &str, depth: u32, content: Content) -> Vector {
        let (range, keys) = self.range(depth - 1, content, name);
        let text = match name {
            "quantile_over_time" => {
                let q = self.quantile(depth);
                format!("{name}({q}, {range})")
            }
            "predict_linear" => format!("{name}({range}, {})", self.scalar(depth - 1)),
            "double_exponential_smoothing" => {
                let factors = ["0.5", "0.1", "0.9", "0.3"];
                format!("{name}({range}, {}, {})", self.pick(&factors), self.pick(&factors))
            }
            _ => format!("{name}({range})"),
        };
        Vector::new(text, keys)
    }

    /// Between 0 and 1, mostly.
    pub(super) fn quantile(&mut self, depth: u32) -> String {
        match self.rng.unit() {
            p if p < 0.1 => self.scalar(depth - 1),
            _ => self.pick(&["0.5", "0.9", "0.99", "0", "1", "0.25", "0.123"]).to_owned(),
        }
    }

    fn absent(&mut self, name: &str, depth: u32, content: Content) -> Vector {
        let over_time = name == "absent_over_time";
        let (inner, range) = (self.vector(depth - 1, content), self.short_range());
        let text = match self.below(4) {
            0 if over_time => format!("{name}({}[{range}:])", in_parens(&inner.text)),
            0 => format!("{name}({})", inner.text),
            1 if over_time => {
                format!("{name}(nosuch{{job=\"api\",instance=~\"1|0\",zone!=\"\"}}[{range}])")
            }
            1 => format!("{name}(nosuch{{job=\"api\",job=\"web\",zone=\"a\"}})"),
            _ if over_time => format!("{name}(sparse{{job=\"api\",instance=\"1\"}}[2m])"),
            _ => format!("{name}({} > Inf)", in_parens(&inner.text)),
        };
        Vector { text, keys: Keys::new(), extra: true }
    }

    fn calendar(&mut self, name: &str, depth: u32) -> Vector {
        match self.below(4) {
            0 => Vector::new(format!("{name}()"), Keys::new()),
            1 => self.with_scalars(name, depth, Content::Floats, &[]),
            2 => Vector::new(format!("{name}(vector({}))", self.scalar(depth - 1)), Keys::new()),
            _ => Vector::new(format!("{name}(clock_seconds)"), Keys::from(["job"])),
        }
    }

    /// Functions of classic buckets or native histograms.
    fn buckets_call(&mut self, name: &str, depth: u32) -> Vector {
        let inner = match self.rng.unit() {
            p if p < 0.45 => self.buckets(depth),
            p if p < 0.97 => self.histograms(depth - 1),
            _ => self.floats(depth - 1),
        };
        let (q, other) = (self.quantile(depth), self.quantile(depth));
        let mut keys = inner.keys.clone();
        let text = match name {
            "histogram_quantile" => format!("{name}({q}, {})", inner.text),
            "histogram_quantiles" => {
                keys.insert("q");
                // one φ twice is the same series twice
                let all = if q == other { q } else { format!("{q}, {other}") };
                format!("{name}({}, \"q\", {all})", inner.text)
            }
            _ => {
                let bounds = ["0", "0.2", "1", "2.5", "-Inf", "-1"];
                let upper = ["3", "10", "Inf", "0.7", "2.5"];
                format!("{name}({}, {}, {})", self.pick(&bounds), self.pick(&upper), inner.text)
            }
        };
        Vector { text, keys, extra: inner.extra }
    }

    fn info(&mut self, depth: u32) -> Vector {
        let metrics =
            ["load1", "bytes_total", "temperature", "level", "http_requests_total", "sparse"];
        let inner = match self.rng.unit() {
            p if p < 0.5 => {
                let name = self.pick(&metrics);
                Vector::new(name.to_owned(), Keys::from(["job", "instance"]))
            }
            p if p < 0.8 => {
                let (name, range) = (self.pick(&metrics), self.range_duration());
                Vector::new(format!("rate({name}[{range}])"), Keys::from(["job", "instance"]))
            }
            p if p < 0.9 => self.selector(Content::Histograms),
            _ => self.floats(depth - 1),
        };
        let selectors = [
            "",
            "",
            ", {version=~\".+\"}",
            ", {region=\"eu\"}",
            ", {version=\"1.0\", region=~\"eu|\"}",
            ", {__name__=\"build_info\"}",
            ", {__name__=~\".+_info\", region=~\".*\"}",
            ", {nosuch=\"\"}",
            ", {nosuch=\"x\"}",
        ];
        let text = format!("info({}{})", inner.text, self.pick(&selectors));
        Vector { text, keys: inner.keys, extra: true }
    }

    fn relabelled(&mut self, name: &str, depth: u32, content: Content) -> Vector {
        let inner = self.vector(depth - 1, content);
        let arguments: &[&str] = match name {
            "label_join" => &[
                "\"joined\", \"-\", \"job\", \"instance\"",
                "\"joined\", \"\", \"job\"",
                "\"joined\", \"x\"",
            ],
            _ => &[
                "\"short\", \"$1\", \"job\", \"(.).*\"",
                "\"short\", \"${1}x$2\", \"instance\", \"(.*)\"",
                "\"short\", \"fixed\", \"nosuch\", \"\"",
                "\"__name__\", \"new_name\", \"job\", \"api|web|db\"",
                "\"short\", \"\", \"job\", \"api\"",
                "\"job\", \"same\", \"instance\", \"5\"",
            ],
        };
        let text = format!("{name}({}, {})", inner.text, self.pick(arguments));
        Vector { text, keys: inner.keys, extra: true }
    }
}
