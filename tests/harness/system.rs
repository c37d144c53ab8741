//! A whole system: settings, folders, the four services as processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use contract::{Names, Role};
use settings::Settings;
use tempfile::TempDir;
use testing::{Cleanup, Stored, names};

use crate::binaries::{Process, binary};
use crate::source::{Content, write_source};
use crate::{Api, Proxy, until};

/// The user of every system.
const USER: (&str, &str) = ("ada", "a long enough password");

/// How a system differs from a plain one.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many of each worker.
    pub workers: [(Role, u8); 3],
    /// More settings, as TOML. Sections that the harness writes itself (`[nats]`, `[mongodb]`, `[files]`, `[auth]`, `[gateway]`,
    /// `[work]`, `[retry]`) take their further keys from the fields below.
    pub toml: String,
    /// Further keys of `[files]`.
    pub files: String,
    /// Further keys of `[work]`.
    pub work: String,
    /// Attempts at a phase before a file is given up.
    pub attempts: u32,
    /// The URL of NATS, if it is not the one of all tests.
    pub nats_url: Option<String>,
    /// The URI of MongoDB, if it is not the one of all tests.
    pub mongodb_uri: Option<String>,
    /// Variables for the services' environment.
    pub environment: Vec<Variable>,
}

/// A variable for the environment of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// For which processes: the beginning of their names. `chunker` means all chunkers, an empty text all services.
    pub process: String,
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Variable {
    /// A variable for all processes whose names begin with `process`.
    pub fn new(process: &str, name: &str, value: impl Into<String>) -> Self {
        Self { process: process.to_owned(), name: name.to_owned(), value: value.into() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: [(Role::Chunker, 1), (Role::Store, 1), (Role::Finaliser, 1)],
            toml: String::new(),
            files: String::new(),
            work: String::new(),
            attempts: 4,
            nats_url: None,
            mongodb_uri: None,
            environment: Vec::new(),
        }
    }
}

impl Options {
    /// A plain system with a second remote, `sink`, at `url`.
    pub fn with_sink(url: &str) -> Self {
        Self { toml: format!("[remotes.sink]\nkind = \"http\"\nurl = {url:?}\n"), ..Self::default() }
    }

    /// With further settings, as TOML. Keys before the first section belong to the last one, after `with_sink` to the sink.
    pub fn toml(self, more: &str) -> Self {
        Self { toml: self.toml + more, ..self }
    }

    /// With these numbers of workers.
    pub fn workers(self, chunkers: u8, stores: u8, finalisers: u8) -> Self {
        Self { workers: [(Role::Chunker, chunkers), (Role::Store, stores), (Role::Finaliser, finalisers)], ..self }
    }
}

/// A running system. It ends, and its database goes, when it is dropped.
#[derive(Debug)]
pub struct System {
    /// Calls the gateway with a token.
    pub api: Api,
    /// The names on NATS.
    pub names: Names,
    /// The settings file.
    pub config: PathBuf,
    /// The services by name: `gateway`, `chunker-0`, ...
    pub processes: Vec<(String, Process)>,
    /// Variables for the environment of services that are started from now on.
    pub environment: Vec<Variable>,
    nats_url: String,
    mongodb_uri: String,
    database: String,
    folder: TempDir,
    _cleanup: Cleanup,
}

impl System {
    /// Starts a system with a `directory` remote `folder`, the default, and waits until all of it is ready.
    pub async fn start(options: Options) -> Self {
        let mut system = Self::prepare(&options).await;
        system.start_services(&options).await;
        system
    }

    /// Starts a system. Processes whose names begin with `process` reach NATS through the proxy that is returned.
    pub async fn start_with_line(options: Options, process: &str, pace: Option<u64>) -> (Self, Proxy) {
        let mut system = Self::prepare(&options).await;
        let line = Proxy::start(system.nats_url.trim_start_matches("nats://").parse().unwrap());
        line.pace(pace);
        let url = format!("nats://{}", line.address());
        system.environment.push(Variable::new(process, "WAYBILL__NATS__URL", url));
        system.start_services(&options).await;
        (system, line)
    }

    /// Starts the services of a system that was [prepared](Self::prepare), and waits until all of them are ready.
    pub async fn start_services(&mut self, options: &Options) {
        let system = self;
        system.start_service(Role::Gateway, 0);
        for (role, count) in options.workers {
            (0..count).for_each(|number| system.start_service(role, number));
        }
        system.log_in().await;
        until("the gateway is ready", async || (system.api.get("/readyz").await.status == 200).then_some(())).await;
        let workers: u8 = options.workers.iter().map(|(_, count)| count).sum();
        system.until_registered(usize::from(workers) + 1).await;
    }

    /// Waits until the gateway listens, and gets a token there.
    pub async fn log_in(&mut self) {
        let gateway = Api::new(&self.gateway_address().await);
        self.api = gateway.logged_in(USER.0, USER.1).await;
    }

    /// Makes folders, settings and a user, and starts nothing.
    pub async fn prepare(options: &Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}", std::process::id());
        let folder = tempfile::Builder::new().prefix("waybill-test-").tempdir().unwrap();
        for part in ["source", "remote", "logs"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let (nats_url, mongodb_uri) = match (&options.nats_url, &options.mongodb_uri) {
            (Some(nats), Some(mongodb)) => (nats.clone(), mongodb.clone()),
            (nats, mongodb) => {
                let shared = servers::shared().await.unwrap_or_else(|e| panic!("{e}"));
                let nats = nats.clone().unwrap_or_else(|| shared.nats_url().to_owned());
                (nats, mongodb.clone().unwrap_or_else(|| shared.mongodb_uri().to_owned()))
            }
        };
        let system = Self {
            api: Api::new(""),
            names: Names::new(&name).unwrap(),
            config: folder.path().join("waybill.toml"),
            processes: Vec::new(),
            environment: options.environment.clone(),
            _cleanup: Cleanup::of_database(&mongodb_uri, &format!("waybill-{name}")),
            nats_url,
            mongodb_uri,
            database: format!("waybill-{name}"),
            folder,
        };
        system.write_settings(&name, options);
        let settings = Settings::load_with(Some(&system.config), Some([].into())).unwrap();
        let ledger = ledger::LedgerOptions::from_settings(&settings, "harness").unwrap();
        let ledger = ledger::Ledger::connect(&ledger).await.unwrap();
        ledger.add_user(&ledger::NewUser { username: USER.0, password: USER.1 }).await.unwrap();
        system
    }

    fn write_settings(&self, prefix: &str, options: &Options) {
        let Options { files, work, attempts, toml, .. } = options;
        let (source, remote) = (self.source(), self.remote());
        // If a retry is due before its hint is acknowledged, its next hint is refused, and it waits for two leases.
        let text = format!(
            "default_remote = {default:?}\n\
             [nats]\nurl = {nats:?}\nprefix = {prefix:?}\n\
             [mongodb]\nuri = {mongodb:?}\ndatabase = {database:?}\n\
             [files]\nroots = [{source:?}]\n{files}\n\
             [work]\nsweep_ms = 500\n{work}\n\
             [retry]\nfirst_ms = 200\nmax_ms = 500\nattempts = {attempts}\n\
             [auth]\njwt_secret = \"0123456789abcdef0123456789abcdef\"\n\
             [gateway]\nlisten = \"127.0.0.1:0\"\n\
             [remotes.folder]\nkind = \"directory\"\npath = {remote:?}\n\
             {toml}\n",
            default = "folder",
            nats = self.nats_url,
            mongodb = self.mongodb_uri,
            database = self.database,
        );
        std::fs::write(&self.config, text).unwrap();
    }

    /// Starts one more of a service.
    pub fn start_service(&mut self, role: Role, number: u8) {
        let mut command = Command::new(binary(role.as_str()));
        command.arg("--config").arg(&self.config).stdout(std::process::Stdio::null());
        let name = process_name(role, number);
        for variable in self.environment.iter().filter(|variable| name.starts_with(&variable.process)) {
            command.env(&variable.name, &variable.value);
        }
        let process = Process::start(&name, command, &self.folder.path().join("logs"));
        // It replaces a process of that name that has ended.
        self.processes.retain(|(known, _)| *known != name);
        self.processes.push((name, process));
    }

    /// The process of that name.
    #[track_caller]
    pub fn process(&mut self, name: &str) -> &mut Process {
        let found = self.processes.iter_mut().find(|(known, _)| known == name);
        found.map(|(_, process)| process).unwrap_or_else(|| panic!("no process {name}"))
    }

    /// Keeps the folder with logs and sources when the system ends, for whoever looks into a failure.
    pub fn keep_folder(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// The gateway's address, from its log.
    async fn gateway_address(&mut self) -> String {
        until("the gateway says where it listens", async || {
            let gateway = self.process("gateway");
            assert!(gateway.is_running(), "the gateway ended: {}", gateway.log());
            let log = gateway.log();
            let address = log.split("address=").nth(1)?.split_whitespace().next()?.to_owned();
            let address: SocketAddr = strip_colours(&address).parse().ok()?;
            Some(format!("http://{address}"))
        })
        .await
    }

    /// Waits until so many services answer in the NATS services API.
    pub async fn until_registered(&self, count: usize) {
        let nats = self.nats().await;
        until(&format!("{count} services are registered"), async || {
            let mine: Vec<_> = self.ping(&nats).await;
            (mine.len() >= count).then_some(())
        })
        .await;
    }

    /// The services of this system that answer `$SRV.PING`, by name.
    pub async fn ping(&self, nats: &async_nats::Client) -> Vec<String> {
        let answers = gather(nats, "$SRV.PING").await;
        let mine = self.names.service(Role::Store).replace("-store", "-");
        let name = |answer: &serde_json::Value| answer["name"].as_str().map(str::to_owned);
        answers.iter().filter_map(name).filter(|name| name.starts_with(&mine)).collect()
    }

    /// A connection to NATS for the test itself.
    pub async fn nats(&self) -> async_nats::Client {
        async_nats::connect(&self.nats_url).await.unwrap()
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Where MongoDB is.
    pub fn mongodb_uri(&self) -> &str {
        &self.mongodb_uri
    }

    /// The name of the database.
    pub fn database_name(&self) -> &str {
        &self.database
    }

    /// The database.
    pub async fn database(&self) -> mongodb::Database {
        mongodb::Client::with_uri_str(&self.mongodb_uri).await.unwrap().database(&self.database)
    }

    /// The content of the database.
    pub async fn stored(&self) -> Stored {
        Stored { db: self.database().await }
    }

    /// The allowed root.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// The folder of the remote `folder`.
    pub fn remote(&self) -> PathBuf {
        self.folder.path().join("remote")
    }

    /// The folder of the system, for further files of a test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a source file.
    pub fn write(&self, name: &str, size: u64) -> Content {
        write_source(&self.source().join(name), size, size + name.len() as u64)
    }

    /// Writes a source file and has it stored. Returns its id.
    pub async fn store(&self, name: &str, size: u64) -> (String, Content) {
        let content = self.write(name, size);
        let file = self.api.prepare(name).await.expect(201).file_id();
        self.api.until_state(&file, "stored").await;
        (file, content)
    }

    /// Writes a source file and asks for its delivery to `remote`. Returns its id.
    pub async fn send(&self, name: &str, size: u64, remote: &str) -> (String, Content) {
        let content = self.write(name, size);
        let file = self.api.prepare(name).await.expect(201).file_id();
        let body = serde_json::json!({ "remote": remote });
        self.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
        (file, content)
    }

    /// Panics unless the file `name` in the remote's folder equals the source file `source`, byte by byte.
    #[track_caller]
    pub fn assert_arrived(&self, source: &str, name: &str) {
        let sent = std::fs::read(self.source().join(source)).unwrap();
        let arrived =
            std::fs::read(self.remote().join(name)).unwrap_or_else(|e| panic!("{name:?} did not arrive: {e}"));
        assert!(sent == arrived, "{name:?} differs: {} bytes sent, {} arrived", sent.len(), arrived.len());
    }

    /// The names that are visible in the remote's folder, sorted.
    pub fn arrived(&self) -> Vec<String> {
        names(&self.remote()).into_iter().filter(|name| name != ".waybill").collect()
    }

    /// How many files are recorded.
    pub async fn recorded(&self) -> u64 {
        self.stored().await.count("files").await
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Before the database.
        self.processes.clear();
    }
}

/// The name of a service's process: `gateway`, `chunker-0`, ...
pub(crate) fn process_name(role: Role, number: u8) -> String {
    if role == Role::Gateway { role.to_string() } else { format!("{role}-{number}") }
}

/// Asks everybody, and gathers the answers until none comes for 300 ms.
pub async fn gather(nats: &async_nats::Client, subject: &str) -> Vec<serde_json::Value> {
    use futures_util::StreamExt;
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await.unwrap();
    nats.publish_with_reply(subject.to_owned(), inbox, bytes::Bytes::new()).await.unwrap();
    let mut all = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(std::time::Duration::from_millis(300), answers.next()).await {
        all.extend(serde_json::from_slice(&answer.payload).ok());
    }
    all
}

fn strip_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
    plain
}
