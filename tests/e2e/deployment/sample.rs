//! `deploy/waybill.toml`: every setting with its default, and with bounds that hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use settings::{RemoteSettings, S3Remote, Settings, SftpRemote};

use super::{file, load, text};

pub(super) const SAMPLE: &str = "deploy/waybill.toml";

/// The keys that the sample sets to other values than the code: without these nothing could be sent.
const OWN: [&str; 4] = ["files.roots", "default_remote", "remotes.NAME.kind", "remotes.NAME.path"];

/// A remote of each kind, so that the test knows the keys of all.
const REMOTES: [(&str, &str); 14] = [
    ("WAYBILL__REMOTES__ARCHIVE__KIND", "http"),
    ("WAYBILL__REMOTES__ARCHIVE__URL", "http://archive.example/"),
    ("WAYBILL__REMOTES__DELIVERED__KIND", "directory"),
    ("WAYBILL__REMOTES__DELIVERED__PATH", "/data/delivered"),
    ("WAYBILL__REMOTES__BUCKET__KIND", "s3"),
    ("WAYBILL__REMOTES__BUCKET__URL", "http://s3.example/bucket/"),
    ("WAYBILL__REMOTES__SHARE__KIND", "webdav"),
    ("WAYBILL__REMOTES__SHARE__URL", "http://dav.example/share/"),
    ("WAYBILL__REMOTES__INBOX__KIND", "sftp"),
    ("WAYBILL__REMOTES__INBOX__HOST", "sftp.example"),
    ("WAYBILL__REMOTES__INBOX__HOST_KEY", "SHA256:..."),
    ("WAYBILL__REMOTES__INBOX__USERNAME", "waybill"),
    ("WAYBILL__REMOTES__INBOX__PRIVATE_KEY_FILE", "/run/secrets/inbox-key"),
    ("WAYBILL__REMOTES__INBOX__PATH", "in"),
];

/// The names of the remotes in the sample, as sections.
const SECTIONS: [&str; 5] =
    ["remotes.archive", "remotes.delivered", "remotes.bucket", "remotes.share", "remotes.inbox"];

/// Defaults of remotes that are shown in a comment.
const SHOWN: [&str; 10] = [
    "http_version",
    "redirects",
    "idle_timeout_ms",
    "bucket_in_host",
    "region",
    "part_size",
    "in_flight_bytes",
    "conditional",
    "checksums",
    "port",
];

/// A key of the sample.
pub(super) struct Key {
    /// The value as written.
    pub(super) value: String,
    /// Whether it is set, not only shown in a comment.
    pub(super) live: bool,
    /// The comment above it.
    comment: String,
    /// The name in the environment.
    variable: String,
}

impl Key {
    /// The default of the code, if the sample shows it.
    pub(super) fn default_of<'a>(&'a self, name: &str) -> Option<&'a str> {
        let shown = self.live || name.strip_prefix("remotes.NAME.").is_some_and(|key| SHOWN.contains(&key));
        (shown && !OWN.contains(&name)).then_some(self.value.as_str())
    }

    fn number(&self) -> Option<u64> {
        self.value.replace('_', "").parse().ok()
    }

    /// `N to M` in the comment.
    fn bounds(&self) -> Option<(u64, u64)> {
        let words: Vec<&str> = self.comment.split_whitespace().collect();
        let number = |word: &str| word.trim_end_matches(['.', ';', ':', ',']).replace(',', "").parse().ok();
        words.windows(3).filter(|three| three[1] == "to").find_map(|three| Some((number(three[0])?, number(three[2])?)))
    }
}

/// All keys by name, those in comments too; a remote is called NAME.
pub(super) fn keys() -> BTreeMap<String, Key> {
    let (mut keys, mut section, mut comment) = (BTreeMap::new(), String::new(), String::new());
    for line in text(SAMPLE).lines() {
        let (live, said) = line.strip_prefix("# ").map_or((true, line), |said| (false, said));
        if let Some(name) = said.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
            comment.clear();
        } else if let Some((key, value)) = said.split_once(" = ").filter(|(key, _)| is_key(key)) {
            let name = format!("{section}{key}");
            let variable = format!("WAYBILL__{}", name.replace('.', "__").to_uppercase());
            let name = SECTIONS.iter().fold(name, |name, section| name.replace(section, "remotes.NAME"));
            let key = Key { value: value.to_owned(), live, comment: std::mem::take(&mut comment), variable };
            keys.insert(name, key);
        } else if line.is_empty() {
            comment.clear();
        } else {
            comment = format!("{comment} {said}");
        }
    }
    keys
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The keys that the code knows, as it names them when it meets one that it does not know.
fn known_to_the_code() -> BTreeSet<String> {
    let asked = |section: &str| -> Vec<String> {
        let variable = format!("WAYBILL__{section}NOBODYKNOWSTHIS");
        let environment = [&REMOTES[..], &[(variable.as_str(), "1")]].concat();
        let refusal = load(None, &environment).expect_err("an unknown key was taken").to_string();
        let (_, expected) = refusal.split_once("expected ").unwrap_or_else(|| panic!("{section}: {refusal}"));
        // The words in backquotes, up to the key that caused the error.
        let (listed, _) = expected.split_once(" for key").unwrap_or((expected, ""));
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut known = BTreeSet::new();
    for name in asked("") {
        match name.as_str() {
            "default_remote" => drop(known.insert(name)),
            "remotes" => {
                let of_kinds = ["ARCHIVE", "DELIVERED", "BUCKET", "SHARE", "INBOX"]
                    .map(|name| asked(&format!("REMOTES__{name}__")));
                known.extend(of_kinds.concat().iter().map(|key| format!("remotes.NAME.{key}")));
                known.insert("remotes.NAME.kind".to_owned());
            }
            section => {
                let keys = asked(&format!("{}__", section.to_uppercase()));
                assert!(!keys.is_empty(), "no keys of {section} are known");
                known.extend(keys.iter().map(|key| format!("{section}.{key}")));
            }
        }
    }
    known
}

/// The text as a file; it is removed with what is returned.
fn written(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn the_sample_has_every_key_and_no_other() {
    let shown: BTreeSet<String> = keys().into_keys().collect();
    assert_eq!(shown, known_to_the_code());
}

#[test]
fn the_sample_parses_and_shows_the_defaults() {
    let mut settings = load(Some(&file(SAMPLE)), &[]).unwrap();
    assert_eq!(settings.files.roots, ["/data/source"].map(std::path::PathBuf::from));
    assert_eq!(settings.default_remote.as_deref(), Some("delivered"));
    assert_eq!(settings.remotes.keys().collect::<Vec<_>>(), ["delivered"]);
    // Secrets never print, so they do not show below.
    assert!(!settings.mongodb.is_configured() && settings.nats.password.is_none());
    let default = Settings::default();
    settings.files.roots.clone_from(&default.files.roots);
    settings.default_remote.clone_from(&default.default_remote);
    settings.remotes.clone_from(&default.remotes);
    assert_eq!(format!("{settings:#?}"), format!("{default:#?}"));
}

#[test]
fn values_in_comments_are_right_too() {
    let is_section = |said: &str| SECTIONS.iter().any(|section| said == format!("[{section}]"));
    let shown = |line: &str| match line.strip_prefix("# ") {
        Some(said) if is_section(said) || said.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => said.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text(SAMPLE).lines().map(shown).collect();
    let settings = load(Some(written(&all.join("\n")).path()), &[]).unwrap();
    assert_eq!(settings.nats.username.as_deref(), Some("waybill"));
    assert!(settings.health.listen.is_some() && settings.auth.jwt_secret.is_some());
    let least = load(None, &REMOTES).unwrap();
    let timeout = |settings: &Settings| match &settings.remotes["archive"] {
        RemoteSettings::Http(http) => (http.idle_timeout_ms, http.http_version, http.redirects),
        other => panic!("expected an http remote, found {other:?}"),
    };
    assert_eq!(timeout(&settings), timeout(&least));
    let s3 = |settings: &Settings| match &settings.remotes["bucket"] {
        RemoteSettings::S3(s3) => S3Remote { region: s3.region.clone(), ..shape(s3) },
        other => panic!("expected an s3 remote, found {other:?}"),
    };
    assert_eq!(s3(&settings), s3(&least));
    let sftp = |settings: &Settings| match &settings.remotes["inbox"] {
        RemoteSettings::Sftp(SftpRemote { port, idle_timeout_ms, on_clash, .. }) => {
            (*port, *idle_timeout_ms, *on_clash)
        }
        other => panic!("expected an sftp remote, found {other:?}"),
    };
    assert_eq!(sftp(&settings), sftp(&least));
}

/// Only keys that have a default.
fn shape(s3: &S3Remote) -> S3Remote {
    let S3Remote { idle_timeout_ms, part_size, in_flight_bytes, conditional, checksums, .. } = *s3;
    S3Remote { idle_timeout_ms, part_size, in_flight_bytes, conditional, checksums, ..S3Remote::new("http://a/") }
}

#[test]
fn bounds_in_comments_are_those_of_the_code() {
    let mut numbers = 0;
    for (name, key) in keys().iter().filter(|(_, key)| key.number().is_some()) {
        let (least, most) = key.bounds().unwrap_or_else(|| panic!("{name} has no bounds: {}", key.comment));
        let taken = |value: u64| load(None, &[&REMOTES[..], &[(&key.variable, &value.to_string())]].concat()).is_ok();
        assert!(taken(least) && taken(most), "{name}: {least} or {most} is refused");
        assert!(least == 0 || !taken(least - 1), "{name}: {} is taken", least - 1);
        assert!(!taken(most + 1), "{name}: {} is taken", most + 1);
        numbers += 1;
    }
    assert!(numbers > 20, "only {numbers} numbers were found");
}

#[test]
fn an_unknown_key_is_an_error() {
    for (right, wrong) in [
        ("lease_ms = ", "leese_ms = "),
        ("[chunker]", "[chunkre]"),
        ("\npath = ", "\nfolder = \"/\"\npath = "),
        ("default_remote = ", "remote = "),
    ] {
        let sample = text(SAMPLE);
        assert!(sample.contains(right), "{right}");
        let changed = written(&sample.replacen(right, wrong, 1));
        let refused = load(Some(changed.path()), &[]).expect_err(wrong).to_string();
        assert!(refused.contains("unknown field"), "{wrong}: {refused}");
    }
}
