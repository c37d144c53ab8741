use std::time::Duration;

use contract::{FileId, State};
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use crate::{FileRecord, Ledger, LedgerError};

/// The most bytes of records, as MongoDB keeps them, in a page: a record may have 100 KB, and a page as many as 1,000
/// records.
const PAGE_BYTES: usize = 1024 * 1024;

/// How many records MongoDB sends at once. It fills a reply with up to 16 MiB, most of which might be thrown away.
const BATCH: u32 = 64;

/// Which files to list.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those for this remote.
    pub remote: Option<String>,
    /// Only those older than this one, the last of the previous page.
    pub before: Option<FileId>,
    /// How many at most. A page of large records has fewer.
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
        let limit = listing.limit;
        let (documents, more) = self.run("listing files", page(files, filter, limit, self.server_limit())).await?;
        let files: Vec<_> = documents.into_iter().map(FileRecord::from_document).collect::<Result<_, _>>()?;
        let next = files.last().filter(|_| more).map(|file| file.id);
        Ok(Page { files, next })
    }
}

/// The next page, and whether there is more.
async fn page(
    files: Collection<Document>,
    filter: Document,
    limit: u16,
    at_most: Duration,
) -> mongodb::error::Result<(Vec<Document>, bool)> {
    // An upload may have thousands of parts, and a list shows none.
    let without = doc! { "delivery.upload.parts": 0 };
    // One more than the limit tells whether there is a next page.
    let find = files.find(filter).projection(without).sort(doc! { "_id": -1 }).limit(i64::from(limit) + 1);
    let mut cursor = find.batch_size(BATCH).max_time(at_most).await?;
    let (mut documents, mut bytes) = (Vec::new(), 0);
    while cursor.advance().await? {
        bytes += cursor.current().as_bytes().len();
        // A page has at least one file, however large its record is.
        if documents.len() == usize::from(limit) || (bytes > PAGE_BYTES && !documents.is_empty()) {
            return Ok((documents, true));
        }
        documents.push(cursor.deserialize_current()?);
    }
    Ok((documents, false))
}
