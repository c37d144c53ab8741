//! Secrets in settings and in files, and that they are never shown.

use contract::{SigningKey, private_key_pem};
use settings::SettingsError;

use crate::{file, load, load_environment, load_file, refused};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    // The first as some editors save it, with a byte order mark.
    let (password, uri, jwt) = (file("\u{feff}open sesame\r\n"), file("mongodb://ada:pw@h/\n"), file(JWT_SECRET));
    let text = format!(
        "[nats]\nusername = \"ada\"\npassword_file = {:?}\n[mongodb]\nuri_file = {:?}\n[auth]\njwt_secret_file = {:?}",
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
    assert_eq!(settings.nats.password().unwrap().unwrap().expose(), "given", "the setting wins over the file");
    assert_eq!(settings.mongodb.uri().unwrap().expose(), "mongodb://given/");
    assert!(load_environment(&[]).unwrap().nats.password().unwrap().is_none());
}

#[test]
fn a_secret_that_is_missing_or_too_short_is_named() {
    let text = "[nats]\nusername = \"ada\"\npassword_file = \"/no/password\"\n[mongodb]\nuri_file = \"/no/uri\"\n[auth]\njwt_secret_file = \"/no/jwt\"";
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
    assert!(format!("{settings:?}").contains("ada"), "the rest is shown");
    // Not even if another setting is wrong.
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
fn no_error_repeats_what_may_be_a_secret() {
    let remote = |keys: &str| format!("[remotes.a]\n{keys}\n");
    let http = |keys: &str| remote(&format!("kind = \"http\"\nurl = \"https://h/\"\n{keys}"));
    let sftp = "kind = \"sftp\"\nhost = \"ada:hush@h\"\nhost_key = \"SHA256:a\"\nusername = \"ada\"\npath = \".\"";
    for (text, named) in [
        (http("headers = \"Bearer hush\""), "expected a map"),
        (http("headers = \"Bearer hush, expected hush\""), "expected a map"),
        (http("headers = [\"Bearer hush\"]"), "expected a map"),
        (http("[remotes.a.headers]\n\"Authorization: Bearer hush\" = \"\""), "headers"),
        (remote(sftp), "host"),
        (remote("kind = \"http\"\nurl = \"https://ada:hush@h/\""), "url"),
        ("[auth]\ntoken_seconds = \"hush\"".into(), "token_seconds"),
        ("auth = \"hush\"".into(), "auth"),
        ("[nats]\nurl = \"nats://ada:hush@h\"".into(), "nats.username and nats.password"),
        ("[nats]\nurl = \"nats://a, tls://hush@b:4222\"".into(), "nats.url"),
        ("[nats]\npassword = \"hush\"".into(), "nats.username"),
    ] {
        let why = refused(load_file(&text));
        assert!(!why.contains("hush") && why.contains(named), "{text}: {why}");
    }
    let why = refused(load("", &[("WAYBILL__REMOTES__A__KIND", "http"), ("WAYBILL__REMOTES__A__HEADERS", "hush")]));
    assert!(!why.contains("hush"), "{why}");
    let why = refused(load_file("[nats]\nusername = \"ada\""));
    assert!(why.contains("nats.password"), "{why}");
}

#[test]
fn receipts_are_signed_with_the_configured_key() {
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
    // No key, and a variable that a compose file passes on although nobody has set it.
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
