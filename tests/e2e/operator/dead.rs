//! `waybill dead ls`.

use async_nats::jetstream;
use contract::{FileId, Step};
use harness::{Options, System, until};
use serde_json::json;

use super::{waybill, waybill_with};

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_are_counted_and_listed() {
    let system = System::start(Options::default()).await;
    let stream = system.names.dead_stream();
    let nothing = waybill(&system, &["dead", "ls"]).await.expect(0);
    assert_eq!(nothing.stdout, format!("unreadable messages in {stream}: 0\n"));

    let nats = system.nats().await;
    let jetstream = jetstream::new(nats.clone());
    let publish = async |subject: String, body: &'static str| {
        jetstream.publish(subject, body.into()).await.unwrap().await.unwrap();
    };
    let found = async |count: u64| {
        until(&format!("{count} messages are dead"), async || {
            let info = jetstream.get_stream(&stream).await.unwrap().cached_info().clone();
            (info.state.messages == count).then_some(info)
        })
        .await
    };
    let subject = system.names.hint(Step::Prepare, FileId::generate());
    publish(subject.clone(), "no\njson").await;
    found(1).await;
    // A removed message leaves a gap.
    publish(system.names.hint(Step::Finalise, FileId::generate()), "{}").await;
    let last = found(2).await.state.last_sequence;
    let dead = jetstream.get_stream(&stream).await.unwrap();
    assert!(dead.delete_message(last).await.unwrap());
    // Somebody else may publish there too.
    let foreign = system.names.all_dead().replace('>', "stranger");
    publish(foreign.clone(), "hello").await;

    let listed = waybill(&system, &["dead", "ls"]).await.expect(0);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert_eq!(lines[0], format!("unreadable messages in {stream}: 2"));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for part in ["  3  ", " -  ", &foreign, "JSON", "  hello"] {
        assert!(lines[2].contains(part), "expected {part:?} in {:?}", lines[2]);
    }
    for part in ["  1  ", " chunker  ", &subject, "JSON", "  no\\njson"] {
        assert!(lines[3].contains(part), "expected {part:?} in {:?}", lines[3]);
    }
    let newest = waybill(&system, &["dead", "ls", "--json", "--limit", "1"]).await.expect(0).json();
    let [newest] = &newest[..] else { panic!("one line, not {newest:?}") };
    assert_eq!((&newest["stream"], &newest["total"]), (&json!(stream), &json!(2)));
    assert_eq!(newest["messages"].as_array().unwrap().len(), 1);
    assert_eq!(newest["messages"][0]["sequence"], 3);
    let all = waybill(&system, &["dead", "ls", "--json"]).await.expect(0).json();
    let oldest = &all[0]["messages"][1];
    assert_eq!((&oldest["worker"], &oldest["subject"]), (&json!("chunker"), &json!(subject)));
    assert_eq!(oldest["data"], "no\njson");
    assert!(oldest["time"].as_str().unwrap().ends_with('Z'), "{oldest}");

    let dead = jetstream.get_stream(&stream).await.unwrap();
    assert_eq!(dead.cached_info().state.consumer_count, 0, "it leaves nothing behind");
    assert_eq!(dead.cached_info().state.messages, 2);

    let nowhere = [("WAYBILL__NATS__PREFIX", "nobody")];
    let refused = waybill_with(&system, &["dead", "ls"], &nowhere).await.expect(1);
    assert!(refused.stderr.contains("NOBODY_DEAD") && refused.stdout.is_empty(), "{}", refused.stderr);
}
