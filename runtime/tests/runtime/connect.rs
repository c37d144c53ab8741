//! Coming to NATS: who the service is, and what is said when it cannot.

use std::time::Duration;

use bus::{Nats, NatsError, Use};
use contract::Names;
use servers::NatsOptions;
use settings::NatsSettings;
use testing::{until, within};
use tokio_util::sync::CancellationToken;

fn names() -> Names {
    Names::new("connect").unwrap()
}

#[tokio::test]
async fn a_password_file_is_read_again_at_every_connect() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = NatsOptions::new(folder.path().join("nats"), 1 << 20);
    (options.login, options.die_with_parent) = (true, true);
    let server = servers::Nats::start(options.clone()).await.unwrap();
    let password_file = folder.path().join("password");
    let write = |password: &str| std::fs::write(&password_file, password).unwrap();
    write(server.login().unwrap().1);
    let settings = NatsSettings {
        url: server.url(),
        username: Some(server.login().unwrap().0.to_owned()),
        password_file: Some(password_file.clone()),
        ..NatsSettings::default()
    };
    let nats = Nats::open(&settings, &names(), "a", Use::Control, &CancellationToken::new()).await.unwrap();
    let mut connects = nats.connects();
    within(connects.wait_for(|count| *count == 1)).await.unwrap();

    // The server gets a new password, and then the file does.
    server.stop().await.unwrap();
    std::fs::remove_file(options.data_dir.join("password")).unwrap();
    let server = servers::Nats::start(options).await.unwrap();
    let refused = Nats::reach(&settings, &names(), "b", Duration::from_secs(2)).await.unwrap_err().to_string();
    assert!(refused.contains("authorization violation"), "{refused}");
    write(server.login().unwrap().1);
    within(connects.wait_for(|count| *count == 2)).await.unwrap();
    nats.client().flush().await.unwrap();

    std::fs::remove_file(&password_file).unwrap();
    let missing = Nats::open(&settings, &names(), "c", Use::Control, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(missing, NatsError::Settings(_)), "{missing}");
}

#[tokio::test]
async fn why_nats_cannot_be_used_is_said_with_its_cause() {
    let server = testing::own_nats(1 << 20).await;
    let port = server.port();
    // It speaks no TLS.
    let settings = NatsSettings { url: format!("tls://127.0.0.1:{port}"), ..NatsSettings::default() };
    let reach = |settings: NatsSettings| async move {
        let reached = Nats::reach(&settings, &names(), "a", Duration::from_secs(2)).await;
        reached.map(drop).unwrap_err().to_string()
    };
    let told = reach(settings).await;
    assert!(told.contains(&format!("127.0.0.1:{port}: ")) && told.len() > 60, "{told}");
    server.kill().await.unwrap();
    let told = reach(NatsSettings { url: server.url(), ..NatsSettings::default() }).await;
    assert!(told.contains("Connection refused"), "{told}");
}

#[tokio::test]
async fn a_lost_connection_is_noticed() {
    let server = testing::own_nats(1 << 20).await;
    let settings = NatsSettings { url: server.url(), ..NatsSettings::default() };
    let nats = Nats::reach(&settings, &names(), "a", Duration::from_secs(60)).await.unwrap();
    let lost = async { nats.lost().await };
    tokio::select! {
        () = lost => panic!("it is not lost"),
        () = async { nats.client().flush().await.unwrap() } => {}
    }
    server.kill().await.unwrap();
    until("it is lost", async || tokio::time::timeout(Duration::from_secs(1), nats.lost()).await.ok()).await;
}
