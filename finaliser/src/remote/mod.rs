//! Where files go. Each kind of remote is one folder here and one line in [`open`].

mod aside_name;
mod body;
mod directory;
mod http;
mod s3;
mod sftp;
mod upload_log;
mod webdav;
mod wire;

use std::fmt;
use std::time::Duration;

use contract::{Digest, Epoch, FileId, ObjectPath, RemoteChecksum, RemoteProof};
use futures_util::future::BoxFuture;
use ledger::LedgerError;
use settings::RemoteSettings;

pub use aside_name::{AsideName, NoAsideName};
pub use body::Source;
pub use upload_log::UploadLog;

/// A place that takes files. A file is visible there under its final name only when it is whole.
pub trait Remote: Send + Sync + fmt::Debug {
    /// The file's address there, without secrets; for receipts and messages.
    fn address(&self, object: &ObjectPath) -> String;

    /// Asks what the remote has under the parcel's name, and makes sure that an equal file is durable there.
    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>>;

    /// Sends the whole, on the parcel's condition. What comes back is durable at the remote.
    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>>;

    /// As [`Remote::send`], by an upload in parts where the remote takes a file of that size in parts: `log` says how far it is, so
    /// that the next try, and the next claim, go on with it. A kind that takes files whole has no use for `log`.
    fn send_resumable<'a>(
        &'a self,
        parcel: &'a Parcel,
        source: Source,
        log: &'a UploadLog,
    ) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        let _of_no_use = log;
        self.send(parcel, source)
    }

    /// What was written there aside and neither placed nor removed, whoever wrote it. Nothing, where nothing is written aside.
    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<AsideName>, RemoteError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Removes what was written aside. Harmless if it is gone.
    fn discard(&self, leftover: AsideName) -> BoxFuture<'_, Result<(), RemoteError>> {
        let _nothing_is_written_aside = leftover;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Uploads in parts beneath our own folder there that are so old that a delivery which still goes on has recorded them.
    /// Nothing, where there are no such uploads, and where the remote was asked not long ago.
    fn old_uploads(&self) -> BoxFuture<'_, Result<Vec<KeptUpload>, RemoteError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Has the remote drop an upload in parts. Harmless if it is gone.
    fn abort<'a>(&'a self, _upload: &'a KeptUpload) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An upload in parts that a remote keeps until it is put together or aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptUpload {
    /// What the remote calls it.
    pub id: String,
    /// The address of its file there, without secrets.
    pub address: String,
}

/// Opens the remote that is configured.
pub fn open(settings: &RemoteSettings) -> Result<Box<dyn Remote>, RemoteError> {
    Ok(match settings {
        RemoteSettings::Http(settings) => Box::new(http::HttpRemote::open(settings)?),
        RemoteSettings::Directory(settings) => Box::new(directory::DirectoryRemote::open(settings)?),
        RemoteSettings::S3(settings) => Box::new(s3::S3Remote::open(settings)?),
        RemoteSettings::Sftp(settings) => Box::new(sftp::SftpRemote::open(settings)?),
        RemoteSettings::Webdav(settings) => Box::new(webdav::WebdavRemote::open(settings)?),
    })
}

/// A file as a remote needs to know it.
pub struct Parcel {
    /// The file.
    pub file_id: FileId,
    /// The claim that delivers it. With the id and the number of the try it names what is written aside: no name is ever used twice.
    pub epoch: Epoch,
    /// Its name there, with its folders.
    pub object: ObjectPath,
    /// What may have that name when it becomes visible.
    pub onto: Onto,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether the claim still holds: asked immediately before the act that makes the file visible.
    pub still_ours: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What a file may take the name of at a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: whatever has the name is a clash.
    Nothing,
    /// Whatever has the name is replaced; with an entity tag only what has that one, where the remote can tell.
    Replacing(Option<String>),
}

/// What a remote has under a name.
#[derive(Debug)]
pub enum Look {
    /// Nothing.
    Absent,
    /// The same bytes.
    Equal(Evidence),
    /// Something else.
    Other(Occupant),
    /// It cannot tell; the text says why.
    Unknown(String),
}

/// Something that has the name of a file at a remote and is not that file.
#[derive(Debug)]
pub struct Occupant {
    /// What was found, in words.
    pub what: String,
    /// Its entity tag, where there was one.
    pub etag: Option<String>,
}

impl From<String> for Occupant {
    fn from(what: String) -> Self {
        Self { what, etag: None }
    }
}

/// What a remote shows of a file that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The status of its answer, where it speaks HTTP.
    pub status: Option<u16>,
    /// The entity tag, where there was one.
    pub etag: Option<String>,
    /// The version that the remote made of it, where it keeps versions.
    pub version: Option<String>,
    /// The checksum that the remote named of what it has, as it wrote it.
    pub checksum: Option<RemoteChecksum>,
    /// What it proves, in a word that [`contract::proves`] knows.
    pub proof: RemoteProof,
    /// Bytes that were sent for it under this claim: less than the whole where an upload went on.
    pub sent: u64,
}

impl Evidence {
    /// That `proof`, after so many bytes were sent, and nothing else.
    pub const fn new(proof: RemoteProof, sent: u64) -> Self {
        Self { status: None, etag: None, version: None, checksum: None, proof, sent }
    }
}

/// Why a remote did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It will not, however often it is asked: the file fails.
    #[error("{0}")]
    Refused(String),
    /// It may later.
    #[error("{detail}")]
    Later {
        /// What happened.
        detail: String,
        /// How long it asked to be left alone (`Retry-After`).
        after: Option<Duration>,
    },
    /// Something has that name: ask what.
    #[error("{0}")]
    Clash(String),
    /// How far an upload is could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] LedgerError),
    /// We stopped sending: the body broke off, or the claim is no longer ours.
    #[error("stopped before the file became visible")]
    Stopped,
}
