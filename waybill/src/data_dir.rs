//! The data directory of `waybill up`, and the servers in it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use contract::{PAYLOAD_HEADROOM, private_key_pem};
use serde::{Deserialize, Serialize};
use servers::{Mongo, MongoOptions, Nats, NatsOptions};
use settings::{DirectoryRemote, RemoteSettings, Secret, Settings};

/// mongod's cache. Each chunk passes through it once on its way in and once on its way out; a larger cache would not make that
/// faster.
const MONGOD_CACHE_MIB: u32 = 1024;

/// The remote that `up` configures if the settings have no default remote.
const DEFAULT_REMOTE: &str = "local";

/// The data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The addresses of the servers of a data directory; kept in it for the other commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The address of NATS.
    pub nats: String,
    /// The MongoDB connection string.
    pub mongodb: String,
}

/// The servers that run because none were configured. Dropping this kills those that are still running.
#[derive(Debug, Default)]
pub struct LocalServers {
    nats: Option<Nats>,
    mongo: Option<Mongo>,
}

impl DataDir {
    /// Creates the directory and its folders if they are missing.
    pub fn open(path: &Path) -> Result<Self> {
        let create = |folder: &Path| {
            fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be created", folder.display()))
        };
        create(path)?;
        let path = path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))?;
        let directory = Self { path };
        create(&directory.source())?;
        create(&directory.remote())?;
        Ok(directory)
    }

    /// The allowed root for sources.
    pub fn source(&self) -> PathBuf {
        self.path.join("source")
    }

    /// The folder of the default remote.
    pub fn remote(&self) -> PathBuf {
        self.path.join("remote")
    }

    /// Writes down where the servers answer.
    pub fn write_endpoints(&self, endpoints: &Endpoints) -> Result<()> {
        let path = endpoints_of(&self.path);
        let text = serde_json::to_vec(endpoints)?;
        // A connection string may hold a password.
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        written
            .and_then(|mut file| file.write_all(&text))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Where the servers answered when `waybill up` last ran on this directory.
    pub fn read_endpoints(directory: &Path) -> Result<Endpoints> {
        let path = endpoints_of(directory);
        let text = fs::read(&path)
            .with_context(|| format!("{} cannot be read; has `waybill up` run on this directory?", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not what `waybill up` writes", path.display()))
    }

    /// The secret that signs tokens: made once and kept for the next start, so that tokens stay valid.
    fn jwt_secret(&self) -> Result<Secret> {
        let path = self.path.join("jwt-secret");
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => file.write_all(random_text(48).as_bytes()).context("the token secret cannot be written")?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be created", path.display())),
        }
        let mut secret = String::new();
        fs::File::open(&path)
            .and_then(|mut file| file.read_to_string(&mut secret))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Secret::new(secret))
    }

    /// The key that signs receipts: made once and kept for the next start, so that one key verifies all receipts.
    fn receipt_key(&self) -> Result<PathBuf> {
        let path = receipt_key_of(&self.path);
        if path.exists() {
            return Ok(path);
        }
        let failed = || format!("{} cannot be created", path.display());
        // The file appears whole or not at all, and only its owner can read it.
        let mut file = tempfile::NamedTempFile::new_in(&self.path).with_context(failed)?;
        let written = file.write_all(private_key_pem(&rand::random()).as_bytes());
        written.and_then(|()| file.as_file().sync_all()).with_context(failed)?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error).with_context(failed),
            _ => Ok(path),
        }
    }

    /// Fills in what the settings leave open.
    pub fn fill_in(&self, settings: &mut Settings) -> Result<()> {
        if settings.files.roots.is_empty() {
            settings.files.roots.push(self.source());
        }
        if settings.default_remote.is_none() {
            let remote = RemoteSettings::Directory(DirectoryRemote::new(self.remote()));
            // If the settings have a remote of that name, it stays as it is.
            settings.remotes.entry(DEFAULT_REMOTE.into()).or_insert(remote);
            settings.default_remote = Some(DEFAULT_REMOTE.into());
        }
        if settings.auth.jwt_secret.is_none() && settings.auth.jwt_secret_file.is_none() {
            settings.auth.jwt_secret = Some(self.jwt_secret()?);
        }
        if !settings.receipts.is_configured() {
            settings.receipts.signing_key_file = Some(self.receipt_key()?);
        }
        Ok(())
    }

    /// Starts the servers that the settings do not name, and puts their addresses into the settings.
    pub async fn start_servers(&self, settings: &mut Settings) -> Result<LocalServers> {
        // Leaves room for the headers, and is never less than the server's own default.
        let max_payload = (settings.files.chunk_size + PAYLOAD_HEADROOM).max(1024 * 1024);
        let own_nats = settings.nats.url.is_empty();
        let own_mongo = !settings.mongodb.is_configured();
        let nats = async {
            if !own_nats {
                return Ok(None);
            }
            let options = NatsOptions::new(self.path.join("nats"), max_payload);
            Nats::start(options).await.map(Some).context("nats-server cannot be started")
        };
        let mongo = async {
            if !own_mongo {
                return Ok(None);
            }
            let options = MongoOptions::new(self.path.join("mongod"), MONGOD_CACHE_MIB);
            Mongo::start(options).await.map(Some).context("mongod cannot be started")
        };
        let (nats, mongo) = tokio::join!(nats, mongo);
        // If one server failed, dropping the other ends it.
        let servers = LocalServers { nats: nats?, mongo: mongo? };
        if let Some(nats) = &servers.nats {
            settings.nats.url = nats.url();
        }
        if let Some(mongo) = &servers.mongo {
            settings.mongodb.uri = Secret::new(mongo.uri());
        }
        Ok(servers)
    }
}

impl LocalServers {
    /// Waits until one of the servers ends by itself, and says which; waits for ever if none runs.
    pub async fn ended(&self) -> String {
        let nats = async {
            match &self.nats {
                Some(nats) => format!("nats-server ended by itself: {}", nats.exited().await),
                None => std::future::pending().await,
            }
        };
        let mongo = async {
            match &self.mongo {
                Some(mongo) => format!("mongod ended by itself: {}", mongo.exited().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = nats => why,
            why = mongo => why,
        }
    }

    /// The process ids of the servers, with their names.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let nats = self.nats.as_ref().map(|nats| ("nats-server", nats.pid()));
        let mongo = self.mongo.as_ref().map(|mongo| ("mongod", mongo.pid()));
        nats.into_iter().chain(mongo).collect()
    }

    /// Stops the servers: NATS first, then MongoDB, which has the truth.
    pub async fn stop(self) -> Result<()> {
        if let Some(nats) = self.nats {
            nats.stop().await.context("nats-server did not stop")?;
        }
        if let Some(mongo) = self.mongo {
            mongo.stop().await.context("mongod did not stop")?;
        }
        Ok(())
    }
}

fn endpoints_of(directory: &Path) -> PathBuf {
    directory.join("endpoints.json")
}

/// Where a data directory keeps the key that signs receipts.
pub fn receipt_key_of(directory: &Path) -> PathBuf {
    directory.join("receipt-key.pem")
}

/// Random letters and digits, for secrets.
pub fn random_text(length: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString};
    Alphanumeric.sample_string(&mut rand::rng(), length)
}
