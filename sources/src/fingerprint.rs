use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// What shows that a source changed: if two fingerprints of a file differ, its content may have changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When its inode last changed. Comparable only while the file stays open: another host may report another time.
    pub ctime_ns: i64,
    /// Its inode; comparable under the same condition.
    pub inode: u64,
}

impl Fingerprint {
    /// Takes the fingerprint of an open file. Blocking.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let nanos = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
        Ok(Self {
            size: found.len(),
            mtime_ns: nanos(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanos(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        })
    }
}
