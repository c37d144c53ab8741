//! What is logged: to standard error, so that standard output stays for results.

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // At info, async-nats logs every event of a connection, even those that a stop causes, and `bus` logs those that matter.
    let without_events =
        filter_fn(|metadata| *metadata.level() != LevelFilter::INFO || !metadata.target().starts_with("async_nats"));
    // An error means that logging has begun already, as in tests that share a process.
    let _already_begun = match settings.format {
        LogFormat::Plain => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).finish().with(without_events).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().with(without_events).try_init(),
    };
    Ok(())
}
