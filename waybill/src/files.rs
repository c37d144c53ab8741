//! `waybill files`: lists, requeues and cancels files.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use contract::{FileId, ProblemKind, State, one_line, plain_json};
use ledger::{CancelOutcome, FileRecord, Ledger, Listing, Requeued};

use crate::connection::{ConnectionArgs, connect_ledger};

/// Records read from MongoDB at once.
const PAGE: u16 = 200;

/// Maximum characters of a name, and of an error, in a line.
const NAME: usize = 40;
const DETAIL: usize = 100;

/// The arguments of `waybill files ls`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only files in this state: prepared, chunking, stored, delivering, delivered, failed, cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only files for this remote
    #[arg(long, value_name = "REMOTE")]
    remote: Option<String>,
    /// The maximum number of files
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Print a line of JSON per file, as GET /files shows it
    #[arg(long)]
    json: bool,
}

/// Lists files, newest first.
pub async fn list(args: &ListArgs, connection: &ConnectionArgs) -> Result<()> {
    let settings = connection.settings()?;
    let ledger = connect_ledger(&settings, "waybill-files").await?;
    let printed = print(args, &ledger, settings.files.chunk_size).await;
    ledger.close().await;
    printed
}

async fn print(args: &ListArgs, ledger: &Ledger, chunk_size: u32) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{:36}  {:10}  {:>8}  {:>15}  {:24}  NAME", "ID", "STATE", "ATTEMPTS", "SIZE", "UPDATED AT")?;
    }
    let (mut left, mut before) = (args.limit, None);
    while left > 0 {
        let limit = u16::try_from(left).unwrap_or(PAGE).min(PAGE);
        let listing = Listing { state: args.state, remote: args.remote.clone(), before, limit };
        let page = ledger.list(&listing).await?;
        left -= u32::try_from(page.files.len()).unwrap_or(left).min(left);
        for record in page.files {
            if args.json {
                let file = gateway::File::of(record, chunk_size);
                writeln!(out, "{}", plain_json(&serde_json::to_string(&file)?))?;
            } else {
                writeln!(out, "{}", row(&record))?;
            }
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    Ok(())
}

fn row(record: &FileRecord) -> String {
    let name = one_line(record.name.as_str(), NAME);
    let FileRecord { id, state, updated_at, .. } = record;
    let error = record.error.as_ref().map_or_else(String::new, |error| {
        let kind = ProblemKind::name_of(&error.uri);
        format!("  {kind}: {}", one_line(&error.detail, DETAIL))
    });
    let (size, attempts) = (record.source.size, record.attempts());
    // The types of a state and a time ignore a width in the format.
    let (state, updated_at) = (state.as_str(), updated_at.to_string());
    format!("{id}  {state:10}  {attempts:>8}  {size:>15}  {updated_at:24}  {name}{error}")
}

/// Requeues failed files in the phase that failed.
pub async fn requeue(ids: &[FileId], connection: &ConnectionArgs) -> Result<ExitCode> {
    let ledger = connection.ledger("waybill-files").await?;
    let mut done = Tally::default();
    for id in ids {
        match ledger.requeue(*id).await {
            Ok(Requeued::Delivering(_)) => done.yes(*id, "requeued: it will be delivered from what is stored"),
            Ok(Requeued::Chunking(_)) => done.yes(*id, "requeued: it will be read again from its source"),
            Ok(Requeued::NotFailed(record)) => done.no(*id, &format!("not requeued: it is {}", record.state)),
            Ok(Requeued::Unknown) => done.no(*id, "not requeued: there is no such file"),
            Err(error) => done.no(*id, &format!("not requeued: {error}")),
        }
    }
    ledger.close().await;
    Ok(done.status())
}

/// Cancels files, or asks their holders to.
pub async fn cancel(ids: &[FileId], connection: &ConnectionArgs) -> Result<ExitCode> {
    let ledger = connection.ledger("waybill-files").await?;
    let mut done = Tally::default();
    for id in ids {
        match ledger.cancel(*id).await {
            Ok(CancelOutcome::Cancelled(_)) => done.yes(*id, "cancelled"),
            Ok(CancelOutcome::Requested(record)) => done.yes(
                *id,
                &format!(
                    "cancel requested: it is {}, and a worker will cancel it unless the remote already has it",
                    record.state
                ),
            ),
            Ok(CancelOutcome::Ended(record)) if record.state == State::Cancelled => {
                done.yes(*id, "was already cancelled")
            }
            Ok(CancelOutcome::Ended(record)) => done.no(*id, &format!("not cancelled: it is {}", record.state)),
            Ok(CancelOutcome::Unknown) => done.no(*id, "not cancelled: there is no such file"),
            Err(error) => done.no(*id, &format!("not cancelled: {error}")),
        }
    }
    ledger.close().await;
    Ok(done.status())
}

/// Prints the result for each file, and remembers whether one failed.
#[derive(Default)]
struct Tally {
    failed: bool,
}

#[allow(clippy::print_stdout, reason = "these lines are the result of the command")]
impl Tally {
    fn yes(&mut self, id: FileId, what: &str) {
        println!("{id}  {what}");
    }

    fn no(&mut self, id: FileId, why: &str) {
        self.failed = true;
        println!("{id}  {why}");
    }

    fn status(&self) -> ExitCode {
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
