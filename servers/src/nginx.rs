//! nginx on loopback, for tests: HTTP and WebDAV as somebody else understands them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::home::{Home, Record, free_port};
use crate::locate::{Located, Server, locate};
use crate::process::Process;
use crate::ready::Progress;
use crate::{handle, log, on_thread};

/// It is there in milliseconds; before that, for a port that is taken, it tries for 2.5 s.
const START_LIMIT: Duration = Duration::from_secs(30);
/// By SIGTERM it hangs up at once.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The port is chosen before it takes it, and others may be faster.
const TRIES: u32 = 5;

/// What its own DAV module cannot.
const PROPFIND_MODULE: &str = "ngx_http_dav_ext_module.so";

/// How to run nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxOptions {
    /// Where everything of this server is kept; made if need be.
    pub data_dir: PathBuf,
    /// The folder that it serves. It must exist; on another file system than `data_dir`, what comes is copied there.
    pub root: PathBuf,
    /// Who may come in, with which password; else everybody.
    pub user: Option<(String, String)>,
    /// Whether it tells what is in a folder (PROPFIND, which its own DAV module cannot).
    pub propfind: bool,
    /// Whether it refuses everything that would change something (403).
    pub read_only: bool,
    /// The certificate with which it speaks TLS; else it does not.
    pub tls: Option<NginxTls>,
    /// Whether it speaks HTTP/2: with TLS besides HTTP/1.1, without it nothing else.
    pub http2: bool,
    /// Further directives for what it serves, like `return 307 /elsewhere$request_uri;`.
    pub directives: String,
    /// Kill the server when this process dies, even by SIGKILL.
    pub die_with_parent: bool,
}

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct NginxTls {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for NginxTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(certificate and key)")
    }
}

impl NginxOptions {
    /// A server that serves `root` to everybody by WebDAV, PROPFIND included, and ends with this process.
    pub fn new(data_dir: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            root: root.into(),
            user: None,
            propfind: true,
            read_only: false,
            tls: None,
            http2: false,
            directives: String::new(),
            die_with_parent: true,
        }
    }
}

/// A running nginx. Dropping it kills the server.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    options: NginxOptions,
    port: u16,
    adopted: bool,
}

handle!(Nginx, NginxOptions, STOP_LIMIT);

impl Nginx {
    /// Finds an nginx and starts it. Returns when it listens.
    ///
    /// # Errors
    ///
    /// No server is to be found, the directory is in use, or the server does not start: the error has the end of its
    /// log.
    pub async fn start(options: NginxOptions) -> Result<Self, Error> {
        on_thread("nginx-start", move || Self::start_blocking(options)).await?
    }

    /// [`start`](Self::start), for where there is no runtime.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_blocking(options: NginxOptions) -> Result<Self, Error> {
        let located = locate(Server::Nginx)?;
        let home = Arc::new(Home::open(Server::Nginx, &options.data_dir)?);
        if let Some(old) = home.record()?.and_then(|record| record.process) {
            home.end(&old)?;
        }
        let mut tries = 1;
        loop {
            match launch(&home, &located, &options) {
                Err(Error::Ended { .. }) if tries < TRIES => tries += 1,
                started => return started,
            }
        }
    }

    /// Whether it can be started on this machine, with its module for PROPFIND.
    ///
    /// # Errors
    ///
    /// It cannot: the error names the package that is missing.
    pub fn is_here() -> Result<(), Error> {
        let modules = modules(&locate(Server::Nginx)?)?;
        if modules.join(PROPFIND_MODULE).exists() {
            return Ok(());
        }
        let (module, at) = (PROPFIND_MODULE, modules.display());
        Err(Error::Absent(format!("no {module} in {at}: install Debian's package libnginx-mod-http-dav-ext")))
    }

    /// The address of what it serves.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }
}

fn launch(home: &Arc<Home>, located: &Located, options: &NginxOptions) -> Result<Nginx, Error> {
    let failed = || Error::io(format!("could not make ready {}", home.dir.display()));
    let port = free_port().map_err(failed())?;
    let write = |name: &str, text: &str| fs::write(home.dir.join(name), text).map_err(failed());
    write("nginx.conf", &configuration(&home.dir, &modules(located)?, port, options))?;
    if let Some((user, password)) = &options.user {
        write("users", &format!("{user}:{{PLAIN}}{password}\n"))?;
    }
    if let Some(tls) = &options.tls {
        write("certificate.pem", &tls.certificate)?;
        write("key.pem", &tls.key)?;
    }
    let (log_path, pid_path) = (home.dir.join("nginx.log"), home.dir.join("nginx.pid"));
    let (log, from) = log::open(&log_path).map_err(failed())?;
    match fs::remove_file(&pid_path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed()(error)),
        _ => {}
    }

    let mut command = Command::new(&located.path);
    command.arg("-p").arg(&home.dir).args(["-c", "nginx.conf", "-e", "stderr"]);
    let process = Process::spawn(home, command, log, options.die_with_parent)?;
    home.keep(&Record { process: process.identity(), port: None, settings: String::new() })?;
    process.wait_ready((&log_path, from), START_LIMIT, || {
        // Written once it listens; a port that another took first shows as its end.
        let written = fs::read_to_string(&pid_path).unwrap_or_default();
        Ok(match written.trim() == process.pid().to_string() {
            true => Progress::Ready(()),
            false => Progress::NotYet("it has not written its process id".to_owned()),
        })
    })?;
    tracing::info!(pid = process.pid(), port, version = located.version, "started nginx");
    Ok(Nginx { process, options: options.clone(), port, adopted: false })
}

/// The folder of its modules, as it was built.
fn modules(located: &Located) -> Result<PathBuf, Error> {
    let failed = Error::io(format!("could not run {} -V", located.path.display()));
    let output = Command::new(&located.path).arg("-V").stdin(Stdio::null()).output().map_err(failed)?;
    let told = String::from_utf8_lossy(&output.stderr);
    let folder = told.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
    Ok(folder.unwrap_or("modules").into())
}

/// One process in the foreground, for whoever runs it: nothing to switch users for, no children to end.
fn configuration(home: &Path, modules: &Path, port: u16, options: &NginxOptions) -> String {
    let mut text = String::from("daemon off;\nmaster_process off;\npid nginx.pid;\n");
    let mut line = |line: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{line}");
    };
    if options.propfind {
        line(&format!("load_module \"{}\";", modules.join(PROPFIND_MODULE).display()));
    }
    line("events {}\nhttp {\naccess_log off;");
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        line(&format!("{kind}_temp_path \"{}\";", home.join(kind).display()));
    }
    let tls = if options.tls.is_some() { " ssl" } else { "" };
    let http2 = if options.http2 { " http2" } else { "" };
    line(&format!("server {{\nlisten 127.0.0.1:{port}{tls}{http2};"));
    if options.tls.is_some() {
        line("ssl_certificate certificate.pem;\nssl_certificate_key key.pem;");
    }
    line("client_max_body_size 0;\nlocation / {");
    line(&format!("root \"{}\";", options.root.display()));
    line("dav_methods PUT DELETE MKCOL COPY MOVE;\ncreate_full_put_path off;");
    if options.propfind {
        line("dav_ext_methods PROPFIND OPTIONS;");
    }
    if options.user.is_some() {
        line("auth_basic waybill;\nauth_basic_user_file users;");
    }
    if options.read_only {
        line("limit_except GET PROPFIND { deny all; }");
    }
    line(&options.directives);
    line("}\n}\n}");
    text
}
