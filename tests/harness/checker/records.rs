use std::collections::BTreeMap;

use anyhow::Context;
use contract::{FileId, State};
use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

/// A record as MongoDB has it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its state.
    pub state: State,
    /// Its version.
    pub version: i64,
    /// The current generation.
    pub generation: u32,
    /// The kind of its problem, without `/problems/`.
    pub error: Option<String>,
    /// What its problem says.
    pub detail: String,
    /// SHA-256 in its receipt.
    pub receipt_sha256: Option<String>,
    /// Events in its outbox.
    pub outbox: usize,
    /// Whether somebody holds it.
    pub held: bool,
    /// Whether it has an expectation that was not refused.
    pub expected: bool,
    /// When it was recorded, in milliseconds since 1970.
    pub created_at: i64,
}

/// All records, by file.
pub(super) async fn read(database: &Database) -> anyhow::Result<BTreeMap<FileId, Found>> {
    let mut cursor = database.collection::<Document>("files").find(doc! {}).await?;
    let mut records = BTreeMap::new();
    while let Some(document) = cursor.try_next().await? {
        let (id, found) = found(&document).with_context(|| format!("the record {document}"))?;
        records.insert(id, found);
    }
    Ok(records)
}

fn found(document: &Document) -> anyhow::Result<(FileId, Found)> {
    let Some(Bson::Binary(id)) = document.get("_id") else { anyhow::bail!("its _id is no binary") };
    let number = |name: &str| {
        let value = document.get(name);
        value.and_then(|v| v.as_i64().or_else(|| v.as_i32().map(i64::from))).with_context(|| format!("no {name}"))
    };
    let error = document.get_document("error").ok();
    let text = |name: &str| error.and_then(|error| error.get_str(name).ok()).unwrap_or_default();
    let kind = text("type").strip_prefix("/problems/").map(str::to_owned);
    let receipt = document.get_document("receipt").ok();
    let found = Found {
        state: document.get_str("state")?.parse().map_err(anyhow::Error::msg)?,
        version: number("version")?,
        generation: u32::try_from(number("generation")?)?,
        error: kind,
        detail: text("detail").to_owned(),
        receipt_sha256: receipt.and_then(|receipt| receipt.get_str("sha256").ok()).map(str::to_owned),
        outbox: document.get_array("outbox").map_or(0, Vec::len),
        held: document.contains_key("lease"),
        expected: document.contains_key("expectation"),
        created_at: document.get_datetime("created_at")?.timestamp_millis(),
    };
    Ok((FileId::from_bytes(id.bytes.as_slice().try_into()?), found))
}
