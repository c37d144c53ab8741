//! The gateway as a process of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use contract::Role;
use ledger::{NewFile, NewUser};
use serde_json::{Value, json};
use settings::Settings;
use tempfile::TempDir;
use testing::{Api, DEADLINE, Sandbox, new_file, until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::stage::{self, PASSWORD, SECRET, USER};

const GATEWAY: &str = env!("CARGO_BIN_EXE_gateway");

struct Process {
    child: Child,
    ada: Api,
    /// What it has logged, line by line.
    log: Arc<Mutex<Vec<String>>>,
}

/// Starts the binary by `command`, waits until it listens, and logs in.
async fn start(mut command: Command, settings: &Settings) -> Process {
    let mut child = command
        .env("WAYBILL__NATS__URL", &settings.nats.url)
        .env("WAYBILL__NATS__PREFIX", &settings.nats.prefix)
        .env("WAYBILL__MONGODB__URI", settings.mongodb.uri().unwrap().expose())
        .env("WAYBILL__MONGODB__DATABASE", &settings.mongodb.database)
        .env("WAYBILL__FILES__ROOTS", &settings.files.roots[0])
        .env("WAYBILL__AUTH__JWT_SECRET", SECRET)
        .env("WAYBILL__GATEWAY__LISTEN", "127.0.0.1:0")
        .env("WAYBILL__TELEMETRY__FORMAT", "json")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(Vec::new()));
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "listening" {
                return entry["address"].as_str().unwrap().to_owned();
            }
            log.lock().unwrap().push(line);
        }
        panic!("the gateway ended: {log:#?}");
    };
    let address = tokio::time::timeout(DEADLINE, listening).await.expect("the gateway listens");
    // Keeps reading, so that the gateway never waits for a reader of its log.
    let further = log.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            further.lock().unwrap().push(line);
        }
    });
    let ada = Api::new(&format!("http://{address}")).logged_in(USER, PASSWORD).await;
    Process { child, ada, log }
}

async fn sandbox_with_user(folder: &Path) -> Sandbox {
    let sandbox = stage::sandbox(folder, |_| {}).await;
    let service = sandbox.start(Role::Gateway).await.unwrap();
    service.ledger.add_user(&NewUser { username: USER, password: PASSWORD }).await.unwrap();
    service.life.stop();
    sandbox
}

/// Root can read everything, so the gateway runs without the capabilities that allow it.
#[tokio::test]
async fn a_file_that_may_not_be_read_is_refused() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let root = &sandbox.settings.files.roots[0];
    fs::create_dir(root.join("closed")).unwrap();
    for path in ["secret", "closed/a", "open"] {
        fs::write(root.join(path), b"abc").unwrap();
    }
    for path in ["secret", "closed"] {
        fs::set_permissions(root.join(path), Permissions::from_mode(0o000)).unwrap();
    }
    let command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all", GATEWAY]);
        command
    } else {
        Command::new(GATEWAY)
    };
    let process = start(command, &sandbox.settings).await;
    for path in ["secret", "closed/a"] {
        let answer = process.ada.prepare(path).await;
        answer.assert_problem(403, "unreadable-file");
    }
    assert_eq!(process.ada.get("/files").await.body["files"], json!([]));
    assert_eq!(process.ada.prepare("open").await.status, 201);
    fs::set_permissions(root.join("closed"), Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn sigterm_ends_it_in_good_order() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let mut command = Command::new(GATEWAY);
    command.args(["--workers", "1"]);
    let mut process = start(command, &sandbox.settings).await;
    assert_eq!(process.ada.get("/files").await.status, 200);
    let pid = rustix::process::Pid::from_raw(process.child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(DEADLINE, process.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn help_names_the_service_and_its_arguments() {
    let output = Command::new(GATEWAY).arg("--help").output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["HTTP", "--config", "--probe", "--workers", "WAYBILL__"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    let output = Command::new(GATEWAY).args(["--workers", "0"]).output().await.unwrap();
    assert!(!output.status.success());
}

impl Process {
    async fn connection(&self) -> TcpStream {
        TcpStream::connect(self.ada.gateway().strip_prefix("http://").unwrap()).await.unwrap()
    }

    /// Waits for a line of the log that contains all of `words`, and returns its message.
    async fn until_logged(&self, words: &[&str]) -> Value {
        until(&format!("the log has {words:?}"), async || {
            let log = self.log.lock().unwrap();
            let entries = log.iter().map(|line| serde_json::from_str(line).unwrap_or(Value::Null));
            let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
            entries.into_iter().find(|entry| words.iter().all(|word| message(entry).contains(word)))
        })
        .await
    }
}

/// The gateway, by a shell that sets the limits of open files.
fn limited(limits: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{limits} && exec \"$0\""), GATEWAY]);
    command
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let process = start(limited("ulimit -Sn 256 && ulimit -Hn 3000"), &sandbox.settings).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id().unwrap())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["3000", "3000"], "{line}");
    assert!(!process.log.lock().unwrap().iter().any(|line| line.contains("max_connections")), "3000 are enough");
}

/// 256 files for other things, 64 of the reserve, 64 sources, 32 connections of MongoDB.
#[tokio::test]
async fn there_are_fewer_connections_than_open_files() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let mut command = limited("ulimit -n 426");
    command.env("WAYBILL__MONGODB__POOL_SIZE", "32");
    let process = start(command, &sandbox.settings).await;
    process.until_logged(&["gateway.max_connections is 1024", "426 files", "at most 10 connections"]).await;
    let idle: Vec<_> = futures_util::future::join_all((0..200).map(|_| process.connection())).await;
    process.until_logged(&["all connections are in use"]).await;
    assert_eq!(process.ada.get("/healthz").await.status, 200);
    drop(idle);
    until("others are served again", async || (process.ada.get("/files").await.status == 200).then_some(())).await;
}

/// A name is anybody's text, and must not make lines of its own.
#[tokio::test]
async fn a_failed_login_is_logged_with_its_name_escaped_and_cut() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let process = start(Command::new(GATEWAY), &sandbox.settings).await;
    let name = format!("eve\n\u{202e}\u{2028}{}", "x".repeat(200));
    process.ada.log_in(&name, "x").await.assert_problem(401, "wrong-credentials");
    let entry = process.until_logged(&["a login as", "failed"]).await;
    let expected = format!(r#""eve\n\u{{202e}}\u{{2028}}{}"..."#, "x".repeat(58));
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains(&expected), "{message}");
    assert_eq!((&entry["peer"], &entry["level"]), (&json!("127.0.0.1"), &json!("WARN")));
}

/// 40 lists of 36 MB each, of which nobody reads a byte.
#[tokio::test]
async fn lists_that_nobody_reads_take_little_memory() {
    let folder = TempDir::new().unwrap();
    let sandbox = sandbox_with_user(folder.path()).await;
    let service = sandbox.start(Role::Gateway).await.unwrap();
    for _ in 0..600 {
        let metadata = [("k".to_owned(), "v".repeat(60_000))].into();
        service.ledger.create(NewFile { metadata, ..new_file(3) }).await.unwrap();
    }
    let process = start(Command::new(GATEWAY), &sandbox.settings).await;
    let token = process.ada.log_in(USER, PASSWORD).await.text("access_token").to_owned();
    let mut unread = Vec::new();
    for _ in 0..40 {
        let mut stream = process.connection().await;
        let list = format!("GET /files?limit=1000 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(list.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    until("each has an answer", async || {
        for stream in &unread {
            stream.readable().await.unwrap();
        }
        Some(())
    })
    .await;
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak_kib: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak_kib < 400 * 1024, "the gateway took {peak}");
    service.life.stop();
}
