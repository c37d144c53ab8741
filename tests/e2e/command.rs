//! The command `waybill`: everything on one machine, its users, the demonstration.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use harness::{Api, Content, DEADLINE, Process, Said, binary, gather, until, write_source};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A data directory. When it is dropped, servers that a killed `waybill up` left there are ended.
pub(crate) struct DataDir(tempfile::TempDir);

impl DataDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("waybill-test-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// The servers that run there now.
    fn servers(&self) -> Vec<i32> {
        let noted = ["nats", "mongod"].map(|name| std::fs::read(self.path().join(name).join("server.json")));
        let noted = noted.into_iter().flatten().filter_map(|json| serde_json::from_slice::<Value>(&json).ok());
        let pids = noted.filter_map(|server| i32::try_from(server["process"]["pid"].as_i64()?).ok());
        // Another process may have the pid by now.
        let ours = |pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // It may be a link, and the servers have the folder's own name.
            let here = self.path().canonicalize().unwrap_or_else(|_| self.path());
            String::from_utf8_lossy(&command).contains(&*here.to_string_lossy())
        };
        pids.filter(ours).collect()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for pid in self.servers() {
            let _gone_meanwhile = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

/// A running `waybill up --json`.
pub(crate) struct Up {
    pub(crate) process: Process,
    /// The line that says it is ready.
    pub(crate) ready: Value,
    /// What it prints after that line.
    rest: mpsc::Receiver<String>,
}

impl Up {
    pub(crate) fn start(data: &DataDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("waybill"));
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path()).args(arguments);
        // A killed process holds a file no longer than this.
        command.env("WAYBILL__WORK__LEASE_MS", "2000").stdout(Stdio::piped());
        let mut process = Process::start("up", command, data.0.path());
        let mut stdout = BufReader::new(process.stdout());
        let (lines, rest) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut line, mut more) = (String::new(), String::new());
            stdout.read_line(&mut line).unwrap();
            drop(lines.send(line));
            stdout.read_to_string(&mut more).unwrap();
            drop(lines.send(more));
        });
        let line = rest.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("not ready: {}", process.log()));
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}; {}", process.log()));
        Self { process, ready, rest }
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{key} in {}", self.ready))
    }

    fn api(&self) -> Api {
        Api::new(self.text("gateway"))
    }

    pub(crate) async fn log_in(&self, username: &str, password: &str) -> Api {
        self.api().logged_in(username, password).await
    }

    fn write(&self, name: &str, size: u64) -> Content {
        write_source(&Path::new(self.text("root")).join(name), size, size)
    }

    fn assert_arrived(&self, name: &str) {
        let read = |folder: &str| std::fs::read(Path::new(self.text(folder)).join(name)).unwrap();
        assert!(read("root") == read("remote_dir"), "{name} differs");
    }

    /// Sends SIGTERM: it ends well, its servers too, and it has printed nothing more. Returns its log.
    pub(crate) fn stop(mut self, data: &DataDir) -> String {
        assert_eq!(data.servers().len(), 2);
        assert_eq!(self.process.stop().code(), Some(0), "{}", self.process.log());
        assert_eq!(data.servers(), [0; 0], "its servers are gone");
        assert_eq!(self.rest.recv_timeout(DEADLINE).unwrap(), "", "nothing but the line goes to standard output");
        self.process.log()
    }
}

async fn send(up: &Up, api: &Api, name: &str, size: u64) -> String {
    let content = up.write(name, size);
    let file = api.prepare(name).await.expect(201).file_id();
    api.finalise(&file, &content.sha256.to_string(), &json!({})).await.expect(202);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn up_runs_everything_and_resumes_where_it_stopped() {
    let data = DataDir::new();
    let up = Up::start(&data, &["--scale", "chunker=2,store=2"]);
    let keys: Vec<_> = up.ready.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 8, "{keys:?}");
    assert!(up.text("gateway").starts_with("http://127.0.0.1:"));
    assert!(up.text("nats").starts_with("nats://127.0.0.1:"));
    assert!(up.text("mongodb").starts_with("mongodb://127.0.0.1:"));
    let here = data.path().canonicalize().unwrap();
    assert_eq!(Path::new(up.text("root")), here.join("source"));
    assert_eq!(Path::new(up.text("remote_dir")), here.join("remote"));
    for folder in ["root", "remote_dir"] {
        assert_eq!(std::fs::read_dir(up.text(folder)).unwrap().count(), 0, "{folder} is empty");
    }
    let endpoints: Value = serde_json::from_slice(&std::fs::read(up.text("endpoints")).unwrap()).unwrap();
    let login = |key: &str| endpoints[key].as_str().unwrap().to_owned();
    let nats = async_nats::ConnectOptions::with_user_and_password(login("nats_username"), login("nats_password"));
    let nats = nats.connect(up.text("nats")).await.unwrap();
    let mut running = BTreeMap::new();
    for service in gather(&nats, "$SRV.PING").await {
        *running.entry(service["name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let expected = [("waybill-chunker", 2), ("waybill-finaliser", 1), ("waybill-gateway", 1), ("waybill-store", 2)];
    assert_eq!(running, expected.map(|(name, count)| (name.to_owned(), count)).into());

    let (username, password) = (up.text("username").to_owned(), up.text("password").to_owned());
    assert!(password.len() >= 16);
    let api = up.log_in(&username, &password).await;
    let first = send(&up, &api, "first", 3_000_000).await;
    api.until_state(&first, "delivered").await;
    up.assert_arrived("first");
    assert!(!up.process.log().contains(&password), "the password is nowhere but in the line");
    let key = waybill(&["receipt", "key"], Some(&data), "").stdout;
    assert!(key.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{key}");
    let log = up.stop(&data);
    assert!(log.contains("connected to NATS"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("async_nats"), "nothing goes wrong at a start or a stop: {log}");

    // Once more; now it is killed while another file is in work.
    let mut up = Up::start(&data, &[]);
    assert_eq!((up.text("username"), &up.ready["password"]), (&*username, &Value::Null));
    let api = up.log_in(&username, &password).await;
    let listed = api.get("/files").await.expect(200).body;
    assert_eq!(listed["files"].as_array().unwrap().len(), 1);
    assert_eq!((&listed["files"][0]["file_id"], &listed["files"][0]["state"]), (&json!(first), &json!("delivered")));
    let second = send(&up, &api, "second", 64 * 1024 * 1024).await;
    up.process.kill();
    let left = data.servers();
    assert_eq!(left.len(), 2, "its servers outlive a kill");

    let up = Up::start(&data, &[]);
    assert_eq!(data.servers(), left, "and the next start adopts them");
    let api = up.log_in(&username, &password).await;
    let file = api.until_state(&second, "delivered").await;
    assert_eq!(file["receipt"]["guarantee"], "exactly-once");
    up.assert_arrived("second");
    // All receipts of the directory have one key.
    let pem = data.0.path().join("key.pem");
    std::fs::write(&pem, key).unwrap();
    for (name, file) in [("first", &first), ("second", &second)] {
        let (shown, source) = (api.file(file).await.to_string(), Path::new(up.text("root")).join(name));
        let verify = ["receipt", "verify", "-", "--key", pem.to_str().unwrap(), "--data", source.to_str().unwrap()];
        let verified = waybill(&verify, None, &shown);
        assert_eq!(verified.status, 0, "{verified:?}");
    }
    up.stop(&data);
}

/// Runs `waybill` to its end, or to the deadline.
pub(crate) fn waybill(arguments: &[&str], data: Option<&DataDir>, input: &str) -> Said {
    let mut command = Command::new(binary("waybill"));
    command.args(arguments);
    if let Some(data) = data {
        command.arg("--data-dir").arg(data.path());
    }
    Said::by(command, input)
}

#[track_caller]
fn refused(said: &Said, says: &str) {
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains(says) && said.stdout.is_empty(), "expected {says:?} in {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_and_imported() {
    let data = DataDir::new();
    refused(&waybill(&["user", "add", "ada"], Some(&data), "long enough\n"), "waybill up");
    let up = Up::start(&data, &[]);
    let may = async |username: &str, password: &str| up.api().log_in(username, password).await.status == 200;

    let added = waybill(&["user", "add", "ada"], Some(&data), "a long enough password\n");
    assert_eq!(added.status, 0, "{added:?}");
    assert!(may("ada", "a long enough password").await);
    let api = up.log_in("ada", "a long enough password").await;
    assert_eq!(api.get("/files").await.expect(200).body["files"], json!([]));
    refused(&waybill(&["user", "add", "ada"], Some(&data), "another password\n"), "already");
    assert!(may("ada", "a long enough password").await && !may("ada", "another password").await);
    refused(&waybill(&["user", "add", "bob"], Some(&data), "short\n"), "8 to 256");
    refused(&waybill(&["user", "add", "bob"], Some(&data), ""), "8 to 256");
    refused(&waybill(&["user", "add", "b\nb"], Some(&data), "long enough\n"), "name");
    assert!(!may("bob", "short").await);

    // Anything but a dump changes nothing, however late the import notices.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/users.bson");
    let dump = std::fs::read(&fixture).unwrap();
    let import = |bytes: &[u8]| {
        let file = data.0.path().join("given.bson");
        std::fs::write(&file, bytes).unwrap();
        waybill(&["user", "import", file.to_str().unwrap()], Some(&data), "")
    };
    refused(&import(b"certainly not BSON"), "mongodump");
    refused(&import(&[&dump[..], b"more"].concat()), "mongodump");
    refused(&import(&dump[..dump.len() - 1]), "mongodump");
    refused(&import(b""), "no user");
    let (from, to) = (b"$2b$06$", b"$9b$06$");
    let at = dump.windows(from.len()).position(|window| window == from).unwrap();
    let unknown_hash = [&dump[..at], to, &dump[at + to.len()..]].concat();
    refused(&waybill(&["user", "import", "/nowhere.bson"], Some(&data), ""), "/nowhere.bson");
    assert!(!may("grace", "amazing grace").await);

    // One user who could not log in stops no other.
    let imported = import(&unknown_hash);
    refused(&imported, "document 3");
    assert!(imported.stderr.contains("added: 3, replaced: 0"), "{imported:?}");
    assert!(may("grace", "amazing grace").await && !may("jürgen", "größe und weite").await);

    let imported = waybill(&["user", "import", fixture.to_str().unwrap()], Some(&data), "");
    assert_eq!(imported.status, 0, "{imported:?}");
    assert!(imported.stderr.contains("added: 1, replaced: 3"), "{imported:?}");
    for (username, password) in
        [("grace", "amazing grace"), ("jürgen", "größe und weite"), ("margaret", "to the moon and back")]
    {
        assert!(may(username, password).await, "{username} may come in");
        assert!(!may(username, "something else").await);
    }
    let disabled = up.api().log_in("mallory", "let me in please").await.expect(401);
    assert_eq!(disabled.problem(), "wrong-credentials");
    let api = up.log_in("grace", "amazing grace").await;
    let file = send(&up, &api, "file", 10).await;
    api.until_state(&file, "delivered").await;
    // A second import: the same users, none twice; the others stay.
    let again = waybill(&["user", "import", fixture.to_str().unwrap()], Some(&data), "");
    assert!(again.stderr.contains("added: 0, replaced: 4"), "{again:?}");
    assert!(may("ada", "a long enough password").await && may("grace", "amazing grace").await);
    up.stop(&data);
}

/// Runs the demonstration to its end. Returns its messages, and the receipt that it printed.
async fn demonstrate(folder: &DataDir, file: &Path, more: &[&str]) -> (String, contract::Receipt) {
    let mut command = Command::new(binary("waybill"));
    command.arg("demo").arg(file).args(more).env("TMPDIR", folder.0.path()).stdout(Stdio::piped());
    let mut process = Process::start("demo", command, folder.0.path());
    let mut stdout = process.stdout();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let (status, said) = (process.wait(), process.log());
    assert_eq!(status.code(), Some(0), "{more:?}: {said}");
    (said, serde_json::from_str(&reading.await.unwrap().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_ends_with_a_receipt() {
    let folder = DataDir::new();
    let source = folder.0.path().join("of mine.bin");
    let content = write_source(&source, 5_000_000, 1);
    let (said, receipt) = demonstrate(&folder, &source, &[]).await;
    assert_eq!((receipt.sha256, receipt.size), (content.sha256, content.size));
    assert_eq!(receipt.source.name, "of mine.bin");
    assert!(said.contains("identical, byte by byte"), "{said}");
    let key_id = receipt.signature.unwrap().key_id;
    assert!(said.contains(&format!("The receipt holds, as signed with the key {key_id}")), "{said}");
    // No terminal: plain lines, no control characters of a progress bar.
    assert!(!said.contains(['\u{1b}', '\r']), "{said:?}");
    until("its directory is gone", async || {
        let entries = std::fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        entries.into_iter().all(|name| !name.to_string_lossy().starts_with("waybill-demo-")).then_some(())
    })
    .await;

    refused(&waybill(&["demo", "/nowhere/at/all"], None, ""), "/nowhere/at/all");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_refuses_what_it_cannot_run() {
    let data = DataDir::new();
    let scale = waybill(&["up", "--json", "--scale", "gateway=2"], Some(&data), "");
    assert_eq!(scale.status, 2);
    assert!(scale.stderr.contains("gateway=2"), "{scale:?}");
    let settings = data.0.path().join("settings.toml");
    std::fs::write(&settings, "[gateway]\nlisten = \"127.0.0.1:0\"\nlisen = 7\n").unwrap();
    let up = ["up", "--json", "--config", settings.to_str().unwrap()];
    refused(&waybill(&up, Some(&data), ""), "lisen");
    let secret = "hush-this-is-nobodys-business";
    std::fs::write(&settings, format!("[auth]\njwt_secret = \"{secret}")).unwrap();
    let output = waybill(&up, Some(&data), "");
    refused(&output, "line 2");
    assert!(!output.stderr.contains(secret), "{output:?}");
    std::fs::write(&settings, "[receipts]\nsigning_key = \"hush\"\n").unwrap();
    let output = waybill(&up, Some(&data), "");
    refused(&output, "receipts.signing_key");
    assert!(!output.stderr.contains("hush"), "{output:?}");
    assert!(!data.path().exists(), "nothing was made");

    // If the port is taken, the servers that it has started are ended.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&waybill(&["up", "--json", "--listen", &address], Some(&data), ""), &address);
    assert_eq!(data.servers(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_delivers_to_every_kind() {
    let folder = DataDir::new();
    let source = folder.0.path().join("small.bin");
    write_source(&source, 200_000, 1);
    for kind in ["http", "s3", "webdav", "sftp"] {
        if kind == "sftp" && !servers::can_test(servers::Sshd::is_here()) {
            continue;
        }
        let (said, receipt) = demonstrate(&folder, &source, &["--to", kind]).await;
        assert!(said.contains("identical, byte by byte"), "{kind}: {said}");
        assert_eq!(receipt.remote.kind, kind);
    }
    let output = waybill(&["demo", "--to", "nowhere"], None, "");
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("webdav, sftp"));
}
