//! `waybill doctor`: content.

use harness::{Behaviour, Options, Said, Sink, System, until};
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use serde_json::{Value, json};
use testing::{binary, by_id, content_id, flip};

use super::{stop_services, waybill, waybill_with};

const MIB: u64 = 1024 * 1024;

/// The findings, by kind and file or name, in a fixed order.
pub(super) fn kinds(said: &Said) -> Vec<(String, String)> {
    let of = |finding: &Value| {
        let of = finding.get("file_id").or(finding.get("name")).unwrap_or_else(|| panic!("of what? {finding}"));
        (finding["kind"].as_str().unwrap().to_owned(), of.as_str().unwrap().to_owned())
    };
    let mut kinds: Vec<_> = said.json().iter().map(of).collect();
    kinds.sort();
    kinds
}

/// The finding of a kind.
pub(super) fn finding(said: &Said, kind: &str) -> Value {
    let found = said.json().into_iter().find(|finding| finding["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {}", said.stdout))
}

pub(super) fn expected(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut list: Vec<_> = list.iter().map(|(kind, of)| ((*kind).to_owned(), (*of).to_owned())).collect();
    list.sort();
    list
}

pub(super) async fn doctor(system: &System, flags: &[&str]) -> Said {
    waybill(system, &[&["doctor", "--json"], flags].concat()).await
}

/// Panics unless nothing is found.
pub(super) async fn healthy(system: &System, flags: &[&str]) {
    let said = doctor(system, flags).await;
    assert_eq!((said.status, &*said.stdout), (0, ""), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_system_has_no_findings() {
    let system = System::start(Options::default()).await;
    healthy(&system, &[]).await;
    // It examines the system again and again while files are in work.
    let mut files = Vec::new();
    for number in 0..6 {
        files.push(system.send(&format!("large-{number}"), 24 * MIB + number, "folder").await.0);
        files.push(system.send(&format!("small-{number}"), MIB + number, "folder").await.0);
    }
    let mut turns = 0;
    loop {
        let mut delivered = 0;
        for file in &files {
            delivered += usize::from(system.api.file(file).await["state"] == "delivered");
        }
        healthy(&system, if turns % 2 == 0 { &["--deep"] } else { &["--repair"] }).await;
        turns += 1;
        if delivered == files.len() {
            break;
        }
    }
    assert!(turns > 1, "the files were too fast for this test");
    // Files of all other kinds: resting, empty, failed.
    for size in [0, 1, MIB, 2 * MIB, 2 * MIB + 1] {
        system.store(&format!("resting-{size}"), size).await;
    }
    std::fs::write(system.remote().join("clash"), "").unwrap();
    let (clash, _) = system.send("clash", 3 * MIB, "folder").await;
    system.api.until_state(&clash, "failed").await;
    healthy(&system, &[]).await;
    let deep = waybill(&system, &["doctor", "--deep"]).await.expect(0);
    assert_eq!(deep.stdout, "");
    assert_eq!(deep.stderr, "files: 18, generations with content: 17, findings: 0, mended: 0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_progress_is_no_finding() {
    let sink = Sink::start().await;
    // Small chunks, few at once: the file takes far longer than the examination.
    let options = Options {
        files: "chunk_size = 65536".into(),
        ..Options::with_sink(&sink.url()).toml("[chunker]\nwindow = 2\n[store]\nwriters = 1\n")
    };
    let mut system = System::start(options).await;
    sink.plan("file", &[Behaviour::StallAfter(MIB)]);
    let (file, _) = system.send("file", 20 * MIB, "sink").await;
    let chunks = system.stored().await.collection("chunks");
    until("some of it is stored", async || (chunks.count_documents(doc! {}).await.unwrap() > 0).then_some(())).await;
    system.process("store-0").signal(Signal::STOP);
    assert_eq!(system.api.file(&file).await["state"], "chunking", "the file was too fast for this test");
    healthy(&system, &["--deep", "--repair"]).await;
    system.process("store-0").signal(Signal::CONT);
    until("its delivery is under way", async || (!sink.puts().is_empty()).then_some(())).await;
    healthy(&system, &["--deep", "--repair"]).await;
    let file = system.api.file(&file).await;
    assert_eq!((&file["state"], &file["generation"], &file["attempts"]), (&json!("delivering"), &json!(1), &json!(1)));

    // It reports what is wrong with a held file, but repairs nothing.
    let file = file["file_id"].as_str().unwrap();
    system.stored().await.delete_chunk(file, 319).await;
    let left = doctor(&system, &["--repair"]).await.expect(1);
    assert_eq!(kinds(&left), expected(&[("chunk-missing", file)]));
    assert!(finding(&left, "chunk-missing")["did"].as_str().unwrap().contains("holds"), "{}", left.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_chunks_are_found_and_read_again() {
    let system = System::start(Options::default()).await;
    let (stored, content) = system.store("stored", 5 * MIB).await;
    let (small, _) = system.store("small", 2 * MIB).await;
    let (delivered, _) = system.send("delivered", 3 * MIB, "folder").await;
    system.api.until_state(&delivered, "delivered").await;
    system.stored().await.delete_chunk(&stored, 1).await;
    system.stored().await.delete_chunk(&stored, 4).await;
    system.stored().await.delete_chunk(&delivered, 2).await;
    let contents = system.stored().await.collection("contents");
    contents.delete_one(doc! { "_id": content_id(&small, 1, None) }).await.unwrap();

    let found = doctor(&system, &[]).await.expect(1);
    let all = [("chunk-missing", &*stored), ("chunk-missing", &*small), ("chunk-missing", &*delivered)];
    assert_eq!(kinds(&found), expected(&all));
    let of = |said: &Said, file: &str| said.json().into_iter().find(|finding| finding["file_id"] == *file).unwrap();
    assert_eq!(of(&found, &stored)["found"], "chunk 1, 4: missing");
    assert_eq!(of(&found, &small)["found"], "chunk 0, 1: missing");
    assert_eq!(of(&found, &stored)["mended"], false);
    assert_eq!(system.stored().await.document(&stored).await.get_i64("generation").unwrap(), 1, "nothing was changed");
    // For people: a line per finding.
    let lines = waybill(&system, &["doctor"]).await.expect(1);
    let lines: Vec<_> = lines.stdout.lines().collect();
    let line = lines.iter().find(|line| line.contains(&stored)).unwrap();
    assert!(lines.len() == 3 && line.starts_with("chunk-missing "), "{lines:#?}");
    assert!(line.contains("expected 5 chunks of generation 1 as they were stored; found chunk 1, 4"), "{line}");

    let mended = doctor(&system, &["--repair"]).await.expect(1);
    assert_eq!(kinds(&mended), expected(&all));
    for (file, is_mended) in [(&stored, true), (&small, true), (&delivered, false)] {
        assert_eq!(of(&mended, file)["mended"], is_mended, "{}", mended.stdout);
    }
    for file in [&stored, &small] {
        let again = system.api.until_state(file, "stored").await;
        assert_eq!(again["generation"], 2);
    }
    system.api.finalise(&stored, &content.sha256.to_string(), &json!({})).await.expect(202);
    system.api.until_state(&stored, "delivered").await;
    system.assert_arrived("stored", "stored");
    // Damage to a delivered file is only reported.
    let left = doctor(&system, &["--repair"]).await.expect(1);
    assert_eq!(kinds(&left), expected(&[("chunk-missing", &delivered)]));
    assert_eq!(system.stored().await.document(&delivered).await.get_i64("generation").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_chunks_are_found_by_their_length_or_deeply() {
    let system = System::start(Options::default()).await;
    let (long, _) = system.store("long", 3 * MIB).await;
    let (flipped, _) = system.store("flipped", 9 * MIB).await;
    let (small, _) = system.store("small", 2 * MIB).await;
    let (whole, _) = system.store("whole", 3 * MIB).await;
    let (strange, _) = system.store("strange", 3 * MIB).await;
    system.stored().await.change_chunk(&long, 2, |chunk| drop(chunk.insert("len", 7_i64))).await;
    system.stored().await.change_chunk(&flipped, 8, flip).await;
    system.stored().await.change_embedded(&small, 1, flip).await;
    // Its hash fits its bytes, but not the whole file.
    system
        .stored()
        .await
        .change_chunk(&whole, 0, |chunk| {
            flip(chunk);
            let sha256 = contract::Digest::of(chunk.get_binary_generic("data").unwrap());
            chunk.insert("sha256", binary(sha256.as_bytes().to_vec()));
        })
        .await;
    system.stored().await.change_chunk(&strange, 1, |chunk| drop(chunk.remove("sha256"))).await;
    let by_index = [("chunk-length", &*long), ("chunk-unreadable", &*strange)];
    assert_eq!(kinds(&doctor(&system, &[]).await.expect(1)), expected(&by_index));
    let deeply = [("chunk-hash", &*flipped), ("chunk-hash", &*small), ("whole-hash", &*whole)];
    let all = expected(&[&by_index[..], &deeply[..]].concat());
    let found = doctor(&system, &["--deep"]).await.expect(1);
    assert_eq!(kinds(&found), all);
    assert!(finding(&found, "chunk-length")["found"].as_str().unwrap().contains("7 bytes instead of 1048576"));
    let mended = doctor(&system, &["--deep", "--repair"]).await.expect(0);
    assert_eq!(kinds(&mended), all);
    for file in [&long, &flipped, &small, &whole, &strange] {
        assert_eq!(system.api.until_state(file, "stored").await["generation"], 2);
    }
    healthy(&system, &["--deep"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_content_is_found() {
    let mut system = System::start(Options::default()).await;
    let (small, _) = system.store("small", 10).await;
    let (large, _) = system.store("large", 3 * MIB).await;
    stop_services(&mut system);
    let (contents, chunks) = (system.stored().await.collection("contents"), system.stored().await.collection("chunks"));
    let stranger = contract::FileId::generate().to_string();
    let chunk = |file: &str, generation, number| {
        let data = binary(vec![7; 9]);
        doc! { "_id": content_id(file, generation, Some(number)), "len": 9_i64, "sha256": binary(vec![0; 32]), "data": data }
    };
    contents.insert_one(doc! { "_id": content_id(&small, 0, None), "c": {} }).await.unwrap();
    let old = (0..300).map(|number| chunk(&large, 0, number));
    chunks.insert_many(old).await.unwrap();
    healthy(&system, &[]).await;
    for file in [&small, &large] {
        system.stored().await.set_ago(file, "updated_at", 90_000).await;
    }
    let mended = expected(&[("older-generation", &*small), ("older-generation", &*large)]);
    assert_eq!(kinds(&doctor(&system, &[]).await.expect(1)), mended);
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), mended);
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 3);
    assert_eq!(contents.count_documents(doc! {}).await.unwrap(), 1);
    healthy(&system, &["--deep"]).await;

    // Content that may belong to somebody is reported and left.
    let left: Vec<Document> = vec![
        chunk(&large, 2, 0),
        chunk(&large, 1, 3),
        chunk(&stranger, 1, 0),
        chunk(&stranger, 1, 1),
        chunk(&small, 1, 0),
        doc! { "_id": "no key" },
        doc! { "_id": true },
    ];
    chunks.insert_many(&left).await.unwrap();
    let list = [
        ("higher-generation", &*large),
        ("chunk-beyond-end", &*large),
        ("content-without-record", &*stranger),
        ("content-misplaced", &*small),
        ("content-key", "\"no key\""),
        ("content-key", "true"),
    ];
    for flags in [&["--deep"][..], &["--repair"]] {
        assert_eq!(kinds(&doctor(&system, flags).await.expect(1)), expected(&list));
    }
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 3 + 7);
    for document in &left {
        chunks.delete_one(doc! { "_id": document.get("_id").unwrap() }).await.unwrap();
    }
    healthy(&system, &[]).await;

    // The removal of expired content was interrupted.
    system.stored().await.change(&small, vec![doc! { "$set": { "state": "failed", "content_removed": 1_i64 } }]).await;
    let unfinished = expected(&[("content-not-removed", &*small)]);
    assert_eq!(kinds(&doctor(&system, &[]).await.expect(1)), unfinished);
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), unfinished);
    assert_eq!(contents.count_documents(doc! {}).await.unwrap(), 0);
    healthy(&system, &["--deep"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_read_are_found() {
    let mut system = System::start(Options::default()).await;
    let (file, _) = system.store("file", 10).await;
    let (bare, _) = system.store("bare", 10).await;
    stop_services(&mut system);
    let files = system.stored().await.collection("files");
    let readable = system.stored().await.document(&file).await;
    files.insert_one(doc! { "_id": "text" }).await.unwrap();
    files.insert_one(doc! { "_id": true }).await.unwrap();
    let mut strange = readable.clone();
    strange.insert("state", "lost");
    files.replace_one(by_id(&file), strange).await.unwrap();
    files.update_one(by_id(&bare), doc! { "$unset": { "sha256": "" } }).await.unwrap();
    let list = [
        ("record-unreadable", &*file),
        ("record-unreadable", "\"text\""),
        ("record-unreadable", "true"),
        ("record-incomplete", &*bare),
    ];
    let found = doctor(&system, &["--repair"]).await.expect(1);
    assert_eq!(kinds(&found), expected(&list));
    let of_file = found.json().into_iter().find(|finding| finding["name"] == *file).unwrap();
    assert!(of_file["found"].as_str().unwrap().contains("lost"), "{of_file}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_that_cannot_run_says_so() {
    let system = System::prepare(&Options::default()).await;
    for nowhere in [
        ("WAYBILL__NATS__URL", "nats://127.0.0.1:1"),
        ("WAYBILL__MONGODB__URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"),
        ("WAYBILL__NATS__PREFIX", "A.B"),
    ] {
        let said = waybill_with(&system, &["doctor"], &[nowhere]).await.expect(2);
        assert!(said.stdout.is_empty() && said.stderr.starts_with("waybill: "), "{}", said.stderr);
    }
}
