//! The documents: their lists are complete and right.

use std::collections::BTreeSet;

use contract::{ProblemKind, State};

use super::sample::keys;
use super::{file, text};

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/receipts.md",
    "docs/reliability.md",
    "docs/remotes.md",
    "docs/security.md",
];

/// All documents, decisions too.
fn documents() -> Vec<String> {
    let decisions = std::fs::read_dir(file("docs/decisions")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let decisions = decisions.map(|entry| format!("docs/decisions/{}", name(entry)));
    DOCUMENTS.into_iter().map(str::to_owned).chain(decisions).collect()
}

/// The texts in backquotes on one line.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let readme = text("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    // The other tables list commands.
    let is_setting = |name: &str| !name.contains(' ') && (name.contains('.') || name == "default_remote");
    let rows: Vec<_> = rows.filter(|(name, _)| is_setting(name)).collect();
    let keys = keys();
    assert_eq!(rows.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), keys.keys().map(String::as_str).collect());
    for (name, rest) in rows {
        let default = rest.split(" | ").next().unwrap();
        match keys[name].default_of(name) {
            Some(value) => assert_eq!(default, format!("`{value}`"), "{name}"),
            None => assert!(["none", "needed"].contains(&default), "{name}: {default}"),
        }
    }
}

#[test]
fn every_problem_is_explained() {
    let operations = text("docs/operations.md");
    // The first cells of its tables.
    let rows = operations.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let explained: BTreeSet<&str> = rows.flat_map(quoted).collect();
    for kind in ProblemKind::ALL {
        assert!(explained.contains(kind.name()), "docs/operations.md does not explain {kind}");
    }
    for state in State::ALL {
        assert!(explained.contains(state.as_str()), "docs/operations.md does not explain the state {state}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        let folder = file(&document).parent().unwrap().to_owned();
        for link in text(&document).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                assert!(folder.join(path).exists(), "{document}: {link} leads nowhere");
                links += 1;
            }
        }
    }
    assert!(links > 5, "only {links} links were found");
}

#[test]
fn files_that_are_named_are_there() {
    let mut files = 0;
    for document in documents() {
        for path in quoted(&text(&document)).into_iter().filter(|path| path.contains('/') && path.ends_with(".rs")) {
            assert!(file(path).is_file(), "{document}: there is no {path}");
            files += 1;
        }
    }
    assert!(files > 20, "only {files} files were named");
}

#[test]
fn the_readmes_commands_are_there() {
    let (readme, ci) = (text("README.md"), text(".ci/run"));
    assert!(
        readme.lines().any(|line| line == "cargo demo") && readme.lines().any(|line| line == "cargo test --workspace")
    );
    assert!(text(".cargo/config.toml").lines().any(|line| line.starts_with("demo = ")), "cargo demo is no alias");
    assert!(ci.contains("cargo test --workspace\n"), ".ci/run does not run the README's command");
    use std::os::unix::fs::PermissionsExt;
    assert_ne!(file(".ci/run").metadata().unwrap().permissions().mode() & 0o111, 0, ".ci/run cannot be run");
}
