//! Three questions over the whole span, answered in the terminal.

use std::fmt::Write;
use std::ops::RangeInclusive;

use model::TimeRange;

use crate::api::{ApiClient, FloatAnswer, QuerySpan, ReadChoice};

/// How many points fit into a line of the terminal.
const COLUMNS: i64 = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A question in words and in PromQL; `{window}` stands for the distance between points.
struct Question {
    words: &'static str,
    query: &'static str,
    /// The label by which the lines of the answer differ.
    label: &'static str,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Cores,
    Percent,
    Seconds,
}

const QUESTIONS: [Question; 3] = [
    Question {
        words: "CPU cores in use by namespace",
        query: r#"sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[{window}]))"#,
        label: "namespace",
        unit: Unit::Cores,
    },
    Question {
        words: "share of failed requests by cluster",
        query: concat!(
            r#"100 * sum by (cluster) (rate(http_requests_total{status=~"5.."}[{window}]))"#,
            " / sum by (cluster) (rate(http_requests_total[{window}]))"
        ),
        label: "cluster",
        unit: Unit::Percent,
    },
    Question {
        words: "99th percentile of request durations by cluster",
        query: "histogram_quantile(0.99, sum by (cluster, le) \
            (rate(http_request_duration_seconds_bucket[{window}])))",
        label: "cluster",
        unit: Unit::Seconds,
    },
];

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Cores => format!("{value:.2} cores"),
            Unit::Percent => format!("{value:.2} %"),
            Unit::Seconds => format!("{:.0} ms", value * 1000.0),
        }
    }
}

/// An answered question as lines of text.
pub(crate) struct Answered {
    pub(crate) text: String,
    pub(crate) series: usize,
}

/// Asks all questions over the span, one after the other.
pub(crate) async fn ask_all(api: &ApiClient, over: TimeRange) -> anyhow::Result<Vec<Answered>> {
    let TimeRange { start, end } = over;
    // whole hours, so that windows of an hour answer
    let step = ((end - start) / COLUMNS / 3_600_000).max(1) * 3_600_000;
    let span = QuerySpan { start: start + step, end, step };
    let mut answers = Vec::with_capacity(QUESTIONS.len());
    for question in &QUESTIONS {
        let query = question.query.replace("{window}", &format!("{}h", step / 3_600_000));
        let answer = api.range(&query, span, ReadChoice::COARSE).await?;
        answers
            .push(Answered { text: show(question, &query, &answer), series: answer.series.len() });
    }
    Ok(answers)
}

fn show(question: &Question, query: &str, answer: &FloatAnswer) -> String {
    let mut text = format!("{}\n  {query}\n", question.words);
    let width = answer
        .series
        .iter()
        .map(|series| series.label(question.label).len())
        .max()
        .unwrap_or_default();
    for series in &answer.series {
        let values: Vec<f64> =
            series.points.iter().map(|point| point.1).filter(|v| v.is_finite()).collect();
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let name = series.label(question.label);
        let _ = writeln!(
            text,
            "  {name:width$}  {}  mean {}",
            sparkline(&values, low..=high),
            question.unit.show(mean)
        );
    }
    for warning in &answer.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    text
}

fn sparkline(values: &[f64], bounds: RangeInclusive<f64>) -> String {
    let (low, high) = bounds.into_inner();
    let height = |value: f64| match high > low {
        true => ((value - low) / (high - low) * (BARS.len() - 1) as f64).round() as usize,
        false => 0,
    };
    values.iter().map(|value| BARS[height(*value).min(BARS.len() - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FloatSeries;

    #[test]
    fn answers_are_drawn_from_least_to_greatest() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0], 0.0..=2.0), "▁▅█");
        assert_eq!(sparkline(&[3.0, 3.0], 3.0..=3.0), "▁▁");
        let labels = [("cluster".to_owned(), "eu".to_owned())].into();
        let series = vec![FloatSeries { labels, points: vec![(0, 0.1), (1, f64::NAN), (2, 0.3)] }];
        let text = show(&QUESTIONS[2], "q", &FloatAnswer { series, warnings: vec!["w".into()] });
        assert!(text.contains("eu  ▁█  mean 200 ms") && text.contains("warning: w"), "{text}");
    }
}
