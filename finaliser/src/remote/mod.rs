//! Where files go. Each kind of remote is a folder here and a line in [`open`].

mod body;
mod directory;
mod http;
mod patience;
mod s3;
mod said;
mod send_queue;
mod sftp;
mod staging_name;
mod upload_log;
mod webdav;
mod wire;

use std::fmt;
use std::time::Duration;

use contract::{Digest, Epoch, FileId, ObjectPath, RemoteChecksum, RemoteProof};
use futures_util::future::BoxFuture;
use ledger::LedgerError;
use settings::RemoteSettings;

pub use body::Source;
pub use staging_name::{NotAStagingName, StagingName};
pub use upload_log::UploadLog;

/// A destination of files. A file becomes visible there under its final name only when it is complete.
///
/// A kind implements the first three methods. The others are for kinds that upload in parts or write staging files.
pub trait Remote: Send + Sync + fmt::Debug {
    /// The address of a path at the remote, without secrets; for receipts and messages.
    fn address(&self, path: &ObjectPath) -> String;

    /// Compares the object with what the remote has at its path, and makes sure that equal content is durable there.
    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>>;

    /// Sends the whole object, under its precondition. When this returns, the object is durable at the remote.
    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>>;

    /// As [`Remote::send`], but with an upload in parts if the remote takes an object of this size in parts. `log`
    /// records the upload, so that the next try and the next claim continue it. A kind that takes objects whole ignores
    /// `log`.
    fn send_resumable<'a>(
        &'a self,
        object: &'a Object,
        source: Source,
        log: &'a UploadLog,
    ) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        let _taken_whole = log;
        self.send(object, source)
    }

    /// The uploads in our own folder that are so old that a running delivery would have recorded them by now. The list
    /// is empty if the remote was asked shortly before.
    fn old_uploads(&self) -> BoxFuture<'_, Result<Vec<MultipartUpload>, RemoteError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Aborts an upload, so that the remote deletes its parts. Harmless if the remote no longer has it.
    fn abort_upload<'a>(&'a self, upload: &'a MultipartUpload) -> BoxFuture<'a, Result<(), RemoteError>> {
        let _never_begun = upload;
        Box::pin(std::future::ready(Ok(())))
    }

    /// The staging files that are at the remote, whoever wrote them.
    fn staging_files(&self) -> BoxFuture<'_, Result<Vec<StagingName>, RemoteError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Removes a staging file. Harmless if it is gone.
    fn remove_staging_file(&self, name: StagingName) -> BoxFuture<'_, Result<(), RemoteError>> {
        let _never_written = name;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An upload in parts. The remote keeps its parts until it is completed or aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartUpload {
    /// The id that the remote gave it.
    pub id: String,
    /// The address of its object, without secrets.
    pub address: String,
}

/// Opens a remote as it is configured.
pub fn open(settings: &RemoteSettings) -> Result<Box<dyn Remote>, RemoteError> {
    Ok(match settings {
        RemoteSettings::Http(settings) => Box::new(http::HttpRemote::open(settings)?),
        RemoteSettings::Directory(settings) => Box::new(directory::DirectoryRemote::open(settings)?),
        RemoteSettings::S3(settings) => Box::new(s3::S3Remote::open(settings)?),
        RemoteSettings::Sftp(settings) => Box::new(sftp::SftpRemote::open(settings)?),
        RemoteSettings::Webdav(settings) => Box::new(webdav::WebdavRemote::open(settings)?),
    })
}

/// A file in the form in which a remote gets it.
pub struct Object {
    /// The file.
    pub file_id: FileId,
    /// The epoch of the claim that delivers the file; part of the name of a staging file.
    pub epoch: Epoch,
    /// Its path at the remote.
    pub path: ObjectPath,
    /// The condition under which it becomes visible at that path.
    pub precondition: Precondition,
    /// Whether `on_clash` lets it replace whatever appears at its path. Only a remote that cannot check
    /// [`Precondition::NameIsFree`] when it makes the object visible asks.
    pub may_replace: bool,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether the lease still holds. A remote asks immediately before the operation that makes the object visible.
    pub still_ours: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The condition under which an object becomes visible at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing has the path. Anything that has it is a conflict.
    NameIsFree,
    /// None: the object replaces whatever has the path. With an entity tag, it replaces only content with that tag, if
    /// the remote can check the tag.
    Replace(Option<String>),
}

/// What a remote has at the path of an object, compared with the object.
#[derive(Debug)]
pub enum Comparison {
    /// Nothing.
    Absent,
    /// The same content.
    Equal(Evidence),
    /// Something else.
    Different(Occupant),
    /// The remote cannot tell; the text says why.
    Unknown(String),
}

/// Something at an object's path that is not the object.
#[derive(Debug)]
pub struct Occupant {
    /// What was found, in words.
    pub what: String,
    /// Its entity tag, if the remote named one.
    pub etag: Option<String>,
}

impl From<String> for Occupant {
    fn from(what: String) -> Self {
        Self { what, etag: None }
    }
}

/// What a remote confirms about an object that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The status of its answer, if it speaks HTTP.
    pub status: Option<u16>,
    /// The entity tag, if the remote named one.
    pub etag: Option<String>,
    /// The version id of the object, if the remote keeps versions.
    pub version: Option<String>,
    /// The checksum of its content that the remote named, as the remote wrote it.
    pub checksum: Option<RemoteChecksum>,
    /// What all of this proves.
    pub proof: RemoteProof,
    /// Bytes that were sent under this claim; fewer than the object has if an upload was continued.
    pub sent: u64,
}

impl Evidence {
    /// The proof and the bytes that were sent, and nothing else.
    pub const fn new(proof: RemoteProof, sent: u64) -> Self {
        Self { status: None, etag: None, version: None, checksum: None, proof, sent }
    }
}

/// Why a remote did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The remote will refuse however often it is asked, so the file fails.
    #[error("{0}")]
    Refused(String),
    /// The remote may do it later.
    #[error("{detail}")]
    Later {
        /// What happened.
        detail: String,
        /// How long the remote asked us to wait (`Retry-After`).
        after: Option<Duration>,
    },
    /// Something has the object's path. A comparison tells what it is.
    #[error("{0}")]
    Conflict(String),
    /// MongoDB did not answer, so that nothing could be recorded about an upload.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// We stopped sending: the source ended early, or the lease no longer holds.
    #[error("stopped before the file became visible")]
    Stopped,
}
