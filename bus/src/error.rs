use std::time::Duration;

use async_nats::jetstream::context::PublishError;
use ledger::LedgerError;
use settings::SettingsError;

/// Why an operation on NATS failed.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The connection could not be set up.
    #[error("connecting to NATS failed: {0}")]
    Connect(#[from] async_nats::ConnectError),
    /// The settings of the connection are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The credentials file cannot be used.
    #[error("the file that nats.credentials_file names cannot be used: {0}")]
    Credentials(String),
    /// No stream takes the subject.
    #[error("NATS has no stream for {subject}")]
    NoStream {
        /// What was published.
        subject: String,
    },
    /// Publishing failed, or its outcome is unknown.
    #[error("publishing on {subject} failed: {source}")]
    Publish {
        /// What was published.
        subject: String,
        /// Why.
        source: PublishError,
    },
    /// The server did not answer in time.
    #[error("NATS did not answer within {within:?}{}{why}", if why.is_empty() { "" } else { ": " })]
    Unreachable {
        /// How long was waited.
        within: Duration,
        /// What failed last at each server, if anything is known.
        why: String,
    },
    /// A stream, consumer or message could not be read.
    #[error("reading {what} failed: {why}")]
    Read {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// A stream or consumer could not be made.
    #[error("making {what} failed: {why}")]
    Make {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
}

/// Why an operation on both NATS and MongoDB failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// NATS failed, or its answer was lost.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// MongoDB failed, or its answer was lost.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
