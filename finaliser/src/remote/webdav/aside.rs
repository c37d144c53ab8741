use std::fmt;
use std::str::FromStr;

use contract::{Epoch, FileId, ObjectPath};

use crate::remote::{Leftover, Parcel, RemoteError};

/// The collection in the remote's folder that holds what is being written.
pub(super) const ASIDE: &str = ".waybill";

/// The name of what is written aside: `FILE_ID.EPOCH.TRY`. No claim uses the name of another, and within a claim no try: a
/// PUT that was given up may still be at work at the server, and must not meet the next one under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AsideName {
    file_id: FileId,
    epoch: Epoch,
    tried: u64,
}

impl AsideName {
    pub(super) const fn of(parcel: &Parcel, tried: u64) -> Self {
        Self { file_id: parcel.file_id, epoch: parcel.epoch, tried }
    }

    pub(super) const fn leftover(self) -> Leftover {
        Leftover { file_id: self.file_id, epoch: self.epoch }
    }

    /// Its path in the remote's folder. Nothing in it needs to be encoded.
    pub(super) fn path(self) -> String {
        format!("{ASIDE}/{self}")
    }
}

impl fmt::Display for AsideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.file_id, self.epoch, self.tried)
    }
}

impl FromStr for AsideName {
    type Err = ();

    /// Takes only what [`AsideName`] writes: nothing else in that collection is ours to remove.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(());
        let name = Self {
            file_id: next()?.parse().map_err(|_| ())?,
            epoch: next()?.parse().map_err(|_| ())?,
            tried: next()?.parse().map_err(|_| ())?,
        };
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// Refuses names in the collection that holds what is being written.
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
        let name = AsideName { file_id, epoch, tried: 3 };
        assert_eq!(name.path(), format!(".waybill/{file_id}.7.3"));
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["7.3", "7", "07.3", "+7.3", "7.3x", "7.3.1", "7.03", "7.", ".3", "", "7.-1"] {
            assert_eq!(format!("{file_id}.{text}").parse::<AsideName>(), Err(()), "{text}");
        }
        assert_eq!("notes".parse::<AsideName>(), Err(()));
    }
}
