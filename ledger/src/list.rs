use contract::{FileId, State};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};

use crate::{FileRecord, Ledger, LedgerError};

/// Which files to list.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those for this remote.
    pub remote: Option<String>,
    /// Only those older than this one, the last of the previous page.
    pub before: Option<FileId>,
    /// How many at most.
    pub limit: u16,
}

/// One page of a list, newest first.
#[derive(Debug)]
pub struct Page {
    /// The files.
    pub files: Vec<FileRecord>,
    /// The `before` of the next page; `None` at the end.
    pub next: Option<FileId>,
}

impl Ledger {
    /// Lists files, newest first: the ids of newer files sort after those of older ones.
    pub async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        let mut filter = Document::new();
        if let Some(state) = listing.state {
            filter.insert("state", state.as_str());
        }
        if let Some(remote) = &listing.remote {
            filter.insert("remote", remote);
        }
        if let Some(before) = listing.before {
            filter.insert("_id", doc! { "$lt": crate::bson_form::id(before) });
        }
        let files = self.files.clone();
        let limit = usize::from(listing.limit);
        // One more than the limit tells whether there is a next page.
        let ask = i64::from(listing.limit) + 1;
        let documents = self
            .run("listing files", async move {
                // An upload may have thousands of parts, and a list shows none.
                let without = doc! { "delivery.upload.parts": 0 };
                let newest_first = doc! { "_id": -1 };
                files
                    .find(filter)
                    .projection(without)
                    .sort(newest_first)
                    .limit(ask)
                    .await?
                    .try_collect::<Vec<_>>()
                    .await
            })
            .await?;
        let more = documents.len() > limit;
        let files: Vec<_> =
            documents.into_iter().take(limit).map(FileRecord::from_document).collect::<Result<_, _>>()?;
        let next = files.last().filter(|_| more).map(|file| file.id);
        Ok(Page { files, next })
    }
}
