//! `waybill up`: runs the servers and the four services, and adds a first user.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use contract::{PublicKey, Role, plain_json};
use ledger::{Ledger, NewUser};
use runtime::{Lifecycle, Service};
use serde::Serialize;
use settings::telemetry;
use settings::{RemoteSettings, Settings};

use crate::data_dir::{DataDir, Endpoints, LocalServers, random_text};
use crate::scale::Scale;

/// The first user's name.
const FIRST_USER: &str = "waybill";

/// What to run and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where the gateway listens; port 0 picks a free one. `None`: as the settings say.
    pub listen: Option<SocketAddr>,
    /// The file with the settings.
    pub config: Option<PathBuf>,
    /// How many of each worker to run.
    pub scale: Scale,
}

/// Everything, running and ready.
#[derive(Debug)]
pub struct Up {
    /// What to tell the user.
    pub ready: Ready,
    /// Stops everything.
    pub life: Lifecycle,
    ledgers: Vec<Ledger>,
    servers: LocalServers,
}

/// Where everything is; the line that `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// The address of the gateway.
    pub gateway: String,
    /// The address of NATS.
    pub nats: String,
    /// The MongoDB connection string, without user and password.
    pub mongodb: String,
    /// The file with the users and passwords of NATS and MongoDB.
    pub endpoints: PathBuf,
    /// The folder with a context of the tool `nats`. Not in the line.
    #[serde(skip)]
    pub nats_cli: PathBuf,
    /// The first user; unset if the database had users that `up` did not add.
    pub username: Option<String>,
    /// The first user's password; set only if `up` has just added the user.
    pub password: Option<String>,
    /// The first allowed root.
    pub root: PathBuf,
    /// The folder of the default remote, if that is a directory.
    pub remote_dir: Option<PathBuf>,
    /// The key that verifies receipts. Not in the line: `waybill receipt key` prints it.
    #[serde(skip)]
    pub receipt_key: Option<PublicKey>,
}

/// The command: runs everything until a signal.
pub async fn command(options: Options, json: bool) -> Result<()> {
    let settings = Settings::load(options.config.as_deref())?;
    telemetry::start(&settings.telemetry)?;
    let life = Lifecycle::new(settings.work.grace());
    life.stop_on_signals().context("cannot listen for signals")?;
    let Some(up) = start(settings, &options, life).await? else { return Ok(()) };
    print_ready(&up.ready, json)?;
    up.run().await
}

/// Starts everything and waits until it is ready. `None`: it was asked to stop before that.
pub async fn start(mut settings: Settings, options: &Options, life: Lifecycle) -> Result<Option<Up>> {
    // An invalid key is reported before anything is created.
    settings.receipts.signing_key()?;
    let directory = DataDir::open(&options.data_dir)?;
    if let Some(listen) = options.listen {
        settings.gateway.listen = listen;
    }
    directory.fill_in(&mut settings)?;
    settings.check()?;
    let receipt_key = settings.receipts.signing_key()?.map(|key| key.public());
    let servers = tokio::select! {
        servers = directory.start_servers(&mut settings) => servers?,
        () = life.stopping() => return Ok(None),
    };
    let settings = Arc::new(settings);
    let started = async {
        let (address, services) = start_services(&settings, &life, options.scale).await?;
        wait_until_ready(&services).await;
        anyhow::Ok((address, services))
    };
    let (address, services) = tokio::select! {
        started = started => match started {
            Ok(started) => started,
            Err(error) => {
                life.stop();
                servers.stop().await?;
                return Err(error);
            }
        },
        why = servers.ended() => bail!(why),
        () = life.stopping() => {
            let ended = life.ended().await;
            servers.stop().await?;
            return Ok(ended.map(|()| None)?);
        }
    };
    let endpoints = Endpoints::of(&settings)?;
    directory.write_endpoints(&endpoints)?;
    let (username, password) = first_user(&services).await?;
    let ready = Ready {
        gateway: format!("http://{address}"),
        nats: endpoints.nats,
        mongodb: without_secrets(&endpoints.mongodb),
        endpoints: directory.endpoints(),
        nats_cli: directory.nats_cli(),
        username,
        password,
        root: settings.files.roots.first().cloned().unwrap_or_default(),
        remote_dir: default_folder(&settings),
        receipt_key,
    };
    let ledgers = services.into_iter().map(|service| service.ledger).collect();
    Ok(Some(Up { ready, life, ledgers, servers }))
}

impl Up {
    /// Runs until it is asked to stop, then stops the services, and after them the servers.
    pub async fn run(self) -> Result<()> {
        let Self { life, ledgers, servers, .. } = self;
        tokio::select! {
            why = servers.ended() => life.fail(why),
            () = life.stopping() => {}
        }
        let ended = life.ended().await;
        let closing: Vec<_> =
            ledgers.into_iter().map(|ledger| tokio::spawn(async move { ledger.close().await })).collect();
        for closed in closing {
            closed.await?;
        }
        let stopped = servers.stop().await;
        ended?;
        stopped
    }
}

async fn start_services(
    settings: &Arc<Settings>,
    life: &Lifecycle,
    scale: Scale,
) -> Result<(SocketAddr, Vec<Service>)> {
    let mut services = Vec::new();
    let mut address = None;
    for role in Role::ALL {
        for _ in 0..scale.of(role) {
            let service = runtime::start(role, settings.clone(), life.clone()).await?;
            services.push(service.clone());
            match role {
                Role::Gateway => address = Some(gateway::run(service).await?),
                Role::Chunker => chunker::run(service).await?,
                Role::Store => store::run(service).await?,
                Role::Finaliser => finaliser::run(service, None).await?,
            }
        }
    }
    Ok((address.context("no gateway was started")?, services))
}

async fn wait_until_ready(services: &[Service]) {
    for service in services {
        service.wait_until_ready().await;
    }
}

/// Adds the first user if there is none. Runs last of all, so that no later error can swallow the password.
async fn first_user(services: &[Service]) -> Result<(Option<String>, Option<String>)> {
    let ledger = &services.first().context("no service was started")?.ledger;
    if ledger.has_users().await? {
        let ours = ledger.active_user(FIRST_USER).await?;
        return Ok((ours.map(|user| user.username), None));
    }
    let password = random_text(24);
    ledger.add_user(&NewUser { username: FIRST_USER, password: &password }).await?;
    Ok((Some(FIRST_USER.to_owned()), Some(password)))
}

fn default_folder(settings: &Settings) -> Option<PathBuf> {
    match settings.remotes.get(settings.default_remote.as_ref()?)? {
        RemoteSettings::Directory(directory) => Some(directory.path.clone()),
        RemoteSettings::Http(_) | RemoteSettings::S3(_) | RemoteSettings::Sftp(_) | RemoteSettings::Webdav(_) => None,
    }
}

/// A connection string for people: without the user, and without the options that hold secrets.
fn without_secrets(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let (hosts, options) = hosts.split_once('?').unwrap_or((hosts, ""));
    let secret = |option: &&str| {
        let option = option.to_ascii_lowercase();
        option.contains("password") || option.contains("authmechanismproperties")
    };
    let options: Vec<_> = options.split('&').filter(|option| !option.is_empty() && !secret(option)).collect();
    let options = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    format!("{scheme}://{hosts}{options}")
}

/// A path that a shell takes as one word.
fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[allow(clippy::print_stdout, reason = "this is the result of the command")]
fn print_ready(ready: &Ready, json: bool) -> Result<()> {
    if json {
        println!("{}", plain_json(&serde_json::to_string(ready)?));
        return Ok(());
    }
    let here = shell_word(ready.endpoints.parent().unwrap_or(Path::new(".")));
    println!("Waybill is up.");
    println!("  gateway   {}", ready.gateway);
    println!("  NATS      {}", ready.nats);
    println!("  MongoDB   {}", ready.mongodb);
    println!("  logins    of NATS and MongoDB: {}", ready.endpoints.display());
    println!("  nats tool XDG_CONFIG_HOME={} nats --context waybill", shell_word(&ready.nats_cli));
    println!("  sources   {}", ready.root.display());
    if let Some(folder) = &ready.remote_dir {
        println!("  remote    {}", folder.display());
    }
    if let Some(key) = &ready.receipt_key {
        println!("  receipts  signed with the key {} (`waybill receipt key --data-dir {here}` prints it)", key.id());
    }
    match (&ready.username, &ready.password) {
        (Some(username), Some(password)) => {
            println!("  user      {username}");
            println!(
                "  password  {password}   (shown once; `waybill user add NAME --data-dir {here}` adds more users)"
            );
        }
        (Some(username), None) => println!("  user      {username}   (its password was shown at the first start)"),
        (None, _) => println!("  users     those that are in the database"),
    }
    println!("Ctrl-C stops it.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_shown_without_its_secrets() {
        for (uri, shown) in [
            ("mongodb://127.0.0.1:1/?directConnection=true", "mongodb://127.0.0.1:1/?directConnection=true"),
            ("mongodb://ada:hush@a:1,b:2/db?replicaSet=rs0", "mongodb://a:1,b:2/db?replicaSet=rs0"),
            ("mongodb+srv://ada:hu@sh?x/y@h", "mongodb+srv://h"),
            ("mongodb://h/?tlsCertificateKeyFilePassword=hush&tls=true", "mongodb://h/?tls=true"),
            ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:hush", "mongodb://h/"),
        ] {
            assert_eq!(without_secrets(uri), shown);
        }
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(shell_word(Path::new("/a/b-c")), "/a/b-c");
        assert_eq!(shell_word(Path::new("/a b/c'd")), r"'/a b/c'\''d'");
    }
}
