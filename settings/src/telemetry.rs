//! What is logged: to standard error, so that standard output stays for results.

use std::io::{self, Write};

use contract::{one_line, plain_json};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::SettingsError;
use crate::bounds::wrong;

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// `plain` or `json`.
    pub format: LogFormat,
    /// What is logged, in the syntax of tracing's `EnvFilter`: `info`, `chunker=debug,info`.
    pub filter: String,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Plain,
    /// For programs.
    Json,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Plain, filter: "info".into() }
    }
}

/// Begins logging. Only the first call in a process counts.
pub fn start(settings: &TelemetrySettings) -> Result<(), SettingsError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|error| {
        let filter = &settings.filter;
        wrong(
            "telemetry.filter",
            format!("expected directives like info or chunker=debug,info, found {filter:?}: {error}"),
        )
    })?;
    let plain = match settings.format {
        LogFormat::Plain => PlainLines::Text,
        LogFormat::Json => PlainLines::Json,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || plain);
    // At info, async-nats logs every event of a connection, even those that a stop causes, and `bus` logs those that
    // matter.
    let without_events =
        filter_fn(|metadata| *metadata.level() != LevelFilter::INFO || !metadata.target().starts_with("async_nats"));
    // An error means that logging has begun already, as in tests that share a process.
    let _already_begun = match settings.format {
        LogFormat::Plain => builder.finish().with(without_events).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(without_events).try_init(),
    };
    Ok(())
}

/// Standard error, for one line at a time, in which every hidden character is written as an escape: what is logged may
/// quote what others wrote, and one name must not look like two lines.
#[derive(Debug, Clone, Copy)]
enum PlainLines {
    Text,
    Json,
}

impl PlainLines {
    fn plain(self, line: &str) -> String {
        match self {
            Self::Text => one_line(line, usize::MAX),
            Self::Json => plain_json(line),
        }
    }
}

impl Write for PlainLines {
    /// Takes a whole line with its end, as tracing-subscriber writes it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        io::stderr().lock().write_all(format!("{}\n", self.plain(line)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(PlainLines::Text.plain("INFO name=a\n2026 ERROR\u{202e}ü"), "INFO name=a\\n2026 ERROR\\u{202e}ü");
        assert_eq!(PlainLines::Text.plain("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(PlainLines::Json.plain("{\"a\":\"\u{202e}\"}"), r#"{"a":"\u202e"}"#);
    }
}
