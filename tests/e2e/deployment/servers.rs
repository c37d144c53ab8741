//! `deploy/nats.conf`: the settings that the services need of NATS.

use std::process::Command;

use contract::{CHUNK_SIZE_MAX, PAYLOAD_HEADROOM};
use servers::Server;

use super::compose::{service, settings};
use super::{file, text};

const CONFIGURATION: &str = "deploy/nats.conf";

/// The only value of a key, in any section.
fn value(key: &str) -> String {
    let text = text(CONFIGURATION);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values: Vec<_> = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect();
    let [one] = values.as_slice() else { panic!("expected one {key}, found {values:?}") };
    (*one).to_owned()
}

#[test]
fn the_largest_chunk_fits_and_acknowledged_means_synced() {
    let payload: u32 = value("max_payload").parse().expect("a number of bytes");
    assert!(payload >= CHUNK_SIZE_MAX + PAYLOAD_HEADROOM, "{payload}");
    assert_eq!(value("sync_interval"), "always");
}

#[test]
fn the_health_checks_ask_the_right_ports() {
    let nats = service("nats");
    assert_eq!(value("listen"), "0.0.0.0:4222");
    assert!(settings("store").nats.url().ends_with(":4222"));
    let (_, monitoring) = value("http").rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a port");
    let health = nats["healthcheck"]["test"].to_string();
    assert!(health.contains(&format!("127.0.0.1:{monitoring}/healthz")), "{health}");
    let volumes = nats["volumes"].to_string();
    assert!(volumes.contains(&format!("nats:{}\"", value("store_dir"))), "{volumes}");
    assert!(volumes.contains(CONFIGURATION) && nats["command"].to_string().contains("/etc/nats/nats.conf"));
}

/// A key that nats-server does not know, or a value that it cannot read, would keep it from starting.
#[test]
fn nats_server_accepts_it() {
    let server = servers::locate(Server::Nats).unwrap_or_else(|error| panic!("{error}"));
    let checked = Command::new(server.path).arg("-t").arg("--config").arg(file(CONFIGURATION)).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
