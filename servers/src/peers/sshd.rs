//! OpenSSH's sshd with its sftp-server on loopback, for tests: SFTP as somebody else understands it.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Error;
use crate::handle;
use crate::locate::{Server, locate, on_path};
use crate::ready::Progress;
use crate::start::Running;

/// It reads its settings and listens: a fraction of a second.
const START_LIMIT: Duration = Duration::from_secs(30);
/// It has nothing to finish.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// For the line it greets with.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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
    running: Running,
    options: SshdOptions,
    keys: Keys,
}

handle!(Sshd, SshdOptions, STOP_LIMIT);

impl Sshd {
    /// Where it listens.
    pub const HOST: &str = "127.0.0.1";

    /// Makes its keys if need be. Returns when it greets.
    pub(crate) fn start_blocking(options: SshdOptions) -> Result<Self, Error> {
        let sftp_server = Self::sftp_server()?;
        let start = super::open(Server::Sshd, &options.data_dir, options.die_with_parent)?;
        let keys = Keys::make(&start.home.dir)?;
        separate_privileges()?;
        let settings = start.home.dir.join("sshd_config");
        let command = |&[port]: &[u16; 1]| {
            fs::write(&settings, settings_of_sshd(port, sftp_server, &keys, &start.located.version, &options))?;
            // It starts itself anew for every connection, by this path.
            let mut command = Command::new(&start.located.path);
            command.args(["-D", "-e", "-f"]).arg(&settings);
            Ok(command)
        };
        let ready = |&[port]: &[u16; 1], _| match greeting(port) {
            Ok(greeting) if &greeting == b"SSH-2.0-" => Progress::Ready(()),
            Ok(greeting) => Progress::NotYet(format!("{:?} on port {port}", String::from_utf8_lossy(&greeting))),
            Err(error) => Progress::NotYet(format!("port {port}: {error}")),
        };
        let (running, _) = super::launch(&start, START_LIMIT, command, ready)?;
        Ok(Self { running, options, keys })
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
        &self.keys.user_name
    }

    /// The server's public key, as in a `.pub` file.
    pub fn host_key(&self) -> &str {
        &self.keys.host_public
    }

    /// The file with the private key that logs in.
    pub fn private_key(&self) -> &Path {
        &self.keys.user
    }
}

/// The keys of the server and of the user, and who that is.
#[derive(Debug)]
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

/// Nothing but a login by our key, on loopback.
fn settings_of_sshd(port: u16, sftp_server: &str, keys: &Keys, version: &str, options: &SshdOptions) -> String {
    let mut text = format!(
        "ListenAddress {}:{port}\nHostKey {:?}\nAuthorizedKeysFile {:?}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         AllowTcpForwarding no\nX11Forwarding no\nPrintMotd no\nMaxStartups 1000\nLogLevel VERBOSE\n",
        Sshd::HOST,
        keys.host,
        keys.authorized,
    );
    let without = if options.without.is_empty() { String::new() } else { format!(" -P {}", options.without.join(",")) };
    text.push_str(&format!("Subsystem sftp {sftp_server}{without}\n"));
    if newer_than_9_7(version) {
        // Tests log in with wrong keys, and all come from one address.
        text.push_str("PerSourcePenalties no\n");
    }
    text.extend(options.settings.iter().map(|line| format!("{line}\n")));
    text
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
