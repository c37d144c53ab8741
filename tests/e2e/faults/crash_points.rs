//! A process dies at each of the crash points, and is restarted.

use harness::run::{CRASH_POINTS, Fault, Plan};

use super::survive;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_crash_point_is_survived() {
    let plans = (400..).zip(CRASH_POINTS).map(|(seed, point)| Plan::with(seed, &[Fault::Crash(point)]).alone());
    let reports = survive(plans).await;
    let is_crash = |fault: &Fault| matches!(fault, Fault::Crash(_));
    let missed: Vec<_> =
        reports.iter().filter(|report| !report.struck.iter().any(is_crash)).map(ToString::to_string).collect();
    assert!(missed.is_empty(), "nobody came to the crash point in: {}", missed.join("\n"));
}
