//! Reads a source once, in order, hashing each chunk and the whole file.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use bus::chunk_client::Chunk;
use contract::{Digest, Hasher, Split};
use sources::Fingerprint;
use tokio::sync::mpsc;

use crate::check;
use crate::memory::Memory;

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The source changed since it was opened; the text says what differs.
    #[error("{0}")]
    Changed(String),
    /// The file system failed.
    #[error("reading at byte {at} failed: {source}")]
    Io { at: u64, source: io::Error },
    /// The sender takes no more chunks.
    #[error("the reading was broken off")]
    BrokenOff,
}

/// One reading of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// SHA-256 of what was read.
    pub(crate) sha256: Digest,
    /// The digest of its chunks' hashes, in order.
    pub(crate) chunks: Digest,
    /// Whether the change time, and nothing else, changed meanwhile. A hard link, other permissions or a rename change
    /// it, but so do other bytes whose modification time was set back.
    pub(crate) touched: bool,
}

/// Reads the whole file. Blocking; ends early when `chunks` is closed.
///
/// Positioned reads, never a memory map: a file that shrinks under a map kills the process.
pub(crate) fn read(
    file: &File,
    opened: Fingerprint,
    split: Split,
    chunks: &mpsc::Sender<Chunk>,
    memory: &Memory,
) -> Result<Reading, ReadError> {
    let (mut whole, mut hashes) = (Hasher::new(), Hasher::new());
    for number in split.numbers() {
        let at = split.offset(number);
        // Every number of the split has a length.
        let len = split.len(number).unwrap_or_default();
        let (mut buffer, share) = memory.take(len).ok_or(ReadError::BrokenOff)?;
        read_exactly(file, &mut buffer, at)?;
        whole.update(&buffer);
        let sha256 = Digest::of(&buffer);
        check::add(&mut hashes, sha256);
        let chunk = Chunk { number, sha256, data: buffer.freeze(), memory: share };
        chunks.blocking_send(chunk).map_err(|_| ReadError::BrokenOff)?;
    }
    let now = Fingerprint::of(file).map_err(|source| ReadError::Io { at: opened.size, source })?;
    match differences(opened, now) {
        Some(what) => Err(ReadError::Changed(what)),
        None => {
            Ok(Reading { sha256: whole.finish(), chunks: hashes.finish(), touched: opened.ctime_ns != now.ctime_ns })
        }
    }
}

fn read_exactly(file: &File, buffer: &mut [u8], at: u64) -> Result<(), ReadError> {
    file.read_exact_at(buffer, at).map_err(|source| match source.kind() {
        ErrorKind::UnexpectedEof => ReadError::Changed(format!("it now ends before byte {}", at + buffer.len() as u64)),
        _ => ReadError::Io { at, source },
    })
}

/// What differs between two fingerprints, apart from their change times; `None` if nothing does.
pub(crate) fn differences(before: Fingerprint, now: Fingerprint) -> Option<String> {
    let mut what = Vec::new();
    let mut note = |name, before: i128, now: i128| {
        if before != now {
            what.push(format!("its {name} was {before} and is {now}"));
        }
    };
    note("size in bytes", before.size.into(), now.size.into());
    note("modification time in ns", before.mtime_ns, now.mtime_ns);
    note("inode", before.inode.into(), now.inode.into());
    (!what.is_empty()).then(|| what.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_all(
        bytes: &[u8],
        chunk_size: u32,
        meanwhile: impl FnOnce(&mut File) + Send,
    ) -> Result<(Vec<Chunk>, Reading), ReadError> {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(bytes).unwrap();
        let opened = Fingerprint::of(&source).unwrap();
        let split = Split::new(bytes.len() as u64, chunk_size).unwrap();
        let (sender, mut pieces) = mpsc::channel(1024);
        meanwhile(&mut source);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let whole = read(&source, opened, split, &sender, &Memory::new())?;
        drop(sender);
        let mut all = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            all.push(piece);
        }
        Ok((all, whole))
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let bytes: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
        let (pieces, whole) = read_all(&bytes, 700, |_| ()).unwrap();
        assert_eq!((whole.sha256, whole.touched), (Digest::of(&bytes), false));
        let hashes: Vec<u8> = pieces.iter().flat_map(|piece| *piece.sha256.as_bytes()).collect();
        assert_eq!(whole.chunks, Digest::of(&hashes));
        assert!(pieces.iter().all(|piece| piece.sha256 == Digest::of(&piece.data)));
        assert_eq!(pieces.iter().flat_map(|piece| piece.data.to_vec()).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn an_empty_file_has_no_piece() {
        let (pieces, whole) = read_all(&[], 700, |_| ()).unwrap();
        assert!(pieces.is_empty());
        assert_eq!((whole.sha256, whole.chunks), (Digest::of_nothing(), Digest::of_nothing()));
    }

    #[test]
    fn a_source_that_changes_is_noticed() {
        let shorter = read_all(&[7; 5000], 700, |file| file.set_len(4000).unwrap());
        assert!(matches!(shorter, Err(ReadError::Changed(what)) if what.contains("ends before")));
        let longer = read_all(&[7; 5000], 700, |file| file.write_all(b"more").unwrap());
        assert!(matches!(longer, Err(ReadError::Changed(what)) if what.contains("size in bytes was 5000 and is 5004")));
    }

    #[test]
    fn a_change_of_the_change_time_alone_is_told_apart() {
        use std::os::unix::fs::PermissionsExt;

        // The clock of the file system may stand still for some milliseconds.
        let touched = |file: &mut File| {
            let before = Fingerprint::of(file).unwrap();
            while Fingerprint::of(file).unwrap() == before {
                file.set_permissions(PermissionsExt::from_mode(0o640)).unwrap();
            }
        };
        let (_, whole) = read_all(&[7; 5000], 700, touched).unwrap();
        assert_eq!((whole.sha256, whole.touched), (Digest::of(&[7; 5000]), true));
    }
}
