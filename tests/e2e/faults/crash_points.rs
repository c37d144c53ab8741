//! A process dies at each of the crash points, and is started again.

use harness::run::{CRASH_POINTS, Fault};

use super::survive;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_crash_point_is_survived() {
    let runs: Vec<_> = CRASH_POINTS.iter().map(|point| vec![Fault::Crash(*point)]).collect();
    let reports = survive(400, &runs).await;
    let missed: Vec<_> = reports.iter().filter(|report| report.struck.is_empty()).map(ToString::to_string).collect();
    assert!(missed.is_empty(), "nobody came to the crash point in: {}", missed.join("\n"));
}
