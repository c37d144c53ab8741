/// Every kind of problem that an answer or a record can name (RFC 9457).
///
/// Types and titles are stable: callers compare the one and show the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be parsed.
    MalformedRequest,
    /// The path cannot name a file, whatever is on the disk.
    BadPath,
    /// The SHA-256 of a finalise request is missing or cannot be parsed.
    BadDigest,
    /// A query parameter cannot be used.
    BadParameter,
    /// The request carries no valid token.
    Unauthorized,
    /// The user name or the password is wrong, or the user is disabled.
    WrongCredentials,
    /// The path leads outside the configured roots.
    OutsideRoots,
    /// The gateway may not read the file.
    UnreadableFile,
    /// No route has this path.
    NotFound,
    /// The path names no file.
    NoSuchFile,
    /// No record has this id.
    UnknownFile,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// An expectation was accepted, and the new one differs from it.
    AlreadyFinalised,
    /// The file failed or was cancelled.
    FileEnded,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The path names a directory, a FIFO, a device or a socket.
    NotARegularFile,
    /// The name cannot name an object.
    BadName,
    /// No remote of this name is configured.
    UnknownRemote,
    /// Neither request names a remote, and there is no default.
    NoRemote,
    /// The `Idempotency-Key` belongs to another request.
    IdempotencyKeyReused,
    /// The file has more chunks than a chunk number can count.
    FileTooLarge,
    /// The stored SHA-256 differs from the expected one.
    DigestMismatch,
    /// The size differs from the expected one.
    SizeMismatch,
    /// The number of chunks differs from the expected one.
    ChunkCountMismatch,
    /// Waybill itself is at fault.
    Internal,
    /// Too many requests of this kind are under way.
    Busy,
    /// MongoDB has too little space for new files.
    InsufficientStorage,
    /// A server behind the gateway does not answer.
    Unavailable,
    /// Every allowed attempt ended when its worker did, without a reason.
    TooManyAttempts,
    /// The source changed between or during its readings.
    SourceChanged,
    /// The source is missing when a chunker wants to read it.
    SourceMissing,
    /// A chunker cannot read the source.
    SourceUnreadable,
    /// The record lacks what its state promises.
    RecordIncomplete,
    /// The name template of the remote gives no usable name for the file.
    Unnameable,
    /// The remote has another object of that name.
    RemoteClash,
    /// The remote refused the file for good.
    RemoteRefused,
    /// The remote did not take the file, and may take it later.
    RemoteUnavailable,
    /// The stored content is not what the chunker read.
    ContentWrong,
}

/// The beginning of every type.
const PREFIX: &str = "/problems/";

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 39] = [
        Self::MalformedRequest,
        Self::BadPath,
        Self::BadDigest,
        Self::BadParameter,
        Self::Unauthorized,
        Self::WrongCredentials,
        Self::OutsideRoots,
        Self::UnreadableFile,
        Self::NotFound,
        Self::NoSuchFile,
        Self::UnknownFile,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::AlreadyFinalised,
        Self::FileEnded,
        Self::BodyTooLarge,
        Self::NotARegularFile,
        Self::BadName,
        Self::UnknownRemote,
        Self::NoRemote,
        Self::IdempotencyKeyReused,
        Self::FileTooLarge,
        Self::DigestMismatch,
        Self::SizeMismatch,
        Self::ChunkCountMismatch,
        Self::Internal,
        Self::Busy,
        Self::InsufficientStorage,
        Self::Unavailable,
        Self::TooManyAttempts,
        Self::SourceChanged,
        Self::SourceMissing,
        Self::SourceUnreadable,
        Self::RecordIncomplete,
        Self::Unnameable,
        Self::RemoteClash,
        Self::RemoteRefused,
        Self::RemoteUnavailable,
        Self::ContentWrong,
    ];

    /// The type, a URI reference: `/problems/` and a name.
    pub const fn uri(self) -> &'static str {
        self.row().0
    }

    /// The name in the type, as people read and enter it.
    pub fn name(self) -> &'static str {
        // Every type begins with the prefix; a test says so.
        self.uri().strip_prefix(PREFIX).unwrap_or_default()
    }

    /// The name in a type that any release wrote; the whole text if it is not a type of ours.
    pub fn name_of(uri: &str) -> &str {
        uri.strip_prefix(PREFIX).unwrap_or(uri)
    }

    /// The kind of a type; `None` for one that this release does not know.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.uri() == uri)
    }

    /// The title for people, the same for every problem of the kind.
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// The HTTP status of an answer with this problem; `None` where only records have it.
    pub const fn status(self) -> Option<u16> {
        self.row().1
    }

    /// Whether a requeue after this problem reads the source again, because the stored content is of no use.
    pub const fn needs_new_reading(self) -> bool {
        matches!(self, Self::ContentWrong)
    }

    /// Type, HTTP status and title.
    const fn row(self) -> (&'static str, Option<u16>, &'static str) {
        match self {
            Self::MalformedRequest => ("/problems/malformed-request", Some(400), "The request cannot be read"),
            Self::BadPath => ("/problems/bad-path", Some(400), "The path cannot name a file"),
            Self::BadDigest => {
                ("/problems/bad-digest", Some(400), "The SHA-256 of the file is missing or cannot be read")
            }
            Self::BadParameter => ("/problems/bad-parameter", Some(400), "A query parameter cannot be used"),
            Self::Unauthorized => ("/problems/unauthorized", Some(401), "A valid token is needed"),
            Self::WrongCredentials => ("/problems/wrong-credentials", Some(401), "The user may not come in"),
            Self::OutsideRoots => ("/problems/outside-roots", Some(403), "The path leads outside the allowed folders"),
            Self::UnreadableFile => ("/problems/unreadable-file", Some(403), "The file cannot be read"),
            Self::NotFound => ("/problems/not-found", Some(404), "There is nothing at this address"),
            Self::NoSuchFile => ("/problems/no-such-file", Some(404), "There is no file at the path"),
            Self::UnknownFile => ("/problems/unknown-file", Some(404), "No file of this id is known"),
            Self::MethodNotAllowed => {
                ("/problems/method-not-allowed", Some(405), "The address does not take this method")
            }
            Self::RequestTimeout => ("/problems/request-timeout", Some(408), "The request took too long to arrive"),
            Self::AlreadyFinalised => {
                ("/problems/already-finalised", Some(409), "Another finalise request was accepted before")
            }
            Self::FileEnded => ("/problems/file-ended", Some(409), "The file is given up"),
            Self::BodyTooLarge => ("/problems/body-too-large", Some(413), "The body of the request is too large"),
            Self::NotARegularFile => ("/problems/not-a-regular-file", Some(415), "The path names no regular file"),
            Self::BadName => ("/problems/bad-name", Some(422), "The name cannot name a file at a remote"),
            Self::UnknownRemote => ("/problems/unknown-remote", Some(422), "No remote of this name is configured"),
            Self::NoRemote => ("/problems/no-remote", Some(422), "No remote is named"),
            Self::IdempotencyKeyReused => {
                ("/problems/idempotency-key-reused", Some(422), "The Idempotency-Key belongs to another request")
            }
            Self::FileTooLarge => ("/problems/file-too-large", Some(422), "The file has too many chunks"),
            Self::DigestMismatch => {
                ("/problems/digest-mismatch", Some(422), "The file has another SHA-256 than expected")
            }
            Self::SizeMismatch => ("/problems/size-mismatch", Some(422), "The file has another size than expected"),
            Self::ChunkCountMismatch => {
                ("/problems/chunk-count-mismatch", Some(422), "The file has another number of chunks than expected")
            }
            Self::Internal => ("/problems/internal", Some(500), "The service has a fault"),
            Self::Busy => ("/problems/busy", Some(503), "Too many requests of this kind are under way"),
            Self::InsufficientStorage => {
                ("/problems/insufficient-storage", Some(507), "There is no space for new files")
            }
            Self::Unavailable => {
                ("/problems/unavailable", Some(503), "A server that this service needs does not answer")
            }
            Self::TooManyAttempts => ("/problems/too-many-attempts", None, "Every attempt broke off"),
            Self::SourceChanged => ("/problems/source-changed", None, "The source changed while it was read"),
            Self::SourceMissing => ("/problems/source-missing", None, "The source is not there"),
            Self::SourceUnreadable => ("/problems/source-unreadable", None, "The source cannot be read"),
            Self::RecordIncomplete => ("/problems/record-incomplete", None, "The record is incomplete"),
            Self::Unnameable => ("/problems/unnameable", None, "The remote has no name for the file"),
            Self::RemoteClash => ("/problems/remote-clash", None, "The remote has something of that name"),
            Self::RemoteRefused => ("/problems/remote-refused", None, "The remote refused the file"),
            Self::RemoteUnavailable => ("/problems/remote-unavailable", None, "The remote does not take the file now"),
            Self::ContentWrong => ("/problems/content-wrong", None, "What is stored is not what was read"),
        }
    }
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.uri())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_type_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert_eq!(kind.uri(), format!("/problems/{}", kind.name()));
            assert_eq!(ProblemKind::from_uri(kind.uri()), Some(kind));
            assert!(kind.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{kind}");
        }
        assert_eq!(ProblemKind::from_uri("/problems/of-a-later-release"), None);
    }

    #[test]
    fn a_type_of_another_release_keeps_its_name() {
        assert_eq!(ProblemKind::name_of("/problems/of-a-later-release"), "of-a-later-release");
        assert_eq!(ProblemKind::name_of("about:blank"), "about:blank");
    }
}
