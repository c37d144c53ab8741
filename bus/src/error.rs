use std::time::Duration;

use async_nats::jetstream::context::PublishError;
use ledger::LedgerError;
use settings::SettingsError;

/// Why NATS could not do it.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The connection could not be set up.
    #[error("connecting to NATS failed: {0}")]
    Connect(#[from] async_nats::ConnectError),
    /// The settings for it are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The credentials file cannot be used.
    #[error("the NATS credentials file cannot be used: {0}")]
    Credentials(std::io::Error),
    /// The stream is not there.
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
    /// It was not there in time.
    #[error("NATS did not answer within {0:?}")]
    Unreachable(Duration),
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

/// Why something that needs both NATS and MongoDB was not done.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// NATS did not do it, or its answer was lost.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// MongoDB could not be told.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
