//! `waybill doctor`: reads everything, reports what is not as it should be, and mends what can be mended without loss.
//!
//! It may run beside the services, so a file may change while the doctor reads it. Whatever looks wrong is checked
//! against the record once more, and is a finding only if the record has not changed since.

mod content;
mod finding;
mod leftover;
mod record;
mod scan;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bus::Nats;
use contract::{Cause, FileId, Step};
use ledger::Ledger;

use crate::connection::{self, ConnectionArgs};
use finding::Report;

/// How overdue something must be to be a finding. Sweeps run every few seconds, and publish what was left for longer
/// than a lease.
const LATE: Duration = Duration::from_secs(60);

/// How many records, or generations of content, one query reads.
const BATCH: u16 = 128;

/// The arguments of `waybill doctor`.
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

/// What all parts of the audit share.
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

/// Reads everything. Exit status 0: nothing was found, or all of it was mended; 1: something is left; 2: it could not
/// run.
pub async fn command(args: Args, connection: &ConnectionArgs) -> ExitCode {
    match audit(args, connection).await {
        Ok(Report { findings, mended, .. }) if findings == mended => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("waybill: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn audit(args: Args, connection: &ConnectionArgs) -> Result<Report> {
    let settings = connection.settings()?;
    let (ledger, nats) = tokio::try_join!(
        connection::connect_ledger(&settings, "waybill-doctor"),
        connection::connect_nats(&settings, "waybill-doctor")
    )?;
    let Args { deep, repair, json } = args;
    let lease = settings.work.lease();
    let mut doctor = Doctor { ledger, nats, lease, deep, repair, report: Report::new(json), files: 0, generations: 0 };
    let audited = doctor.audit().await;
    doctor.ledger.close().await;
    audited?;
    let Doctor { report, files, generations, .. } = doctor;
    let Report { findings, mended, .. } = &report;
    eprintln!("files: {files}, generations with content: {generations}, findings: {findings}, mended: {mended}");
    Ok(report)
}

impl Doctor {
    /// Streams come first: hints need them. Records come last: repairing one begins a new generation, and the content of
    /// the old one would then be a finding among the leftovers.
    async fn audit(&mut self) -> Result<()> {
        streams::audit(self).await?;
        leftover::audit(self).await?;
        record::audit(self).await
    }

    /// Publishes the hint to look at a file, and says so. If that fails, the sweep of a service publishes it: the file
    /// is due.
    async fn hint(&self, step: Step, file: FileId) -> String {
        let hinted = bus::hint_once(&self.nats, &self.ledger, step, file, Cause::Sweep).await;
        match hinted {
            Ok(()) => format!("the hint to {} was published", step.as_str()),
            Err(error) => format!("the hint to {} was not published ({error}); a sweep will publish it", step.as_str()),
        }
    }
}
