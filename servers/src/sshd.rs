//! OpenSSH's sshd with its sftp-server on loopback, for tests: SFTP as somebody else understands it.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::home::{Home, Record, free_port};
use crate::locate::{Located, Server, locate, on_path};
use crate::process::Process;
use crate::ready::Progress;
use crate::{handle, log, on_thread};

/// It reads its settings and listens: a fraction of a second.
const START_LIMIT: Duration = Duration::from_secs(30);
/// It has nothing to finish.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// For the line it greets with.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A port is chosen before it takes it, and others may be faster.
const TRIES: u32 = 5;

/// Where systems keep sftp-server: Debian, Fedora, Arch and Alpine, FreeBSD.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
];

/// Made by sshd's package or its service; sshd of root does not start without it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// How to run sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshdOptions {
    /// Where everything of this server is kept; made if need be.
    pub data_dir: PathBuf,
    /// Kill the server when this process dies, even by SIGKILL.
    pub die_with_parent: bool,
    /// Requests that sftp-server does not know, as its option `-P` names them (`fsync`, `limits`, `posix-rename`, ...).
    pub without: Vec<String>,
    /// Further lines of its settings.
    pub settings: Vec<String>,
}

impl SshdOptions {
    /// As it comes, outliving this process.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), die_with_parent: false, without: Vec::new(), settings: Vec::new() }
    }
}

/// A running sshd in which the user of this process logs in by a key. Dropping it kills the server; sessions that are open end
/// with their connections.
#[derive(Debug)]
pub struct Sshd {
    process: Process,
    options: SshdOptions,
    port: u16,
    adopted: bool,
    user: String,
    host_key: String,
    private_key: PathBuf,
}

handle!(Sshd, SshdOptions, STOP_LIMIT);

impl Sshd {
    /// Where it listens.
    pub const HOST: &str = "127.0.0.1";

    /// Finds sshd, sftp-server and ssh-keygen, makes keys, and starts sshd. Returns when it greets.
    ///
    /// # Errors
    ///
    /// One of them is not to be found: the error names the package. The directory is in use, or the server does not start: the
    /// error has the end of its log.
    pub async fn start(options: SshdOptions) -> Result<Self, Error> {
        on_thread("sshd-start", move || Self::start_blocking(options)).await?
    }

    /// [`start`](Self::start), for where there is no runtime.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_blocking(options: SshdOptions) -> Result<Self, Error> {
        let located = locate(Server::Sshd)?;
        let sftp_server = Self::sftp_server()?;
        let home = Arc::new(Home::open(Server::Sshd, &options.data_dir)?);
        if let Some(old) = home.record()?.and_then(|record| record.process) {
            home.end(&old)?;
        }
        let keys = Keys::make(&home.dir)?;
        separate_privileges()?;
        let mut tries = 1;
        loop {
            match launch(&home, (&located, sftp_server), &keys, &options) {
                Err(Error::Ended { .. }) if tries < TRIES => tries += 1,
                started => return started,
            }
        }
    }

    /// The sftp-server that it runs, also for tests that run it by themselves.
    ///
    /// # Errors
    ///
    /// There is none; the error names the package.
    pub fn sftp_server() -> Result<&'static str, Error> {
        SFTP_SERVERS.into_iter().find(|path| Path::new(path).is_file()).ok_or_else(|| {
            let places = SFTP_SERVERS.join(", ");
            Error::Absent(format!("no sftp-server ({places}): install the package openssh-sftp-server"))
        })
    }

    /// Whether it can be started on this machine.
    ///
    /// # Errors
    ///
    /// It cannot: the error names the package that is missing.
    pub fn is_here() -> Result<(), Error> {
        locate(Server::Sshd)?;
        Self::sftp_server()?;
        tool("ssh-keygen", "openssh-client").map(drop)
    }

    /// Who logs in: the user of this process.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The server's public key, as in a `.pub` file.
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The file with the private key that logs in.
    pub fn private_key(&self) -> &Path {
        &self.private_key
    }
}

/// The keys of the server and of the user, and who that is.
struct Keys {
    host: PathBuf,
    host_public: String,
    user: PathBuf,
    user_name: String,
    authorized: PathBuf,
}

impl Keys {
    /// Makes those that are not there yet.
    fn make(dir: &Path) -> Result<Self, Error> {
        let failed = || Error::io(format!("could not make keys in {}", dir.display()));
        let keygen = tool("ssh-keygen", "openssh-client")?;
        let (host, user, authorized) = (dir.join("host_key"), dir.join("user_key"), dir.join("authorized_keys"));
        for key in [&host, &user] {
            if !key.exists() {
                run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "waybill", "-f"]).arg(key))?;
            }
        }
        let public = |key: &Path| fs::read_to_string(key.with_extension("pub")).map_err(failed());
        fs::write(&authorized, public(&user)?).map_err(failed())?;
        let host_public = public(&host)?.trim().to_owned();
        let user_name = run(Command::new(tool("id", "coreutils")?).arg("-un"))?;
        Ok(Self { host, host_public, user, user_name: user_name.trim().to_owned(), authorized })
    }
}

fn launch(
    home: &Arc<Home>,
    (located, sftp_server): (&Located, &str),
    keys: &Keys,
    options: &SshdOptions,
) -> Result<Sshd, Error> {
    let (settings, log_path) = (home.dir.join("sshd_config"), home.dir.join("sshd.log"));
    let failed = || Error::io(format!("could not make ready {}", home.dir.display()));
    let port = free_port().map_err(failed())?;
    let mut text = settings_of_sshd(port, keys);
    let without = if options.without.is_empty() { String::new() } else { format!(" -P {}", options.without.join(",")) };
    text.push_str(&format!("Subsystem sftp {sftp_server}{without}\n"));
    if newer_than_9_7(&located.version) {
        // Tests log in with wrong keys, and all come from one address.
        text.push_str("PerSourcePenalties no\n");
    }
    text.extend(options.settings.iter().map(|line| format!("{line}\n")));
    fs::write(&settings, text).map_err(failed())?;
    let (log, from) = log::open(&log_path).map_err(failed())?;
    // It starts itself anew for every connection, by this path.
    let mut command = Command::new(&located.path);
    command.args(["-D", "-e", "-f"]).arg(&settings);
    let process = Process::spawn(home, command, log, options.die_with_parent)?;
    home.keep(&Record { process: process.identity(), port: None, settings: String::new() })?;
    process.wait_ready((&log_path, from), START_LIMIT, || match greeting(port) {
        Ok(greeting) if &greeting == b"SSH-2.0-" => Ok(Progress::Ready(())),
        Ok(greeting) => Ok(Progress::NotYet(format!("{:?} on port {port}", String::from_utf8_lossy(&greeting)))),
        Err(error) => Ok(Progress::NotYet(format!("port {port}: {error}"))),
    })?;
    tracing::info!(pid = process.pid(), port, version = located.version, "started sshd");
    Ok(Sshd {
        process,
        options: options.clone(),
        port,
        adopted: false,
        user: keys.user_name.clone(),
        host_key: keys.host_public.clone(),
        private_key: keys.user.clone(),
    })
}

/// Nothing but a login by our key, on loopback.
fn settings_of_sshd(port: u16, keys: &Keys) -> String {
    format!(
        "ListenAddress {}:{port}\nHostKey {:?}\nAuthorizedKeysFile {:?}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         AllowTcpForwarding no\nX11Forwarding no\nPrintMotd no\nMaxStartups 1000\nLogLevel VERBOSE\n",
        Sshd::HOST,
        keys.host,
        keys.authorized,
    )
}

fn newer_than_9_7(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(9), Some(8))
}

/// The first bytes that it sends.
fn greeting(port: u16) -> io::Result<[u8; 8]> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    Ok(greeting)
}

fn tool(name: &str, package: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    on_path(name, &path)
        .next()
        .ok_or_else(|| Error::Absent(format!("no {name} on PATH: install the package {package}")))
}

/// Runs a tool to its end; returns what it wrote.
fn run(command: &mut Command) -> Result<String, Error> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("could not run {line}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command { command: line, status: output.status.to_string(), stderr })
}

/// Root's sshd confines its children to this empty folder; another user's has no need of it.
fn separate_privileges() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    match fs::DirBuilder::new().mode(0o755).create(PRIVILEGE_SEPARATION) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io(format!("could not make {PRIVILEGE_SEPARATION}"))(error))
        }
        _ => Ok(()),
    }
}
