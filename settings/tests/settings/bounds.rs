//! Values that are refused.

use crate::{load_environment, load_file, refused};

/// Every number in a section, with its smallest and its largest value as documented.
const BOUNDED: [(&str, &str, i64, i64); 34] = [
    ("mongodb", "pool_size", 1, 1000),
    ("mongodb", "operation_timeout_ms", 500, 120_000),
    ("mongodb", "server_selection_timeout_ms", 100, 60_000),
    ("files", "chunk_size", 65_536, 4_194_304),
    ("files", "embed_limit", 0, 15_728_640),
    ("files", "max_size", 1, 1 << 54),
    ("files", "settle_seconds", 0, 86_400),
    ("work", "lease_ms", 1_000, 600_000),
    ("work", "sweep_ms", 100, 60_000),
    ("work", "grace_ms", 500, 300_000),
    ("retry", "first_ms", 10, 600_000),
    ("retry", "max_ms", 10, 86_400_000),
    ("retry", "attempts", 1, 10_000),
    ("retry", "max_age_seconds", 60, 31_536_000),
    ("retention", "stored_seconds", 60, 315_360_000),
    ("retention", "delivered_seconds", 0, 315_360_000),
    ("retention", "failed_seconds", 0, 315_360_000),
    ("retention", "cancelled_seconds", 0, 315_360_000),
    ("retention", "record_seconds", 3_600, 315_360_000),
    ("auth", "token_seconds", 1, 86_400),
    ("gateway", "body_limit", 1_024, 16_777_216),
    ("gateway", "max_connections", 1, 100_000),
    ("gateway", "max_connections_per_peer", 1, 100_000),
    ("gateway", "read_timeout_ms", 100, 600_000),
    ("gateway", "free_space_floor", 0, 1 << 50),
    ("chunker", "concurrency", 1, 64),
    ("chunker", "window", 2, 16),
    ("chunker", "chunk_timeout_ms", 100, 60_000),
    ("store", "writers", 1, 64),
    ("store", "in_flight_bytes", 4_194_304, 1_073_741_824),
    ("store", "free_space_floor", 0, 1 << 50),
    ("finaliser", "concurrency", 1, 64),
    ("finaliser", "per_remote", 1, 64),
    ("finaliser", "prefetch", 4, 16),
];

#[test]
fn every_number_has_its_bounds() {
    for (section, key, least, greatest) in BOUNDED {
        let load = |value: i64| load_file(&format!("[{section}]\n{key} = {value}"));
        for value in [least, greatest] {
            load(value).unwrap_or_else(|why| panic!("{section}.{key} = {value}: {why}"));
        }
        for value in [least - 1, greatest + 1, -1, i64::MIN, i64::MAX] {
            let why = refused(load(value));
            assert!(why.contains(key), "{section}.{key} = {value}: {why}");
        }
        for value in ["\"\"", "\"many\"", "[]", "{}"] {
            refused(load_file(&format!("[{section}]\n{key} = {value}")));
        }
        let variable = format!("WAYBILL__{}__{}", section.to_uppercase(), key.to_uppercase());
        load_environment(&[(&variable, &greatest.to_string())]).unwrap();
        let why = refused(load_environment(&[(&variable, &(greatest + 1).to_string())]));
        assert!(why.contains(key), "{variable}: {why}");
    }
    let idle =
        |ms: i64| load_file(&format!("[remotes.a]\nkind = \"http\"\nurl = \"http://a/\"\nidle_timeout_ms = {ms}"));
    idle(100).unwrap();
    idle(600_000).unwrap();
    for ms in [-1, 0, 99, 600_001] {
        assert!(refused(idle(ms)).contains("idle_timeout_ms") || ms < 0, "{ms}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_key() {
    let http = |url: &str| format!("[remotes.archive]\nkind = \"http\"\nurl = {url:?}");
    for (text, key) in [
        ("[nats]\nprefix = \"a.b\"".to_owned(), "nats.prefix"),
        ("[nats]\nprefix = \"\"".to_owned(), "nats.prefix"),
        ("[nats]\nprefix = \"Waybill\"".to_owned(), "nats.prefix"),
        (format!("[nats]\nprefix = \"{}\"", "a".repeat(33)), "nats.prefix"),
        ("[mongodb]\ndatabase = \"\"".to_owned(), "mongodb.database"),
        ("[mongodb]\ndatabase = \"a.b\"".to_owned(), "mongodb.database"),
        ("[mongodb]\ndatabase = \"$a\"".to_owned(), "mongodb.database"),
        ("[mongodb]\nblock_compressor = \"lz4\"".to_owned(), "block_compressor"),
        ("[files]\nroots = [\"/srv\", \"relative\"]".to_owned(), "files.roots"),
        ("[files]\nroots = [\"\"]".to_owned(), "files.roots"),
        ("[gateway]\nlisten = \"localhost\"".to_owned(), "listen"),
        ("[telemetry]\nformat = \"xml\"".to_owned(), "format"),
        ("default_remote = \"archive\"".to_owned(), "default_remote"),
        ("[remotes.\"a/b\"]\nkind = \"directory\"\npath = \"/a\"".to_owned(), "remotes"),
        ("[remotes.archive]\nkind = \"directory\"\npath = \"a\"".to_owned(), "remotes.archive"),
        (http("http://a/") + "\non_clash = \"keep\"", "keep"),
        (http("http://a/") + "\nname = \"../{name}\"", "names a folder"),
        (http("http://a/") + "\nname = \"{nmae}\"", "nmae"),
        (http("http://a/") + "\nname = \"\"", "empty"),
        (http("http://a/") + "\npassword = \"hush\"", "username"),
        (http("http://a/") + "\nusername = \"a:b\"", "username"),
        (http("http://a/") + "\nheaders = { If-None-Match = \"hush\" }", "If-None-Match"),
        (http("http://a/") + "\nheaders = { \"a: hush\" = \"b\" }", "begins with \"a\""),
        (http("http://a/") + "\nheaders = { X-Key = \"hush\\nHost: b\" }", "X-Key"),
        (http("ftp://a/"), "remotes.archive"),
        (http("http://a"), "remotes.archive"),
        (http("http://a/?b/"), "remotes.archive"),
        (http("http://a/#b/"), "remotes.archive"),
        (http("http://ada:secret@a/"), "remotes.archive"),
        (http("http://a/in@b/"), "%40"),
    ] {
        let why = refused(load_file(&text));
        assert!(why.contains(key) && !why.contains("ada:secret") && !why.contains("hush"), "{text}: {why}");
    }
}
