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

/// mongod's cache. Chunks pass through it once in and once out; more would not make that faster.
const MONGOD_CACHE_MIB: u32 = 1024;

/// The remote that `up` configures where the settings have no default.
const DEFAULT_REMOTE: &str = "local";

/// The data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Where the servers of a data directory answer; kept in it for `waybill user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// NATS.
    pub nats: String,
    /// The MongoDB connection string.
    pub mongodb: String,
}

/// The servers that run because none were configured. Dropping them kills those that still run.
#[derive(Debug, Default)]
pub struct LocalServers {
    nats: Option<Nats>,
    mongo: Option<Mongo>,
}

impl DataDir {
    /// Makes the directory and its folders where they are missing.
    pub fn open(path: &Path) -> Result<Self> {
        let make = |folder: &Path| {
            fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))
        };
        make(path)?;
        let path = path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))?;
        let directory = Self { path };
        make(&directory.source())?;
        make(&directory.remote())?;
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

    fn endpoints(&self) -> PathBuf {
        self.path.join("endpoints.json")
    }

    /// Notes where the servers answer.
    pub fn note(&self, endpoints: &Endpoints) -> Result<()> {
        let path = self.endpoints();
        let text = serde_json::to_vec(endpoints)?;
        // A connection string may hold a password.
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        written
            .and_then(|mut file| file.write_all(&text))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Where the servers answered when `waybill up` last ran on this directory.
    pub fn noted(path: &Path) -> Result<Endpoints> {
        let path = path.join("endpoints.json");
        let text = fs::read(&path)
            .with_context(|| format!("{} cannot be read; has `waybill up` run on this directory?", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not as `waybill up` writes it", path.display()))
    }

    /// The secret that signs tokens: made once, kept for the next start, so that tokens stay good.
    fn jwt_secret(&self) -> Result<Secret> {
        let path = self.path.join("jwt-secret");
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => file.write_all(random_text(48).as_bytes()).context("the token secret cannot be kept")?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be made", path.display())),
        }
        let mut secret = String::new();
        fs::File::open(&path)
            .and_then(|mut file| file.read_to_string(&mut secret))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Secret::new(secret))
    }

    /// The key that signs receipts: made once, kept for the next start, so that all receipts can be checked by one key.
    fn receipt_key(&self) -> Result<PathBuf> {
        let path = receipt_key_of(&self.path);
        if path.exists() {
            return Ok(path);
        }
        let unmade = || format!("{} cannot be made", path.display());
        // Whole or not there at all, and only for its owner.
        let mut file = tempfile::NamedTempFile::new_in(&self.path).with_context(unmade)?;
        let written = file.write_all(private_key_pem(&rand::random()).as_bytes());
        written.and_then(|()| file.as_file().sync_all()).with_context(unmade)?;
        match file.persist_noclobber(&path) {
            Err(failed) if failed.error.kind() != ErrorKind::AlreadyExists => Err(failed.error).with_context(unmade),
            _ => Ok(path),
        }
    }

    /// Fills in what the settings leave open.
    pub fn complete(&self, settings: &mut Settings) -> Result<()> {
        if settings.files.roots.is_empty() {
            settings.files.roots.push(self.source());
        }
        if settings.default_remote.is_none() {
            let remote = RemoteSettings::Directory(DirectoryRemote::new(self.remote()));
            // One of that name that the settings have stays what it is.
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

    /// Starts the servers that the settings do not name, and names them there.
    pub async fn start_servers(&self, settings: &mut Settings) -> Result<LocalServers> {
        // Room for the headers, and never less than the server's own default.
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
        // If one failed, dropping the other ends it.
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
    /// Until one of them ends by itself; says which. Never, where none runs.
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

    /// Stops them: NATS first, then MongoDB, which has the truth.
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

/// Where a data directory keeps the key that signs receipts.
pub fn receipt_key_of(directory: &Path) -> PathBuf {
    directory.join("receipt-key.pem")
}

/// Random letters and digits, for secrets.
pub fn random_text(length: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString};
    Alphanumeric.sample_string(&mut rand::rng(), length)
}
