//! `deploy/Dockerfile` and `.dockerignore`: the image has the binaries that the compose file runs.

use std::collections::BTreeSet;

use super::compose::{OURS, settings};
use super::{file, table, text};

const DOCKERFILE: &str = "deploy/Dockerfile";

/// The instructions, each on one line, without comments.
fn instructions() -> Vec<String> {
    let lines: Vec<_> =
        text(DOCKERFILE).lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// The rest of the only instruction that begins with this word.
fn only(beginning: &str) -> String {
    let all: Vec<_> =
        instructions().iter().filter_map(|line| line.strip_prefix(beginning).map(str::to_owned)).collect();
    let [one] = all.as_slice() else { panic!("expected one {beginning:?}, found {all:?}") };
    one.clone()
}

/// The binaries that are copied into the image.
fn binaries() -> BTreeSet<String> {
    let copied = only("COPY --from=builder ");
    copied.split(' ').filter_map(|word| word.strip_prefix("/out/")).map(str::to_owned).collect()
}

fn packages() -> Vec<String> {
    let members = table("Cargo.toml")["workspace"]["members"].as_array().expect("members").clone();
    members.iter().map(|member| member.as_str().expect("a path").to_owned()).collect()
}

#[test]
fn binaries_are_packages_and_are_all_there() {
    let expected: BTreeSet<_> = OURS.into_iter().chain(["waybill"]).map(str::to_owned).collect();
    assert_eq!(binaries(), expected);
    let build = only("RUN --mount=type=cache");
    let words: Vec<_> = build.split(' ').collect();
    let built: BTreeSet<_> = words.windows(2).filter(|two| two[0] == "-p").map(|two| two[1].to_owned()).collect();
    assert_eq!(built, expected);
    assert!(words.contains(&"--locked") && words.contains(&"--release"));
    for binary in expected {
        assert!(words.contains(&format!("target/release/{binary}").as_str()), "{binary} is lost with the cache");
        assert!(packages().contains(&binary), "{binary} is no member of the workspace");
        assert_eq!(table(&format!("{binary}/Cargo.toml"))["package"]["name"].as_str(), Some(binary.as_str()));
        assert!(file(&format!("{binary}/src/main.rs")).is_file(), "{binary} is no binary");
    }
}

#[test]
fn the_compiler_is_new_enough() {
    let version = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    let froms: Vec<_> = instructions().into_iter().filter(|line| line.starts_with("FROM ")).collect();
    let [builder, last] = froms.as_slice() else { panic!("expected two stages, found {froms:?}") };
    let tag = builder.strip_prefix("FROM rust:").and_then(|rest| rest.split([' ', '-']).next()).expect("a rust image");
    let needed = table("Cargo.toml")["workspace"]["package"]["rust-version"].as_str().expect("a version").to_owned();
    assert!(version(tag).len() >= 2 && version(tag) >= version(&needed), "{builder}: {needed} is needed");
    // Both stages have the same system, or the binaries may miss their libraries.
    assert!(builder.contains("bookworm") && last.contains("bookworm"), "{builder}, {last}");
}

#[test]
fn the_container_is_run_as_nobody_and_stopped_by_a_signal() {
    let user = only("USER ");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    assert_eq!(only("STOPSIGNAL "), "SIGTERM");
    let exposed: BTreeSet<u16> = only("EXPOSE ").split(' ').map(|port| port.parse().unwrap()).collect();
    let health = settings("store").health.listen.expect("an address for health checks");
    assert_eq!(exposed, BTreeSet::from([settings("gateway").gateway.listen.port(), health.port()]));
    assert!(!instructions().iter().any(|line| line.starts_with("ENV ") || line.starts_with("ARG ")));
}

#[test]
fn the_build_is_sent_all_it_needs_and_no_more() {
    let ignore = text(".dockerignore");
    let sent: BTreeSet<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    assert!(ignore.lines().any(|line| line == "*"), "everything is sent");
    let needed = packages().into_iter().chain(["Cargo.toml", "Cargo.lock", ".cargo"].map(str::to_owned)).collect();
    assert_eq!(sent, needed);
}
