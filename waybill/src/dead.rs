//! `waybill dead`: the messages that no worker could read.

use std::io::Write;

use anyhow::{Context, Result};
use bus::dead_letters::{self, NotADeadLetter, StoredMessage};
use contract::{DeadLetter, one_line, plain_json};
use serde_json::{Value, json};

use crate::connection::{ConnectionArgs, connect_nats};

/// Maximum characters of a subject, a reason and the data of a message, in a line.
const SUBJECT: usize = 64;
const REASON: usize = 120;
const DATA: usize = 60;

/// Maximum characters of the data of a message, in JSON.
const JSON_DATA: usize = 1024;

/// The arguments of `waybill dead ls`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// The maximum number of messages; 0 only counts
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u16,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Counts and lists the messages, newest first.
pub async fn list(args: &ListArgs, connection: &ConnectionArgs) -> Result<()> {
    let nats = connect_nats(&connection.settings()?, "waybill-dead").await?;
    let stream = nats.names().dead_stream();
    let letters = dead_letters::newest(&nats, usize::from(args.limit)).await?;
    let letters =
        letters.with_context(|| format!("NATS has no stream {stream}: has a service ever connected to it?"))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let messages: Vec<Value> = letters.newest.iter().map(to_json).collect();
        let listed = json!({ "stream": stream, "total": letters.total, "messages": messages });
        writeln!(out, "{}", plain_json(&listed.to_string()))?;
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

/// The worker, subject, reason and data of a message.
fn parts(kept: &StoredMessage) -> (&str, &str, &str, &str) {
    match &kept.letter {
        Ok(DeadLetter { worker, subject, reason, payload, .. }) => (worker, subject, reason, payload),
        // It was not published by a worker.
        Err(NotADeadLetter { subject, why, payload }) => ("-", subject, why, payload),
    }
}

fn to_json(kept: &StoredMessage) -> Value {
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
