//! `waybill doctor`: reads everything, says what is not as it should be, and mends what can be mended without loss.
//!
//! It may run beside the services. What it reads of a file belongs to one moment; whatever looks wrong is looked at once more,
//! and counts only if the record has not changed since.

mod content;
mod finding;
mod leftover;
mod record;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bus::Nats;
use contract::{Cause, FileId, Step};
use ledger::Ledger;

use crate::place::{self, Place};
use finding::Report;

/// How late something must be to be a finding. Sweeps run every few seconds, and publish what was left after a lease.
const LATE: Duration = Duration::from_secs(60);

/// Records, or generations of content, read at once.
const BATCH: u16 = 128;

/// What `waybill doctor` is asked for.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Read every chunk and hash it again
    #[arg(long)]
    deep: bool,
    /// Mend what can be mended without loss, and say what was done
    #[arg(long)]
    repair: bool,
    /// Print a line of JSON per finding
    #[arg(long)]
    json: bool,
}

/// What all parts of the audit need.
struct Doctor {
    ledger: Ledger,
    nats: Nats,
    lease: Duration,
    deep: bool,
    repair: bool,
    report: Report,
    files: u64,
    generations: u64,
}

/// Reads everything. 0: nothing was found, or all was mended; 1: something is left; 2: it could not run.
pub async fn command(args: Args, place: &Place) -> ExitCode {
    match audit(args, place).await {
        Ok(Report { findings, mended, .. }) if findings == mended => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("waybill: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn audit(args: Args, place: &Place) -> Result<Report> {
    let settings = place.settings()?;
    let (ledger, nats) =
        tokio::try_join!(place::ledger(&settings, "waybill-doctor"), place::nats(&settings, "waybill-doctor"))?;
    let Args { deep, repair, json } = args;
    let lease = settings.work.lease();
    let mut doctor = Doctor { ledger, nats, lease, deep, repair, report: Report::new(json), files: 0, generations: 0 };
    // Streams first: hints need them. Records last, as having a file read again leaves an older generation behind.
    streams::audit(&mut doctor).await?;
    leftover::audit(&mut doctor).await?;
    record::audit(&mut doctor).await?;
    let Doctor { report, files, generations, .. } = doctor;
    let Report { findings, mended, .. } = &report;
    eprintln!("files: {files}, generations with content: {generations}, findings: {findings}, mended: {mended}");
    Ok(report)
}

impl Doctor {
    /// Publishes the hint to look at a file. What is not published now, the sweep of a service publishes: the file is due.
    async fn hint(&self, step: Step, file: FileId) -> String {
        let hinted = bus::hint_once(&self.nats, &self.ledger, step, file, Cause::Sweep).await;
        match hinted {
            Ok(()) => format!("the hint to {} was published", step.as_str()),
            Err(error) => format!("the hint to {} was not published, a sweep will: {error}", step.as_str()),
        }
    }
}
