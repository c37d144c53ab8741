//! Remotes that are down, refuse, break off or already have an object of that name; finalisers that die; damaged content.

use contract::{Digest, Role};
use harness::{Behaviour, ClosedSink, Options, Sink, System, until};
use serde_json::{Value, json};
use testing::flip;

const MIB: u64 = 1024 * 1024;

/// The methods of the requests for `name`, in their order.
fn methods(sink: &Sink, name: &str) -> Vec<String> {
    let path = format!(" /in/{name}");
    sink.requests().iter().filter_map(|line| line.strip_suffix(&path)).map(str::to_owned).collect()
}

/// How many PUTs of `name` arrived, complete and broken off.
fn puts(sink: &Sink, name: &str) -> (usize, usize) {
    let puts: Vec<_> = sink.puts().into_iter().filter(|put| put.path == format!("/in/{name}")).collect();
    let whole = puts.iter().filter(|put| put.complete).count();
    (whole, puts.len() - whole)
}

#[track_caller]
pub(crate) fn assert_error(file: &Value, kind: &str, says: &str) {
    assert_eq!(file["error"]["type"], format!("/problems/{kind}"), "{file:#}");
    let detail = file["error"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(says), "expected a detail with {says:?}, found {detail:?}");
    assert!(file["receipt"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_is_down_gets_the_file_when_it_comes_up() {
    let closed = ClosedSink::bind();
    let system = System::start(Options { attempts: 10_000, ..Options::with_sink(&closed.url()) }).await;
    let (file, content) = system.send("early", 70_000, "sink").await;
    let waiting = until("the file waits, with the reason", async || {
        let file = system.api.file(&file).await;
        (file["phase"] == "waiting" && !file["error"].is_null()).then_some(file)
    })
    .await;
    assert_eq!(waiting["state"], "delivering");
    assert_error(&waiting, "remote-unavailable", "refused");
    assert!(waiting["not_before"].is_string());

    let sink = closed.open();
    let delivered = system.api.until_state(&file, "delivered").await;
    assert_eq!(sink.object("/in/early"), Some((content.size, content.sha256)));
    assert!(delivered["error"].is_null());
    assert!(delivered["receipt"]["attempts"].as_u64() > Some(1));
    assert_eq!(puts(&sink, "early"), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_remote_answers_decides_whether_it_is_tried_again() {
    let sink = Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url())).await;
    // Answers that are final: the file fails at once.
    for status in [400, 401, 403, 404, 413] {
        let name = format!("refused-{status}");
        sink.plan(&name, &[Behaviour::Answer(status)]);
        let (file, _) = system.send(&name, 1000, "sink").await;
        let file = system.api.until_state(&file, "failed").await;
        assert_error(&file, "remote-refused", &status.to_string());
        assert_eq!(file["attempts"], 1);
        assert_eq!(methods(&sink, &name), ["HEAD", "PUT"]);
    }
    // Answers that may change: each attempt tries three times, and the second attempt gets through.
    for status in [500, 503, 429] {
        let name = format!("later-{status}");
        sink.plan(&name, &[Behaviour::Answer(status); 4]);
        let (file, content) = system.send(&name, 1000, "sink").await;
        let file = system.api.until_state(&file, "delivered").await;
        assert_eq!(file["receipt"]["attempts"], 2);
        assert!(file["error"].is_null());
        assert_eq!(methods(&sink, &name), ["HEAD", "PUT"].repeat(5), "it is asked before each PUT");
        assert_eq!(sink.object(&format!("/in/{name}")), Some((content.size, content.sha256)));
    }
    // The attempts are limited.
    sink.plan("never", &[Behaviour::Answer(500); 100]);
    let (file, _) = system.send("never", 1000, "sink").await;
    let file = system.api.until_state(&file, "failed").await;
    assert_error(&file, "remote-unavailable", "500");
    assert_eq!(file["attempts"], 4);
    assert_eq!(puts(&sink, "never").0 + puts(&sink, "never").1, 4 * 3);
    assert_eq!(sink.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_half_way_leaves_nothing_and_is_sent_again() {
    let sink = Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url())).await;
    sink.plan("broken", &[Behaviour::HangUpAfter(10 * MIB); 4]);
    let (file, content) = system.send("broken", 20 * MIB + 3, "sink").await;
    // Until a PUT arrived complete, the remote had nothing.
    let delivered = system.api.until_state(&file, "delivered").await;
    assert_eq!(puts(&sink, "broken"), (1, 4));
    assert_eq!(methods(&sink, "broken"), ["HEAD", "PUT"].repeat(5));
    assert!(sink.puts().iter().filter(|put| !put.complete).all(|put| put.bytes < content.size));
    assert_eq!(sink.object("/in/broken"), Some((content.size, content.sha256)));
    let receipt = &delivered["receipt"];
    assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(content.size)));
    assert_eq!(receipt["remote"]["status"], 201);
    assert_eq!(receipt["remote"]["etag"], "\"sink-1\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_has_the_name_already_stays_as_it_is() {
    let sink = Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url())).await;
    let theirs = b"somebody else's";

    sink.place("/in/there", theirs);
    let (file, _) = system.send("there", 1000, "sink").await;
    let file = system.api.until_state(&file, "failed").await;
    assert_error(&file, "remote-clash", "/in/there");
    assert_eq!(methods(&sink, "there"), ["HEAD"], "nothing is sent where something is");

    // The object appears between our HEAD and our PUT: the condition of the PUT keeps it.
    sink.plan("overtaken", &[Behaviour::Overtaken]);
    let (file, _) = system.send("overtaken", 1000, "sink").await;
    let file = system.api.until_state(&file, "failed").await;
    assert_error(&file, "remote-clash", "/in/overtaken");
    assert_eq!(sink.puts().last().map(|put| put.status), Some(Some(412)));
    for name in ["/in/there", "/in/overtaken"] {
        assert_eq!(sink.object(name), Some((theirs.len() as u64, Digest::of(theirs))));
    }

    // Equal bytes that were there before are not our delivery.
    let content = system.write("same", 1000);
    sink.place("/in/same", &std::fs::read(system.source().join("same")).unwrap());
    let file = system.api.prepare("same").await.expect(201).file_id();
    let body = json!({ "remote": "sink" });
    system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
    let file = system.api.until_state(&file, "failed").await;
    assert_error(&file, "remote-clash", "the same bytes");

    let folder = system.remote();
    std::fs::write(folder.join("file"), theirs).unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    for name in ["file", "folder"] {
        let (file, _) = system.send(name, 1000, "folder").await;
        let file = system.api.until_state(&file, "failed").await;
        assert_error(&file, "remote-clash", name);
    }
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), theirs);
    assert_eq!(std::fs::read_dir(folder.join("folder")).unwrap().count(), 0);
    let asides = std::fs::read_dir(folder.join(".waybill"));
    assert_eq!(asides.map_or(0, Iterator::count), 0, "nothing is left aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_has_the_name_is_skipped_or_replaced_if_the_settings_say_so() {
    let sink = Sink::start().await;
    let remote = |name: &str, policy: &str| {
        format!("[remotes.{name}]\nkind = \"http\"\nurl = {:?}\non_clash = {policy:?}\n", sink.url())
    };
    let toml = remote("skipping", "skip") + &remote("replacing", "replace");
    let system = System::start(Options { toml, ..Options::default() }).await;
    let theirs = b"somebody else's";

    // Equal bytes: nothing is sent.
    for policy in ["skipping", "replacing"] {
        let name = format!("same-{policy}");
        let content = system.write(&name, 1000);
        sink.place(&format!("/in/{name}"), &std::fs::read(system.source().join(&name)).unwrap());
        let file = system.api.prepare(&name).await.expect(201).file_id();
        system.api.finalise(&file, &content.sha256.to_string(), &json!({ "remote": policy })).await.expect(202);
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!((&receipt["bytes_sent"], &receipt["remote"]["proof"]), (&json!(0), &json!("digest")));
        assert_eq!(methods(&sink, &name), ["HEAD"]);
    }

    // Other bytes.
    sink.place("/in/other-skipping", theirs);
    let (file, _) = system.send("other-skipping", 1000, "skipping").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/in/other-skipping");
    assert_eq!(sink.object("/in/other-skipping"), Some((theirs.len() as u64, Digest::of(theirs))));
    sink.place("/in/other-replacing", theirs);
    let (file, content) = system.send("other-replacing", 1000, "replacing").await;
    system.api.until_state(&file, "delivered").await;
    assert_eq!(sink.object("/in/other-replacing"), Some((content.size, content.sha256)));

    // The object appears between our HEAD and our PUT: the finaliser asks again before it replaces it.
    sink.plan("overtaken", &[Behaviour::Overtaken]);
    let (file, content) = system.send("overtaken", 1000, "replacing").await;
    system.api.until_state(&file, "delivered").await;
    assert_eq!(methods(&sink, "overtaken"), ["HEAD", "PUT", "HEAD", "PUT"]);
    assert_eq!(sink.object("/in/overtaken"), Some((content.size, content.sha256)));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_named_as_the_remote_says() {
    let sink = Sink::start().await;
    let (url, folder) = (sink.url(), tempfile::tempdir().unwrap());
    let toml = format!(
        "[remotes.days]\nkind = \"http\"\nurl = {url:?}\nname = \"{{yyyy}}/{{mm}}/{{dd}}/{{name}}\"\n\
         [remotes.tenants]\nkind = \"directory\"\npath = {:?}\nname = \"{{metadata.tenant}}/{{file_id}}-{{name}}\"\n",
        folder.path()
    );
    let system = System::start(Options { toml, ..Options::default() }).await;
    // Every attempt uses the same name.
    sink.behave(Behaviour::Answer(500));
    let (file, content) = system.send("a b", 1000, "days").await;
    until("an attempt failed", async || (sink.puts().len() >= 3).then_some(())).await;
    sink.behave(Behaviour::Take);
    let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
    let day = receipt["begun_at"].as_str().unwrap()[..10].replace('-', "/");
    assert_eq!(receipt["remote"]["object"], format!("{day}/a b"));
    assert_eq!(receipt["remote"]["address"], format!("{url}{day}/a%20b"));
    assert_eq!(sink.object(&format!("/in/{day}/a%20b")), Some((content.size, content.sha256)));
    assert_eq!(sink.len(), 1);

    let send = async |name: &str, metadata: Value| {
        let content = system.write(name, 1000);
        let body = json!({ "file_path": name, "remote": "tenants", "metadata": metadata });
        let file = system.api.post("/upload/prepare", &body).await.expect(201).file_id();
        system.api.finalise(&file, &content.sha256.to_string(), &json!({})).await.expect(202);
        file
    };
    let file = send("x", json!({ "tenant": "ACME & co" })).await;
    system.api.until_state(&file, "delivered").await;
    let arrived = std::fs::read(folder.path().join(format!("ACME & co/{file}-x"))).unwrap();
    assert!(arrived == std::fs::read(system.source().join("x")).unwrap());
    for metadata in [json!({}), json!({ "tenant": ".." }), json!({ "tenant": "../up" }), json!({ "tenant": "a/b" })] {
        let file = send("y", metadata).await;
        assert_error(&system.api.until_state(&file, "failed").await, "unnameable", "metadata.tenant");
    }
    let there: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(there.iter().all(|name| name == "ACME & co" || name == ".waybill"), "{there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_next_finaliser_asks_first_and_delivers_once() {
    let sink = Sink::start().await;
    let mut system = System::start(Options { work: "lease_ms = 2000".into(), ..Options::with_sink(&sink.url()) }).await;
    // One body stops half-way; the other arrives complete, but its answer does not.
    sink.plan("half", &[Behaviour::StallAfter(4 * MIB)]);
    sink.plan("unanswered", &[Behaviour::TakeInSilence]);
    let (half, half_content) = system.send("half", 12 * MIB, "sink").await;
    let (unanswered, content) = system.send("unanswered", MIB, "sink").await;
    until("both are under way", async || (sink.puts().len() == 2).then_some(())).await;
    system.process("finaliser-0").kill();
    for file in [&half, &unanswered] {
        assert_eq!(system.api.file(file).await["state"], "delivering");
    }

    system.start_service(Role::Finaliser, 1);
    let file = system.api.until_state(&half, "delivered").await;
    assert_eq!(methods(&sink, "half"), ["HEAD", "PUT", "HEAD", "PUT"]);
    assert_eq!(puts(&sink, "half"), (1, 1));
    assert_eq!(sink.object("/in/half"), Some((half_content.size, half_content.sha256)));
    assert_eq!(file["receipt"]["attempts"], 2);

    let file = system.api.until_state(&unanswered, "delivered").await;
    assert_eq!(methods(&sink, "unanswered"), ["HEAD", "PUT", "HEAD"], "it was there: it is not sent again");
    assert_eq!(sink.object("/in/unanswered"), Some((content.size, content.sha256)));
    let receipt = &file["receipt"];
    assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(0)));
    assert_eq!(receipt["remote"]["proof"], "digest");
    assert_eq!(receipt["guarantee"], "exactly-once");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_reaches_no_remote() {
    let sink = Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url())).await;
    let fails = async |file: &str, content: harness::Content, says: &str| {
        let body = json!({ "remote": "sink" });
        system.api.finalise(file, &content.sha256.to_string(), &body).await.expect(202);
        let file = system.api.until_state(file, "failed").await;
        assert_error(&file, "content-wrong", says);
        assert_eq!(file["attempts"], 1);
    };
    // A file that fits into the prefetch is proved before any connection is opened.
    let (file, content) = system.store("embedded", 2 * MIB).await;
    system.stored().await.change_embedded(&file, 1, flip).await;
    fails(&file, content, "because of the chunks 1").await;
    let (file, content) = system.store("small", 5 * MIB).await;
    system.stored().await.change_chunk(&file, 3, flip).await;
    fails(&file, content, "because of the chunks 3").await;
    let (file, content) = system.store("small and lost", 5 * MIB).await;
    system.stored().await.delete_chunk(&file, 4).await;
    fails(&file, content, "chunk 4 is missing").await;
    assert_eq!(sink.requests(), [""; 0]);

    // Of a larger file the end is held back, wherever the damage is.
    for (name, damaged) in [("at its beginning", 0), ("in its middle", 9), ("at its end", 19)] {
        let (file, content) = system.store(name, 20 * MIB - 1).await;
        system.stored().await.change_chunk(&file, damaged, flip).await;
        fails(&file, content, &format!("because of the chunks {damaged}")).await;
    }
    let (file, content) = system.store("large and lost", 20 * MIB).await;
    system.stored().await.delete_chunk(&file, 19).await;
    fails(&file, content, "chunk 19 is missing").await;
    assert!(sink.requests().len() > 4, "large files are sent while they are proved");
    assert!(sink.puts().iter().all(|put| !put.complete), "no PUT came whole");
    assert!(sink.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_the_finaliser_does_not_know_fails_with_that_reason() {
    let sink = Sink::start().await;
    let options = Options {
        workers: [(Role::Chunker, 1), (Role::Store, 1), (Role::Finaliser, 0)],
        ..Options::with_sink(&sink.url())
    };
    let mut system = System::start(options).await;
    let (lost, _) = system.send("lost", 1000, "sink").await;
    system.api.until_state(&lost, "stored").await;
    let settings = std::fs::read_to_string(&system.config).unwrap();
    let (without, _) = settings.split_once("[remotes.sink]").unwrap();
    let other = system.folder().join("without.toml");
    std::fs::write(&other, without).unwrap();
    let whole = std::mem::replace(&mut system.config, other);
    system.start_service(Role::Finaliser, 0);
    let file = system.api.until_state(&lost, "failed").await;
    assert_error(&file, "unknown-remote", "\"sink\"");
    assert_eq!(file["attempts"], 4, "another finaliser may know it");
    assert!(sink.requests().is_empty());

    // Other files are not delayed, and a finaliser that knows the remote delivers.
    let (file, _) = system.send("elsewhere", 1000, "folder").await;
    system.api.until_state(&file, "delivered").await;
    system.process("finaliser-0").stop();
    system.config = whole;
    system.start_service(Role::Finaliser, 1);
    let (file, _) = system.send("found", 1000, "sink").await;
    system.api.until_state(&file, "delivered").await;
}
