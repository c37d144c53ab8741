use std::collections::BTreeMap;

use contract::{Digest, FileId, State};

use super::{Case, Found, Rule, Sent, Violation};

type Records = BTreeMap<FileId, Found>;

/// R1: every accepted file is accounted for, and nothing else is recorded.
pub(super) fn accounted(case: &Case<'_>, records: &Records) -> Vec<Violation> {
    let wrong = |what: String| Violation::new(Rule::Accounted, what);
    let mut broken = Vec::new();
    for sent in case.sent {
        let name = &sent.name;
        match records.get(&sent.id) {
            None => broken.push(wrong(format!("{name} ({}) was accepted, and there is no record of it", sent.id))),
            Some(found) => broken.extend(ended(case, sent, found).map(|why| wrong(format!("{name}: {why}")))),
        }
    }
    for (id, found) in records {
        if !case.sent.iter().any(|sent| sent.id == *id) {
            broken.push(wrong(format!("{id} is recorded ({}), but no client was told so", found.state)));
        }
    }
    broken
}

/// What is wrong with the way a file has ended, if it has ended.
fn ended(case: &Case<'_>, sent: &Sent, found: &Found) -> Option<String> {
    let kind = found.error.as_deref().unwrap_or_default();
    match found.state {
        State::Delivered => {
            let expected = sent.content.sha256;
            if found.receipt_sha256 != Some(expected.to_string()) {
                return Some(format!("the receipt has SHA-256 {:?}, expected {expected}", found.receipt_sha256));
            }
            match at_remote(case, sent) {
                None => Some("it is delivered, but the remote does not have it".into()),
                Some(sha256) if sha256 != expected => {
                    Some(format!("it is delivered, but the remote has SHA-256 {sha256}, expected {expected}"))
                }
                Some(_) => None,
            }
        }
        State::Failed if sent.excuses.contains(&kind) && !found.detail.is_empty() => None,
        State::Failed => Some(format!(
            "it failed with {kind:?} ({}); expected that only with one of {:?}",
            found.detail, sent.excuses
        )),
        State::Stored if !found.expected => match (sent.may_rest, kind, sent.refused.as_deref()) {
            (true, "digest-mismatch" | "size-mismatch" | "chunk-count-mismatch", _) => None,
            (true, _, Some("digest-mismatch" | "size-mismatch" | "chunk-count-mismatch")) => None,
            _ => Some(format!("it rests in stored, with {kind:?} ({}), told {:?}", found.detail, sent.refused)),
        },
        State::Cancelled => Some("it was cancelled, and nobody had asked for that".into()),
        _ => None,
    }
}

/// SHA-256 of what the remote shows under the file's name.
fn at_remote(case: &Case<'_>, sent: &Sent) -> Option<Digest> {
    match case.sinks.iter().find(|(remote, _)| *remote == sent.remote) {
        Some((_, sink)) => Some(sink.object(&format!("/in/{}", sent.name))?.1),
        None => Some(Digest::of(&std::fs::read(case.system.remote().join(&sent.name)).ok()?)),
    }
}

/// R2: what a remote has taken more than once.
pub(super) fn once(case: &Case<'_>) -> Vec<Violation> {
    let mut broken = Vec::new();
    for (remote, sink) in case.sinks {
        let mut taken: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for put in sink.puts().into_iter().filter(|put| put.kept) {
            taken.entry(put.path).or_default().push(put.sha256);
        }
        for (path, hashes) in taken.iter().filter(|(_, hashes)| hashes.len() > 1) {
            let times = hashes.len();
            if sink.manners().conditional {
                let what = format!("{path} was sent {times} times whole, and taken, by {remote}, which can refuse it");
                broken.push(Violation::new(Rule::Once, what));
            } else if hashes.iter().any(|hash| *hash != hashes[0]) {
                let what = format!("{path} was sent {times} times to {remote}, with different bytes: {hashes:?}");
                broken.push(Violation::new(Rule::Once, what));
            }
        }
    }
    broken
}

/// R3: what the remotes show, and staged files that are left.
pub(super) fn equal(case: &Case<'_>) -> Vec<Violation> {
    let mut shown: Vec<(String, String, Digest)> = Vec::new();
    for (remote, sink) in case.sinks {
        let objects = sink.objects().into_iter();
        shown.extend(objects.map(|(path, _, sha256)| (remote.clone(), path.trim_start_matches("/in/").into(), sha256)));
    }
    for name in case.system.arrived() {
        let bytes = std::fs::read(case.system.remote().join(&name)).unwrap_or_default();
        shown.push(("folder".to_owned(), name, Digest::of(&bytes)));
    }
    let mut broken = Vec::new();
    for (remote, name, found) in shown {
        let sent = case.sent.iter().find(|sent| sent.name == name && sent.remote == remote);
        let what = match sent {
            None => format!("{remote} shows {name:?}, which nobody sent there"),
            Some(sent) if sent.content.sha256 != found => {
                format!("{remote} shows {name:?} with SHA-256 {found}, expected {}", sent.content.sha256)
            }
            Some(_) => continue,
        };
        broken.push(Violation::new(Rule::Equal, what));
    }
    let asides = std::fs::read_dir(case.system.remote().join(".waybill")).into_iter().flatten().flatten();
    broken.extend(asides.map(|aside| {
        let what = format!("{:?} is left aside in the folder of the remote", aside.file_name());
        Violation::not_yet(Rule::Equal, what)
    }));
    broken
}

/// R4: files that have not ended. The reason is in the history and the logs.
pub(super) fn moving(records: &Records) -> Vec<Violation> {
    let stuck = |(id, found): (&FileId, &Found)| {
        let at_rest = found.state == State::Stored && !found.expected;
        if (found.state.is_terminal() || at_rest) && !found.held {
            return None;
        }
        let Found { state, version, error, detail, held, .. } = found;
        let what = format!("{id} is {state} at version {version}, held: {held}, error {error:?} {detail}");
        Some(Violation::not_yet(Rule::Moving, what))
    };
    records.iter().filter_map(stuck).collect()
}
