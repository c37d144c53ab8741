//! What is logged: to standard error, so that standard output stays for results.

use tracing_subscriber::EnvFilter;

use crate::{LogFormat, SettingsError, TelemetrySettings};

/// Begins logging. Once per process; a second call changes nothing.
pub fn start(settings: &TelemetrySettings) -> Result<(), SettingsError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|e| SettingsError::Value {
        key: "telemetry.filter".into(),
        why: format!("expected directives like info or chunker=debug,info, found {:?}: {e}", settings.filter),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error says that somebody else has begun logging already, as tests in one process do.
    let _already_begun = match settings.format {
        LogFormat::Plain => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
