use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Epoch, FileId, ObjectName, ObjectPath};

use super::{Object, RemoteError};

/// The name of a staging file: `FILE_ID.EPOCH.TRY`. No two claims and no two tries of a claim use the same name: a
/// server may still be working on a try that was given up, and must not find the next try under that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagingName {
    /// The file.
    pub file_id: FileId,
    /// The epoch of the claim that wrote it.
    pub epoch: Epoch,
    number: u64,
}

impl StagingName {
    /// A new name. A claim lives in one process, so a counter of the process tells its tries apart.
    pub(super) fn of(object: &Object) -> Self {
        static TRIES: AtomicU64 = AtomicU64::new(0);
        Self { file_id: object.file_id, epoch: object.epoch, number: TRIES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether it was written before `next`: by an older claim of the same file, or by an earlier try of the same
    /// claim.
    pub(super) fn is_older_than(self, next: Self) -> bool {
        self.file_id == next.file_id && (self.epoch, self.number) < (next.epoch, next.number)
    }
}

/// No character of it needs encoding in an address.
impl fmt::Display for StagingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.file_id, self.epoch, self.number)
    }
}

/// A text is not a name that [`StagingName`] writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected FILE_ID.EPOCH.TRY")]
pub struct NotAStagingName;

impl FromStr for StagingName {
    type Err = NotAStagingName;

    /// Accepts only names that [`StagingName`] writes: no other file in the folder is ours to remove.
    fn from_str(text: &str) -> Result<Self, NotAStagingName> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(NotAStagingName);
        let name = Self {
            file_id: next()?.parse().map_err(|_| NotAStagingName)?,
            epoch: next()?.parse().map_err(|_| NotAStagingName)?,
            number: next()?.parse().map_err(|_| NotAStagingName)?,
        };
        if name.to_string() == text { Ok(name) } else { Err(NotAStagingName) }
    }
}

/// Refuses paths in the folder for staging files.
pub(super) fn check_not_staging(path: &ObjectPath, folder: &ObjectName) -> Result<(), RemoteError> {
    if path.segments().next() == Some(folder) {
        return Err(RemoteError::Refused(format!(
            "expected another name than {:?}, which is the folder for staging files",
            folder.as_str()
        )));
    }
    Ok(())
}

/// Adds to a refusal of the folder for staging files what an operator can do about its name.
pub(super) fn explain_refusal(error: RemoteError, folder: &ObjectName) -> RemoteError {
    match error {
        RemoteError::Refused(why) if folder.as_str().starts_with('.') => RemoteError::Refused(format!(
            "{why}; if names that begin with a dot are forbidden there, set `staging_folder` to another name"
        )),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_write_are_accepted() {
        let (file_id, epoch) = (FileId::generate(), Epoch(7));
        let name = StagingName { file_id, epoch, number: 3 };
        assert_eq!(name.to_string(), format!("{file_id}.7.3"));
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["7", "07.3", "+7.3", "7.3x", "7.3.1", "7.03", "7.", ".3", "", "7.-1"] {
            assert_eq!(format!("{file_id}.{text}").parse::<StagingName>(), Err(NotAStagingName), "{text}");
        }
        assert_eq!("notes".parse::<StagingName>(), Err(NotAStagingName));
    }

    #[test]
    fn an_earlier_claim_or_try_of_the_same_file_is_older() {
        let name = |file_id, epoch, number| StagingName { file_id, epoch: Epoch(epoch), number };
        let (one, another) = (FileId::generate(), FileId::generate());
        let next = name(one, 2, 5);
        assert!(name(one, 1, 9).is_older_than(next) && name(one, 2, 4).is_older_than(next));
        assert!(!next.is_older_than(next) && !name(one, 3, 0).is_older_than(next));
        assert!(!name(another, 1, 0).is_older_than(next));
    }
}
