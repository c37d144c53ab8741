use std::collections::BTreeMap;

use async_nats::jetstream;
use contract::{Event, FileId};

use super::{Case, Found, NatsLost, Rule, Violation};

/// R6: the events, compared with the records.
pub(super) async fn told(case: &Case<'_>, records: &BTreeMap<FileId, Found>) -> anyhow::Result<Vec<Violation>> {
    let mut told: BTreeMap<FileId, Vec<Event>> = BTreeMap::new();
    let mut broken = Vec::new();
    for (subject, payload) in messages(case).await? {
        match Event::from_json(&payload) {
            Ok(event) => told.entry(event.file_id).or_default().push(event),
            Err(error) => broken.push(wrong(format!("the event on {subject} cannot be read: {error}"))),
        }
    }
    for (file, found) in records {
        if found.outbox > 0 {
            let what = format!("the outbox of {file} ({}) has {} events left", found.state, found.outbox);
            broken.push(Violation::not_yet(Rule::Told, what));
        }
        let events = told.remove(file).unwrap_or_default();
        broken.extend(of_file(*file, found, &events, case.nats_lost));
    }
    broken.extend(told.keys().map(|file| wrong(format!("there are events of {file}, which is not recorded"))));
    Ok(broken)
}

/// All messages of the stream of events, in their order.
async fn messages(case: &Case<'_>) -> anyhow::Result<Vec<(String, bytes::Bytes)>> {
    let jetstream = jetstream::new(case.system.nats().await);
    let stream = jetstream.get_stream(case.system.names.events_stream()).await?;
    let state = stream.cached_info().state.clone();
    let mut messages = Vec::new();
    // Even an empty stream has a first sequence, or 0, which cannot be asked for.
    if state.messages == 0 {
        return Ok(messages);
    }
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await?;
        messages.push((message.subject.to_string(), message.payload));
    }
    Ok(messages)
}

fn of_file(file: FileId, found: &Found, events: &[Event], nats_lost: Option<&NatsLost>) -> Vec<Violation> {
    let mut broken = Vec::new();
    // An event may be repeated, but only unchanged.
    let mut first: Vec<&Event> = Vec::new();
    for event in events {
        match first.iter().find(|known| known.version == event.version) {
            Some(known) if *known != event => {
                broken
                    .push(wrong(format!("two events have version {} of {file}: {known:?}, {event:?}", event.version)));
            }
            Some(_) => {}
            None => first.push(event),
        }
    }
    let path: Vec<_> = first.iter().map(|event| format!("{}@{}", event.event, event.version)).collect();
    let path = path.join(" ");
    if !first.is_sorted_by_key(|event| event.version) {
        broken.push(wrong(format!("the events of {file} are not in order: {path}")));
    }
    let mut before = nats_lost.map_or(Some("nothing"), |_| None);
    for event in &first {
        if before.is_some_and(|before| !may_follow(before, event.event.as_str())) {
            broken.push(wrong(format!("{} may not follow {} of {file}: {path}", event.event, before.unwrap_or(""))));
        }
        before = Some(event.event.as_str());
    }
    // Events from before the loss may be lost too.
    let must_be_there = nats_lost.is_none_or(|lost| match lost.states.get(&file) {
        Some(state) => *state != found.state,
        None => found.created_at > lost.at,
    });
    match first.last() {
        Some(last) if last.state != found.state => {
            let what = format!("the last event of {file} says {}, the record {}: {path}", last.state, found.state);
            broken.push(Violation::not_yet(Rule::Told, what));
        }
        None if must_be_there => {
            let what = format!("there is no event of {file}, which is {} at version {}", found.state, found.version);
            broken.push(Violation::not_yet(Rule::Told, what));
        }
        _ => {}
    }
    broken
}

/// Which event may follow which. A missing event shows as a step that is not allowed.
fn may_follow(before: &str, event: &str) -> bool {
    let next: &[&str] = match before {
        "nothing" => &["prepared"],
        "prepared" => &["chunking", "cancelled"],
        "chunking" => &["stored", "failed", "cancelled"],
        "stored" => &["mismatch", "delivering", "cancelled"],
        "mismatch" => &["mismatch", "delivering", "cancelled"],
        "delivering" => &["delivered", "failed", "cancelled"],
        "failed" => &["requeued"],
        "requeued" => &["chunking", "delivering", "cancelled"],
        _ => &[],
    };
    next.contains(&event)
}

fn wrong(what: String) -> Violation {
    Violation::new(Rule::Told, what)
}
