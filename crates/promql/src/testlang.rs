//! The language of Prometheus' `.test` files: what to load, what to evaluate and what to expect.
//! Parsing only.
//!
//! Times are milliseconds; the time zero of a test is the Unix epoch.

mod modifiers;
mod series;

pub use modifiers::{MODIFIERS, modifiers_of};
pub use series::{HistogramValue, SequenceValue, SeriesDescription, parse_series_description};

use crate::durations::parse_duration;
use crate::numbers::parse_signed_number;
use crate::parser::ParserOptions;
use crate::quote::unquote;

/// What is wrong with a test file, and the line (from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TestLangError {
    pub line: usize,
    pub message: String,
}

type Result<T> = std::result::Result<T, TestLangError>;

#[derive(Clone, Debug)]
pub enum Command {
    /// Forget all samples.
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// Samples to add, the first of every series at time 0.
#[derive(Clone, Debug)]
pub struct Load {
    pub line: usize,
    pub interval_ms: i64,
    /// Classic histograms are also loaded as native ones with custom buckets.
    pub with_nhcb: bool,
    pub series: Vec<LoadedSeries>,
}

#[derive(Clone, Debug)]
pub struct LoadedSeries {
    pub description: SeriesDescription,
    /// For every value the start timestamp relative to its sample, if the series has any.
    pub start_offsets_ms: Option<Vec<Option<i64>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalTimes {
    Instant { at: i64 },
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectKind {
    Ordered,
    Fail,
    Warn,
    NoWarn,
    Info,
    NoInfo,
}

/// What the text of an error or annotation must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectText {
    Any,
    Message(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub kind: ExpectKind,
    pub text: ExpectText,
}

#[derive(Clone, Debug)]
pub struct Eval {
    pub line: usize,
    pub text: String,
    pub times: EvalTimes,
    pub expectations: Vec<Expectation>,
    pub result: ExpectedResult,
}

#[derive(Clone, Debug, Default)]
pub struct ExpectedResult {
    pub string: Option<Vec<u8>>,
    pub scalar: Option<f64>,
    /// For an instant query that gives a range vector: from, to and step of the values expected.
    pub range: Option<(i64, i64, i64)>,
    /// In the order of the file.
    pub series: Vec<SeriesDescription>,
}

impl Eval {
    pub fn expects(&self, kind: ExpectKind) -> bool {
        self.expectations.iter().any(|e| e.kind == kind)
    }
}

/// Parses a whole test file. The texts of queries are parsed only to find errors early.
///
/// # Errors
/// The first line that is not part of the language.
pub fn parse_test(text: &str) -> Result<Vec<Command>> {
    // Comments end a block as empty lines do.
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut reader = ScriptReader { lines, at: 0 };
    let mut commands = Vec::new();
    while let Some(line) = reader.next_line() {
        let word = line.split([' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        match word.as_str() {
            "" => {}
            "clear" => commands.push(Command::Clear),
            w if w.starts_with("load") => commands.push(Command::Load(reader.load(line)?)),
            w if w.starts_with("eval") => {
                commands.push(Command::Eval(Box::new(reader.eval(line)?)))
            }
            _ => return reader.fail(format!("invalid command {line:?}")),
        }
    }
    Ok(commands)
}

struct ScriptReader<'a> {
    lines: Vec<&'a str>,
    /// The index after the current line, which is the number of the current line.
    at: usize,
}

impl<'a> ScriptReader<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    /// The next line of the block; `None` at its end.
    fn block_line(&mut self) -> Option<&'a str> {
        if self.lines.get(self.at)?.is_empty() { None } else { self.next_line() }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(TestLangError { line: self.at, message: message.into() })
    }

    fn duration(&self, text: &str) -> Result<i64> {
        parse_duration(text).or_else(|e| self.fail(format!("invalid duration {text:?}: {e}")))
    }

    fn series(&self, line: &str) -> Result<SeriesDescription> {
        parse_series_description(line).or_else(|e| self.fail(format!("series {line:?}: {e}")))
    }

    fn load(&mut self, line: &str) -> Result<Load> {
        let (word, step) = split_word(line);
        let with_nhcb = match word {
            "load" => false,
            "load_with_nhcb" => true,
            _ => return self.fail("invalid load command, want load[_with_nhcb] <step>"),
        };
        let mut load = Load {
            line: self.at,
            interval_ms: self.duration(step)?,
            with_nhcb,
            series: Vec::new(),
        };
        let mut pending = None;
        while let Some(line) = self.block_line() {
            if let Some(metric) = split_word(line).0.strip_suffix("@st") {
                let offsets = series::parse_start_offsets(split_word(line).1);
                let offsets =
                    offsets.or_else(|e| self.fail(format!("start timestamps {line:?}: {e}")))?;
                pending = Some((self.series(metric)?.labels, offsets));
                continue;
            }
            let description = self.series(line)?;
            let start_offsets_ms = match pending.take() {
                Some((labels, offsets))
                    if labels == description.labels
                        && offsets.len() == description.values.len() =>
                {
                    Some(offsets)
                }
                Some(_) => {
                    return self
                        .fail("start timestamps do not fit the samples in the line below them");
                }
                None => None,
            };
            load.series.push(LoadedSeries { description, start_offsets_ms });
        }
        if pending.is_some() {
            self.fail("start timestamps without samples in the line below them")
        } else {
            Ok(load)
        }
    }

    fn eval(&mut self, line: &'a str) -> Result<Eval> {
        let (word, rest) = split_word(line);
        let modifier = match word.strip_prefix("eval_") {
            None => None,
            Some("fail") => Some(ExpectKind::Fail),
            Some("warn") => Some(ExpectKind::Warn),
            Some("info") => Some(ExpectKind::Info),
            Some("ordered") => Some(ExpectKind::Ordered),
            Some(other) => return self.fail(format!("invalid evaluation modifier {other:?}")),
        };
        let (times, text) = self.eval_times(rest)?;
        if let Err(error) = ParserOptions::ALL.parse_expr(text) {
            return self.fail(format!("query {text:?}: {error}"));
        }
        let any = |kind| Expectation { kind, text: ExpectText::Any };
        let mut eval = Eval {
            line: self.at,
            text: text.to_owned(),
            times,
            expectations: modifier.into_iter().map(any).collect(),
            result: ExpectedResult::default(),
        };
        while let Some(line) = self.block_line() {
            if self.expected_line(&mut eval, line)? {
                break;
            }
        }
        Ok(eval)
    }

    fn eval_times(&self, rest: &'a str) -> Result<(EvalTimes, &'a str)> {
        let (kind, rest) = split_word(rest);
        match kind {
            "instant" => {
                let (values, text) = self.keyed_durations(rest, &["at"])?;
                Ok((EvalTimes::Instant { at: values[0] }, text))
            }
            "range" => {
                let (values, text) = self.keyed_durations(rest, &["from", "to", "step"])?;
                if values[1] < values[0] {
                    return self.fail("the end of the evaluation is before its start");
                }
                Ok((EvalTimes::Range { start: values[0], end: values[1], step: values[2] }, text))
            }
            _ => self.fail(
                "invalid evaluation, want instant at <time> <query> or range from <> to <> step <> \
                 <query>",
            ),
        }
    }

    /// `<key> <duration>` for every key, and what follows.
    fn keyed_durations(&self, mut rest: &'a str, keys: &[&str]) -> Result<(Vec<i64>, &'a str)> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let (word, after) = split_word(rest);
            if word != *key {
                return self.fail(format!("want {key:?}, found {word:?}"));
            }
            let (value, after) = split_word(after);
            values.push(self.duration(value)?);
            rest = after;
        }
        Ok((values, rest))
    }

    /// Takes a line of what is expected; returns whether it must be the last of the block.
    fn expected_line(&self, eval: &mut Eval, line: &str) -> Result<bool> {
        let fails = eval.expects(ExpectKind::Fail);
        for (prefix, make) in [
            ("expected_fail_message", ExpectText::Message as fn(String) -> ExpectText),
            ("expected_fail_regexp", ExpectText::Regex),
        ] {
            if let Some(text) = line.strip_prefix(prefix).filter(|_| fails) {
                eval.expectations.retain(|e| e.kind != ExpectKind::Fail);
                eval.expectations.push(Expectation {
                    kind: ExpectKind::Fail,
                    text: make(text.trim().to_owned()),
                });
                return Ok(true);
            }
        }
        if let Some(rest) = line.strip_prefix("expect range vector ") {
            let (values, _) = self.keyed_durations(rest.trim_start(), &["from", "to", "step"])?;
            eval.result.range = Some((values[0], values[1], values[2]));
        } else if let Some(quoted) = line.strip_prefix("expect string") {
            let string = unquote(quoted.trim());
            eval.result.string =
                Some(string.map_or_else(|| self.fail("expected string is not quoted"), Ok)?);
        } else if let Some(rest) = line.strip_prefix("expect ") {
            eval.expectations.push(self.expectation(rest)?);
        } else if let Ok(value) = parse_signed_number(line) {
            eval.result.scalar = Some(value);
            return Ok(true);
        } else {
            let series = self.series(line)?;
            let instant = matches!(eval.times, EvalTimes::Instant { .. });
            if instant && series.values.len() > 1 && eval.result.range.is_none() {
                return self.fail(
                    "an instant evaluation gives one value unless a range vector is expected",
                );
            }
            eval.result.series.push(series);
        }
        Ok(false)
    }

    fn expectation(&self, rest: &str) -> Result<Expectation> {
        let (word, text) = split_word(rest);
        let kind = match word {
            "ordered" => ExpectKind::Ordered,
            "fail" => ExpectKind::Fail,
            "warn" => ExpectKind::Warn,
            "no_warn" => ExpectKind::NoWarn,
            "info" => ExpectKind::Info,
            "no_info" => ExpectKind::NoInfo,
            other => return self.fail(format!("invalid expectation {other:?}")),
        };
        let text = match text.split_once(':') {
            None if text.is_empty() => ExpectText::Any,
            Some(("msg", message)) => ExpectText::Message(message.trim().to_owned()),
            Some(("regex", pattern)) => ExpectText::Regex(pattern.trim().to_owned()),
            _ => return self.fail(format!("invalid text of expectation {rest:?}")),
        };
        Ok(Expectation { kind, text })
    }
}

/// The first word and the rest without blanks before it.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests;
