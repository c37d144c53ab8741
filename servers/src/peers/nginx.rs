//! nginx on loopback, for tests: HTTP and WebDAV as somebody else understands them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Error;
use crate::handle;
use crate::locate::{Located, Server, locate};
use crate::ready::Progress;
use crate::start::Running;

/// It is there in milliseconds; before that, for a port that is taken, it tries for 2.5 s.
const START_LIMIT: Duration = Duration::from_secs(30);
/// By SIGTERM it hangs up at once.
const STOP_LIMIT: Duration = Duration::from_secs(10);
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
    running: Running,
    options: NginxOptions,
}

handle!(Nginx, NginxOptions, STOP_LIMIT);

impl Nginx {
    /// Returns when it listens.
    fn start_blocking(options: NginxOptions) -> Result<Self, Error> {
        let start = super::open(Server::Nginx, &options.data_dir, options.die_with_parent)?;
        let modules = modules(&start.located)?;
        let pid_path = start.home.dir.join("nginx.pid");
        let command = |&[port]: &[u16; 1]| {
            write_files(&start.home.dir, &modules, port, &options)?;
            match fs::remove_file(&pid_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut command = Command::new(&start.located.path);
            command.arg("-p").arg(&start.home.dir).args(["-c", "nginx.conf", "-e", "stderr"]);
            Ok(command)
        };
        let ready = |_: &[u16; 1], pid: u32| {
            // Written once it listens; a port that another took first shows as its end.
            match fs::read_to_string(&pid_path).unwrap_or_default().trim() == pid.to_string() {
                true => Progress::Ready(()),
                false => Progress::NotYet("it has not written its process id".to_owned()),
            }
        };
        let (running, _) = super::launch(&start, START_LIMIT, command, ready)?;
        Ok(Self { running, options })
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
        format!("{scheme}://127.0.0.1:{}/", self.running.port)
    }
}

/// Writes its settings, and what they name.
fn write_files(dir: &Path, modules: &Path, port: u16, options: &NginxOptions) -> io::Result<()> {
    fs::write(dir.join("nginx.conf"), configuration(dir, modules, port, options))?;
    if let Some((user, password)) = &options.user {
        fs::write(dir.join("users"), format!("{user}:{{PLAIN}}{password}\n"))?;
    }
    if let Some(tls) = &options.tls {
        fs::write(dir.join("certificate.pem"), &tls.certificate)?;
        fs::write(dir.join("key.pem"), &tls.key)?;
    }
    Ok(())
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
