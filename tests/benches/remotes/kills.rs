//! An upload of 1 GiB to S3 whose finaliser is killed again and again: what is sent in all.

use contract::Role;
use harness::{Options, Proxy, System, until};
use rand::RngExt;
use rustix::process::Signal;
use servers::{Mongo, Nats, Seaweed};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 1024 * MIB;

/// Parts of an upload in memory at most, and so on their way at most, by the default settings.
const IN_FLIGHT: u64 = 32 * MIB;

/// Kills the finaliser so often, at random moments, and prints what was sent.
pub(crate) async fn run(kills: u8, nats: &Nats, mongo: &Mongo, seaweed: &'static Seaweed) {
    if kills == 0 {
        return;
    }
    let line = Proxy::start(format!("127.0.0.1:{}", seaweed.port()).parse().expect("an address"));
    // Slow enough to be killed in the midst of it.
    line.pace(Some(64 * MIB));
    let folder = contract::FileId::generate();
    let toml = format!(
        "[remotes.bucket]\nkind = \"s3\"\nurl = \"http://{}/{}/{folder}/\"\naccess_key = {:?}\nsecret_key = {:?}\n",
        line.address(),
        Seaweed::BUCKET,
        Seaweed::ACCESS_KEY,
        Seaweed::SECRET_KEY,
    );
    let options = Options {
        toml,
        work: "lease_ms = 2000".into(),
        attempts: 100,
        nats_url: Some(nats.url()),
        mongodb_uri: Some(mongo.uri()),
        ..Options::default()
    };
    let mut system = System::start(options).await;
    let (file, content) = system.send("large", SIZE, "bucket").await;
    let mut moments: Vec<u64> = (0..kills).map(|_| rand::rng().random_range(0..SIZE)).collect();
    moments.sort_unstable();
    for (number, moment) in (0..).zip(&moments) {
        until("the upload is so far", async || {
            let shown = system.api.file(&file).await;
            assert_ne!(shown["state"], "delivered", "it ended before it was killed so often");
            (shown["bytes"]["delivered"].as_u64() >= Some(*moment)).then_some(())
        })
        .await;
        let finaliser = format!("finaliser-{number}");
        system.process(&finaliser).signal(Signal::KILL);
        system.process(&finaliser).wait();
        system.start_service(Role::Finaliser, number + 1);
    }
    let shown = system.api.until_state(&file, "delivered").await;
    let found = testing::object_in_bucket(seaweed, &folder.to_string(), "large");
    let is = if found == Some((content.size, content.sha256)) { "equal" } else { "NOT EQUAL" };
    let (sent, most) = (line.carried() / MIB, (SIZE + u64::from(kills) * IN_FLIGHT) / MIB);
    println!(
        "\nAn upload of 1 GiB to S3, its finaliser killed {kills} times, when {:?} MiB were read:",
        moments.iter().map(|moment| moment / MIB).collect::<Vec<_>>()
    );
    println!("the object is {is}, after {} attempts;", shown["receipt"]["attempts"]);
    println!("{sent} MiB were sent in all; 1 GiB and {kills} times what may be in flight are {most} MiB.");
}
