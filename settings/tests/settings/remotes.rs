//! The settings of each kind of remote.

use settings::{
    HttpRemote, HttpVersion, OnClash, RemoteSettings, S3Remote, Secret, Settings, SettingsError, SftpCredentials,
    SftpRemote, WebdavRemote,
};

use crate::{file, load, load_file, refused};

#[test]
fn webdav_has_the_settings_of_http() {
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
fn the_folder_for_staging_files_has_a_name() {
    let kinds = [
        "kind = \"directory\"\npath = \"/a\"",
        "kind = \"webdav\"\nurl = \"http://a/\"",
        "kind = \"sftp\"\nhost = \"a\"\nhost_key = \"SHA256:a\"\nusername = \"a\"\npassword = \"a\"\npath = \"a\"",
    ];
    let name = |settings: &Settings| match &settings.remotes["a"] {
        RemoteSettings::Directory(directory) => directory.staging_folder.to_string(),
        RemoteSettings::Sftp(sftp) => sftp.staging_folder.to_string(),
        RemoteSettings::Webdav(webdav) => webdav.staging_folder().to_string(),
        other => panic!("{other:?}"),
    };
    for kind in kinds {
        let text = format!("[remotes.a]\n{kind}\n");
        assert_eq!(name(&load_file(&text).unwrap()), ".waybill");
        assert_eq!(name(&load_file(&format!("{text}staging_folder = \"in progress\"")).unwrap()), "in progress");
        assert_eq!(name(&load(&text, &[("WAYBILL__REMOTES__A__STAGING_FOLDER", "007")]).unwrap()), "007");
        for wrong in ["", ".", "..", "a/b", "/", &"a".repeat(256)] {
            refused(load_file(&format!("{text}staging_folder = {wrong:?}")));
        }
    }
    let http = "[remotes.a]\nkind = \"http\"\nurl = \"http://a/\"\nstaging_folder = \"staging\"";
    assert!(refused(load_file(http)).contains("staging_folder: expected none for http"));
}

#[test]
fn redirects_are_limited_to_the_named_servers() {
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
fn s3_credentials_come_from_settings_files_or_the_environment() {
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
fn sftp_logs_in_with_a_key_or_a_password() {
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
    // A key wins over a password.
    let by_key = format!(
        "{inbox}password = \"hush\"\nprivate_key_file = {:?}\npassphrase_file = {:?}",
        key.path(),
        passphrase.path()
    );
    let settings = load_file(&by_key).unwrap();
    assert!(!format!("{settings:?}").contains("hush"));
    let [key, passphrase] = ["hush-key\nof two lines", "hush-passphrase"].map(|text| Secret::new(text.into()));
    assert_eq!(sftp(settings).credentials().unwrap(), SftpCredentials::PrivateKey(key, Some(passphrase)));
    // A password or a path that looks like a number stays text.
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
        // The other lines of a value that had several.
        let text = if key == "host_key" {
            text.replace("\n\n  ssh-ed25519 AAAA of ours\nSHA256:abc\n\"\"\"", "")
        } else {
            text
        };
        let why = refused(load_file(&format!("{text}\n{key} = {wrong}")));
        assert!((why.contains(key) || wrong == "65536") && !why.contains("hush"), "{key} = {wrong}: {why}");
    }
}
