//! Finds content that no record references.

use std::collections::HashMap;

use anyhow::Result;
use contract::{FileId, Generation};
use ledger::{FoundContent, FoundFile, FoundKey, Layout};

use super::finding::{Finding, FindingKind};
use super::{BATCH, Doctor, LATE};

pub(super) async fn audit(doctor: &mut Doctor) -> Result<()> {
    for layout in [Layout::Embedded, Layout::Children] {
        let mut cursor = None;
        loop {
            let batch = doctor.ledger.audit_content(layout, cursor.as_ref(), BATCH).await?;
            doctor.generations += batch.found.len() as u64;
            // Records are read after the content, so that a record never looks older than its content.
            let files: Vec<FileId> = batch.found.iter().filter_map(owner).collect();
            let records = doctor.ledger.audit_files_by_id(&files).await?;
            let records: HashMap<_, _> = records.iter().filter_map(|found| Some((found.id?, found))).collect();
            for content in &batch.found {
                check(doctor, content, &records).await?;
            }
            cursor = batch.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn owner(content: &FoundContent) -> Option<FileId> {
    match content.key {
        FoundKey::Of(file, _) => Some(file),
        FoundKey::Unreadable(_) => None,
    }
}

async fn check(doctor: &mut Doctor, content: &FoundContent, records: &HashMap<FileId, &FoundFile>) -> Result<()> {
    let collection = match content.layout {
        Layout::Embedded => "contents",
        Layout::Children => "chunks",
    };
    let (file, generation) = match &content.key {
        FoundKey::Of(file, generation) => (*file, *generation),
        FoundKey::Unreadable(key) => {
            let finding =
                Finding::of_name(FindingKind::ContentKey, key.clone(), "a file id and a generation in _id", collection)
                    .advising("find out who wrote it; no service reads it");
            return doctor.report.add(&finding);
        }
    };
    let found = format!("generation {generation} in {collection}");
    let Some(record) = records.get(&file) else {
        let finding =
            Finding::of_file(FindingKind::ContentWithoutRecord, file, "a record", format!("none, but {found}"))
                .advising("was part of a dump restored? Restore the record, or remove the content by hand");
        return doctor.report.add(&finding);
    };
    let Some((kind, expected, to_do)) = judge(record, generation, content.layout) else { return Ok(()) };
    let finding = Finding::of_file(kind, file, expected, found).advising(to_do);
    let removable = matches!(kind, FindingKind::OlderGeneration | FindingKind::ContentNotRemoved);
    if !(doctor.repair && removable) {
        return doctor.report.add(&finding);
    }
    let removed = doctor.ledger.remove_unreachable(file, generation).await?;
    doctor.report.add(&match removed {
        true => finding.mended("the content was removed"),
        false => finding.left("somebody is working on the file again"),
    })
}

/// What is wrong with content of this generation, what was expected and what to do; `None` if the content belongs there.
fn judge(found: &FoundFile, generation: Generation, layout: Layout) -> Option<(FindingKind, String, &'static str)> {
    // `record::audit` reports an unreadable record.
    let record = found.record.as_ref().ok()?;
    let current = record.generation;
    if generation > current {
        let to_do = "was MongoDB restored from an older dump? Cancel the file and prepare it again";
        return Some((FindingKind::HigherGeneration, format!("generation {current} at most"), to_do));
    }
    // Garbage collection in the stores will remove content that became unreachable only just now.
    let overdue = !found.is_held() && found.ages.updated.longer_ago_than(LATE).is_some();
    let to_do = "a store's garbage collection will remove it; or run with --repair";
    if generation < current {
        return overdue.then(|| (FindingKind::OlderGeneration, format!("content of generation {current} only"), to_do));
    }
    if record.content_removed == Some(generation) {
        return overdue
            .then(|| (FindingKind::ContentNotRemoved, "no content: its retention is over".to_owned(), to_do));
    }
    let misplaced = record.layout != Some(layout);
    misplaced.then(|| {
        let expected = match record.layout {
            Some(Layout::Embedded) => "this generation in contents",
            Some(Layout::Children) => "this generation in chunks",
            None => "no content: no chunker has begun with this generation",
        };
        (FindingKind::ContentMisplaced, expected.to_owned(), "find out who wrote it; no service reads it")
    })
}
