//! The gateway as a process of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use contract::Role;
use ledger::NewUser;
use serde_json::{Value, json};
use settings::Settings;
use tempfile::TempDir;
use testing::{Api, DEADLINE, Sandbox};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stage::{self, PASSWORD, SECRET, USER};

const GATEWAY: &str = env!("CARGO_BIN_EXE_gateway");

struct Process {
    child: Child,
    ada: Api,
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
    let listening = async {
        let mut log = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "listening" {
                return entry["address"].as_str().unwrap().to_owned();
            }
            log.push(line);
        }
        panic!("the gateway ended: {log:#?}");
    };
    let address = tokio::time::timeout(DEADLINE, listening).await.expect("the gateway listens");
    // Keeps reading, so that the gateway never waits for a reader of its log.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let ada = Api::new(&format!("http://{address}")).logged_in(USER, PASSWORD).await;
    Process { child, ada }
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
