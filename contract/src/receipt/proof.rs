/// What the remote's part of a receipt proves, by its word; `None` for a word that is not known.
///
/// It stands in receipts that are kept, so a sentence never changes: a proof of something else gets another word.
///
/// The words: `put` (it took every byte), `parts` (it took every part and put them together), `checksum` (the
/// same, and it named the SHA-256 of each body), `metadata` (it keeps the SHA-256 that was sent with the bytes), `digest`
/// (its own SHA-256), `read-back` (it was read again and hashed), `fsync` (written, and synced by us or at our request).
pub fn proves(word: &str) -> Option<&'static str> {
    Some(match word {
        "put" => "The remote answered that it took all bytes. It named no hash of its own.",
        "parts" => {
            "The remote answered that it took every part and put all of them together. It named no hash of its own."
        }
        "checksum" => {
            "The remote named the SHA-256 of what it took, of each part where there were parts, and it was that of the \
             bytes sent."
        }
        "metadata" => {
            "The remote has the file's length, and the SHA-256 that was sent with it as a note. It was not asked to \
             compute one."
        }
        "digest" => "The remote named the SHA-256 of what it has, and it was the file's.",
        "read-back" => "The file was read again from the remote, and its SHA-256 was the file's.",
        "fsync" => {
            "All bytes were written, and the place that they were written to confirmed that they are on its disk (fsync)."
        }
        _ => return None,
    })
}
