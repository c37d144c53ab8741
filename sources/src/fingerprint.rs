use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// What shows that a source changed: if two fingerprints of a file differ, its content may have changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970. Times that some file systems keep do not fit 64 bits.
    pub mtime_ns: i128,
    /// When its inode last changed: with its content, but also with its links and permissions. Comparable only while
    /// the file stays open: another host may report another time.
    pub ctime_ns: i128,
    /// Its inode; comparable under the same condition.
    pub inode: u64,
}

impl Fingerprint {
    /// Takes the fingerprint of an open file. Blocking.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let nanos = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Ok(Self {
            size: found.len(),
            mtime_ns: nanos(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanos(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn times_that_do_not_fit_64_bits_are_told_apart() {
        let file = tempfile::tempfile().unwrap();
        let at = |seconds, nanos| {
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)).unwrap();
            Fingerprint::of(&file).unwrap().mtime_ns
        };
        // 2286, which ext4, XFS and tmpfs can keep. 64 bits end in 2262.
        assert_eq!(at(10_000_000_000, 0), 10_000_000_000_000_000_000);
        assert_ne!(at(10_000_000_000, 500_000_000), at(10_000_000_001, 0));
    }
}
