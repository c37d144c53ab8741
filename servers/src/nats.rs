//! nats-server with JetStream on loopback.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::error::Error;
use crate::handle;
use crate::home::is_free;
use crate::locate::Server;
use crate::ready::Progress;
use crate::secret::{PASSWORD, Secret, USER};
use crate::start::{Running, Start};

/// JetStream reads its files before it listens; this allows for many of them on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A server left behind is up already: it answers soon or is stuck.
const ADOPT_LIMIT: Duration = Duration::from_secs(3);
/// nats-server closes its clients and flushes its files; it took 20 ms here.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// For one connection on loopback and the greeting on it.
const GREETING_LIMIT: Duration = Duration::from_secs(1);
/// The greeting is some 500 bytes; a longer line comes from something else.
const GREETING_BYTES: u64 = 64 << 10;

/// Its configuration, with the password: everybody can read a command line.
const CONFIG: &str = "nats.conf";

/// How to run nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsOptions {
    /// The folder with everything of this server; made if need be.
    pub data_dir: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
    /// The largest message in bytes, headers counted. The server warns above 8 MiB and refuses above 64 MiB.
    pub max_payload: u32,
    /// Insist on this port. Without it, the server takes the port of the last start on this data directory if that is
    /// free, or else any.
    pub port: Option<u16>,
    /// Whether clients must log in, with a password that is made at the first start. Without it, the server serves
    /// every process on this machine: enough for tests.
    pub login: bool,
    /// Kill the server when this process dies, even by SIGKILL. For tests.
    pub die_with_parent: bool,
}

impl NatsOptions {
    /// The log in the data directory, any port, no login, and a server that outlives a killed launcher.
    pub fn new(data_dir: impl Into<PathBuf>, max_payload: u32) -> Self {
        let data_dir = data_dir.into();
        let log = data_dir.join("nats-server.log");
        Self { log, data_dir, max_payload, port: None, login: false, die_with_parent: false }
    }
}

/// A running nats-server. Dropping it kills the server.
#[derive(Debug)]
pub struct Nats {
    running: Running,
    options: NatsOptions,
    password: Option<Secret>,
}

handle!(Nats, NatsOptions, STOP_LIMIT);

impl Nats {
    /// Returns when JetStream is ready.
    pub(crate) fn start_blocking(options: NatsOptions) -> Result<Self, Error> {
        let start = Start::open(Server::Nats, &options.data_dir, Some(&options.log), options.die_with_parent)?;
        let record = start.home.record()?;
        let password = options.login.then(|| Secret::kept(&start.home, PASSWORD)).transpose()?;
        let config = |port, password| config(&start.home.dir, &options, port, password);
        let settings = format!("{}\n{}login: {}", start.located.path.display(), config(None, None)?, options.login);
        let ready = |port, _| Ok(greeted(port, password.as_ref()));
        if let Some(running) = start.adopt(record.as_ref(), &settings, options.port, ADOPT_LIMIT, ready)? {
            return Ok(Self { running, options, password });
        }

        let kept = record.and_then(|record| record.port);
        let launch = |port| launch(&start, &config(port, password.as_ref())?, &settings, port, password.as_ref());
        let running = match (options.port, kept) {
            (Some(port), _) if !is_free(port) => Err(Error::PortTaken { server: Server::Nats, port }),
            (Some(port), _) => launch(Some(port)),
            (None, Some(port)) => match launch(Some(port)) {
                // Another process has taken the port meanwhile.
                Err(Error::Ended { .. }) if !is_free(port) => launch(None),
                other => other,
            },
            (None, None) => launch(None),
        };
        Ok(Self { running: running?, options, password })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.running.port)
    }

    /// The user and the password of the clients, if they must log in.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.password.as_ref().map(|password| (USER, password.expose()))
    }
}

fn launch(
    start: &Start,
    config: &str,
    settings: &str,
    port: Option<u16>,
    password: Option<&Secret>,
) -> Result<Running, Error> {
    let failed = |what: &Path| Error::io(format!("could not write {}", what.display()));
    let dir = &start.home.dir;
    // A killed server leaves its file with the ports, which must not be taken for the new one's.
    let ports = ports_dir(dir);
    match fs::remove_dir_all(&ports) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&ports)(error)),
        _ => fs::create_dir(&ports).map_err(failed(&ports))?,
    }
    start.home.write(CONFIG, config.as_bytes())?;

    let mut command = Command::new(&start.located.path);
    command.arg("--config").arg(dir.join(CONFIG));
    start.launch(command, settings, port, START_LIMIT, |_| {
        Ok(match read_port(&ports) {
            Ok(port) => greeted(port, password).map(|()| port),
            Err(why) => Progress::NotYet(why),
        })
    })
}

fn ports_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("ports")
}

/// The configuration file. `-1` lets the server choose a port and write it to the folder of ports.
fn config(
    data_dir: &Path,
    options: &NatsOptions,
    port: Option<u16>,
    password: Option<&Secret>,
) -> Result<String, Error> {
    let quoted = |path: &Path| {
        let unfit = || {
            let what = format!("the path {} is not fit for nats-server", path.display());
            Error::io(what)(io::Error::other("it must be UTF-8 without quotes, backslashes or control characters"))
        };
        let text = path.to_str().ok_or_else(unfit)?;
        if text.chars().any(|c| matches!(c, '"' | '\\') || c.is_control()) {
            return Err(unfit());
        }
        Ok(format!("\"{text}\""))
    };
    let listen = port.map_or("-1".to_owned(), |port| port.to_string());
    // A password is letters and digits: it needs no escapes.
    let login = password.map_or_else(String::new, |password| {
        format!("authorization {{ user: \"{USER}\", password: \"{}\" }}\n", password.expose())
    });
    Ok(format!(
        "# Written at every start; changes are lost.\n\
         server_name: \"waybill\"\n\
         listen: \"127.0.0.1:{listen}\"\n\
         ports_file_dir: {ports}\n\
         max_payload: {max_payload}\n\
         jetstream {{\n\
         \x20 store_dir: {store}\n\
         \x20 # What was acknowledged is on the disk: a power cut loses nothing.\n\
         \x20 sync_interval: always\n\
         }}\n\
         {login}",
        ports = quoted(&ports_dir(data_dir))?,
        max_payload = options.max_payload,
        store = quoted(&data_dir.join("jetstream"))?,
    ))
}

/// The client port from the one file in the folder of ports. While the server starts, that file is missing or half
/// written.
fn read_port(folder: &Path) -> Result<u16, String> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    let missing = "its file with the ports";
    let entries = fs::read_dir(folder).map_err(|error| format!("{missing}: {error}"))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{missing}: {error}"))?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            let bytes = fs::read(&path).map_err(|error| format!("{missing}: {error}"))?;
            let ports: Ports = serde_json::from_slice(&bytes).map_err(|error| format!("{missing}: {error}"))?;
            let port = ports.nats.first().and_then(|url| url.rsplit_once(':')?.1.parse().ok());
            return port.ok_or_else(|| format!("{missing}: no client port in it"));
        }
    }
    Err(format!("{missing}: not written yet"))
}

fn greeted(port: u16, password: Option<&Secret>) -> Progress<()> {
    match greeting(port, password) {
        Ok(info) if info.jetstream => Progress::Ready(()),
        Ok(_) => Progress::NotYet("JetStream".to_owned()),
        Err(error) => Progress::NotYet(format!("its greeting on port {port}: {error}")),
    }
}

#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    jetstream: bool,
}

/// The first line a NATS server says to a client that it lets in.
fn greeting(port: u16, password: Option<&Secret>) -> io::Result<Info> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, GREETING_LIMIT)?;
    stream.set_read_timeout(Some(GREETING_LIMIT))?;
    stream.set_write_timeout(Some(GREETING_LIMIT))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(GREETING_BYTES));
    let mut expect = |start: &str| {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let rest = line.strip_prefix(start).map(ToOwned::to_owned);
        rest.ok_or_else(|| io::Error::other(format!("expected a line {start}.., found {line:?}")))
    };
    let info = expect("INFO ")?;
    if let Some(password) = password {
        let login = json!({ "verbose": false, "user": USER, "pass": password.expose() });
        write!(stream, "CONNECT {login}\r\nPING\r\n")?;
        expect("PONG")?;
    }
    Ok(serde_json::from_str(&info)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_would_end_the_quotes_is_refused() {
        let options = NatsOptions::new("/data", 1 << 20);
        let good = config(Path::new("/data dir/ä"), &options, Some(4222), None).unwrap();
        assert!(good.contains("store_dir: \"/data dir/ä/jetstream\""), "{good}");
        assert!(good.contains("listen: \"127.0.0.1:4222\""), "{good}");
        let error = config(Path::new("/a\"b"), &options, None, None).unwrap_err();
        assert!(error.to_string().contains("not fit"), "{error}");
    }

    #[test]
    fn a_half_written_file_of_ports_is_not_read_as_a_port() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nats-server-2.15.1_71.ports");
        assert!(read_port(folder.path()).is_err());
        fs::write(&file, r#"{"nats":["nats://127.0.0.1:41"#).unwrap();
        assert!(read_port(folder.path()).is_err());
        fs::write(&file, r#"{"nats":["nats://127.0.0.1:4123"],"monitoring":[]}"#).unwrap();
        assert_eq!(read_port(folder.path()), Ok(4123));
    }
}
