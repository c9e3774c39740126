//! Logs on stderr, one line per event, as logfmt or JSON.

mod lines;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Error, Kind, Result};
use lines::Lines;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Logfmt,
    Json,
    /// The same as logfmt: journald reads stderr.
    Journald,
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format> {
        match text {
            "logfmt" => Ok(Format::Logfmt),
            "json" => Ok(Format::Json),
            "journald" => Ok(Format::Journald),
            other => {
                let text = format!("log format {other:?}: expected one of logfmt, json, journald");
                Err(Error::new(Kind::Invalid, text))
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { level: "info".to_owned(), format: Format::default() }
    }
}

/// Installs the process' logger. Call it once; a second call fails.
pub fn init(settings: &Settings) -> Result<()> {
    let filter = filter(&settings.level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = match settings.format {
        Format::Logfmt | Format::Journald => Lines::Logfmt,
        Format::Json => Lines::Json,
    };
    let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(std::io::stderr);
    let installed = registry.with(layer).try_init();
    installed.map_err(|e| Error::caused(Kind::Internal, "start logger", e))?;
    if settings.format == Format::Journald {
        tracing::warn!(
            "log format journald is written as logfmt to stderr, where journald picks it up"
        );
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("unknown");
        tracing::error!(place, reason, "panic");
    }));
    Ok(())
}

/// Our own crates log at the level asked for; HTTP/2, TLS and DNS libraries log only warnings and
/// errors.
fn filter(level: &str) -> Result<EnvFilter> {
    if !matches!(level, "debug" | "info" | "warn" | "error") {
        let text = format!("log level {level:?}: expected one of debug, info, warn, error");
        return Err(Error::new(Kind::Invalid, text));
    }
    let quiet = if level == "error" { "error" } else { "warn" };
    let libraries = [
        "h2",
        "hyper",
        "hyper_util",
        "hickory_net",
        "hickory_proto",
        "hickory_resolver",
        "rustls",
        "tower",
    ];
    let directives = libraries.map(|library| format!("{library}={quiet}")).join(",");
    EnvFilter::try_new(format!("{level},{directives}"))
        .map_err(|e| Error::caused(Kind::Internal, "start log filter", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_formats_are_checked() {
        for level in ["debug", "info", "warn", "error"] {
            assert!(filter(level).is_ok());
        }
        assert_eq!(
            filter("loud").unwrap_err().to_string(),
            r#"log level "loud": expected one of debug, info, warn, error"#
        );
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert!("xml".parse::<Format>().is_err());
    }
}
