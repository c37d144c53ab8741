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

fn states(wanted: impl Fn(State) -> bool) -> Document {
    let names: Vec<_> = State::ALL.into_iter().filter(|state| wanted(*state)).map(State::as_str).collect();
    doc! { "$in": names }
}
