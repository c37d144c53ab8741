//! Faults, and that the system survives them: docs/reliability.md has the promises.

mod crash_points;
mod hops;
mod outages;
mod proxy;
mod rules;
mod runs;
mod sabotage;

use harness::run::{Manner, Pair, Plan, Report, run};

/// One of these tests at a time: each kills servers of its own, and needs two cores.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Makes runs one after the other on the same servers. Panics at the first broken rule.
async fn survive(plans: impl IntoIterator<Item = Plan>) -> Vec<Report> {
    let _alone = ALONE.lock().await;
    let mut pair = Pair::start().await.unwrap();
    let mut reports = Vec::new();
    for plan in plans {
        let report = run(&mut pair, plan, &Manner::default()).await.unwrap();
        assert!(report.broken.is_empty(), "{report}");
        report.missing.iter().for_each(|what| eprintln!("NOT TESTED on this machine: {what}"));
        let in_ci = std::env::var_os("CI").is_some();
        assert!(report.missing.is_empty() || !in_ci, "what is not tested in CI is not tested at all");
        reports.push(report);
    }
    reports
}
