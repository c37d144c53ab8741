//! A whole run with its checker: it goes red, by the right rule, when a failpoint breaks the product.

use std::time::Duration;

use harness::Variable;
use harness::checker::Rule;
use harness::run::{Fault, Manner, Mood, Pair, Plan, run};

use super::ALONE;

/// Makes a run with this failpoint on in every service, and panics unless that breaks the rule.
async fn goes_red(failpoint: &str, faults: &[Fault], rule: Rule) {
    let _alone = ALONE.lock().await;
    let mut pair = Pair::start().await.unwrap();
    let manner = Manner {
        // Long enough for a good run, and short for one that hangs.
        deadline: Duration::from_secs(20),
        environment: vec![Variable::new("", "FAILPOINTS", format!("{failpoint}=return"))],
        doctor: false,
    };
    let report = run(&mut pair, Plan::with(7, faults), &manner).await.unwrap();
    assert!(report.broken.iter().any(|violation| violation.rule == rule), "expected {rule} to be broken: {report}");
    if let Some(kept) = &report.kept {
        std::fs::remove_dir_all(kept).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_by_itself_is_found() {
    goes_red("finaliser-after-claim", &[], Rule::Alive).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_never_hinted_are_found_stuck() {
    goes_red("break-hints", &[], Rule::Moving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finaliser_that_neither_asks_nor_sends_a_condition_is_found_sending_twice() {
    goes_red("break-ask", &[Fault::Remote(Mood::Unseen)], Rule::Once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_after_the_proof_is_found_at_the_remote() {
    goes_red("break-proof", &[], Rule::Equal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_marked_as_removed_and_stays_is_found() {
    goes_red("break-retention", &[], Rule::Forgotten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_popped_unpublished_are_found_missing() {
    goes_red("break-outbox", &[], Rule::Told).await;
}
