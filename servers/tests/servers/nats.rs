//! nats-server: its data, its port, how it ends.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use async_nats::{ConnectOptions, jetstream};
use servers::{Error, Nats, NatsOptions};
use tempfile::{TempDir, tempdir};

use crate::{DEADLINE, assert_kept, eventually, nats_options, rude_listener, runs};

async fn start() -> Result<(TempDir, Nats)> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
    Ok((folder, nats))
}

async fn connect(nats: &Nats) -> Result<jetstream::Context> {
    let (user, password) = nats.login().unwrap_or_default();
    Ok(jetstream::new(log_in(user, password).connect(nats.url()).await?))
}

fn log_in(user: &str, password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
}

/// Makes a stream with one message.
async fn keep_a_message(nats: &Nats) -> Result<()> {
    let jetstream = connect(nats).await?;
    let config = jetstream::stream::Config {
        name: "KEPT".to_owned(),
        subjects: vec!["kept.>".to_owned()],
        ..jetstream::stream::Config::default()
    };
    jetstream.create_stream(config).await?;
    let acknowledged = jetstream.publish("kept.one", "hello".into()).await?.await?;
    anyhow::ensure!(acknowledged.sequence == 1, "{acknowledged:?}");
    Ok(())
}

/// How many messages that stream has.
async fn kept_messages(nats: &Nats) -> Result<u64> {
    let jetstream = connect(nats).await?;
    Ok(jetstream.get_stream("KEPT").await?.cached_info().state.messages)
}

/// A monitoring port would answer anybody.
#[tokio::test]
async fn listens_only_where_it_asks_for_a_login() -> Result<()> {
    let (folder, _nats) = start().await?;
    let files: Vec<_> = std::fs::read_dir(folder.path().join("nats/ports"))?.collect::<Result<_, _>>()?;
    let [file] = &files[..] else { panic!("expected one file with ports, found {files:?}") };
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path())?)?;
    let listening: Vec<_> =
        ports.as_object().unwrap().iter().filter(|(_, urls)| **urls != serde_json::json!([])).collect();
    assert_eq!(listening.len(), 1, "{ports}");
    Ok(())
}

#[tokio::test]
async fn keeps_its_data_and_its_port_over_a_restart() -> Result<()> {
    let (_folder, nats) = start().await?;
    assert_eq!(async_nats::connect(nats.url()).await?.server_info().max_payload, 2 << 20);
    assert_eq!(nats.url(), format!("nats://127.0.0.1:{}", nats.port()));
    keep_a_message(&nats).await?;
    let (port, pid, options) = (nats.port(), nats.pid(), nats.options().clone());
    nats.stop().await?;
    assert!(!runs(pid));

    let nats = Nats::start(options).await?;
    assert!(!nats.adopted());
    assert_eq!(nats.port(), port);
    assert_eq!(kept_messages(&nats).await?, 1);

    // A power cut: what was acknowledged is there.
    nats.kill().await?;
    let nats = Nats::start(nats.options().clone()).await?;
    assert_eq!(kept_messages(&nats).await?, 1);
    Ok(())
}

#[tokio::test]
async fn moves_when_its_port_was_taken_meanwhile() -> Result<()> {
    let (_folder, nats) = start().await?;
    nats.kill().await?;
    rude_listener(nats.port())?;
    let moved = Nats::start(nats.options().clone()).await?;
    assert_ne!(moved.port(), nats.port());
    async_nats::connect(moved.url()).await?;
    Ok(())
}

#[tokio::test]
async fn a_port_asked_for_by_name_is_taken_or_refused() -> Result<()> {
    let (folder, nats) = start().await?;
    nats.kill().await?;
    let port = Some(nats.port());
    let elsewhere = NatsOptions { port, ..nats_options(&folder.path().join("other")) };
    let other = Nats::start(elsewhere.clone()).await?;
    assert_eq!(Some(other.port()), port);
    other.kill().await?;

    rude_listener(nats.port())?;
    let error = Nats::start(elsewhere).await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_left_is_adopted() -> Result<()> {
    let (folder, nats) = start().await?;
    let (pid, port) = (nats.pid(), nats.port());
    nats.leave();
    assert!(runs(pid));

    let adopted = Nats::start(nats_options(folder.path())).await?;
    assert!(adopted.adopted());
    assert_eq!((adopted.pid(), adopted.port()), (pid, port));
    assert_eq!(adopted.try_wait(), None);
    adopted.stop().await?;
    assert!(!runs(pid));
    Ok(())
}

#[tokio::test]
async fn a_server_with_other_settings_is_ended_and_started_anew() -> Result<()> {
    let (folder, nats) = start().await?;
    keep_a_message(&nats).await?;
    let (pid, port) = (nats.pid(), nats.port());
    nats.leave();

    let mut options = nats_options(folder.path());
    options.max_payload = 4 << 20;
    let nats = Nats::start(options).await?;
    assert!(!nats.adopted());
    assert!(!runs(pid));
    assert_eq!(nats.port(), port);
    assert_eq!(async_nats::connect(nats.url()).await?.server_info().max_payload, 4 << 20);
    assert_eq!(kept_messages(&nats).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_adopted() -> Result<()> {
    let (folder, nats) = start().await?;
    let pid = nats.pid();
    nats.pause()?;
    nats.leave();
    let nats = Nats::start(nats_options(folder.path())).await?;
    assert!(!nats.adopted());
    assert!(!runs(pid));
    Ok(())
}

#[tokio::test]
async fn an_unexpected_end_is_noticed() -> Result<()> {
    let folder = tempdir()?;
    for adopted in [false, true] {
        let nats = Nats::start(nats_options(folder.path())).await?;
        assert_eq!(nats.adopted(), adopted);
        if !adopted {
            nats.leave();
            continue;
        }
        assert_eq!(nats.try_wait(), None);
        kill(nats.pid());
        let exit = tokio::time::timeout(DEADLINE, nats.exited()).await?;
        assert_eq!(exit.status, None);
        assert_eq!(nats.try_wait(), Some(exit));
    }
    let nats = Nats::start(nats_options(folder.path())).await?;
    assert!(!nats.adopted());
    kill(nats.pid());
    let exit = tokio::time::timeout(DEADLINE, nats.exited()).await?;
    assert_eq!(exit.status.and_then(|status| status.signal()), Some(9));
    // And the directory is free, while the handle still exists.
    Nats::start(nats_options(folder.path())).await?;
    Ok(())
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let killed = Command::new("sh").args(["-c", "kill -9 $0", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

#[tokio::test]
async fn who_must_log_in_and_does_not_is_refused() -> Result<()> {
    let folder = tempdir()?;
    let options = NatsOptions { login: true, ..nats_options(folder.path()) };
    let login = |nats: &Nats| nats.login().map(|(user, password)| (user.to_owned(), password.to_owned())).unwrap();
    let nats = Nats::start(options.clone()).await?;
    let (user, password) = login(&nats);
    keep_a_message(&nats).await?;
    for (user, password) in [("", ""), (&*user, "wrong")] {
        let refused = log_in(user, password).connect(nats.url()).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
    }
    let shown = format!("{nats:?}");
    assert!(!shown.contains(&password), "{shown}");
    assert_eq!(assert_kept(&options.data_dir, nats.pid(), &password), 2, "nats.conf and the password itself");

    // The next start knows the password, so it adopts the server. A password that was lost is made anew.
    nats.leave();
    let nats = Nats::start(options.clone()).await?;
    assert!(nats.adopted() && login(&nats).1 == password);
    nats.leave();
    std::fs::write(options.data_dir.join("password"), "")?;
    let nats = Nats::start(options).await?;
    assert!(!nats.adopted() && login(&nats).1 != password);
    assert_eq!(kept_messages(&nats).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_paused_server_does_not_answer() -> Result<()> {
    let (_folder, nats) = start().await?;
    nats.pause()?;
    let silent = tokio::time::timeout(Duration::from_millis(300), async_nats::connect(nats.url())).await;
    assert!(silent.is_err(), "{silent:?}");
    nats.resume()?;
    async_nats::connect(nats.url()).await?;
    // And a paused one can be stopped in good order.
    nats.pause()?;
    let exit = nats.stop().await?;
    assert_eq!(exit.status.and_then(|status| status.signal()), None, "{exit}");
    Ok(())
}

#[tokio::test]
async fn dropping_the_handle_kills() -> Result<()> {
    let (_folder, nats) = start().await?;
    let pid = nats.pid();
    drop(nats);
    assert!(!runs(pid));
    Ok(())
}

#[tokio::test]
async fn a_directory_in_use_is_refused() -> Result<()> {
    let (folder, nats) = start().await?;
    let error = Nats::start(nats_options(folder.path())).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(runs(nats.pid()));
    Ok(())
}

#[tokio::test]
async fn an_error_at_the_start_has_the_end_of_the_log() -> Result<()> {
    let folder = tempdir()?;
    let mut options = nats_options(folder.path());
    options.max_payload = u32::MAX;
    let error = Nats::start(options).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("max_payload"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_foreign_process_in_the_record_is_not_touched() -> Result<()> {
    let folder = tempdir()?;
    let options = nats_options(folder.path());
    // Without our output streams: if this test fails, it sleeps on, and a reader of our output would wait for it.
    let mut foreign =
        Command::new("sleep").arg("120").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let nats = Nats::start(options.clone()).await?;
    nats.kill().await?;
    let record = options.data_dir.join("server.json");

    // The pid was reused: once by a process with another start time, once by another program.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", foreign.id()))?;
    let began: u64 = stat.split(' ').nth(21).unwrap_or_default().parse()?;
    let sleep = std::fs::read_link(format!("/proc/{}/exe", foreign.id()))?;
    let mut was: serde_json::Value = serde_json::from_slice(&std::fs::read(&record)?)?;
    let server = was["process"]["exe"].clone();
    for (start_time, exe) in [(began - 1, serde_json::to_value(&sleep)?), (began, server)] {
        was["process"]["pid"] = foreign.id().into();
        was["process"]["start_time"] = start_time.into();
        was["process"]["exe"] = exe;
        std::fs::write(&record, was.to_string())?;
        let nats = Nats::start(options.clone()).await?;
        assert!(!nats.adopted());
        assert_ne!(nats.pid(), foreign.id());
        nats.stop().await?;
        assert_eq!(foreign.try_wait()?, None, "the foreign process was ended");
    }
    foreign.kill()?;
    foreign.wait()?;
    Ok(())
}

#[test]
fn one_handle_serves_several_runtimes() -> Result<()> {
    let folder = tempdir()?;
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let nats = runtime()?.block_on(Nats::start(nats_options(folder.path())))?;
    let pid = nats.pid();
    assert!(runs(pid));
    runtime()?.block_on(nats.stop())?;
    eventually("the server has ended", || !runs(pid));
    Ok(())
}
