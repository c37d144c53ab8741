//! SeaweedFS on loopback, for tests: S3 and WebDAV as somebody else understands them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::home::{Home, Record, free_port};
use crate::locate::{Located, Server, locate};
use crate::process::Process;
use crate::ready::Progress;
use crate::{handle, log, on_thread};

/// It elects itself, then starts a volume server, a filer and two gateways: 2 s here.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Its data is thrown away: there is no good order to wait for.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// For one short exchange on loopback.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Ports are chosen before it takes them, and others may be faster.
const TRIES: u32 = 5;

/// How to run SeaweedFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeaweedOptions {
    /// Where everything of this server is kept; made if need be.
    pub data_dir: PathBuf,
    /// The size of a volume in MiB. It fills its disk with as many as fit, and a bucket begins with seven.
    pub volume_mib: u32,
    /// Kill the server when this process dies, even by SIGKILL.
    pub die_with_parent: bool,
}

impl SeaweedOptions {
    /// A server that ends with this process.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), volume_mib: 1024, die_with_parent: true }
    }
}

/// A running SeaweedFS with one bucket. Dropping it kills the server.
#[derive(Debug)]
pub struct Seaweed {
    process: Process,
    options: SeaweedOptions,
    /// Of S3.
    port: u16,
    webdav_port: u16,
    adopted: bool,
}

handle!(Seaweed, SeaweedOptions, STOP_LIMIT);

impl Seaweed {
    /// The bucket that is there.
    pub const BUCKET: &str = "waybill";
    /// The id of the access key that may do everything.
    pub const ACCESS_KEY: &str = "waybill-access";
    /// Its secret.
    pub const SECRET_KEY: &str = "waybill-secret/key+";
    /// The id of the access key that may only read.
    pub const READER_ACCESS_KEY: &str = "reader-access";
    /// Its secret.
    pub const READER_SECRET_KEY: &str = "reader-secret/key+";

    /// Finds a SeaweedFS and starts it. Returns when S3 and WebDAV answer and the bucket is there.
    ///
    /// # Errors
    ///
    /// No server is to be found, the directory is in use, or the server does not start: the error has the end of its
    /// log.
    pub async fn start(options: SeaweedOptions) -> Result<Self, Error> {
        on_thread("seaweed-start", move || Self::start_blocking(options)).await?
    }

    /// [`start`](Self::start), for where there is no runtime.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_blocking(options: SeaweedOptions) -> Result<Self, Error> {
        let located = locate(Server::Seaweed)?;
        let home = Arc::new(Home::open(Server::Seaweed, &options.data_dir)?);
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

    /// The address of S3, without the bucket.
    pub fn s3_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The address of WebDAV.
    pub fn webdav_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.webdav_port)
    }
}

fn launch(home: &Arc<Home>, located: &Located, options: &SeaweedOptions) -> Result<Seaweed, Error> {
    let data = home.dir.join("data");
    let identities = home.dir.join("s3.json");
    let log_path = home.dir.join("seaweed.log");
    let failed = || Error::io(format!("could not make ready {}", home.dir.display()));
    fs::create_dir_all(&data).map_err(failed())?;
    fs::write(&identities, identities_of_s3()).map_err(failed())?;
    let (log, from) = log::open(&log_path).map_err(failed())?;
    let ports = (0..9).map(|_| free_port()).collect::<io::Result<Vec<_>>>().map_err(failed())?;

    let mut command = Command::new(&located.path);
    // Nothing is reported to anybody, and nothing listens but on loopback.
    command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
    command.args(["-s3", "-webdav", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.arg(format!("-master.volumeSizeLimitMB={}", options.volume_mib));
    command.args(["-volume.max=0", "-volume.minFreeSpacePercent=0"]);
    let keys = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
        "webdav.port",
    ];
    for (key, port) in keys.iter().zip(&ports) {
        command.arg(format!("-{key}={port}"));
    }
    command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
    // It keeps a cache for WebDAV where temporary files go.
    command.env("TMPDIR", &home.dir);
    let process = Process::spawn(home, command, log, options.die_with_parent)?;
    home.keep(&Record { process: process.identity(), port: None, settings: String::new() })?;
    let (filer, s3, webdav) = (ports[4], ports[6], ports[8]);
    let bucket = format!("POST /buckets/{}/", Seaweed::BUCKET);
    process.wait_ready((&log_path, from), START_LIMIT, || {
        // Made now, or by the look before.
        let asked =
            [(filer, &*bucket, ["201", "409"]), (s3, "GET /", ["403", "403"]), (webdav, "OPTIONS /", ["200", "200"])];
        for (port, request, statuses) in asked {
            match answered(port, request) {
                Ok(found) if statuses.contains(&&*found) => {}
                Ok(found) => return Ok(Progress::NotYet(format!("{request} on port {port}: {found}"))),
                Err(error) => return Ok(Progress::NotYet(format!("{request} on port {port}: {error}"))),
            }
        }
        Ok(Progress::Ready(()))
    })?;
    tracing::info!(pid = process.pid(), port = s3, version = located.version, "started SeaweedFS");
    Ok(Seaweed { process, options: options.clone(), port: s3, webdav_port: webdav, adopted: false })
}

fn identities_of_s3() -> String {
    let identity = |name, access_key, secret_key, actions: &[&str]| {
        let credentials = serde_json::json!([{ "accessKey": access_key, "secretKey": secret_key }]);
        serde_json::json!({ "name": name, "credentials": credentials, "actions": actions })
    };
    let all = ["Admin", "Read", "Write", "List", "Tagging"];
    let writer = identity("waybill", Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY, &all);
    let reader = identity("reader", Seaweed::READER_ACCESS_KEY, Seaweed::READER_SECRET_KEY, &["Read", "List"]);
    serde_json::json!({ "identities": [writer, reader] }).to_string()
}

/// The status of the answer to a request without a body, as text.
fn answered(port: u16, request: &str) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head[9..]).into_owned())
}
