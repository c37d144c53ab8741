//! What Waybill is compared with: GridFS by the Rust driver, and plain inserts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::gridfs::GridFsBucket;
use mongodb::options::{Acknowledgment, CollectionOptions, GridFsBucketOptions, WriteConcern};
use mongodb::{Collection, Database};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Mutex, mpsc};

const CHUNK: u32 = 1024 * 1024;

/// Documents of one plain insert, and inserts at once: what the store does at best.
const BATCH: usize = 8;
const WRITERS: usize = 4;

/// The peers in one database.
pub(crate) struct Peers {
    bucket: GridFsBucket,
    plain: Collection<Document>,
}

fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

impl Peers {
    pub(crate) fn new(database: &Database) -> Self {
        let options = GridFsBucketOptions::builder().chunk_size_bytes(CHUNK).write_concern(durable()).build();
        let plain = CollectionOptions::builder().write_concern(durable()).build();
        Self { bucket: database.gridfs_bucket(options), plain: database.collection_with_options("plain", plain) }
    }

    /// Seconds of a GridFS upload, and its id.
    pub(crate) async fn upload(&self, path: &Path) -> (f64, Bson) {
        let begun = Instant::now();
        let mut upload = self.bucket.open_upload_stream("peer").await.expect("an upload can be opened");
        let mut file = tokio::fs::File::open(path).await.expect("the source is there");
        let mut piece = vec![0; CHUNK as usize];
        loop {
            let read = file.read(&mut piece).await.expect("the source can be read");
            if read == 0 {
                break;
            }
            upload.write_all(&piece[..read]).await.expect("GridFS takes it");
        }
        let id = upload.id().clone();
        upload.close().await.expect("GridFS closes it");
        (begun.elapsed().as_secs_f64(), id)
    }

    /// Seconds of a GridFS download.
    pub(crate) async fn download(&self, id: &Bson, size: u64) -> f64 {
        let begun = Instant::now();
        let mut download = self.bucket.open_download_stream(id.clone()).await.expect("it is there");
        let mut piece = vec![0; CHUNK as usize];
        let mut total = 0;
        loop {
            let read = download.read(&mut piece).await.expect("GridFS gives it");
            if read == 0 {
                break;
            }
            total += read as u64;
        }
        assert_eq!(total, size);
        begun.elapsed().as_secs_f64()
    }

    /// Seconds of plain inserts of the same bytes, several at once.
    pub(crate) async fn insert_many(&self, path: &Path) -> f64 {
        let begun = Instant::now();
        let (sender, receiver) = mpsc::channel::<Document>(WRITERS * BATCH);
        let receiver = Arc::new(Mutex::new(receiver));
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(self.plain.clone(), receiver.clone()))).collect();
        let mut file = tokio::fs::File::open(path).await.expect("the source is there");
        for number in 0_i64.. {
            let mut bytes = Vec::with_capacity(CHUNK as usize);
            let read =
                (&mut file).take(u64::from(CHUNK)).read_to_end(&mut bytes).await.expect("the source can be read");
            if read == 0 {
                break;
            }
            let data = Binary { subtype: BinarySubtype::Generic, bytes };
            sender.send(doc! { "_id": number, "data": data }).await.expect("the writers run");
        }
        drop(sender);
        for writer in writers {
            writer.await.expect("a writer ends well");
        }
        begun.elapsed().as_secs_f64()
    }

    /// Drops what the peers have written.
    pub(crate) async fn clear(&self) {
        self.bucket.drop().await.expect("GridFS can be dropped");
        self.plain.drop().await.expect("the plain collection can be dropped");
    }
}

async fn write(plain: Collection<Document>, documents: Arc<Mutex<mpsc::Receiver<Document>>>) {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        if documents.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        plain.insert_many(batch).ordered(false).await.expect("MongoDB takes it");
    }
}
