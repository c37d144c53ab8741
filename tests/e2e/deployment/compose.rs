//! `docker-compose.yml`: its services, their settings and their health checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use clap::{Args, Command};
use serde_json::Value;
use settings::ServiceArgs;
use settings::{RemoteSettings, Settings};

use super::sample::{self, SAMPLE};
use super::{file, load, text};

const COMPOSE: &str = "docker-compose.yml";

/// Our four services.
pub(super) const OURS: [&str; 4] = ["gateway", "chunker", "store", "finaliser"];

/// The compose file, with its anchors resolved and its variables as they stand.
static FILE: LazyLock<Value> =
    LazyLock::new(|| serde_saphyr::from_str(&text(COMPOSE)).unwrap_or_else(|e| panic!("{COMPOSE} is no YAML: {e}")));

/// A service of the compose file.
pub(super) fn service(name: &str) -> &'static Value {
    FILE["services"].get(name).unwrap_or_else(|| panic!("there is no service {name}"))
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().expect("a text")).collect()
}

/// The variables in a text: their names, and what follows these (`:-default`, `:?message`).
fn variables(text: &str) -> Vec<(&str, &str)> {
    let begun = text.split("${").skip(1);
    let inner = begun.map(|rest| rest.split_once('}').expect("a closing brace").0);
    inner.map(|inner| inner.split_at(inner.find(':').unwrap_or(inner.len()))).collect()
}

/// The text with the defaults of its variables; a variable that must be set gets 40 characters.
fn filled(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, rest) in variables(&text.clone()) {
        let must = "0123456789abcdef".repeat(3);
        let value = match (rest.strip_prefix(":-"), rest.strip_prefix(":?")) {
            (Some(default), _) => default,
            (_, Some(message)) if !message.is_empty() => &must[..40],
            _ => panic!("expected ${{{name}:-default}} or ${{{name}:?message}}"),
        };
        text = text.replace(&format!("${{{name}{rest}}}"), value);
    }
    text
}

/// The environment of a service, variables filled in.
fn environment(name: &str) -> BTreeMap<String, String> {
    let set = service(name)["environment"].as_object().unwrap_or_else(|| panic!("{name} has no environment"));
    set.iter().map(|(key, value)| (key.clone(), filled(value.as_str().expect("a text")))).collect()
}

/// The settings that a service of ours runs with.
pub(super) fn settings(name: &str) -> Settings {
    let environment = environment(name);
    let pairs: Vec<_> = environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    load(Some(&file(SAMPLE)), &pairs).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What is mounted in a service: target, source, options.
fn mounts(name: &str) -> Vec<(String, String, String)> {
    let mount = |text: &str| {
        let text = filled(text);
        let mut parts = text.split(':');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (source, target) = (part(), part());
        (target, source, part())
    };
    words(&service(name)["volumes"]).into_iter().map(mount).collect()
}

#[test]
fn the_services_are_ours_and_their_servers() {
    let names: BTreeSet<_> = FILE["services"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, OURS.into_iter().chain(["nats", "mongodb"]).collect());
}

#[test]
fn images_are_pinned() {
    for name in ["nats", "mongodb"].iter().chain(&OURS) {
        let image = service(name)["image"].as_str().unwrap();
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        let version = tag.split('-').next().unwrap();
        let numbers: Vec<_> = version.split('.').filter(|part| part.parse::<u32>().is_ok()).collect();
        assert_eq!(numbers.len(), 3, "{image}: expected a version of three numbers");
        if OURS.contains(name) {
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{image}");
        }
    }
    // One image, built once: two builds of one name at the same time fail.
    let images: BTreeSet<_> = OURS.iter().map(|name| service(name)["image"].as_str()).collect();
    let builds: Vec<_> = OURS.iter().filter(|name| service(name).get("build").is_some()).collect();
    assert_eq!((images.len(), builds.len()), (1, 1));
    assert!(file(service(builds[0])["build"]["dockerfile"].as_str().unwrap()).is_file());
}

#[test]
fn every_variable_is_a_setting() {
    let known: BTreeSet<String> = sample::keys().into_keys().collect();
    for name in OURS {
        for variable in environment(name).keys() {
            let setting = variable.strip_prefix("WAYBILL__").unwrap_or_else(|| panic!("{name}: {variable}"));
            let setting = setting.to_lowercase().replace("__", ".");
            assert!(known.contains(&setting), "{name}: there is no setting {setting}");
        }
        settings(name);
    }
}

#[test]
fn the_settings_point_to_the_servers() {
    let command = words(&service("mongodb")["command"]);
    let set = command.iter().position(|word| *word == "--replSet").map(|at| command[at + 1]).expect("--replSet");
    let health = words(&service("mongodb")["healthcheck"]["test"]).join(" ");
    assert!(health.contains(&format!("_id: \"{set}\"")) && health.contains("host: \"mongodb:27017\""), "{health}");
    for name in OURS {
        let settings = settings(name);
        assert_eq!(settings.nats.url(), "nats://nats:4222");
        let uri = settings.mongodb.uri().unwrap();
        assert_eq!(uri.expose(), format!("mongodb://mongodb:27017/?replicaSet={set}"));
        let needs: BTreeSet<_> = service(name)["depends_on"].as_object().unwrap().keys().collect();
        assert_eq!(needs, BTreeSet::from([&"mongodb".to_owned(), &"nats".to_owned()]));
        for server in needs {
            assert_eq!(service(name)["depends_on"][server]["condition"], "service_healthy", "{name}");
            assert!(service(server)["healthcheck"]["test"].is_array(), "{server} has no health check");
        }
    }
}

#[test]
fn commands_are_what_the_binaries_take() {
    for name in OURS {
        let command = words(&service(name)["command"]);
        let health = words(&service(name)["healthcheck"]["test"]);
        let ["CMD", probe @ ..] = health.as_slice() else { panic!("{name}: {health:?}") };
        for (words, is_probe) in [(command.as_slice(), false), (probe, true)] {
            assert_eq!(words[0], name);
            let parsed = ServiceArgs::augment_args(Command::new(name)).try_get_matches_from(words);
            let parsed = parsed.unwrap_or_else(|error| panic!("{name} does not take {words:?}: {error}"));
            assert_eq!(parsed.get_flag("probe"), is_probe);
            let config = parsed.get_one::<std::path::PathBuf>("config").unwrap_or_else(|| panic!("{words:?}"));
            let mounted = mounts(name).into_iter().find(|(target, ..)| config.as_os_str() == target.as_str());
            let (_, source, options) = mounted.unwrap_or_else(|| panic!("{name}: {config:?} is not mounted"));
            assert_eq!(
                (file(&source).canonicalize().unwrap(), options),
                (file(SAMPLE).canonicalize().unwrap(), "ro".into())
            );
        }
    }
}

#[test]
fn addresses_can_be_reached_and_asked() {
    let published = words(&service("gateway")["ports"]);
    let listen = settings("gateway").gateway.listen;
    assert!(listen.ip().is_unspecified(), "{listen} cannot be reached from outside its container");
    let [port] = published.as_slice() else { panic!("{published:?}") };
    assert_eq!(filled(port), format!("8080:{}", listen.port()));
    for name in OURS.into_iter().filter(|name| *name != "gateway") {
        assert!(settings(name).health.listen.is_some(), "{name}: the probe has nobody to ask");
    }
}

#[test]
fn workers_can_be_scaled() {
    for name in OURS {
        let service = service(name);
        assert!(service.get("container_name").is_none(), "{name}: only one can have that name");
        assert!(name == "gateway" || service.get("ports").is_none(), "{name}: only one can have that port");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        let period = service["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s')).expect("seconds");
        let grace = settings(name).work.grace();
        assert!(period.parse::<u64>().unwrap() > grace.as_secs(), "{name} is killed before its {grace:?} are over");
    }
}

#[test]
fn folders_are_mounted_where_the_settings_say() {
    for root in &settings("chunker").files.roots {
        let of = |name| mounts(name).into_iter().find(|(target, ..)| root.as_os_str() == target.as_str());
        let (gateway, chunker) = (of("gateway"), of("chunker"));
        assert!(gateway.is_some() && gateway == chunker, "{root:?}: {gateway:?}, {chunker:?}");
        assert!(gateway.is_some_and(|(_, _, options)| options == "ro"), "{root:?} can be written to");
    }
    let settings = settings("finaliser");
    assert!(settings.default_remote.is_some());
    for (name, remote) in &settings.remotes {
        let RemoteSettings::Directory(directory) = remote else { continue };
        let mounted = mounts("finaliser").into_iter().find(|(at, ..)| directory.path.as_os_str() == at.as_str());
        assert!(mounted.is_some_and(|(_, _, options)| options.is_empty()), "{name} cannot be written to");
    }
    let named: BTreeSet<_> = FILE["volumes"].as_object().unwrap().keys().cloned().collect();
    let all = FILE["services"].as_object().unwrap().keys().flat_map(|name| mounts(name));
    let used: BTreeSet<_> = all.map(|(_, source, _)| source).filter(|source| !source.contains('/')).collect();
    assert_eq!(used, named);
}

#[test]
fn secrets_come_from_outside() {
    let mut found = 0;
    for name in FILE["services"].as_object().unwrap().keys() {
        let environment = service(name)["environment"].as_object();
        for (key, value) in environment.into_iter().flatten() {
            let value = value.as_str().expect("a text");
            let (_, address) = value.split_once("://").unwrap_or_default();
            assert!(!address.contains('@'), "{name}: {key} may hold a password");
            if ["SECRET", "PASSWORD", "TOKEN", "CREDENTIALS"].iter().any(|word| key.contains(word)) {
                let [(_, rest)] = variables(value)[..] else { panic!("{name}: {key} is in the file") };
                assert!(value.starts_with("${") && rest.starts_with(":?"), "{name}: {key} has a value in the file");
                found += 1;
            }
            if key.contains("KEY") {
                assert!(matches!(variables(value)[..], [(_, ":-")]), "{name}: {key} has a value in the file");
            }
        }
    }
    assert_eq!(found, 1, "expected the secret of the tokens");
    assert!(settings("gateway").auth.jwt_secret().is_ok());
    for name in ["chunker", "store", "finaliser"] {
        assert!(settings(name).auth.jwt_secret.is_none(), "{name} signs no tokens");
    }
    assert!(!settings("finaliser").receipts.is_configured(), "a key that nobody has set is none");
}

#[test]
fn the_example_lists_what_may_be_set() {
    let example: &'static str = text(".env.example").leak();
    let lines: Vec<_> = example.lines().filter(|line| line.trim_start_matches('#').starts_with("WAYBILL_")).collect();
    let listed: BTreeSet<_> =
        lines.iter().map(|line| line.trim_start_matches('#').split('=').next().unwrap()).collect();
    let compose: &'static str = text(COMPOSE).leak();
    assert_eq!(listed, variables(compose).into_iter().map(|(name, _)| name).collect());
    for (name, rest) in variables(compose) {
        // A required variable is listed without a value, one with a default in a comment that shows it.
        let shown = match rest.strip_prefix(":-") {
            Some(default) => format!("#{name}={default}"),
            None => format!("{name}="),
        };
        assert!(lines.contains(&shown.as_str()), "expected the line {shown:?} in .env.example");
    }
}
