//! nats-server: its data, its port, its ends.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream;
use servers::{Error, Nats, NatsOptions};
use tempfile::tempdir;

use crate::{DEADLINE, eventually, nats_options, rude_listener, runs};

/// Makes a stream with one message.
async fn keep_a_message(nats: &Nats) -> Result<()> {
    let jetstream = jetstream::new(async_nats::connect(nats.url()).await?);
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
    let jetstream = jetstream::new(async_nats::connect(nats.url()).await?);
    Ok(jetstream.get_stream("KEPT").await?.cached_info().state.messages)
}

#[tokio::test]
async fn keeps_its_data_and_its_port_over_a_restart() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
    nats.kill().await?;
    rude_listener(nats.port())?;
    let moved = Nats::start(nats.options().clone()).await?;
    assert_ne!(moved.port(), nats.port());
    async_nats::connect(moved.url()).await?;
    Ok(())
}

#[tokio::test]
async fn a_port_asked_for_by_name_is_taken_or_refused() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
async fn is_adopted_after_leave() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
async fn with_other_settings_is_ended_and_started_anew() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
async fn that_does_not_answer_is_not_adopted() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
async fn says_nothing_while_it_is_paused() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
    let pid = nats.pid();
    drop(nats);
    assert!(!runs(pid));
    Ok(())
}

#[tokio::test]
async fn a_directory_in_use_is_refused() -> Result<()> {
    let folder = tempdir()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
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
    // With no streams of ours: if this test fails it sleeps on, and whoever reads our output would wait for it.
    let mut foreign =
        Command::new("sleep").arg("120").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let nats = Nats::start(options.clone()).await?;
    nats.kill().await?;
    let record = options.data_dir.join("server.json");

    // The pid was used again: once by a process that began at another time, once by another program.
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
