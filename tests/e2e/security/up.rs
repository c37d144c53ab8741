//! What other users of the machine get from `waybill up`, and what its data directory survives.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use async_nats::ConnectErrorKind;
use harness::{Process, binary, until, write_source};
use mongodb::bson::doc;
use serde_json::{Value, json};

use crate::command::{DataDir, Up};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_uses_the_servers_of_up() {
    let data = DataDir::new();
    // As an earlier release made it.
    std::fs::create_dir_all(data.path().join("mongod")).unwrap();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let up = Up::start(&data, &[]);
    let (nats, mongodb) = (up.text("nats"), up.text("mongodb"));
    let refused = async_nats::connect(nats).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ConnectErrorKind::AuthorizationViolation);
    let stranger = mongodb::Client::with_uri_str(mongodb).await.unwrap();
    for command in [doc! { "shutdown": 1 }, doc! { "listDatabases": 1 }, doc! { "find": "users" }] {
        let refused = stranger.database("admin").run_command(command).await.unwrap_err();
        assert!(refused.to_string().contains("uthentication"), "{refused}");
    }

    // Who may read the directory gets in.
    let endpoints = json_file(Path::new(up.text("endpoints")));
    let password = endpoints["nats_password"].as_str().unwrap();
    let context = json_file(&data.path().join("nats-cli/nats/context/waybill.json"));
    assert_eq!((context["url"].as_str(), context["password"].as_str()), (Some(nats), Some(password)));
    let uri = endpoints["mongodb"].as_str().unwrap();
    let us = mongodb::Client::with_uri_str(uri).await.unwrap();
    assert!(us.database("waybill").list_collection_names().await.unwrap().contains(&"files".to_owned()));
    for folder in ["", "nats", "mongod"] {
        assert_eq!(mode(&data.path().join(folder)), 0o700, "{folder:?}");
    }
    for file in ["endpoints.json", "jwt-secret", "receipt-key.pem", "nats/nats.conf", "nats/password"] {
        assert_eq!(mode(&data.path().join(file)), 0o600, "{file}");
    }
    for file in ["mongod/password", "mongod/keyfile", "nats-cli/nats/context/waybill.json"] {
        assert_eq!(mode(&data.path().join(file)), 0o600, "{file}");
    }

    // Nothing tells the passwords.
    let (_, login) = uri.split_once("//").unwrap();
    let mongodb_password = login.split_once('@').unwrap().0.split_once(':').unwrap().1;
    let log = up.process.log();
    for secret in [password, mongodb_password] {
        assert!(!up.ready.to_string().contains(secret) && !log.contains(secret), "{} {log}", up.ready);
    }
    up.stop(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_up_prints_for_people_tells_no_password_of_a_server() {
    let data = DataDir::new();
    let mut command = Command::new(binary("waybill"));
    command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
    let printed = data.path().with_file_name("printed");
    command.stdout(Stdio::from(std::fs::File::create(&printed).unwrap()));
    let mut process = Process::start("up", command, data.path().parent().unwrap());
    let text = until("it is up", async || {
        assert!(process.is_running(), "{}", process.log());
        let text = std::fs::read_to_string(&printed).unwrap();
        text.contains("Ctrl-C").then_some(text)
    })
    .await;
    let endpoints = json_file(&data.path().join("endpoints.json"));
    assert!(!text.contains(endpoints["nats_password"].as_str().unwrap()), "{text}");
    assert!(!text.contains(endpoints["mongodb"].as_str().unwrap()), "{text}");
    assert!(text.contains("nats-cli nats --context waybill") && text.contains("endpoints.json"), "{text}");
    assert_eq!(process.stop().code(), Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_behind_a_link_with_a_secret_cut_short_works() {
    let data = DataDir::new();
    let place = data.path().with_file_name("place");
    std::fs::create_dir(&place).unwrap();
    symlink(&place, data.path()).unwrap();
    // As a crash of an earlier release left it.
    std::fs::write(place.join("jwt-secret"), "").unwrap();
    let up = Up::start(&data, &[]);
    assert!(up.process.log().contains("jwt-secret is not whole"), "{}", up.process.log());
    assert_eq!(std::fs::read_to_string(place.join("jwt-secret")).unwrap().len(), 48);
    let api = up.log_in(up.text("username"), up.text("password")).await;
    // The same file, as the operator names it and as the kernel does.
    let content = write_source(&place.join("source/file"), 1000, 1);
    for (path, name) in [(data.path(), "one"), (place.canonicalize().unwrap(), "two")] {
        let path = path.join("source/file");
        let file = api.prepare(path.to_str().unwrap()).await.expect(201).file_id();
        api.finalise(&file, &content.sha256.to_string(), &json!({ "filename": name })).await.expect(202);
        api.until_state(&file, "delivered").await;
    }
    up.stop(&data);
}
