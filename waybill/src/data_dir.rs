//! The data directory of `waybill up`, and the servers in it.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use contract::{PAYLOAD_HEADROOM, private_key_pem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use servers::{Mongo, MongoOptions, Nats, NatsOptions};
use settings::{DirectoryRemote, NatsSettings, RemoteSettings, Secret, Settings};
use tempfile::NamedTempFile;

/// mongod's cache. Each chunk passes through it once on its way in and once on its way out; a larger cache would not
/// make that faster.
const MONGOD_CACHE_MIB: u32 = 1024;

/// The remote that `up` configures if the settings have no default remote.
const DEFAULT_REMOTE: &str = "local";

/// The mode of the directory: it holds the data of the servers and all secrets.
const OWNER_ONLY: u32 = 0o700;

/// The folder for sources.
const SOURCE: &str = "source";

/// The data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The path as it was given, made absolute: another one if it leads through a link.
    named: PathBuf,
}

/// How to reach the servers of a data directory; kept in it for the other commands and for other tools.
#[derive(Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// The address of NATS.
    pub nats: String,
    /// The user there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_password: Option<String>,
    /// The MongoDB connection string.
    pub mongodb: String,
}

impl Endpoints {
    /// What the settings say.
    pub fn of(settings: &Settings) -> Result<Self> {
        Ok(Self {
            nats: settings.nats.url().to_owned(),
            nats_username: settings.nats.username.clone(),
            nats_password: settings.nats.password()?.map(|password| password.expose().to_owned()),
            mongodb: settings.mongodb.uri()?.expose().to_owned(),
        })
    }

    /// Makes the settings lead to these servers.
    pub fn put_into(self, settings: &mut Settings) {
        settings.mongodb.uri = Secret::new(self.mongodb);
        settings.nats.url = self.nats;
        if self.nats_username.is_some() {
            log_in(&mut settings.nats, self.nats_username, self.nats_password);
        }
    }
}

/// Replaces the user of the settings.
fn log_in(nats: &mut NatsSettings, username: Option<String>, password: Option<String>) {
    nats.username = username;
    nats.password = password.map(Secret::new);
    (nats.password_file, nats.credentials_file) = (None, None);
}

/// The servers that run because none were configured. Dropping this kills those that are still running.
#[derive(Debug, Default)]
pub struct LocalServers {
    nats: Option<Nats>,
    mongo: Option<Mongo>,
}

/// What `waybill up` makes in its data directory.
const OURS: [&str; 6] = ["endpoints.json", "jwt-secret", "mongod", "nats", "remote", "source"];

/// Refuses a folder that holds other things than a data directory does.
fn check_ours(path: &Path) -> Result<()> {
    let is_empty = || Ok::<_, std::io::Error>(fs::read_dir(path)?.next().is_none());
    if OURS.iter().any(|name| path.join(name).exists()) || is_empty()? {
        return Ok(());
    }
    bail!(
        "{} holds other things than a data directory: expected a new or empty folder, or one that only its owner can open",
        path.display()
    )
}

impl DataDir {
    /// Creates the directory, for its owner alone, and its folders if they are missing.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || format!("the folder {} cannot be created", path.display());
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(path).with_context(failed)?;
        let named = std::path::absolute(path).with_context(failed)?;
        let path = path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))?;
        // An earlier release made it for everybody to read. A folder of somebody else's stays as it is.
        let mode = fs::metadata(&path).with_context(failed)?.permissions().mode() & 0o777;
        if mode != OWNER_ONLY {
            check_ours(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(OWNER_ONLY)).with_context(|| {
                format!("{} holds secrets and cannot be closed to others (mode {mode:o})", path.display())
            })?;
        }
        let directory = Self { path, named };
        for folder in [directory.source(), directory.remote()] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("the folder {} cannot be created", folder.display()))?;
        }
        Ok(directory)
    }

    /// The allowed root for sources.
    pub fn source(&self) -> PathBuf {
        self.path.join(SOURCE)
    }

    /// The folder of the default remote.
    pub fn remote(&self) -> PathBuf {
        self.path.join("remote")
    }

    /// Writes down how to reach the servers, and a context of the tool `nats`.
    pub fn write_endpoints(&self, endpoints: &Endpoints) -> Result<()> {
        keep(&endpoints_of(&self.path), &serde_json::to_vec(endpoints)?)?;
        let context = json!({
            "description": "waybill up",
            "url": endpoints.nats,
            "user": endpoints.nats_username,
            "password": endpoints.nats_password,
        });
        let folder = self.nats_cli().join("nats/context");
        fs::create_dir_all(&folder).with_context(|| format!("the folder {} cannot be created", folder.display()))?;
        keep(&folder.join("waybill.json"), &serde_json::to_vec_pretty(&context)?)
    }

    /// The file that says how to reach the servers.
    pub fn endpoints(&self) -> PathBuf {
        endpoints_of(&self.path)
    }

    /// The folder that the tool `nats` takes for its settings if `XDG_CONFIG_HOME` names it.
    pub fn nats_cli(&self) -> PathBuf {
        self.path.join("nats-cli")
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
        match fs::read_to_string(&path) {
            // The setting requires as many bytes.
            Ok(secret) if secret.len() >= 32 => return Ok(Secret::new(secret)),
            Ok(_) => tracing::warn!(
                "{} is not whole, so it is made anew: users with a token must log in again",
                path.display()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
        let secret = random_text(48);
        keep(&path, secret.as_bytes())?;
        Ok(Secret::new(secret))
    }

    /// The key that signs receipts: made once and kept for the next start, so that one key verifies all receipts. It is
    /// never replaced.
    fn receipt_key(&self) -> Result<PathBuf> {
        let path = receipt_key_of(&self.path);
        if path.exists() {
            return Ok(path);
        }
        let file = written_beside(&path, private_key_pem(&rand::random()).as_bytes())?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
                Err(error.error).with_context(|| format!("{} cannot be created", path.display()))
            }
            _ => Ok(path),
        }
    }

    /// Fills in what the settings leave open.
    pub fn fill_in(&self, settings: &mut Settings) -> Result<()> {
        if settings.files.roots.is_empty() {
            settings.files.roots.push(self.source());
            if self.named != self.path {
                // Callers may name their files as the operator names the directory.
                settings.files.roots.push(self.named.join(SOURCE));
            }
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
            let options = NatsOptions { login: true, ..NatsOptions::new(self.path.join("nats"), max_payload) };
            Nats::start(options).await.map(Some).context("nats-server cannot be started")
        };
        let mongo = async {
            if !own_mongo {
                return Ok(None);
            }
            let options = MongoOptions { login: true, ..MongoOptions::new(self.path.join("mongod"), MONGOD_CACHE_MIB) };
            Mongo::start(options).await.map(Some).context("mongod cannot be started")
        };
        let (nats, mongo) = tokio::join!(nats, mongo);
        // If one server failed, dropping the other ends it.
        let servers = LocalServers { nats: nats?, mongo: mongo? };
        if let Some(nats) = &servers.nats {
            settings.nats.url = nats.url();
            let (username, password) = nats.login().unzip();
            log_in(&mut settings.nats, username.map(str::to_owned), password.map(str::to_owned));
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

/// Writes a file for its owner alone, whole or not at all.
fn keep(path: &Path, content: &[u8]) -> Result<()> {
    let persisted = written_beside(path, content)?.persist(path);
    persisted.map(drop).with_context(|| format!("{} cannot be written", path.display()))
}

/// A file with this content that can take the name `path`. Only its owner can read it.
fn written_beside(path: &Path, content: &[u8]) -> Result<NamedTempFile> {
    let failed = || format!("{} cannot be written", path.display());
    let mut file = NamedTempFile::new_in(path.parent().unwrap_or(path)).with_context(failed)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).with_context(failed)?;
    Ok(file)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_ours_is_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let made = |name: &str, content: Option<&str>| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
            if let Some(content) = content {
                fs::create_dir(folder.join(content)).unwrap();
            }
            folder
        };
        let mode = |folder: &Path| fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        for ours in [made("empty", None), made("earlier", Some("mongod"))] {
            DataDir::open(&ours).unwrap();
            assert_eq!(mode(&ours), 0o700);
        }
        let shared = made("shared", Some("photographs"));
        let error = DataDir::open(&shared).unwrap_err();
        assert!(error.to_string().contains("holds other things"), "{error}");
        assert_eq!(mode(&shared), 0o755);
    }
}
