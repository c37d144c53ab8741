//! Filters that several operations share.

use contract::{FileId, State, Step};
use mongodb::bson::{Document, doc};

use crate::bson_form::id;

pub(crate) fn by_id(file: FileId) -> Document {
    doc! { "_id": id(file) }
}

/// The record of a file as long as nobody has changed its state since `version`.
pub(crate) fn at_version(file: FileId, version: i64) -> Document {
    doc! { "_id": id(file), "version": version }
}

/// For the field `state`: the states in which `step` takes up a file.
pub(crate) fn states_before(step: Step) -> Document {
    states(|state| state.next_step() == Some(step))
}

/// For the field `state`: the terminal states.
pub(crate) fn terminal_states() -> Document {
    states(State::is_terminal)
}

/// Selects the records that a worker is to take up: neither those of files that have ended, nor those of files that
/// rest until a finalise request comes. For these, `due_at` is the end of a retention, which no lost hint brings
/// nearer.
pub(crate) fn waits_for_worker() -> Document {
    let by_itself = [State::Prepared, State::Chunking, State::Delivering].map(State::as_str).to_vec();
    let accepted = doc! { "state": State::Stored.as_str(), "expectation": { "$exists": true } };
    doc! { "$or": [{ "state": { "$in": by_itself } }, accepted] }
}

fn states(wanted: impl Fn(State) -> bool) -> Document {
    let names: Vec<_> = State::ALL.into_iter().filter(|state| wanted(*state)).map(State::as_str).collect();
    doc! { "$in": names }
}
