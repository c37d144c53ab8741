use std::time::Duration;

use contract::one_line;
use mongodb::error::{Error, ErrorKind, WriteFailure};

/// The most characters of what MongoDB says about a document: it quotes parts of the document.
const DETAIL_CHARS: usize = 500;

/// MongoDB's codes for a document that it does not take: too large (10334, 17419, 17420), against the collection's
/// validation (121), with field names that it does not take (52, 56, 57), or with a value of another type than an
/// update needs (14, 15, 16554, 16555, 16556, 17124, 28651, 28664).
const ABOUT_THE_DOCUMENT: [i32; 15] =
    [14, 15, 52, 56, 57, 121, 10334, 16554, 16555, 16556, 17124, 17419, 17420, 28651, 28664];

/// Why an operation of the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// MongoDB answered with an error or could not be reached.
    #[error("{operation} failed: {}", crate::client::told(.source))]
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
    /// MongoDB does not take a document as it is, however often it is sent. The text is cut.
    #[error("{operation} failed, because MongoDB does not take the document: {detail}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What MongoDB said about the document.
        detail: String,
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
    /// As [`LedgerError::Unreadable`]; the operation reads it piece by piece. The text is cut.
    #[error("{operation} failed, because a document cannot be read: {detail}")]
    Damaged {
        /// What was tried.
        operation: &'static str,
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

    /// The error of an operation: about a document, if MongoDB or the driver says so; all others are outages.
    pub(crate) fn of_operation(operation: &'static str, source: mongodb::error::Error) -> Self {
        match source.kind.as_ref() {
            _ if is_refusal(&source) => Self::Refused { operation, detail: detail_of(&source) },
            // `Custom` is what our own readers of chunks report.
            ErrorKind::Custom(_) | ErrorKind::Bson(_) => Self::Damaged { operation, detail: detail_of(&source) },
            _ => Self::mongo(operation, source),
        }
    }

    /// Whether MongoDB refuses the document itself: the same write never succeeds.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Batch(error) => error.is_refusal(),
            _ => false,
        }
    }

    /// Whether stored data is wrong, not the connection to it.
    pub fn is_corrupt_data(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Damaged { .. } => true,
            Self::Batch(error) => error.is_corrupt_data(),
            _ => false,
        }
    }
}

fn detail_of(error: &Error) -> String {
    let fixed = error.get_custom::<&'static str>().map(|text| (*text).to_owned());
    let custom = fixed.or_else(|| error.get_custom::<mongodb::bson::error::Error>().map(ToString::to_string));
    one_line(&custom.unwrap_or_else(|| error.to_string()), DETAIL_CHARS)
}

/// Whether a write was refused because of the document that it makes. An `InvalidArgument` is the driver's own check of
/// a document's size.
fn is_refusal(error: &Error) -> bool {
    let refused = |code: i32| ABOUT_THE_DOCUMENT.contains(&code);
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) => refused(write.code),
        ErrorKind::Command(command) => refused(command.code),
        ErrorKind::InsertMany(many) => many.write_errors.iter().flatten().any(|write| refused(write.code)),
        ErrorKind::InvalidArgument { .. } => true,
        _ => false,
    }
}

/// Whether MongoDB refused a write because the key exists already (E11000).
pub(crate) fn is_duplicate_key(error: &Error) -> bool {
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
