//! `waybill files`: what became of files, and what an operator does about them.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use contract::{FileId, ProblemKind, State};
use ledger::{Cancelling, FileRecord, Listing, Requeued};

use crate::line::one_line;
use crate::place::{Place, ledger};

/// Records read from MongoDB at once.
const PAGE: u16 = 200;

/// Characters of a name, and of what went wrong, in a line.
const NAME: usize = 40;
const DETAIL: usize = 100;

/// What `waybill files ls` is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only files in this state: prepared, chunking, stored, delivering, delivered, failed, cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only files for this remote
    #[arg(long, value_name = "REMOTE")]
    remote: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Print a line of JSON per file, as GET /files shows it
    #[arg(long)]
    json: bool,
}

/// Lists files, newest first.
pub async fn list(args: &ListArgs, place: &Place) -> Result<()> {
    let settings = place.settings()?;
    let ledger = ledger(&settings, "waybill-files").await?;
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
                let file = gateway::File::of(record, settings.files.chunk_size);
                writeln!(out, "{}", serde_json::to_string(&file)?)?;
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
    let name = one_line(&record.name, NAME);
    let FileRecord { id, state, updated_at, .. } = record;
    let error = record.error.as_ref().map_or_else(String::new, |error| {
        let kind = ProblemKind::name_of(&error.uri);
        format!("  {kind}: {}", one_line(&error.detail, DETAIL))
    });
    let (size, attempts) = (record.source.size, record.attempts());
    // A state and a moment know no width.
    let (state, updated_at) = (state.as_str(), updated_at.to_string());
    format!("{id}  {state:10}  {attempts:>8}  {size:>15}  {updated_at:24}  {name}{error}")
}

/// Takes failed files up again in the phase that failed.
pub async fn requeue(ids: &[FileId], place: &Place) -> Result<ExitCode> {
    let ledger = place.ledger("waybill-files").await?;
    let mut done = Tally::default();
    for id in ids {
        match ledger.requeue(*id).await {
            Ok(Requeued::Delivering(_)) => done.yes(*id, "requeued: it is delivered from what is stored"),
            Ok(Requeued::Chunking(_)) => done.yes(*id, "requeued: it is read again from its source"),
            Ok(Requeued::NotFailed(record)) => done.no(*id, &format!("not requeued: it is {}", record.state)),
            Ok(Requeued::Unknown) => done.no(*id, "not requeued: there is no such file"),
            Err(error) => done.no(*id, &format!("not requeued: {error}")),
        }
    }
    Ok(done.status())
}

/// Cancels files, or has them cancelled by whoever holds them.
pub async fn cancel(ids: &[FileId], place: &Place) -> Result<ExitCode> {
    let ledger = place.ledger("waybill-files").await?;
    let mut done = Tally::default();
    for id in ids {
        match ledger.cancel(*id).await {
            Ok(Cancelling::Cancelled(_)) => done.yes(*id, "cancelled"),
            Ok(Cancelling::Requested(record)) => done.yes(
                *id,
                &format!(
                    "to be cancelled: it is {}, and a worker ends it unless the remote has it already",
                    record.state
                ),
            ),
            Ok(Cancelling::Ended(record)) if record.state == State::Cancelled => done.yes(*id, "was cancelled before"),
            Ok(Cancelling::Ended(record)) => done.no(*id, &format!("not cancelled: it is {}", record.state)),
            Ok(Cancelling::Unknown) => done.no(*id, "not cancelled: there is no such file"),
            Err(error) => done.no(*id, &format!("not cancelled: {error}")),
        }
    }
    Ok(done.status())
}

/// Whether all could be done.
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
