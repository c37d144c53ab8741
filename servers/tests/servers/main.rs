//! The servers, started for real. Each test has a data directory of its own.

mod locate;
mod mongo;
mod nats;
mod nginx;
mod orphans;
mod seaweed;
mod sshd;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use servers::{MIN_CACHE_MIB, MongoOptions, NatsOptions};

/// Generous: only something broken takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

fn nats_options(folder: &Path) -> NatsOptions {
    let mut options = NatsOptions::new(folder.join("nats"), 2 << 20);
    options.die_with_parent = true;
    options
}

fn mongo_options(folder: &Path) -> MongoOptions {
    let mut options = MongoOptions::new(folder.join("mongo"), MIN_CACHE_MIB);
    options.die_with_parent = true;
    options
}

/// Waits, with a deadline, for a condition that nobody reports.
#[expect(clippy::disallowed_methods, reason = "this is the wait with a deadline")]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs; a zombie does not.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state != Some("Z")
}

/// A listener that hangs up on everyone, so that a port is taken.
fn rude_listener(port: u16) -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(port)
}

/// Panics unless only the owner can read the folder and every file in it that has `secret`, and the command line of the
/// process has it not. Returns how many files have it.
fn assert_kept(folder: &Path, pid: u32, secret: &str) -> usize {
    let mode = |path: &Path| std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
    assert_eq!(mode(folder).ok(), Some(0o700));
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!command.contains(secret), "{command}");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let telling = files.filter(|file| std::fs::read(file).is_ok_and(|text| contains(&text, secret.as_bytes())));
    telling.inspect(|file| assert_eq!(mode(file).ok(), Some(0o600), "{}", file.display())).count()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The password in an address.
fn password(address: &str) -> &str {
    let (login, _) = address.split_once('@').unwrap_or_else(|| panic!("no login in {address}"));
    login.rsplit_once(':').unwrap().1
}
