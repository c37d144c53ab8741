//! Defaults, a file and the environment.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use contract::NameTemplate;
use settings::{BlockCompressor, HttpRemote, LogFormat, OnClash, RemoteSettings, Settings};

use crate::{load, load_environment, load_file, refused};

#[test]
fn the_defaults_are_as_documented() {
    let settings = load_environment(&[]).unwrap();
    assert_eq!((settings.nats.url(), settings.nats.prefix.as_str()), ("nats://127.0.0.1:4222", "waybill"));
    assert_eq!(settings.mongodb.uri().unwrap().expose(), "mongodb://127.0.0.1:27017/?replicaSet=rs0");
    assert_eq!((settings.mongodb.database.as_str(), settings.mongodb.pool_size), ("waybill", 32));
    assert_eq!(settings.mongodb.block_compressor, BlockCompressor::None);
    assert!(!settings.mongodb.is_configured());
    assert_eq!((settings.files.chunk_size, settings.files.embed_limit), (1 << 20, 2 << 20));
    assert!(settings.files.roots.is_empty() && settings.remotes.is_empty() && settings.default_remote.is_none());
    assert_eq!(settings.work.lease(), Duration::from_secs(15));
    assert_eq!((settings.work.sweep(), settings.work.grace()), (Duration::from_secs(3), Duration::from_secs(10)));
    assert_eq!((settings.retry.max_ms, settings.auth.token_seconds), (15 * 60_000, 30 * 60));
    assert_eq!(settings.chunker.window, 16);
    assert_eq!((settings.store.in_flight_bytes, settings.finaliser.prefetch), (32 << 20, 8));
    assert_eq!(settings.gateway.listen.to_string(), "127.0.0.1:8080");
    assert!(settings.health.listen.is_none());
    assert_eq!((settings.telemetry.format, settings.telemetry.filter.as_str()), (LogFormat::Plain, "info"));
    settings.check().unwrap();
}

#[test]
fn a_file_overrides_the_defaults() {
    let settings = load_file(
        r#"
        default_remote = "archive"
        [nats]
        url = "nats://a:1,nats://b:2"
        [mongodb]
        block_compressor = "zstd"
        [files]
        roots = ["/srv/a", "/srv/b:c"]
        [health]
        listen = "[::1]:9000"
        [telemetry]
        format = "json"
        [remotes.archive]
        kind = "http"
        url = "https://archive.example/in/"
        on_clash = "skip"
        [remotes.Share_2]
        kind = "directory"
        path = "/mnt/share"
        name = "{yyyy}/{mm}/{dd}/{metadata.tenant}-{name}"
        "#,
    )
    .unwrap();
    assert_eq!(settings.nats.url(), "nats://a:1,nats://b:2");
    assert_eq!(settings.mongodb.block_compressor, BlockCompressor::Zstd);
    assert_eq!(settings.files.roots, [PathBuf::from("/srv/a"), PathBuf::from("/srv/b:c")]);
    assert_eq!(settings.health.listen, Some("[::1]:9000".parse().unwrap()));
    assert_eq!(settings.telemetry.format, LogFormat::Json);
    assert_eq!(settings.default_remote.as_deref(), Some("archive"));
    let url = "https://archive.example/in/".to_owned();
    let archive = HttpRemote { on_clash: OnClash::Skip, ..HttpRemote::new(url) };
    assert_eq!(settings.remotes["archive"], RemoteSettings::Http(archive));
    assert_eq!(settings.remotes["archive"].on_clash(), OnClash::Skip);
    assert_eq!(settings.remotes["archive"].name().to_string(), "{name}");
    let share = &settings.remotes["Share_2"];
    assert_eq!((share.kind(), share.on_clash()), ("directory", OnClash::Refuse));
    assert_eq!(share.name().to_string(), "{yyyy}/{mm}/{dd}/{metadata.tenant}-{name}");
    assert_eq!(settings.work.lease_ms, 15_000, "the rest keeps its default");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[work]\nlease_ms = 20000\ngrace_ms = 20000\n[nats]\nprefix = \"of-the-file\"";
    let settings = load(text, &[("WAYBILL__WORK__LEASE_MS", "30000"), ("WAYBILL__NATS__PREFIX", "mine")]).unwrap();
    assert_eq!((settings.work.lease_ms, settings.work.grace_ms), (30_000, 20_000));
    assert_eq!(settings.nats.prefix, "mine");
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let settings = load_environment(&[
        ("WAYBILL__FILES__ROOTS", "/srv/a:/srv/b"),
        ("WAYBILL__HEALTH__LISTEN", "0.0.0.0:9000"),
        ("WAYBILL__MONGODB__URI", "mongodb://a:1,b:2/?replicaSet=rs0"),
        ("WAYBILL__MONGODB__BLOCK_COMPRESSOR", "snappy"),
        ("WAYBILL__TELEMETRY__FILTER", "chunker=debug,info"),
        ("WAYBILL__REMOTES__ARCHIVE__KIND", "http"),
        ("WAYBILL__REMOTES__ARCHIVE__URL", "http://127.0.0.1:9000/"),
        ("WAYBILL__REMOTES__ARCHIVE__IDLE_TIMEOUT_MS", "500"),
        ("WAYBILL__REMOTES__ARCHIVE__ON_CLASH", "replace"),
        ("WAYBILL__REMOTES__ARCHIVE__NAME", "2026"),
        ("WAYBILL__DEFAULT_REMOTE", "archive"),
        // Not ours.
        ("WAYBILL_TEST_NATS_URL", "nats://elsewhere"),
        ("OTHER__NATS__URL", "nats://elsewhere"),
    ])
    .unwrap();
    assert_eq!(settings.files.roots, [PathBuf::from("/srv/a"), PathBuf::from("/srv/b")]);
    assert_eq!(settings.health.listen, Some("0.0.0.0:9000".parse().unwrap()));
    assert_eq!(settings.mongodb.uri().unwrap().expose(), "mongodb://a:1,b:2/?replicaSet=rs0");
    assert_eq!(settings.mongodb.block_compressor, BlockCompressor::Snappy);
    assert_eq!(settings.telemetry.filter, "chunker=debug,info");
    let url = "http://127.0.0.1:9000/".to_owned();
    let name = NameTemplate::new("2026").unwrap();
    let archive = HttpRemote { idle_timeout_ms: 500, on_clash: OnClash::Replace, name, ..HttpRemote::new(url) };
    assert_eq!(settings.remotes["archive"], RemoteSettings::Http(archive));

    let one = load_environment(&[("WAYBILL__FILES__ROOTS", "/srv/a")]).unwrap();
    assert_eq!(one.files.roots, [PathBuf::from("/srv/a")]);
}

#[test]
fn text_that_looks_like_something_else_stays_as_it_is() {
    // A number, one with a leading zero, one too large, one with an exponent, a boolean.
    for text in
        ["12345678", "007", "98765432109876543210", "12345678901234567890e12345678901", "1e3", "TRUE", "+5", "nan"]
    {
        let settings = load_environment(&[
            ("WAYBILL__NATS__USERNAME", text),
            ("WAYBILL__NATS__PASSWORD", text),
            ("WAYBILL__MONGODB__DATABASE", text),
            ("WAYBILL__AUTH__JWT_SECRET", text),
        ])
        .unwrap();
        assert_eq!(settings.nats.username.as_deref(), Some(text));
        assert_eq!(settings.nats.password().unwrap().unwrap().expose(), text);
        assert_eq!(settings.mongodb.database, text);
        assert_eq!(settings.auth.jwt_secret.unwrap().expose(), text);
    }
}

#[test]
fn an_unknown_key_is_refused() {
    for section in [
        "nats",
        "mongodb",
        "files",
        "work",
        "retry",
        "retention",
        "auth",
        "receipts",
        "gateway",
        "chunker",
        "store",
        "finaliser",
        "health",
        "telemetry",
    ] {
        let why = refused(load_file(&format!("[{section}]\nlaese_ms = 1")));
        assert!(why.contains("laese_ms"), "{section}: {why}");
        let variable = format!("WAYBILL__{}__LAESE_MS", section.to_uppercase());
        let why = refused(load_environment(&[(&variable, "1")]));
        assert!(why.contains("laese_ms"), "{variable}: {why}");
    }
    for text in ["laese_ms = 1", "[laese_ms]\na = 1"] {
        let why = refused(load_file(text));
        assert!(why.contains("laese_ms"), "{text}: {why}");
    }
    let remote = "[remotes.a]\nkind = \"directory\"\npath = \"/a\"\n";
    let why = refused(load_file(&format!("{remote}laese_ms = 1")));
    assert!(why.contains("laese_ms"), "{why}");
    refused(load_file(&format!("{remote}url = \"http://a/\"")));
    refused(load_file("[remotes.a]\nkind = \"ftp\"\npath = \"/a\""));
    refused(load_file("[remotes.a]\npath = \"/a\""));
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_refused() {
    let why = refused(Settings::load_with(Some("/does/not/exist.toml".as_ref()), Some(HashMap::new())));
    assert!(why.contains("/does/not/exist.toml"), "{why}");
    refused(load_file("[nats\nurl = 1"));
}
