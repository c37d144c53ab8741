//! How the binaries start, refuse to start, and end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_nats::jetstream;
use contract::Role;
use harness::{Api, Behaviour, NetFault, Options, Process, Said, Sink, System, binary, gather, until};
use mongodb::bson::doc;
use rustix::process::Signal;
use serde_json::json;
use settings::Settings;

const ALL: [Role; 4] = Role::ALL;
const GONE: &str = "/nowhere/at/all";
const SECRET: &str = "hush-this-is-nobodys-business";

/// A process of a role with settings of its own.
fn spawn(system: &System, role: Role, config: &Path, environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary(role.as_str()));
    command.arg("--config").arg(config).envs(environment.iter().copied()).stdout(Stdio::null());
    let name = format!("{role}-{}", config.file_stem().unwrap_or_default().display());
    Process::start(&name, command, &system.folder().join("logs"))
}

/// How settings differ from those of a system.
enum Change {
    /// A line below the head of a section.
    Below(&'static str, String),
    /// A line that replaces those of a key.
    Instead(&'static str, String),
    /// Further lines at the end.
    More(String),
    /// This text instead of the settings.
    Only(String),
}
use Change::{Below, Instead, More, Only};

/// The settings of a system, changed, in a file of their own.
fn changed(system: &System, name: &str, changes: &[Change]) -> PathBuf {
    let mut settings = std::fs::read_to_string(&system.config).unwrap();
    for change in changes {
        settings = match change {
            Below(section, line) => settings.replacen(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"), 1),
            Instead(key, line) => {
                let key = format!("{key} = ");
                let lines = settings.lines().map(|old| if old.starts_with(&key) { line } else { old });
                lines.collect::<Vec<_>>().join("\n") + "\n"
            }
            More(text) => settings + text,
            Only(text) => text.clone(),
        };
    }
    let path = system.folder().join(format!("{name}.toml"));
    std::fs::write(&path, settings).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_end_a_binary_with_a_message_that_names_the_key() {
    let system = System::prepare(&Options::default()).await;
    let odd_remote = |keys: &str| More(format!("[remotes.odd]\n{keys}\n"));
    let cases: Vec<(&str, &[Role], Change, &[&str])> = vec![
        ("unknown-key", &ALL, Below("files", "chunk_sise = 1".into()), &["chunk_sise"]),
        ("unknown-section", &ALL, More("[filse]\nroots = []\n".into()), &["filse"]),
        ("wrong-type", &ALL, Below("files", "chunk_size = \"large\"".into()), &["files.chunk_size"]),
        ("out-of-bounds", &ALL, Below("files", "chunk_size = 1".into()), &["files.chunk_size", "65536"]),
        ("remote-kind", &ALL, odd_remote("kind = \"ftp\""), &["remotes", "ftp"]),
        ("remote-key", &ALL, odd_remote("kind = \"http\"\nurl = \"http://h/\"\nuser = \"me\""), &["remotes", "user"]),
        ("remote-url", &ALL, odd_remote("kind = \"http\"\nurl = \"http://h/in\""), &["remotes.odd", "url"]),
        ("default-remote", &ALL, Instead("default_remote", "default_remote = \"x\"".into()), &["default_remote"]),
        ("no-toml", &ALL, Only("[files\nroots = 7".into()), &["no-toml.toml"]),
        ("mongodb-uri", &ALL, Instead("uri", format!("uri = \"mongo//{SECRET}\"")), &["mongodb.uri"]),
        ("mongodb-port", &ALL, Instead("uri", "uri = \"mongodb://h:port/\"".into()), &["mongodb.uri", "port"]),
        (
            "mongodb-option",
            &ALL,
            Instead("uri", format!("uri = \"mongodb://ada:{SECRET}@h/?replicaSte=rs0\"")),
            &["mongodb.uri", "replicaste"],
        ),
        (
            "mongodb-password",
            &ALL,
            Instead("uri", format!("uri = \"mongodb://ada:x?{SECRET}@h/\"")),
            &["mongodb.uri", "percent-encoded"],
        ),
        (
            "mongodb-ca",
            &ALL,
            Instead("uri", format!("uri = \"mongodb://h/?tls=true&tlsCAFile={GONE}\"")),
            &["mongodb.uri", GONE],
        ),
        ("nats-user", &ALL, Below("nats", "username = \"ada\"".into()), &["nats.username", "nats.password_file"]),
        (
            "nats-login",
            &ALL,
            Instead("url", format!("url = \"nats://ada:{SECRET}@h\"")),
            &["nats.url", "nats.username", "nats.password"],
        ),
        ("nats-ca", &ALL, Below("nats", format!("ca_file = {GONE:?}")), &["nats.ca_file", GONE]),
        (
            "nats-password",
            &ALL,
            Below("nats", format!("username = \"ada\"\npassword_file = {GONE:?}")),
            &["nats.password_file", GONE],
        ),
        (
            "nats-credentials",
            &ALL,
            Below("nats", format!("credentials_file = {GONE:?}")),
            &["nats.credentials_file", GONE],
        ),
        ("nats-url", &ALL, Instead("url", "url = \"nats://host name\"".into()), &["nats.url"]),
        (
            "secret-syntax",
            &ALL,
            Instead("jwt_secret", format!("jwt_secret = \"{SECRET}")),
            &["secret-syntax.toml", "line"],
        ),
        ("no-secret", &[Role::Gateway], Instead("jwt_secret", String::new()), &["auth.jwt_secret", "32"]),
        (
            "short-secret",
            &[Role::Gateway],
            Instead("jwt_secret", format!("jwt_secret = \"{SECRET}\"")),
            &["auth.jwt_secret", "32"],
        ),
        (
            "secret-file",
            &[Role::Gateway],
            Instead("jwt_secret", format!("jwt_secret_file = {GONE:?}")),
            &["auth.jwt_secret_file", GONE],
        ),
        (
            "missing-root",
            &[Role::Gateway, Role::Chunker],
            Instead("roots", format!("roots = [{GONE:?}]")),
            &["files.roots", GONE],
        ),
        ("no-root", &[Role::Gateway, Role::Chunker], Instead("roots", "roots = []".into()), &["files.roots"]),
        (
            "missing-folder",
            &[Role::Finaliser],
            odd_remote(&format!("kind = \"directory\"\npath = {GONE:?}")),
            &["odd", GONE],
        ),
    ];
    // All at once: starting processes takes most of the time.
    let mut running = Vec::new();
    for (name, roles, change, says) in &cases {
        let config = changed(&system, name, std::slice::from_ref(change));
        running.extend(roles.iter().map(|role| (*name, *role, *says, spawn(&system, *role, &config, &[]))));
    }
    let environment = [("WAYBILL__FILES__CHUNK_SIZE", "1")];
    running.push((
        "environment",
        Role::Store,
        &["files.chunk_size"],
        spawn(&system, Role::Store, &system.config, &environment),
    ));
    for role in ALL {
        running.push(("no-file", role, &["nowhere"], spawn(&system, role, Path::new(GONE), &[])));
    }
    for (name, role, says, mut process) in running {
        let status = process.wait();
        let said = process.log();
        assert!(!status.success(), "{role} started with {name}: {said}");
        assert!(status.code().is_some(), "{role} with {name}: {status}");
        for part in says {
            assert!(said.contains(part), "{role} with {name}: expected {part:?} in {said}");
        }
        assert!(!said.contains("panicked"), "{role} with {name}: {said}");
        for secret in [SECRET, "0123456789abcdef0123456789abcdef"] {
            assert!(!said.contains(secret), "{role} with {name} tells a secret: {said}");
        }
    }
}

#[test]
fn a_password_in_the_environment_is_taken_as_it_is() {
    for password in ["007", "1e5", "true", "TRUE", "1:2", " 7"] {
        let variables = [("WAYBILL__NATS__USERNAME", "ada"), ("WAYBILL__NATS__PASSWORD", password)];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::load_with(None, Some(environment)).unwrap();
        assert_eq!(settings.nats.password().unwrap().unwrap().expose(), password);
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The setting with which a service answers health checks at this port.
fn health(role: Role, port: u16) -> Change {
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    match role {
        Role::Gateway => Instead("listen", listen),
        _ => More(format!("[health]\n{listen}\n")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_mongodb_is_alive_tells_no_password_and_can_be_stopped() {
    let system = System::prepare(&Options::default()).await;
    let uri = || format!("uri = \"mongodb://ada:{SECRET}@127.0.0.1:1/?replicaSet=rs0\"");
    let mut running = Vec::new();
    for role in ALL {
        let port = free_port();
        let below = Below("mongodb", "server_selection_timeout_ms = 100".into());
        let config = changed(&system, &format!("nobody-{role}"), &[Instead("uri", uri()), below, health(role, port)]);
        running.push((role, port, spawn(&system, role, &config, &[])));
    }
    for (role, port, process) in &mut running {
        until(&format!("{role} says what it waits for"), async || {
            assert!(process.is_running(), "{}", process.log());
            process.log().contains("MongoDB is not ready").then_some(())
        })
        .await;
        let http = Api::new(&format!("http://127.0.0.1:{port}"));
        assert_eq!(http.get("/healthz").await.expect(200).body["ok"], true, "{role}");
        let unready = http.get("/readyz").await.expect(503).body;
        assert!(unready["problems"].to_string().contains("MongoDB"), "{role}: {unready}");
        assert_eq!(process.stop().code(), Some(0), "{}", process.log());
        let log = process.log();
        assert!(log.contains("127.0.0.1:1: I/O error: Connection refused"), "{log}");
        assert!(!log.contains(SECRET) && !log.contains("labels"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_stop_well_while_nats_is_away() {
    let options = Options { work: "grace_ms = 300000".into(), ..Options::default() };
    let (mut system, line) = System::start_with_line(options, "", None).await;
    let (file, _) = system.send("file", 3_000_000, "folder").await;
    system.api.until_state(&file, "delivered").await;
    line.begin(NetFault::Refuse);
    until("the gateway notices", async || (system.api.get("/readyz").await.status == 503).then_some(())).await;
    // Something to announce, and nobody to tell.
    system.write("more", 10);
    let more = system.api.prepare("more").await.expect(201).file_id();
    for (name, process) in &mut system.processes {
        // If one waited for NATS, or for the end of its grace period, the test would end first.
        assert_eq!(process.stop().code(), Some(0), "{name}: {}", process.log());
    }
    // What nobody was told is in the record: the next sweep tells it.
    let record = system.stored().await.files().find_one(testing::by_id(&more)).await.unwrap().unwrap();
    assert!(record.contains_key("outbox_at"), "{record}");
}

#[test]
fn every_binary_has_help_and_a_version() {
    for (name, says) in [
        ("gateway", "--workers"),
        ("chunker", "--config"),
        ("store", "--probe"),
        ("finaliser", "--concurrency"),
        ("waybill", "demo"),
    ] {
        let told = |argument: &str| {
            let mut command = Command::new(binary(name));
            command.arg(argument);
            Said::by(command, "")
        };
        assert!(told("--help").expect(0).stdout.contains(says), "{name} --help");
        assert!(told("--version").expect(0).stdout.starts_with(name), "{name} --version");
        assert!(told("--nonsense").expect(2).stderr.contains("--nonsense"), "{name} --nonsense");
    }
}

fn probe(role: Role, config: &Path) -> Said {
    let mut command = Command::new(binary(role.as_str()));
    command.arg("--config").arg(config).arg("--probe");
    Said::by(command, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_whether_the_service_is_ready() {
    let system = System::prepare(&Options::default()).await;
    for role in ALL {
        let port = free_port();
        let config = changed(&system, role.as_str(), &[health(role, port)]);
        let probe = || probe(role, &config);
        let nobody = probe().expect(1);
        assert!(nobody.stderr.contains(&port.to_string()), "{nobody:?}");

        let mut service = spawn(&system, role, &config, &[]);
        until(&format!("{role} is ready"), async || {
            assert!(service.is_running(), "{}", service.log());
            (probe().status == 0).then_some(())
        })
        .await;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let http = Api::new(&format!("http://{address}"));
        assert_eq!(http.get("/healthz").await.expect(200).body["ok"], true);
        assert_eq!(http.get("/readyz").await.expect(200).body["ok"], true);
        assert_eq!(service.stop().code(), Some(0), "{}", service.log());
        probe().expect(1);
    }
    // A worker that answers no health checks cannot be asked.
    assert!(probe(Role::Store, &system.config).expect(1).stderr.contains("health.listen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_limits_payloads_too_much_no_file_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats_options = servers::NatsOptions::new(folder.path().join("nats"), 1024 * 1024);
    nats_options.die_with_parent = true;
    let nats = servers::Nats::start(nats_options.clone()).await.unwrap();
    let mut system = System::prepare(&Options { nats_url: Some(nats.url()), ..Options::default() }).await;
    for role in ALL {
        system.start_service(role, 0);
    }
    system.log_in().await;
    until("the gateway names the setting", async || {
        let unready = system.api.get("/readyz").await.expect(503);
        unready.body["problems"].to_string().contains("max_payload").then_some(())
    })
    .await;
    for worker in ["chunker-0", "store-0", "finaliser-0"] {
        until(&format!("{worker} names the setting"), async || {
            system.process(worker).log().contains("max_payload").then_some(())
        })
        .await;
    }
    // The gateway still accepts requests, but no worker asks for hints, so nobody takes up the file.
    let (file, _) = system.send("file", 3_000_000, "folder").await;
    let client = system.nats().await;
    let statuses = gather(&client, &system.names.status(Role::Chunker)).await;
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0]["ready"], false);
    assert!(statuses[0]["problems"].to_string().contains("max_payload"));
    let consumer = format!("$JS.API.CONSUMER.INFO.{}.chunker", system.names.work_stream());
    let answer = client.request(consumer, bytes::Bytes::new()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("consumer not found"), "{answer:?}");
    assert_eq!(system.api.file(&file).await["state"], "prepared");

    // With a larger limit everything goes on, and no service was restarted.
    nats.stop().await.unwrap();
    nats_options.max_payload = 8 * 1024 * 1024;
    let nats = servers::Nats::start(nats_options).await.unwrap();
    assert_eq!(nats.url(), system.nats_url());
    system.api.until_state(&file, "delivered").await;
    until("the gateway is ready", async || (system.api.get("/readyz").await.status == 200).then_some(())).await;
    system.processes.clear();
    nats.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_binary_ends_well_when_it_is_asked_to_stop() {
    let mut system = System::start(Options::default()).await;
    let (file, _) = system.send("file", 10, "folder").await;
    system.api.until_state(&file, "delivered").await;
    for (name, process) in &mut system.processes {
        let signal = match name.as_str() {
            "store-0" => Signal::INT,
            // A terminal that was closed.
            "chunker-0" => Signal::HUP,
            _ => Signal::TERM,
        };
        process.signal(signal);
        let status = process.wait();
        assert_eq!(status.code(), Some(0), "{name}: {}", process.log());
        assert!(!process.log().contains("ERROR"), "{name}: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_and_the_file_goes_on_elsewhere() {
    let options = Options { work: "grace_ms = 300000\nlease_ms = 3000".into(), ..Options::default() };
    let mut system = System::start(options).await;
    // Nobody answers the chunker, so it is busy as long as it may be.
    system.process("store-0").signal(Signal::STOP);
    let (file, _) = system.send("file", 4 * 1024 * 1024, "folder").await;
    until("it is held", async || system.api.file(&file).await["holder"].as_str().map(drop)).await;
    system.process("chunker-0").signal(Signal::TERM);
    until("it is stopping", async || system.process("chunker-0").log().contains("a second signal cuts").then_some(()))
        .await;
    assert!(system.process("chunker-0").is_running(), "it has half of the grace period to finish");
    let status = system.process("chunker-0").stop();
    assert_eq!(status.code(), Some(130), "{}", system.process("chunker-0").log());

    system.process("store-0").signal(Signal::CONT);
    system.start_service(Role::Chunker, 1);
    system.api.until_state(&file, "delivered").await;
    system.assert_arrived("file", "file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_finished_is_handed_back() {
    let sink = Sink::start().await;
    // Small chunks, few at once: the file takes far longer than a request about it.
    let options = Options {
        files: "chunk_size = 65536".into(),
        work: "grace_ms = 2000".into(),
        ..Options::with_sink(&sink.url()).toml("[chunker]\nwindow = 2\n[store]\nwriters = 1\n")
    };
    let mut system = System::start(options).await;
    let chunks = system.stored().await.collection("chunks");
    let (file, content) = system.send("file", 40 * 1024 * 1024, "sink").await;
    until("some of it is stored", async || (chunks.count_documents(doc! {}).await.unwrap() > 0).then_some(())).await;
    system.process("store-0").signal(Signal::STOP);
    assert_eq!(system.api.file(&file).await["state"], "chunking", "the file was too fast for this test");

    assert_eq!(system.process("chunker-0").stop().code(), Some(0), "{}", system.process("chunker-0").log());
    let back = system.api.file(&file).await;
    assert_eq!((&back["state"], &back["phase"]), (&json!("chunking"), &json!("waiting")));
    assert_eq!((&back["attempts"], &back["holder"]), (&json!(0), &json!(null)));
    let kept = chunks.count_documents(doc! {}).await.unwrap();
    assert!((1..640).contains(&kept), "{kept} chunks are stored");

    // Another chunker goes on with it, and later another finaliser.
    sink.plan("file", &[Behaviour::StallAfter(1024 * 1024)]);
    system.process("store-0").signal(Signal::CONT);
    system.start_service(Role::Chunker, 1);
    let under_way = until("its delivery is under way", async || {
        let file = system.api.file(&file).await;
        (!sink.puts().is_empty()).then_some(file)
    })
    .await;
    assert_eq!((&under_way["state"], &under_way["generation"]), (&json!("delivering"), &json!(1)));
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 640);
    let status = system.process("finaliser-0").stop();
    assert_eq!(status.code(), Some(0), "{}", system.process("finaliser-0").log());
    let back = system.api.file(&file).await;
    assert_eq!((&back["state"], &back["phase"]), (&json!("delivering"), &json!("waiting")));
    assert_eq!((&back["attempts"], &back["holder"]), (&json!(0), &json!(null)));
    assert!(sink.is_empty());

    system.start_service(Role::Finaliser, 1);
    let file = system.api.until_state(&file, "delivered").await;
    assert_eq!(file["receipt"]["attempts"], 1);
    assert_eq!(sink.object("/in/file"), Some((content.size, content.sha256)));
    let record = system.stored().await.files().find_one(doc! {}).await.unwrap().unwrap();
    let attempts = record.get_document("attempts").unwrap();
    assert_eq!(attempts.get("chunking").and_then(|count| count.as_i64().or(count.as_i32().map(i64::from))), Some(1));
    let work = jetstream::new(system.nats().await).get_stream(system.names.work_stream()).await.unwrap();
    until("no hint is left", async || (work.get_info().await.unwrap().state.messages == 0).then_some(())).await;
}
