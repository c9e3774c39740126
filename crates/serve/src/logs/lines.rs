//! How a line of the log looks: with the keys and in the formats of Thanos, so that what is parsed
//! and alerted on keeps working. Every key stands on the top level, in both formats.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    Logfmt,
    Json,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let (metadata, mut fields) = (event.metadata(), Fields::default());
        fields.add("ts", Value::Text(time));
        let line = metadata.line().unwrap_or_default();
        fields.add("caller", Value::Text(format!("{}:{line}", metadata.target())));
        fields.add("level", Value::Text(metadata.level().as_str().to_ascii_lowercase()));
        event.record(&mut fields);
        let line = match self {
            Lines::Logfmt => fields.logfmt(),
            Lines::Json => fields.json(),
        };
        writeln!(writer, "{line}")
    }
}

enum Value {
    Text(String),
    /// A number or a boolean, which JSON does not quote.
    Plain(String),
}

#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn add(&mut self, name: &'static str, value: Value) {
        // what the bridge from the crate `log` adds says nothing new
        if !name.starts_with("log.") {
            self.0.push((name, value));
        }
    }

    fn logfmt(&self) -> String {
        let mut line = String::new();
        for (i, (name, value)) in self.0.iter().enumerate() {
            let (Value::Text(value) | Value::Plain(value)) = value;
            let separator = if i == 0 { "" } else { " " };
            let value = if is_bare(value) { value.clone() } else { quoted(value) };
            // writing to a string cannot fail
            let _ = write!(line, "{separator}{name}={value}");
        }
        line
    }

    fn json(&self) -> String {
        let mut line = String::from("{");
        for (i, (name, value)) in self.0.iter().enumerate() {
            let value = match value {
                Value::Text(text) => quoted(text),
                Value::Plain(text) => text.clone(),
            };
            let separator = if i == 0 { "" } else { "," };
            let _ = write!(line, "{separator}{}:{value}", quoted(name));
        }
        line + "}"
    }
}

/// Whether logfmt shows a value without quotes.
fn is_bare(value: &str) -> bool {
    !value.chars().any(|c| c <= ' ' || matches!(c, '=' | '"' | '\u{7f}' | '\u{fffd}'))
}

/// The text as a JSON string, on one line.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The key of a field; ours that mean what a key of Thanos' means have its name.
fn key(field: &Field) -> &'static str {
    match field.name() {
        "message" => "msg",
        "error" => "err",
        other => other,
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(key(field), Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(key(field), Value::Text(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(key(field), Value::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(key(field), Value::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(key(field), Value::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        // JSON has no such numbers
        let value = if value.is_finite() { Value::Plain(text) } else { Value::Text(text) };
        self.add(key(field), value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use model::rfc3339;
    use serde_json::json;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Written;

        fn make_writer(&'a self) -> Written {
            self.clone()
        }
    }

    /// The lines that some events make.
    fn written(lines: Lines) -> Vec<String> {
        let written = Written::default();
        let layer =
            tracing_subscriber::fmt::layer().event_format(lines).with_writer(written.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(endpoint = "a:1", up = true, blocks = 3, share = 0.5, "endpoint is up");
            tracing::error!(error = %"line 1\n\"line 2\"", reason = ?Some("a=b"), empty = "", "é");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn logfmt_lines_have_the_keys_of_thanos() {
        let lines = written(Lines::Logfmt);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (time, rest) = lines[0].strip_prefix("ts=").unwrap().split_once(' ').unwrap();
        assert!(time.ends_with('Z') && rfc3339::parse(time).is_some(), "{time}");
        let (caller, rest) = rest.split_once(' ').unwrap();
        let number = caller.strip_prefix("caller=serve::logs::lines::tests:").unwrap();
        assert!(number.parse::<u32>().is_ok_and(|number| number > 1), "{caller}");
        assert_eq!(
            rest,
            r#"level=info msg="endpoint is up" endpoint=a:1 up=true blocks=3 share=0.5"#
        );
        let end = r#"level=error msg=é err="line 1\n\"line 2\"" reason="Some(\"a=b\")" empty="#;
        assert!(lines[1].ends_with(end), "{}", lines[1]);
    }

    #[test]
    fn json_lines_have_the_same_keys_and_values() {
        let lines = written(Lines::Json);
        let parsed: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let keys = |text: &str| -> Vec<String> {
            text.split(' ').filter_map(|part| Some(part.split_once('=')?.0.to_owned())).collect()
        };
        let mut wanted = keys(&written(Lines::Logfmt)[0]);
        wanted.sort();
        let found: Vec<&String> = parsed[0].as_object().unwrap().keys().collect();
        assert_eq!(found, wanted.iter().collect::<Vec<_>>());
        assert!(rfc3339::parse(parsed[0]["ts"].as_str().unwrap()).is_some());
        let values = ["level", "msg", "up", "blocks", "share"].map(|key| &parsed[0][key]);
        assert_eq!(json!(values), json!(["info", "endpoint is up", true, 3, 0.5]));
        assert_eq!(parsed[1]["err"], "line 1\n\"line 2\"");
        assert_eq!(parsed[1]["reason"], "Some(\"a=b\")");
    }
}
