//! SeaweedFS starts and ends.

use servers::{Seaweed, SeaweedOptions};

#[tokio::test]
async fn it_starts_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let options = SeaweedOptions::new(folder.path().join("seaweed"));
    let seaweed = Seaweed::start(options.clone()).await.unwrap();
    assert!(seaweed.try_wait().is_none() && !seaweed.adopted());
    assert!(seaweed.s3_url().ends_with(&format!(":{}/", seaweed.port())));
    assert_ne!(seaweed.s3_url(), seaweed.webdav_url());
    seaweed.kill().await.unwrap();
    drop(seaweed);
    // Again on the same directory.
    Seaweed::start(options).await.unwrap().stop().await.unwrap();
}
