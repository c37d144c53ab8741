use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Epoch, FileId, ObjectPath};

use super::{Parcel, RemoteError};

/// The folder in a remote's folder that holds what is being written, at the kinds that write aside.
pub(super) const ASIDE: &str = ".waybill";

/// The name of what is written aside: `FILE_ID.EPOCH.TRY`. No claim uses the name of another, and no try that of another of the
/// same claim: what was given up may still be under way at a server, and must not meet the next one under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsideName {
    /// The file.
    pub file_id: FileId,
    /// The claim.
    pub epoch: Epoch,
    number: u64,
}

impl AsideName {
    /// A new one. A claim lives in one process, so its tries are told apart by a number of this process.
    pub(super) fn of(parcel: &Parcel) -> Self {
        static TRIES: AtomicU64 = AtomicU64::new(0);
        Self { file_id: parcel.file_id, epoch: parcel.epoch, number: TRIES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether `next` has no more use for it: an older claim of the same file wrote it, or an earlier try of the same claim.
    pub(super) fn is_older_than(self, next: Self) -> bool {
        self.file_id == next.file_id && (self.epoch, self.number) < (next.epoch, next.number)
    }

    /// Its path in the remote's folder. Nothing in it needs to be encoded.
    pub(super) fn path(self) -> String {
        format!("{ASIDE}/{self}")
    }
}

impl fmt::Display for AsideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.file_id, self.epoch, self.number)
    }
}

/// It is no name that [`AsideName`] writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected FILE_ID.EPOCH.TRY")]
pub struct NoAsideName;

impl FromStr for AsideName {
    type Err = NoAsideName;

    /// Takes only what [`AsideName`] writes: nothing else in that folder is ours to remove.
    fn from_str(text: &str) -> Result<Self, NoAsideName> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(NoAsideName);
        let name = Self {
            file_id: next()?.parse().map_err(|_| NoAsideName)?,
            epoch: next()?.parse().map_err(|_| NoAsideName)?,
            number: next()?.parse().map_err(|_| NoAsideName)?,
        };
        if name.to_string() == text { Ok(name) } else { Err(NoAsideName) }
    }
}

/// Refuses names in the folder that holds what is being written.
pub(super) fn plain_name(object: &ObjectPath) -> Result<(), RemoteError> {
    if object.segments().next().is_some_and(|outermost| outermost.as_str() == ASIDE) {
        return Err(RemoteError::Refused(format!(
            "expected another name than {ASIDE:?}, which holds what is being written"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_taken() {
        let (file_id, epoch) = (FileId::generate(), Epoch(7));
        let name = AsideName { file_id, epoch, number: 3 };
        assert_eq!(name.path(), format!(".waybill/{file_id}.7.3"));
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["7", "07.3", "+7.3", "7.3x", "7.3.1", "7.03", "7.", ".3", "", "7.-1"] {
            assert_eq!(format!("{file_id}.{text}").parse::<AsideName>(), Err(NoAsideName), "{text}");
        }
        assert_eq!("notes".parse::<AsideName>(), Err(NoAsideName));
    }

    #[test]
    fn older_is_an_earlier_claim_or_try_of_the_same_file() {
        let name = |file_id, epoch, number| AsideName { file_id, epoch: Epoch(epoch), number };
        let (one, another) = (FileId::generate(), FileId::generate());
        let next = name(one, 2, 5);
        assert!(name(one, 1, 9).is_older_than(next) && name(one, 2, 4).is_older_than(next));
        assert!(!next.is_older_than(next) && !name(one, 3, 0).is_older_than(next));
        assert!(!name(another, 1, 0).is_older_than(next));
    }
}
