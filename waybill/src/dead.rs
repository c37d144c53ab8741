//! `waybill dead`: the messages that no worker could read.

use std::io::Write;

use anyhow::{Context, Result};
use bus::dead_letters::{self, Foreign, Kept};
use contract::DeadLetter;
use serde_json::{Value, json};

use crate::line::one_line;
use crate::place::{Place, nats};

/// Characters of a subject, a reason and of what a message says, in a line.
const SUBJECT: usize = 64;
const REASON: usize = 120;
const DATA: usize = 60;

/// Characters of what a message says, in JSON.
const JSON_DATA: usize = 1024;

/// What `waybill dead ls` is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// How many at most; 0 only counts
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u16,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Counts and lists them, newest first.
pub async fn list(args: &ListArgs, place: &Place) -> Result<()> {
    let nats = nats(&place.settings()?, "waybill-dead").await?;
    let stream = nats.names().dead_stream();
    let letters = dead_letters::newest(&nats, usize::from(args.limit)).await?;
    let letters = letters.with_context(|| format!("NATS has no stream {stream}: has a service run there?"))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let messages: Vec<Value> = letters.newest.iter().map(shape).collect();
        writeln!(out, "{}", json!({ "stream": stream, "total": letters.total, "messages": messages }))?;
        return Ok(());
    }
    writeln!(out, "unreadable messages in {stream}: {}", letters.total)?;
    if letters.newest.is_empty() {
        return Ok(());
    }
    writeln!(out, "{:>8}  {:24}  {:9}  SUBJECT  REASON  DATA", "SEQUENCE", "TIME", "WORKER")?;
    for kept in &letters.newest {
        let (worker, subject, reason, data) = parts(kept);
        let (sequence, at) = (kept.sequence, kept.at.to_string());
        let (worker, subject) = (one_line(worker, 9), one_line(subject, SUBJECT));
        let (reason, data) = (one_line(reason, REASON), one_line(data, DATA));
        writeln!(out, "{sequence:>8}  {at:24}  {worker:9}  {subject}  {reason}  {data}")?;
    }
    Ok(())
}

/// Worker, subject, reason and what the message says.
fn parts(kept: &Kept) -> (&str, &str, &str, &str) {
    match &kept.letter {
        Ok(DeadLetter { worker, subject, reason, payload, .. }) => (worker, subject, reason, payload),
        // Somebody else published it here.
        Err(Foreign { subject, why, payload }) => ("-", subject, why, payload),
    }
}

fn shape(kept: &Kept) -> Value {
    let (worker, subject, reason, data) = parts(kept);
    json!({
        "sequence": kept.sequence,
        "time": kept.at,
        "worker": worker,
        "subject": subject,
        "reason": reason,
        "data": data.chars().take(JSON_DATA).collect::<String>(),
    })
}
