//! Receipts: what a third party can check with nothing but the receipt, the file and a key.

use std::path::{Path, PathBuf};

use contract::{EventKind, SigningKey};
use harness::{Behaviour, Options, Said, Sink, System};
use serde_json::{Value, json};

use crate::command::waybill;
use crate::inspection::events_until;

/// 32 bytes in hexadecimal digits, as a setting may hold them.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A folder of a person who has the receipt and no access to the system.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn lay(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// What `waybill receipt verify` says of that JSON.
    fn verify(&self, json: &Value, more: &[&str]) -> Said {
        let file = self.lay("receipt.json", serde_json::to_vec_pretty(json).unwrap());
        waybill(&[&["receipt", "verify", path(&file)], more].concat(), None, "")
    }
}

#[track_caller]
fn comes_to(said: Said, expected: i32, says: &str) {
    let said = said.expect(expected);
    assert!([&*said.stdout, &said.stderr].concat().contains(says), "expected {says:?} in {said:?}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_checked_by_whoever_has_the_key_and_the_file() {
    let sink = Sink::start().await;
    let options = Options::with_sink(&sink.url()).toml(&format!("[receipts]\nsigning_key = \"{KEY}\"\n"));
    let system = System::start(options).await;
    // Three quick tries of the first attempt, and one of the second.
    sink.plan("report.pdf", &[Behaviour::Answer(503); 4]);
    let (file, content) = system.send("report.pdf", 3_000_001, "sink").await;
    let shown = system.api.until_state(&file, "delivered").await;
    let receipt = &shown["receipt"];

    // The failed attempt is in the receipt, and in what the gateway shows.
    assert_eq!((&receipt["attempts"], &receipt["failures"].as_array().unwrap().len()), (&json!(2), &1));
    let failure = &receipt["failures"][0];
    assert_eq!((&failure["attempt"], &failure["type"]), (&json!(1), &json!("/problems/remote-unavailable")));
    assert!(failure["detail"].as_str().unwrap().contains("503"), "{failure}");
    assert_eq!(shown["failures"][0]["phase"], "delivering");
    assert_eq!(shown["failures"][0]["detail"], failure["detail"]);
    assert_eq!(receipt["remote"]["proves"], json!(contract::RemoteProof::Put.sentence()));
    assert!(!shown.to_string().contains(KEY));

    // The event has the same receipt.
    let events = events_until(&system, &system.nats().await, &file, EventKind::Delivered).await;
    let event = serde_json::to_value(events.last().unwrap()).unwrap();
    assert_eq!(&event["detail"]["receipt"], receipt);

    let desk = Desk::new();
    let printed = waybill(&["receipt", "key", "--config", path(&system.config)], None, "");
    let key = desk.lay("key.pem", &printed.stdout);
    let public = KEY.parse::<SigningKey>().unwrap().public();
    assert_eq!(printed.stdout, public.to_pem());
    let source = system.source().join("report.pdf");
    let all = ["--key", path(&key), "--data", path(&source)];
    for json in [receipt, &shown, &event] {
        comes_to(desk.verify(json, &all), 0, "verified");
    }
    comes_to(desk.verify(receipt, &["--key", &public.to_string()]), 0, "verified");
    // Nobody to vouch for it.
    comes_to(desk.verify(receipt, &["--data", path(&source)]), 3, &public.id());
    let other = SigningKey::from_seed(&[9; 32]).public().to_string();
    comes_to(desk.verify(receipt, &["--key", &other]), 1, &format!("found {}", public.id()));
    comes_to(desk.verify(receipt, &["--key", &other, "--key", path(&key)]), 0, "verified");

    // A file that differs from the delivered one.
    let mut wrong = std::fs::read(&source).unwrap();
    wrong[1_500_000] ^= 1;
    let damaged = desk.lay("damaged", &wrong);
    let expected = format!("expected SHA-256 {}", content.sha256);
    comes_to(desk.verify(receipt, &["--key", path(&key), "--data", path(&damaged)]), 1, &expected);
    let cut = desk.lay("cut", &wrong[..3_000_000]);
    let expected = "expected bytes 3000001, found 3000000";
    comes_to(desk.verify(receipt, &["--key", path(&key), "--data", path(&cut)]), 1, expected);

    // Something else around the receipt than it says itself.
    for (around, members) in [
        (&shown, &["/file_id", "/state", "/name", "/file_path", "/sha256", "/size", "/chunks/total", "/remote"][..]),
        (&event, &["/file_id", "/state", "/name"]),
    ] {
        for member in members {
            let mut forged = around.clone();
            *forged.pointer_mut(member).unwrap() = json!("forged");
            comes_to(desk.verify(&forged, &all), 1, "expected, as in the receipt, ");
        }
    }
    for (around, place) in [(&event, ""), (&event, "/detail/receipts"), (&shown, "/detail")] {
        let mut forged = around.clone();
        let two = json!({ "receipt": receipt, "note": "two" });
        match place {
            "" => forged["receipt"] = receipt.clone(),
            "/detail" => forged["detail"] = two,
            _ => forged["detail"]["receipts"] = json!([two]),
        }
        comes_to(desk.verify(&forged, &all), 2, "expected one receipt, found several");
    }
    // A receipt inside something that looks like one.
    let mut outer = receipt.clone();
    outer["remote"]["address"] = json!("https://elsewhere.example/a");
    outer["receipt"] = receipt.clone();
    comes_to(desk.verify(&outer, &all), 2, "expected one receipt, found several");
    let mut noted = receipt.clone();
    noted["signature"]["comment"] = json!("also signed by the remote");
    comes_to(desk.verify(&noted, &all), 1, "unknown field `comment`");
    // With this key anybody can make signatures.
    comes_to(desk.verify(receipt, &["--key", &format!("01{}", "0".repeat(62))]), 2, "small order");

    // A receipt that was changed.
    let mut forged = shown.clone();
    forged["receipt"]["remote"]["address"] = json!("https://elsewhere.example/a");
    comes_to(desk.verify(&forged, &all), 1, "something was changed");
    forged["receipt"].as_object_mut().unwrap().remove("signature");
    comes_to(desk.verify(&forged, &all), 1, "found none");
    comes_to(desk.verify(&forged, &[]), 3, "nobody vouches");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_receipts_are_not_signed() {
    let system = System::start(Options::default()).await;
    let (file, content) = system.send("plain", 1000, "folder").await;
    let shown = system.api.until_state(&file, "delivered").await;
    assert_eq!((&shown["receipt"]["sha256"], &shown["receipt"]["signature"]), (&json!(content.sha256), &Value::Null));
    assert_eq!((&shown["failures"], &shown["receipt"]["failures"]), (&json!([]), &Value::Null));
    let (desk, source) = (Desk::new(), system.source().join("plain"));
    comes_to(desk.verify(&shown, &["--data", path(&source)]), 3, "nobody vouches");
    let key = SigningKey::from_seed(&[9; 32]).public().to_string();
    comes_to(desk.verify(&shown, &["--key", &key]), 1, "found none");
    let printed = waybill(&["receipt", "key", "--config", path(&system.config)], None, "").expect(1);
    assert!(printed.stderr.contains("receipts.signing_key"), "{printed:?}");
}

#[test]
fn anything_but_a_receipt_cannot_be_checked() {
    let desk = Desk::new();
    let receipt: Value =
        serde_json::from_str(include_str!("../../contract/tests/golden/receipt_signed.v1.json")).unwrap();
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/tests/golden/receipt_key.pub.pem");
    let data = desk.lay("data", "abc");
    let all = ["--key", path(&key), "--data", path(&data)];
    comes_to(desk.verify(&receipt, &all), 0, "verified");
    let twice = receipt.to_string().replacen("{", "{\"size\":4,", 1);
    let said = waybill(&[&["receipt", "verify", "-"][..], &all].concat(), None, &twice).expect(2);
    assert!(said.stderr.contains("\"size\" appears twice"), "{said:?}");

    comes_to(desk.verify(&json!({ "receipt": null, "state": "delivering" }), &all), 2, "one that is delivering");
    comes_to(desk.verify(&json!({ "event": "stored", "detail": { "size": 3 } }), &all), 2, "\"stored\"");
    comes_to(desk.verify(&json!([receipt]), &all), 2, "expected a JSON object");
    comes_to(desk.verify(&json!({ "more": " ".repeat(1 << 20) }), &all), 2, "expected at most 1048576 bytes");
    comes_to(desk.verify(&json!({}), &all), 1, "expected a receipt");
    for (more, says) in [
        (["--key", "/nowhere"], "\"/nowhere\" is not a public key"),
        (["--key", path(&data)], "holds no public key"),
        (["--data", "/nowhere"], "/nowhere cannot be read"),
        (["--data", "/"], "cannot be read"),
        (["--figures", "4"], "--figures"),
    ] {
        comes_to(desk.verify(&receipt, &more), 2, says);
    }
    let absent = waybill(&["receipt", "verify", "/nowhere.json"], None, "").expect(2);
    assert!(absent.stdout.is_empty() && absent.stderr.contains("/nowhere.json"), "{absent:?}");
    // Control characters in a receipt do not reach the terminal.
    let mut odd = receipt;
    odd["remote"]["proves"] = json!("\u{1b}[2J");
    let said = desk.verify(&odd, &all);
    assert!(!said.stdout.contains('\u{1b}') && !said.stderr.contains('\u{1b}'), "{said:?}");
}
