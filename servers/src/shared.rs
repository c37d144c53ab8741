//! One pair of servers for all tests of a process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::Error;
use crate::guardian::Guardian;
use crate::home::Home;
use crate::locate::Server;
use crate::mongo::{MIN_CACHE_MIB, Mongo, MongoOptions};
use crate::nats::{Nats, NatsOptions};
use crate::on_thread;
use crate::peers::seaweed::{Seaweed, SeaweedOptions};
use crate::peers::sshd::{Sshd, SshdOptions};

/// The environment variable with the URL of a NATS server for tests to use instead of one of their own.
pub const NATS_URL: &str = "WAYBILL_TEST_NATS_URL";
/// The environment variable with the URI of a MongoDB replica set for tests to use instead of one of their own.
pub const MONGODB_URI: &str = "WAYBILL_TEST_MONGODB_URI";

/// The largest message without a warning of nats-server: room for every chunk size the tests use.
const MAX_PAYLOAD: u32 = 8 << 20;

/// The servers all tests of this process share. Isolate by prefix and database name.
///
/// They are of no runtime: each test may have its own. Being in a static it is never dropped, so a guardian process
/// each kills the servers and removes their folder when this process ends, in whatever way.
#[derive(Debug)]
pub struct Shared {
    nats_url: String,
    mongodb_uri: String,
    _nats: Option<Nats>,
    _mongo: Option<Mongo>,
    _folder: Option<Folder>,
}

impl Shared {
    /// Where NATS is.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Where MongoDB is.
    pub fn mongodb_uri(&self) -> &str {
        &self.mongodb_uri
    }

    fn start() -> Result<Self, Error> {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        let (nats_url, mongodb_uri) = (given(NATS_URL), given(MONGODB_URI));
        let folder = match (&nats_url, &mongodb_uri) {
            (Some(_), Some(_)) => None,
            _ => Some(Folder::make(&base()?)?),
        };
        let start_nats = |folder: &Folder| {
            let mut options = NatsOptions::new(folder.path.join("nats"), MAX_PAYLOAD);
            options.die_with_parent = true;
            Nats::start_blocking(options)
        };
        let start_mongo = |folder: &Folder| {
            let mut options = MongoOptions::new(folder.path.join("mongo"), MIN_CACHE_MIB);
            options.die_with_parent = true;
            Mongo::start_blocking(options)
        };
        let nats_in = folder.as_ref().filter(|_| nats_url.is_none());
        let mongo_in = folder.as_ref().filter(|_| mongodb_uri.is_none());
        let (nats, mongo) = std::thread::scope(|scope| {
            let nats = scope.spawn(|| nats_in.map(start_nats).transpose());
            let mongo = mongo_in.map(start_mongo).transpose();
            let nats = nats.join().unwrap_or_else(|_| Err(Error::Panicked { thread: "nats-server-start".to_owned() }));
            (nats, mongo)
        });
        let (nats, mongo) = (nats?, mongo?);
        Ok(Self {
            nats_url: nats_url.or(nats.as_ref().map(Nats::url)).unwrap_or_default(),
            mongodb_uri: mongodb_uri.or(mongo.as_ref().map(Mongo::uri)).unwrap_or_default(),
            _nats: nats,
            _mongo: mongo,
            _folder: folder,
        })
    }
}

/// The servers for the tests of this process, started at the first call, which takes about half a second. Servers
/// named in [`NATS_URL`] and [`MONGODB_URI`] are used instead.
///
/// # Errors
///
/// Why a server could not be started; it stays the same for every later call.
pub async fn shared() -> Result<&'static Shared, &'static Error> {
    static SHARED: OnceLock<Result<Shared, Error>> = OnceLock::new();
    once(&SHARED, Shared::start).await
}

/// The SeaweedFS for the tests of this process, started at the first call, which takes some seconds. Isolate by folders in
/// its bucket.
///
/// # Errors
///
/// Why it could not be started; it stays the same for every later call.
pub async fn shared_seaweed() -> Result<&'static Seaweed, &'static Error> {
    static SHARED: OnceLock<Result<(Seaweed, Folder), Error>> = OnceLock::new();
    let start = || {
        let folder = Folder::make(&base()?)?;
        Ok((Seaweed::start_blocking(SeaweedOptions::new(folder.path.join("seaweed")))?, folder))
    };
    once(&SHARED, start).await.map(|(seaweed, _)| seaweed)
}

/// The sshd for the tests of this process, started at the first call. Isolate by folders: it sees all that the user sees.
///
/// # Errors
///
/// Why it could not be started; it stays the same for every later call.
pub async fn shared_sshd() -> Result<&'static Sshd, &'static Error> {
    static SHARED: OnceLock<Result<(Sshd, Folder), Error>> = OnceLock::new();
    let start = || {
        let folder = Folder::make(&base()?)?;
        let mut options = SshdOptions::new(folder.path.join("sshd"));
        options.die_with_parent = true;
        Ok((Sshd::start_blocking(options)?, folder))
    };
    once(&SHARED, start).await.map(|(sshd, _)| sshd)
}

/// Starts what is not started yet.
async fn once<T: Send + Sync>(
    shared: &'static OnceLock<Result<T, Error>>,
    start: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<&'static T, &'static Error> {
    let started = match shared.get() {
        Some(started) => started,
        None => match on_thread("shared-servers", move || shared.get_or_init(start)).await {
            Ok(started) => started,
            // Only if that thread could not be started or panicked.
            Err(error) => shared.get_or_init(|| Err(error)),
        },
    };
    started.as_ref()
}

/// Whether a test can run that needs what does not come with this project, as [`Nginx::is_here`](crate::Nginx::is_here) tells. If it
/// cannot, that is said aloud.
///
/// # Panics
///
/// It cannot, and the variable `CI` is set: there nothing is left out.
#[allow(clippy::print_stderr, reason = "it is for whoever runs the tests")]
pub fn can_test(needed: Result<(), Error>) -> bool {
    match needed {
        Ok(()) => true,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("NOT TESTED on this machine: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// A folder in the base that is locked as long as its process lives.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _owner: File,
    _guardian: Guardian,
}

impl Folder {
    /// Sweeps what dead processes left in `base` and makes a folder there.
    fn make(base: &Path) -> Result<Self, Error> {
        let failed = || Error::io(format!("could not make a folder for the tests' servers in {}", base.display()));
        // Nobody sweeps a folder between its making and its locking.
        let sweeping = create(&base.join("sweep.lock")).map_err(failed())?;
        sweeping.lock().map_err(failed())?;
        sweep(base).map_err(failed())?;
        let path = tempfile::Builder::new().prefix("run-").tempdir_in(base).map_err(failed())?.keep();
        let owner = create(&owner_lock(&path)).map_err(failed())?;
        owner.lock().map_err(failed())?;
        Ok(Self { _guardian: Guardian::of_folder(&path).map_err(failed())?, _owner: owner, path })
    }
}

fn owner_lock(folder: &Path) -> PathBuf {
    folder.join("owner.lock")
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Ends the servers and removes the folders of processes that have died without their guardians having done so.
fn sweep(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        // The lock of a living process is held.
        if File::open(owner_lock(&folder)).is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        if let Err(error) = remove(&folder) {
            tracing::warn!(folder = %folder.display(), error = &error as &dyn std::error::Error,
                "could not remove what an earlier test left");
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), Error> {
    let servers =
        [(Server::Nats, "nats"), (Server::Mongo, "mongo"), (Server::Seaweed, "seaweed"), (Server::Sshd, "sshd")];
    for (server, name) in servers {
        let dir = folder.join(name);
        if dir.is_dir() {
            let home = Home::open(server, &dir)?;
            if let Some(old) = home.record()?.and_then(|record| record.process) {
                home.end(&old)?;
            }
        }
    }
    match fs::remove_dir_all(folder) {
        // Its guardian is at it too.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("could not remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

/// One folder per user, as the folder for temporary files is everyone's.
fn base() -> Result<PathBuf, Error> {
    let user = rustix::process::getuid().as_raw();
    let path = std::env::temp_dir().join(format!("waybill-tests-{user}"));
    let failed = || Error::io(format!("could not use {} for the tests' servers", path.display()));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed()(error)),
        _ => {}
    }
    // Another user could have made it, or a link, before us.
    let found = fs::symlink_metadata(&path).map_err(failed())?;
    if !found.is_dir() || found.uid() != user {
        return Err(failed()(io::Error::other("it is not a folder of ours; set TMPDIR to another place")));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_dead_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let mine = Folder::make(base.path()).unwrap();
        let dead = base.path().join("run-dead");
        fs::create_dir_all(dead.join("nats")).unwrap();
        create(&owner_lock(&dead)).unwrap();
        let unlocked = base.path().join("run-unlocked");
        fs::create_dir(&unlocked).unwrap();

        sweep(base.path()).unwrap();

        assert!(mine.path.is_dir());
        assert!(!dead.exists());
        assert!(!unlocked.exists());
    }
}
