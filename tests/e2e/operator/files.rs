//! `waybill files`.

use harness::{Options, System};
use serde_json::{Value, json};

use super::waybill;

/// A file that failed because the remote had an object of its name.
async fn failed(system: &System, name: &str) -> String {
    std::fs::write(system.remote().join(name), "of somebody else").unwrap();
    let (file, _) = system.send(name, 3_000_000, "folder").await;
    system.api.until_state(&file, "failed").await;
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed() {
    let system = System::start(Options::default()).await;
    let (first, _) = system.store("first\nof all", 3_000_000).await;
    let second = failed(&system, "second").await;
    let (third, _) = system.send("third", 10, "folder").await;
    system.api.until_state(&third, "delivered").await;

    let listed = waybill(&system, &["files", "ls"]).await.expect(0);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("NAME"), "{lines:#?}");
    for (line, file, parts) in [
        (lines[1], &third, ["  delivered ", " 10  ", "  third"]),
        (lines[2], &second, ["  failed ", " 3000000  ", "  second  remote-clash: "]),
        (lines[3], &first, ["  stored ", " 3000000  ", "  first\\nof all"]),
    ] {
        assert!(line.starts_with(file.as_str()), "newest first: {lines:#?}");
        let updated = system.api.file(file).await["updated_at"].as_str().unwrap().to_owned();
        for part in parts.into_iter().chain([&*updated]) {
            assert!(line.contains(part), "expected {part:?} in {line:?}");
        }
    }
    let ids = |lines: Vec<Value>| lines.iter().map(|file| file["file_id"].clone()).collect::<Vec<_>>();
    let failed = waybill(&system, &["files", "ls", "--state", "failed", "--json"]).await.expect(0).json();
    assert_eq!(failed[0], system.api.file(&second).await, "as the gateway shows it");
    assert_eq!(ids(failed), [json!(second)]);
    let of_remote = waybill(&system, &["files", "ls", "--remote", "folder", "--json"]).await.expect(0).json();
    assert_eq!(ids(of_remote), [json!(third), json!(second)]);
    let two = waybill(&system, &["files", "ls", "--limit", "2", "--json"]).await.expect(0).json();
    assert_eq!(ids(two), [json!(third), json!(second)]);
    let none = waybill(&system, &["files", "ls", "--state", "cancelled", "--json"]).await.expect(0);
    assert_eq!(none.stdout, "");
    let refused = waybill(&system, &["files", "ls", "--state", "lost"]).await.expect(2);
    assert!(refused.stderr.contains("delivered, failed, cancelled"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_page_by_page() {
    let system = System::start(Options::default().workers(0, 0, 0)).await;
    system.write("file", 1);
    for _ in 0..205 {
        system.api.prepare("file").await.expect(201);
    }
    let all = waybill(&system, &["files", "ls", "--limit", "1000", "--json"]).await.expect(0).json();
    let ids: Vec<_> = all.iter().map(|file| file["file_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == 205 && ids.is_sorted_by(|one, next| one > next), "{} files", ids.len());
    let some = waybill(&system, &["files", "ls", "--limit", "203", "--json"]).await.expect(0).json();
    assert_eq!(some, all[..203]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_files_are_requeued() {
    let system = System::start(Options::default()).await;
    let file = failed(&system, "file").await;
    let (other, _) = system.send("other", 10, "folder").await;
    system.api.until_state(&other, "delivered").await;
    std::fs::remove_file(system.remote().join("file")).unwrap();
    let unknown = contract::FileId::generate().to_string();

    let said = waybill(&system, &["files", "requeue", &file, &other, &unknown]).await.expect(1);
    let lines: Vec<_> = said.stdout.lines().collect();
    let expected = [
        format!("{file}  requeued: it will be delivered from what is stored"),
        format!("{other}  not requeued: it is delivered"),
        format!("{unknown}  not requeued: there is no such file"),
    ];
    assert_eq!(lines, expected);
    system.api.until_state(&file, "delivered").await;
    system.assert_arrived("file", "file");

    let again = failed(&system, "again").await;
    std::fs::remove_file(system.remote().join("again")).unwrap();
    waybill(&system, &["files", "requeue", &again]).await.expect(0);
    system.api.until_state(&again, "delivered").await;
    let nonsense = waybill(&system, &["files", "requeue", "nonsense"]).await.expect(2);
    assert!(nonsense.stderr.contains("nonsense"), "{}", nonsense.stderr);
    waybill(&system, &["files", "requeue"]).await.expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_cancelled() {
    let system = System::start(Options::default()).await;
    let (resting, _) = system.store("resting", 3_000_000).await;
    let (delivered, _) = system.send("delivered", 10, "folder").await;
    system.api.until_state(&delivered, "delivered").await;
    let unknown = contract::FileId::generate().to_string();

    let said = waybill(&system, &["files", "cancel", &resting, &delivered, &unknown]).await.expect(1);
    let expected = [
        format!("{resting}  cancelled"),
        format!("{delivered}  not cancelled: it is delivered"),
        format!("{unknown}  not cancelled: there is no such file"),
    ];
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), expected);
    system.api.until_state(&resting, "cancelled").await;
    let again = waybill(&system, &["files", "cancel", &resting]).await.expect(0);
    assert_eq!(again.stdout, format!("{resting}  was already cancelled\n"));
}
