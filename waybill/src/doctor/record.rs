//! Finds records that nobody takes care of in time, and checks their content.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use ledger::{FileRecord, FoundFile, Moment};

use super::finding::{Finding, FindingKind};
use super::scan::Scan;
use super::{BATCH, Doctor, LATE, content};

pub(super) async fn audit(doctor: &mut Doctor) -> Result<()> {
    let (mut cursor, mut scan) = (None, Scan::default());
    loop {
        let batch = doctor.ledger.audit_files(cursor.as_ref(), BATCH).await?;
        // Only the others are checked one by one. What is read here says nothing about bytes.
        let whole = if doctor.deep { HashSet::new() } else { scan.whole(&doctor.ledger, &batch.found).await? };
        for found in &batch.found {
            doctor.files += 1;
            let content_is_whole = found.id.is_some_and(|file| whole.contains(&file));
            check(doctor, found, content_is_whole).await?;
        }
        cursor = batch.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn check(doctor: &mut Doctor, found: &FoundFile, content_is_whole: bool) -> Result<()> {
    let (file, record) = match (found.id, &found.record) {
        (Some(file), Ok(record)) => (file, record),
        (_, Err(error)) => {
            let finding = Finding::of_name(FindingKind::RecordUnreadable, found.key.clone(), "a record", error);
            return doctor.report.add(&finding.advising("correct the document by hand; services leave it alone"));
        }
        (None, Ok(_)) => {
            let finding =
                Finding::of_name(FindingKind::RecordUnreadable, found.key.clone(), "a file id as _id", &found.key);
            return doctor.report.add(&finding.advising("find out who wrote it; services leave it alone"));
        }
    };
    if let Some((kind, expected, actual)) = overdue(found, record) {
        let finding = Finding::of_file(kind, file, expected, actual);
        let finding =
            finding.advising("check that services of its next step are running and ready; or run with --repair");
        let finding = if doctor.repair { repair(doctor, record, finding).await? } else { finding };
        doctor.report.add(&finding)?;
    }
    check_outbox(doctor, found, record).await?;
    if content_is_whole {
        return Ok(());
    }
    content::check(doctor, record).await
}

/// Whether somebody should have looked at the file by now: what is wrong, what was expected and what was found.
fn overdue(found: &FoundFile, record: &FileRecord) -> Option<(FindingKind, String, String)> {
    if found.is_held() {
        return None;
    }
    let (state, ages) = (record.state, &found.ages);
    let in_work = !state.is_terminal();
    if let Some(ago) = ages.due.longer_ago_than(LATE) {
        let expected =
            if state.is_terminal() { "its content to be removed in time" } else { "somebody to look at it in time" };
        return Some((FindingKind::Overdue, expected.to_owned(), format!("{state}, due {} ago", span(ago))));
    }
    if in_work && ages.due == Moment::Unset {
        let expected = "a time by which somebody must look at it";
        return Some((FindingKind::Unscheduled, expected.to_owned(), format!("{state}, and no time")));
    }
    let expired = ages.lease.longer_ago_than(LATE).filter(|_| in_work)?;
    let holder = record.holder().unwrap_or_default();
    let found = format!("{state}, the lease of {holder} expired {} ago", span(expired));
    Some((FindingKind::LeaseRunOut, "another worker to have claimed it".to_owned(), found))
}

/// Does what the file is due for, or makes it due now.
async fn repair(doctor: &Doctor, record: &FileRecord, finding: Finding) -> Result<Finding> {
    if record.state.is_terminal() {
        return Ok(match doctor.ledger.remove_content(record.id).await? {
            true => finding.mended("its content was removed"),
            false => finding.left("the file has changed meanwhile"),
        });
    }
    if record.rests() {
        return Ok(match doctor.ledger.end_rest(record.id).await? {
            Some(_) => finding.mended("it has failed: nobody finalised it in time"),
            None => finding.mended("it is due when its retention is over"),
        });
    }
    Ok(match doctor.ledger.make_due(record.id, record.version).await? {
        Some(step) => finding.mended(format!("due now; {}", doctor.hint(step, record.id).await)),
        None => finding.left("the file has changed meanwhile, or waits for its next attempt"),
    })
}

async fn check_outbox(doctor: &mut Doctor, found: &FoundFile, record: &FileRecord) -> Result<()> {
    let outbox = record.outbox();
    let since = match (found.ages.outbox.longer_ago_than(LATE), found.ages.outbox) {
        (Some(ago), _) => format!("for {}", span(ago)),
        (None, Moment::Unset) => "since an unknown time".to_owned(),
        (None, _) => return Ok(()),
    };
    if outbox.events.is_empty() {
        return Ok(());
    }
    let waiting = format!("{} events that have been waiting {since}", outbox.events.len());
    let finding = Finding::of_file(FindingKind::OutboxLeft, record.id, "its events to be published", waiting)
        .advising("check that a service is running and connected to NATS; or run with --repair");
    let finding = if doctor.repair {
        match bus::publish(&doctor.nats, &doctor.ledger, &outbox).await {
            Ok(()) => finding.mended("the events were published"),
            Err(error) => finding.left(error),
        }
    } else {
        finding
    };
    doctor.report.add(&finding)
}

/// A duration in the largest unit that fits.
fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
