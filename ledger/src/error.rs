use std::time::Duration;

/// Why an operation of the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// MongoDB answered with an error or could not be reached.
    #[error("{operation} failed: {source}")]
    Mongo {
        /// What was tried.
        operation: &'static str,
        /// What the driver said.
        source: Box<mongodb::error::Error>,
    },
    /// MongoDB did not answer in time. The operation may have taken effect, or may still do so.
    #[error("{operation} had no answer from MongoDB within {after:?}")]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// How long the ledger waited.
        after: Duration,
    },
    /// The task of an operation ended early, for example at the end of the process.
    #[error("{operation} was interrupted")]
    Aborted {
        /// What was tried.
        operation: &'static str,
        /// How the task ended.
        source: tokio::task::JoinError,
    },
    /// The server answers but takes no writes.
    #[error(
        "expected MongoDB to be the writable primary of a replica set, found that it is not (was rs.initiate() run?)"
    )]
    NotPrimary,
    /// A document is not as this release writes it.
    #[error("a document of {collection} cannot be read: {detail}")]
    Unreadable {
        /// The collection it is in.
        collection: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Others changed the record during every try.
    #[error("{operation} met other changes of the same record {tries} times in a row")]
    Contended {
        /// What was tried.
        operation: &'static str,
        /// How many times it was tried.
        tries: u32,
    },
    /// The batch that an operation was part of failed.
    #[error(transparent)]
    Batch(std::sync::Arc<LedgerError>),
    /// The process is ending and begins no more operations.
    #[error("{0} was not begun: the service is ending")]
    Ending(&'static str),
    /// A password could not be hashed.
    #[error("hashing a password failed: {0}")]
    Password(String),
}

impl LedgerError {
    pub(crate) fn mongo(operation: &'static str, source: mongodb::error::Error) -> Self {
        Self::Mongo { operation, source: Box::new(source) }
    }
}

/// Whether MongoDB refused a write because the key exists already (E11000).
pub(crate) fn is_duplicate_key(error: &mongodb::error::Error) -> bool {
    use mongodb::error::{ErrorKind, WriteFailure};
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == 11000,
        ErrorKind::Command(command) => command.code == 11000,
        ErrorKind::InsertMany(many) => {
            many.write_errors.as_ref().is_some_and(|errors| errors.iter().all(|write| write.code == 11000))
                && many.write_concern_error.is_none()
        }
        _ => false,
    }
}
