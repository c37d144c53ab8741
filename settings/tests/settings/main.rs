//! What services are told: defaults, a file, the environment; and what they do not accept.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use contract::{NameTemplate, SigningKey, private_key_pem};
use settings::{
    BlockCompressor, HttpRemote, HttpVersion, LogFormat, OnClash, RemoteSettings, S3Remote, Secret, Settings,
    SettingsError, SftpCredentials, SftpRemote, WebdavRemote,
};
use tempfile::NamedTempFile;

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn environment(variables: &[(&str, &str)]) -> HashMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load_with(Some(file(text).path()), Some(environment(variables)))
}

fn load_file(text: &str) -> Result<Settings, SettingsError> {
    load(text, &[])
}

fn load_environment(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load_with(None, Some(environment(variables)))
}

/// What is said about settings that are not accepted.
#[track_caller]
fn refused(loaded: Result<Settings, SettingsError>) -> String {
    loaded.map(|settings| panic!("accepted: {settings:?}")).unwrap_err().to_string()
}

#[test]
fn without_a_word_everything_is_as_documented() {
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
fn a_file_says_what_differs() {
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
    assert_eq!(settings.work.lease_ms, 15_000, "the rest is as before");
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
    // A number, one with a meaningless zero, one too large, one with an exponent, a truth.
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
fn a_key_that_nobody_knows_is_refused() {
    for section in [
        "nats",
        "mongodb",
        "files",
        "work",
        "retry",
        "auth",
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
fn a_file_that_is_not_there_or_no_toml_is_refused() {
    let why = refused(Settings::load_with(Some("/does/not/exist.toml".as_ref()), Some(HashMap::new())));
    assert!(why.contains("/does/not/exist.toml"), "{why}");
    refused(load_file("[nats\nurl = 1"));
}

/// Every setting with bounds, with its least and its greatest value as documented.
const BOUNDED: [(&str, &str, i64, i64); 22] = [
    ("mongodb", "pool_size", 1, 1000),
    ("mongodb", "operation_timeout_ms", 500, 120_000),
    ("mongodb", "server_selection_timeout_ms", 100, 60_000),
    ("files", "chunk_size", 65_536, 4_194_304),
    ("files", "embed_limit", 0, 15_728_640),
    ("work", "lease_ms", 1_000, 600_000),
    ("work", "sweep_ms", 100, 60_000),
    ("work", "grace_ms", 500, 300_000),
    ("retry", "first_ms", 10, 600_000),
    ("retry", "max_ms", 10, 86_400_000),
    ("retry", "attempts", 1, 10_000),
    ("auth", "token_seconds", 1, 86_400),
    ("gateway", "body_limit", 1_024, 16_777_216),
    ("gateway", "max_connections", 1, 100_000),
    ("gateway", "read_timeout_ms", 100, 600_000),
    ("chunker", "concurrency", 1, 64),
    ("chunker", "window", 2, 16),
    ("chunker", "chunk_timeout_ms", 100, 60_000),
    ("store", "writers", 1, 64),
    ("store", "in_flight_bytes", 4_194_304, 1_073_741_824),
    ("finaliser", "concurrency", 1, 64),
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
fn webdav_is_a_server_as_of_http() {
    let share = "[remotes.share]\nkind = \"webdav\"\nurl = \"https://dav.example/in/\"\n";
    let settings =
        load_file(&format!("{share}username = \"ada\"\non_clash = \"skip\"\nhttp_version = \"auto\"")).unwrap();
    let server = HttpRemote {
        username: Some("ada".into()),
        on_clash: OnClash::Skip,
        http_version: HttpVersion::Auto,
        ..HttpRemote::new("https://dav.example/in/")
    };
    assert_eq!(settings.remotes["share"], RemoteSettings::Webdav(WebdavRemote { server }));
    assert_eq!((settings.remotes["share"].kind(), settings.remotes["share"].on_clash()), ("webdav", OnClash::Skip));
    for wrong in ["nobody = 1", "idle_timeout_ms = 1", "password = \"x\"", "http_version = \"3\"", "redirects = 1"] {
        refused(load_file(&format!("{share}{wrong}")));
    }
    for (text, version) in [("1.1", HttpVersion::One), ("2", HttpVersion::Two), ("auto", HttpVersion::Auto)] {
        let settings = load(share, &[("WAYBILL__REMOTES__SHARE__HTTP_VERSION", text)]).unwrap();
        let RemoteSettings::Webdav(share) = &settings.remotes["share"] else { panic!("{settings:?}") };
        assert_eq!(share.server.http_version, version);
    }
}

#[test]
fn where_a_request_may_be_sent_on_to() {
    let http = |scheme: &str, more: &str| {
        load_file(&format!("[remotes.a]\nkind = \"http\"\nurl = \"{scheme}://a.example/\"\n{more}"))
    };
    http("https", "redirects = 5\nredirect_origins = [\"https://b.example\", \"https://c.example:8443\"]").unwrap();
    http("http", "redirect_origins = [\"http://b.example\", \"https://c.example\"]").unwrap();
    assert!(refused(http("https", "redirects = 6")).contains("redirects"));
    for origin in ["http://b.example", "b.example", "https://", "https://b.example/in", "https://ada@b.example", ""] {
        let why = refused(http("https", &format!("redirect_origins = [\"{origin}\"]")));
        assert!(why.contains("redirect_origins"), "{origin}: {why}");
    }
}

#[test]
fn s3_takes_its_credentials_from_wherever_they_are() {
    let [access, secret, token] = ["AKIA\n", "hush-secret", "hush-token\n"].map(file);
    let bucket = "[remotes.bucket]\nkind = \"s3\"\nurl = \"https://s3.example/bucket/\"\n";
    let s3 = |settings: Settings| match &settings.remotes["bucket"] {
        RemoteSettings::S3(s3) => s3.clone(),
        other => panic!("{other:?}"),
    };
    let files = format!(
        "access_key_file = {:?}\nsecret_key_file = {:?}\nsession_token_file = {:?}\n",
        access.path(),
        secret.path(),
        token.path()
    );
    let remote = s3(load_file(&format!("{bucket}{files}")).unwrap());
    assert_eq!(S3Remote { part_size: 8 << 20, in_flight_bytes: 32 << 20, ..remote.clone() }, remote);
    assert!(remote.conditional && remote.checksums && remote.region == "us-east-1");
    let found = remote.credentials().unwrap();
    let text = |secret: &Secret| secret.expose().to_owned();
    assert_eq!((&*found.access_key, text(&found.secret_key)), ("AKIA", "hush-secret".to_owned()));
    assert_eq!(found.session_token.as_ref().map(text).as_deref(), Some("hush-token"));
    // They may be renewed while the service runs.
    std::fs::write(secret.path(), "hush-renewed").unwrap();
    assert_eq!(text(&remote.credentials().unwrap().secret_key), "hush-renewed");

    let environment =
        [("WAYBILL__REMOTES__BUCKET__ACCESS_KEY", "007"), ("WAYBILL__REMOTES__BUCKET__SECRET_KEY", "1e3")];
    let remote = s3(load(bucket, &environment).unwrap());
    let found = remote.credentials().unwrap();
    assert_eq!((&*found.access_key, text(&found.secret_key), found.session_token), ("007", "1e3".to_owned(), None));
    let missing = s3(load_file(bucket).unwrap()).credentials().unwrap_err();
    assert!(matches!(missing, SettingsError::Missing { key: "access_key", .. }), "{missing}");

    let clear = "access_key = \"AKIA\"\nsecret_key = \"hush-secret\"\nsession_token = \"hush-token\"\n";
    let settings = load_file(&format!("{bucket}{clear}")).unwrap();
    assert!(!format!("{settings:?}").contains("hush") && format!("{settings:?}").contains("AKIA"));
    for wrong in
        ["part_size = 8388607", "in_flight_bytes = 1", "region = \"\"", "region = \"a b\"", "idle_timeout_ms = 1"]
    {
        let why = refused(load_file(&format!("{bucket}{clear}{wrong}")));
        assert!(why.contains(wrong.split(' ').next().unwrap()) && !why.contains("hush"), "{wrong}: {why}");
    }
}

#[test]
fn sftp_logs_in_by_a_key_or_by_a_password() {
    let [password, key, passphrase] = ["hush-password\n", "hush-key\nof two lines\n", "hush-passphrase\n"].map(file);
    let inbox = "[remotes.inbox]\nkind = \"sftp\"\nhost = \"sftp.example\"\nusername = \"ada\"\npath = \"in\"\n\
        host_key = \"\"\"\n\n  ssh-ed25519 AAAA of ours\nSHA256:abc\n\"\"\"\n";
    let sftp = |settings: Settings| match &settings.remotes["inbox"] {
        RemoteSettings::Sftp(sftp) => sftp.clone(),
        other => panic!("{other:?}"),
    };
    let remote = sftp(load_file(&format!("{inbox}password_file = {:?}", password.path())).unwrap());
    let default = SftpRemote::new("sftp.example", remote.host_key.clone(), "ada");
    assert_eq!(SftpRemote { path: "in".into(), password_file: Some(password.path().to_owned()), ..default }, remote);
    assert_eq!((remote.port, remote.idle_timeout_ms, remote.on_clash), (22, 30_000, OnClash::Refuse));
    assert_eq!(remote.host_keys().collect::<Vec<_>>(), ["ssh-ed25519 AAAA of ours", "SHA256:abc"]);
    let is = |text: &str| SftpCredentials::Password(Secret::new(text.into()));
    assert_eq!(remote.credentials().unwrap(), is("hush-password"));
    // It may be renewed while the service runs.
    std::fs::write(password.path(), "hush-renewed").unwrap();
    assert_eq!(remote.credentials().unwrap(), is("hush-renewed"));
    // A key wins.
    let by_key = format!(
        "{inbox}password = \"hush\"\nprivate_key_file = {:?}\npassphrase_file = {:?}",
        key.path(),
        passphrase.path()
    );
    let settings = load_file(&by_key).unwrap();
    assert!(!format!("{settings:?}").contains("hush"));
    let [key, passphrase] = ["hush-key\nof two lines", "hush-passphrase"].map(|text| Secret::new(text.into()));
    assert_eq!(sftp(settings).credentials().unwrap(), SftpCredentials::PrivateKey(key, Some(passphrase)));
    // What looks like a number is none.
    let environment = [
        ("WAYBILL__REMOTES__INBOX__PASSWORD", "007"),
        ("WAYBILL__REMOTES__INBOX__PATH", "2026"),
        ("WAYBILL__REMOTES__INBOX__PORT", "2222"),
    ];
    let remote = sftp(load(inbox, &environment).unwrap());
    assert_eq!((remote.path.as_str(), remote.port, remote.credentials().unwrap()), ("2026", 2222, is("007")));

    assert!(refused(load_file(inbox)).contains("private_key_file"));
    for (key, wrong) in [
        ("host", "\"\""),
        ("host", "\"a b\""),
        ("host", "\"ada@sftp.example\""),
        ("port", "0"),
        ("port", "65536"),
        ("host_key", "\" \\n \""),
        ("username", "\"\""),
        ("path", "\"\""),
        ("path", "\"a\\nb\""),
        ("idle_timeout_ms", "99"),
    ] {
        let lines: Vec<_> = by_key.lines().filter(|line| !line.starts_with(&format!("{key} ="))).collect();
        let text = lines.join("\n");
        // The lines of a key that stood over several.
        let text = if key == "host_key" {
            text.replace("\n\n  ssh-ed25519 AAAA of ours\nSHA256:abc\n\"\"\"", "")
        } else {
            text
        };
        let why = refused(load_file(&format!("{text}\n{key} = {wrong}")));
        assert!((why.contains(key) || wrong == "65536") && !why.contains("hush"), "{key} = {wrong}: {why}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_key() {
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
        (http("http://a/") + "\nheaders = { \"a b\" = \"hush\" }", "a b"),
        (http("http://a/") + "\nheaders = { X-Key = \"hush\\nHost: b\" }", "X-Key"),
        (http("ftp://a/"), "remotes.archive"),
        (http("http://a"), "remotes.archive"),
        (http("http://a/?b/"), "remotes.archive"),
        (http("http://a/#b/"), "remotes.archive"),
        (http("http://ada:secret@a/"), "remotes.archive"),
    ] {
        let why = refused(load_file(&text));
        assert!(why.contains(key) && !why.contains("ada:secret") && !why.contains("hush"), "{text}: {why}");
    }
}

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    let (password, uri, jwt) = (file("open sesame\r\n"), file("mongodb://ada:pw@h/\n"), file(JWT_SECRET));
    let text = format!(
        "[nats]\npassword_file = {:?}\n[mongodb]\nuri_file = {:?}\n[auth]\njwt_secret_file = {:?}",
        password.path(),
        uri.path(),
        jwt.path()
    );
    let settings = load_file(&text).unwrap();
    assert_eq!(settings.nats.password().unwrap().unwrap().expose(), "open sesame");
    assert_eq!(settings.mongodb.uri().unwrap().expose(), "mongodb://ada:pw@h/");
    assert_eq!(settings.auth.jwt_secret().unwrap().expose(), JWT_SECRET);
    assert!(settings.mongodb.is_configured());

    let both = [("WAYBILL__NATS__PASSWORD", "given"), ("WAYBILL__MONGODB__URI", "mongodb://given/")];
    let settings = load(&text, &both).unwrap();
    assert_eq!(settings.nats.password().unwrap().unwrap().expose(), "given", "what is said outright wins");
    assert_eq!(settings.mongodb.uri().unwrap().expose(), "mongodb://given/");
    assert!(load_environment(&[]).unwrap().nats.password().unwrap().is_none());
}

#[test]
fn a_secret_that_is_not_there_or_too_short_is_named() {
    let text = "[nats]\npassword_file = \"/no/password\"\n[mongodb]\nuri_file = \"/no/uri\"\n[auth]\njwt_secret_file = \"/no/jwt\"";
    let settings = load_file(text).unwrap();
    let errors = [
        (settings.nats.password().unwrap_err(), "nats.password_file", "/no/password"),
        (settings.mongodb.uri().unwrap_err(), "mongodb.uri_file", "/no/uri"),
        (settings.auth.jwt_secret().unwrap_err(), "auth.jwt_secret_file", "/no/jwt"),
    ];
    for (error, key, path) in errors {
        let told = error.to_string();
        assert!(
            matches!(error, SettingsError::SecretFile { .. }) && told.contains(key) && told.contains(path),
            "{told}"
        );
    }

    let wrong = load_environment(&[("WAYBILL__MONGODB__URI", "hush@h")]).unwrap().mongodb.uri().unwrap_err();
    assert!(matches!(&wrong, SettingsError::Value { key, .. } if key == "mongodb.uri"), "{wrong}");
    assert!(!wrong.to_string().contains("hush"), "{wrong}");
    let missing = load_environment(&[]).unwrap().auth.jwt_secret().unwrap_err();
    assert!(matches!(missing, SettingsError::Missing { key: "auth.jwt_secret", .. }), "{missing}");
    let short = &JWT_SECRET[1..];
    let short = load_environment(&[("WAYBILL__AUTH__JWT_SECRET", short)]).unwrap().auth.jwt_secret().unwrap_err();
    assert!(matches!(&short, SettingsError::Value { key, .. } if key == "auth.jwt_secret"), "{short}");
    assert!(!short.to_string().contains("abcdef"), "{short}");
}

#[test]
fn secrets_are_never_shown() {
    let text = r#"
        [nats]
        username = "ada"
        password = "hush-nats"
        [mongodb]
        uri = "mongodb://ada:hush-mongodb@h/"
        [auth]
        jwt_secret = "hush-jwt-0123456789abcdef0123456789"
    "#;
    let settings = load_file(text).unwrap();
    let uri = settings.mongodb.uri().unwrap();
    let options = ledger::LedgerOptions::from_settings(&settings, "a").unwrap();
    for shown in [format!("{settings:?}"), format!("{settings:#?}"), format!("{uri:?}"), format!("{options:?}")] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(format!("{settings:?}").contains("ada"), "the rest is");
    // Not even where a neighbour is wrong.
    let why = refused(load_file(&format!("{text}\n[work]\nlease_ms = 1")));
    assert!(!why.contains("hush"), "{why}");
    let why = refused(load_file(&text.replace("username = \"ada\"", "username = []")));
    assert!(!why.contains("hush"), "{why}");
    let why = refused(load_file(&text.replace("hush-jwt-0123456789abcdef0123456789\"", "hush")));
    assert!(!why.contains("hush"), "{why}");
    let why = refused(load_file(&text.replace("\"hush-nats\"", "[\"hush-nats\"]")));
    assert!(!why.contains("hush"), "{why}");
}

#[test]
fn receipts_are_signed_with_what_is_configured() {
    let key = SigningKey::from_seed(&[7; 32]).public();
    let hex = "07".repeat(32);
    let pem = file(&private_key_pem(&[7; 32]));
    let of_file = load_file(&format!("[receipts]\nsigning_key_file = {:?}", pem.path())).unwrap();
    for settings in [
        load_environment(&[("WAYBILL__RECEIPTS__SIGNING_KEY", &hex)]).unwrap(),
        load_file(&format!("[receipts]\nsigning_key = {hex:?}")).unwrap(),
        load("[receipts]\nsigning_key = \"x\"", &[("WAYBILL__RECEIPTS__SIGNING_KEY", &private_key_pem(&[7; 32]))])
            .unwrap(),
        of_file,
    ] {
        assert!(settings.receipts.is_configured());
        assert_eq!(settings.receipts.signing_key().unwrap().unwrap().public(), key);
        assert!(!format!("{settings:?}").contains(&hex));
    }
    // Nothing, and a variable that a compose file hands on though nobody has set it.
    for settings in
        [load_environment(&[]).unwrap(), load_environment(&[("WAYBILL__RECEIPTS__SIGNING_KEY", "")]).unwrap()]
    {
        assert!(!settings.receipts.is_configured());
        assert!(settings.receipts.signing_key().unwrap().is_none());
    }
    let hush = load_file("[receipts]\nsigning_key = \"hush\"").unwrap().receipts.signing_key().unwrap_err().to_string();
    assert!(hush.contains("receipts.signing_key is wrong") && !hush.contains("hush"), "{hush}");
    let other = file("-----BEGIN PUBLIC KEY-----\n");
    let other = load_file(&format!("[receipts]\nsigning_key_file = {:?}", other.path())).unwrap();
    let refused = other.receipts.signing_key().unwrap_err().to_string();
    assert!(refused.contains("receipts.signing_key_file is wrong"), "{refused}");
    let absent = load_file("[receipts]\nsigning_key_file = \"/no/key\"").unwrap().receipts.signing_key().unwrap_err();
    assert!(absent.to_string().contains("/no/key"), "{absent}");
}
