use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use contract::{Epoch, FileId};

use super::{Leftover, Parcel};

/// The name of what is written aside: `FILE_ID.EPOCH.TRY`. No try uses the name of another, not even of the same claim: a rename
/// whose outcome is not known may still be under way at the server, and must never find other bytes under its old name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AsideName {
    file_id: FileId,
    epoch: Epoch,
    number: u32,
}

impl AsideName {
    /// A new one. A claim lives in one process, so its tries are told apart by a number of this process.
    pub(super) fn of(parcel: &Parcel) -> Self {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        Self { file_id: parcel.file_id, epoch: parcel.epoch, number: TRIES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether `parcel` has no more use for it: an older claim wrote it, or an earlier try of the same.
    pub(super) fn is_older_than(self, parcel: &Parcel) -> bool {
        self.file_id == parcel.file_id && self.epoch <= parcel.epoch
    }

    pub(super) const fn leftover(self) -> Leftover {
        Leftover { file_id: self.file_id, epoch: self.epoch }
    }
}

impl fmt::Display for AsideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.file_id, self.epoch, self.number)
    }
}

impl FromStr for AsideName {
    type Err = ();

    /// Takes only what [`AsideName`] writes: nothing else in that folder is ours to remove.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(());
        let (file_id, epoch, number) = (next()?, next()?, next()?);
        let name = Self {
            file_id: file_id.parse().map_err(|_| ())?,
            epoch: epoch.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        };
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Digest, ObjectName};

    use super::*;
    use crate::remote::{Onto, UploadLog};

    #[test]
    fn no_try_has_the_name_of_another() {
        let parcel = Parcel {
            file_id: FileId::generate(),
            epoch: Epoch(3),
            object: ObjectName::new("x").unwrap().into(),
            onto: Onto::Nothing,
            size: 0,
            sha256: Digest::of_nothing(),
            still_ours: Box::new(|| true),
            upload: UploadLog::unkept(None),
            sent_on: Vec::new(),
        };
        let (first, second) = (AsideName::of(&parcel), AsideName::of(&parcel));
        assert_ne!(first, second);
        for name in [first, second] {
            assert_eq!(name.to_string().parse(), Ok(name));
            assert!(name.is_older_than(&parcel));
        }
    }
}
