use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use crate::{Ledger, LedgerError};

/// The name of the index that tells which chunks are stored, without a read of their bytes.
pub(crate) const PROOF_INDEX: &str = "proof";

/// MongoDB's error code for a collection that exists already.
const NAMESPACE_EXISTS: i32 = 48;

impl Ledger {
    /// Makes the collections and indexes that are missing. Every service does so; several may do so at once.
    pub(crate) async fn ensure_collections(&self) -> Result<(), LedgerError> {
        for collection in ["chunks", "contents"] {
            self.ensure_collection(collection).await?;
        }
        let sparse = || IndexOptions::builder().sparse(true).build();
        let unique = || IndexOptions::builder().unique(true);
        let only_with_key = doc! { "idempotency.key": { "$exists": true } };
        let under_way = doc! { "delivery.upload.id": { "$exists": true } };
        let with_upload = || IndexOptions::builder().partial_filter_expression(under_way.clone()).build();
        let files = [
            index(doc! { "due_at": 1 }, sparse()),
            index(doc! { "outbox_at": 1 }, sparse()),
            index(doc! { "state": 1, "_id": -1 }, IndexOptions::default()),
            index(doc! { "remote": 1, "_id": -1 }, sparse()),
            index(doc! { "user": 1, "idempotency.key": 1 }, unique().partial_filter_expression(only_with_key).build()),
            index(doc! { "expectation.remote": 1, "delivery.upload.id": 1 }, with_upload()),
            index(doc! { "delivery.upload.id": 1 }, with_upload()),
        ];
        let mut files = Vec::from(files);
        if self.retention.record.is_some() {
            let removed = doc! { "content_removed": { "$exists": true } };
            let with_content_removed = IndexOptions::builder().partial_filter_expression(removed).build();
            files.push(index(doc! { "updated_at": 1 }, with_content_removed));
        }
        self.ensure_indexes("files", files).await?;
        let proof = IndexOptions::builder().name(PROOF_INDEX.to_owned()).build();
        self.ensure_indexes("chunks", vec![index(doc! { "_id": 1, "len": 1, "sha256": 1 }, proof)]).await?;
        self.ensure_indexes("users", vec![index(doc! { "username": 1 }, unique().build())]).await
    }

    async fn ensure_collection(&self, name: &'static str) -> Result<(), LedgerError> {
        let db = self.db.clone();
        let engine = format!("block_compressor={}", self.block_compressor.as_str());
        let made = self
            .run_now("making a collection", async move {
                let engine = doc! { "wiredTiger": { "configString": engine } };
                db.create_collection(name).storage_engine(engine).await
            })
            .await;
        match made {
            Err(LedgerError::Mongo { source, .. }) if code(&source) == Some(NAMESPACE_EXISTS) => Ok(()),
            other => other,
        }
    }

    async fn ensure_indexes(&self, collection: &'static str, indexes: Vec<IndexModel>) -> Result<(), LedgerError> {
        let collection = self.db.collection::<Document>(collection);
        self.run_now("making indexes", async move { collection.create_indexes(indexes).await }).await?;
        Ok(())
    }
}

fn index(keys: Document, options: IndexOptions) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

fn code(error: &mongodb::error::Error) -> Option<i32> {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
