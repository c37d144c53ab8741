/// What the remote's part of a receipt proves.
///
/// Receipts keep the words and sentences, so these never change: a proof of something else is a new variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteProof {
    /// The remote took every byte.
    Put,
    /// The remote took every part and put them together.
    Parts,
    /// The remote named the SHA-256 of each body it took.
    Checksum,
    /// The remote keeps the SHA-256 that was sent with the bytes.
    Metadata,
    /// The remote computed the SHA-256 itself.
    Digest,
    /// The finaliser read the file again and hashed it.
    ReadBack,
    /// The bytes were written and synced, by the finaliser or at its request.
    Fsync,
}

impl RemoteProof {
    /// All proofs.
    pub const ALL: [Self; 7] =
        [Self::Put, Self::Parts, Self::Checksum, Self::Metadata, Self::Digest, Self::ReadBack, Self::Fsync];

    /// The word for it in a receipt.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Parts => "parts",
            Self::Checksum => "checksum",
            Self::Metadata => "metadata",
            Self::Digest => "digest",
            Self::ReadBack => "read-back",
            Self::Fsync => "fsync",
        }
    }

    /// The proof with this word; `None` for a word that this release does not know.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proof| proof.as_str() == word)
    }

    /// The sentence in a receipt that says what it proves.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Put => "The remote answered that it took all bytes. It named no hash of its own.",
            Self::Parts => {
                "The remote answered that it took every part and put all of them together. It named no hash of its own."
            }
            Self::Checksum => {
                "The remote named the SHA-256 of what it took, of each part where there were parts, and it was that of \
                 the bytes sent."
            }
            Self::Metadata => {
                "The remote has the file's length, and the SHA-256 that was sent with it as a note. It was not asked to \
                 compute one."
            }
            Self::Digest => "The remote named the SHA-256 of what it has, and it was the file's.",
            Self::ReadBack => "The file was read again from the remote, and its SHA-256 was the file's.",
            Self::Fsync => {
                "All bytes were written, and the place that they were written to confirmed that they are on its disk \
                 (fsync)."
            }
        }
    }
}

impl std::fmt::Display for RemoteProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
