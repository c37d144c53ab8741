/// Declares the kinds. Each row is a variant, the name in its type, its HTTP status and its title.
macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $status:expr, $title:literal;)*) => {
        /// Every kind of problem that an answer or a record can name (RFC 9457).
        ///
        /// Types and titles are stable: callers compare the one and show the other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The type, a URI reference: `/problems/` and a name.
            pub const fn uri(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("/problems/", $name),)*
                }
            }

            /// The name in the type, as people read and type it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The HTTP status of an answer with this problem; `None` where only records have it.
            pub const fn status(self) -> Option<u16> {
                match self {
                    $(Self::$variant => $status,)*
                }
            }

            /// The title for people, the same for every problem of the kind.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                }
            }
        }
    };
}

problem_kinds! {
    /// The request cannot be parsed.
    MalformedRequest, "malformed-request", Some(400), "The request cannot be read";
    /// The path cannot name a file, whatever is on the disk.
    BadPath, "bad-path", Some(400), "The path cannot name a file";
    /// The SHA-256 of a finalise request is missing or cannot be parsed.
    BadDigest, "bad-digest", Some(400), "The SHA-256 of the file is missing or cannot be read";
    /// A query parameter cannot be used.
    BadParameter, "bad-parameter", Some(400), "A query parameter cannot be used";
    /// The request carries no valid token.
    Unauthorized, "unauthorized", Some(401), "A valid token is needed";
    /// The user name or the password is wrong, or the user is disabled.
    WrongCredentials, "wrong-credentials", Some(401), "The user may not come in";
    /// The path leads outside the configured roots.
    OutsideRoots, "outside-roots", Some(403), "The path leads outside the allowed folders";
    /// The gateway may not read the file.
    UnreadableFile, "unreadable-file", Some(403), "The file cannot be read";
    /// No route has this path.
    NotFound, "not-found", Some(404), "There is nothing at this address";
    /// The path names no file.
    NoSuchFile, "no-such-file", Some(404), "There is no file at the path";
    /// No record has this id.
    UnknownFile, "unknown-file", Some(404), "No file of this id is known";
    /// The route does not take this method.
    MethodNotAllowed, "method-not-allowed", Some(405), "The address does not take this method";
    /// The request did not arrive in time.
    RequestTimeout, "request-timeout", Some(408), "The request took too long to arrive";
    /// An expectation was accepted, and the new one differs from it.
    AlreadyFinalised, "already-finalised", Some(409), "Another finalise request was accepted before";
    /// The file failed or was cancelled.
    FileEnded, "file-ended", Some(409), "The file is given up";
    /// The body is larger than the limit.
    BodyTooLarge, "body-too-large", Some(413), "The body of the request is too large";
    /// The path names a directory, a FIFO, a device or a socket.
    NotARegularFile, "not-a-regular-file", Some(415), "The path names no regular file";
    /// The name cannot name an object.
    BadName, "bad-name", Some(422), "The name cannot name a file at a remote";
    /// No remote of this name is configured.
    UnknownRemote, "unknown-remote", Some(422), "No remote of this name is configured";
    /// Neither request names a remote, and there is no default.
    NoRemote, "no-remote", Some(422), "No remote is named";
    /// The `Idempotency-Key` belongs to another request.
    IdempotencyKeyReused, "idempotency-key-reused", Some(422), "The Idempotency-Key belongs to another request";
    /// The file is larger than the limit, or has more chunks than a chunk number can count.
    FileTooLarge, "file-too-large", Some(422), "The file is too large";
    /// The stored SHA-256 differs from the expected one.
    DigestMismatch, "digest-mismatch", Some(422), "The file has another SHA-256 than expected";
    /// The size differs from the expected one.
    SizeMismatch, "size-mismatch", Some(422), "The file has another size than expected";
    /// The number of chunks differs from the expected one.
    ChunkCountMismatch, "chunk-count-mismatch", Some(422), "The file has another number of chunks than expected";
    /// Too many logins of this name or from this address failed.
    TooManyFailedLogins, "too-many-failed-logins", Some(429), "Too many logins failed";
    /// Waybill itself is at fault.
    Internal, "internal", Some(500), "The service has a fault";
    /// Too many requests of this kind are in progress.
    Busy, "busy", Some(503), "Too many requests of this kind are under way";
    /// MongoDB has too little space for new files.
    InsufficientStorage, "insufficient-storage", Some(507), "There is no space for new files";
    /// A server behind the gateway does not answer.
    Unavailable, "unavailable", Some(503), "A server that this service needs does not answer";
    /// The file was stored, and nobody finalised it in time.
    NotFinalised, "not-finalised", None, "Nobody finalised the file in time";
    /// Every allowed attempt ended when its worker did, without a reason.
    TooManyAttempts, "too-many-attempts", None, "Every attempt broke off";
    /// The source changed between or during its readings.
    SourceChanged, "source-changed", None, "The source changed while it was read";
    /// The source is missing when a chunker wants to read it.
    SourceMissing, "source-missing", None, "The source is not there";
    /// A chunker cannot read the source.
    SourceUnreadable, "source-unreadable", None, "The source cannot be read";
    /// The record lacks what its state promises.
    RecordIncomplete, "record-incomplete", None, "The record is incomplete";
    /// MongoDB does not take what must be recorded about the file.
    RecordRefused, "record-refused", None, "MongoDB does not take the record";
    /// The name template of the remote gives no usable name for the file.
    Unnameable, "unnameable", None, "The remote has no name for the file";
    /// The remote has another object of that name.
    RemoteClash, "remote-clash", None, "The remote has something of that name";
    /// The remote refused the file for good.
    RemoteRefused, "remote-refused", None, "The remote refused the file";
    /// The remote did not take the file, and may take it later.
    RemoteUnavailable, "remote-unavailable", None, "The remote does not take the file now";
    /// The stored content is not what the chunker read.
    ContentWrong, "content-wrong", None, "What is stored is not what was read";
}

impl ProblemKind {
    /// The name in a type that any release has written; the whole text if it is not one of our types.
    pub fn name_of(uri: &str) -> &str {
        uri.strip_prefix("/problems/").unwrap_or(uri)
    }

    /// The kind of a type; `None` for one that this release does not know.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.uri() == uri)
    }

    /// Whether a requeue after this problem reads the source again, because the stored content is of no use.
    pub const fn needs_new_reading(self) -> bool {
        matches!(self, Self::ContentWrong)
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
            assert_eq!(ProblemKind::from_uri(kind.uri()), Some(*kind));
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
