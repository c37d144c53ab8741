//! SeaweedFS on loopback, for tests: S3 and WebDAV as somebody else understands them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::handle;
use crate::locate::Server;
use crate::ready::Progress;
use crate::start::{Running, Start};

/// It elects itself, then starts a volume server, a filer and two gateways: 2 s here.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Its data is thrown away: there is no good order to wait for.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// For one short exchange on loopback.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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
    /// Its port is that of S3.
    running: Running,
    options: SeaweedOptions,
    webdav_port: u16,
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

    /// Returns when S3 and WebDAV answer and the bucket is there.
    pub(crate) fn start_blocking(options: SeaweedOptions) -> Result<Self, Error> {
        let start = super::open(Server::Seaweed, &options.data_dir, options.die_with_parent)?;
        let command = |ports: &[u16; 9]| command(&start, &options, ports);
        let (running, ports) = super::launch(&start, START_LIMIT, command, ready)?;
        Ok(Self { running, options, webdav_port: ports[WEBDAV] })
    }

    /// The address of S3, without the bucket.
    pub fn s3_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.running.port)
    }

    /// The address of WebDAV.
    pub fn webdav_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.webdav_port)
    }
}

/// What listens where; the first is the port of the handle.
const PORTS: [&str; 9] = [
    "s3.port",
    "webdav.port",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
];
const S3: usize = 0;
const WEBDAV: usize = 1;
const FILER: usize = 2;

fn command(start: &Start, options: &SeaweedOptions, ports: &[u16; 9]) -> io::Result<Command> {
    let dir = &start.home.dir;
    let (data, identities) = (dir.join("data"), dir.join("s3.json"));
    fs::create_dir_all(&data)?;
    fs::write(&identities, identities_of_s3())?;
    let mut command = Command::new(&start.located.path);
    // Nothing is reported to anybody, and nothing listens but on loopback.
    command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
    command.args(["-s3", "-webdav", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.arg(format!("-master.volumeSizeLimitMB={}", options.volume_mib));
    command.args(["-volume.max=0", "-volume.minFreeSpacePercent=0"]);
    command.args(PORTS.iter().zip(ports).map(|(key, port)| format!("-{key}={port}")));
    command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
    // It keeps a cache for WebDAV where temporary files go.
    command.env("TMPDIR", dir);
    Ok(command)
}

fn ready(ports: &[u16; 9], _pid: u32) -> Progress<()> {
    let bucket = format!("POST /buckets/{}/", Seaweed::BUCKET);
    let asked = [
        // Made now, or by the look before.
        (ports[FILER], &*bucket, ["201", "409"]),
        (ports[S3], "GET /", ["403", "403"]),
        (ports[WEBDAV], "OPTIONS /", ["200", "200"]),
    ];
    for (port, request, statuses) in asked {
        match answered(port, request) {
            Ok(found) if statuses.contains(&&*found) => {}
            Ok(found) => return Progress::NotYet(format!("{request} on port {port}: {found}")),
            Err(error) => return Progress::NotYet(format!("{request} on port {port}: {error}")),
        }
    }
    Progress::Ready(())
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
