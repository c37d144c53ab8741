//! `GET /files` and `GET /files/{id}`.

mod id;
mod lists;
mod shape;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::{Extension, Json};
use contract::{FileId, ProblemKind};
use ledger::Listing;
use serde::Serialize;

use crate::Gateway;
use crate::auth::Caller;
use crate::query::parameters;
use crate::refusal::Refusal;

pub(crate) use id::{IdInPath, unknown_file};
pub(crate) use lists::Lists;
pub use shape::File;

/// How many files a page has unless the caller asks for another number.
const LIMIT: u16 = 50;

/// How many files a page may have.
const LIMIT_MAX: u16 = 1000;

/// A page of the list.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    files: Vec<File>,
    next_cursor: Option<FileId>,
}

pub(crate) async fn file(State(gateway): State<Arc<Gateway>>, IdInPath(id): IdInPath) -> Result<Json<File>, Refusal> {
    match gateway.service.ledger.file(id).await? {
        Some(record) => Ok(Json(File::of(record, gateway.service.settings.files.chunk_size))),
        None => Err(unknown_file(id)),
    }
}

pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(Caller { user, .. }): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    let seat = gateway.lists.begin(user)?;
    let page = gateway.service.ledger.list(&listing).await?;
    let chunk_size = gateway.service.settings.files.chunk_size;
    let files = page.files.into_iter().map(|record| File::of(record, chunk_size)).collect();
    Ok(lists::answer(&List { files, next_cursor: page.next }, seat))
}

fn listing(query: &str) -> Result<Listing, Refusal> {
    let refuse =
        |name: &str, why: &dyn std::fmt::Display| Refusal::new(ProblemKind::BadParameter, format!("{name}: {why}"));
    let [state, remote, cursor, limit] = parameters(query, ["state", "remote", "cursor", "limit"])?;
    let state = state.map(|state| state.parse()).transpose().map_err(|why: String| refuse("state", &why))?;
    let before = cursor.map(|cursor| cursor.parse()).transpose();
    let before =
        before.map_err(|_| refuse("cursor", &"expected the next_cursor of an earlier answer, found another text"))?;
    let limit = match limit {
        None => LIMIT,
        Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            refuse("limit", &format!("expected 1 to {LIMIT_MAX}, found {text:?}"))
        })?,
    };
    Ok(Listing { state, remote: remote.map(Into::into), before, limit })
}

#[cfg(test)]
mod tests {
    use contract::State;

    use super::*;

    #[test]
    fn a_listing_is_read_from_its_query() {
        let id = FileId::generate();
        let full = listing(&format!("state=stored&remote=archive&cursor={id}&limit=7")).unwrap();
        assert_eq!((full.state, full.remote.as_deref()), (Some(State::Stored), Some("archive")));
        assert_eq!((full.before, full.limit), (Some(id), 7));
        assert_eq!(listing("").unwrap().limit, LIMIT);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for query in ["state=", "state=Stored", "cursor=1", "limit=0", "limit=1001", "limit=x", "limit=-1", "page=1"] {
            assert!(listing(query).is_err(), "{query} was accepted");
        }
    }
}
