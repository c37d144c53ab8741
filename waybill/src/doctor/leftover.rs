//! Content that nobody can reach.

use std::collections::HashMap;

use anyhow::Result;
use contract::{FileId, Generation};
use ledger::{FoundContent, FoundFile, FoundKey, Layout};

use super::finding::{Finding, Kind};
use super::{BATCH, Doctor, LATE};

pub(super) async fn audit(doctor: &mut Doctor) -> Result<()> {
    for layout in [Layout::Embedded, Layout::Children] {
        let mut place = None;
        loop {
            let batch = doctor.ledger.audit_content(layout, place.as_ref(), BATCH).await?;
            doctor.generations += batch.found.len() as u64;
            // After the content, so that a record never looks older than it.
            let files: Vec<FileId> = batch.found.iter().filter_map(owner).collect();
            let records = doctor.ledger.audit_files_by_id(&files).await?;
            let records: HashMap<_, _> = records.iter().filter_map(|found| Some((found.id?, found))).collect();
            for content in &batch.found {
                check(doctor, content, &records).await?;
            }
            place = batch.next;
            if place.is_none() {
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
                Finding::of_name(Kind::ContentKey, key.clone(), "a file id and a generation in _id", collection)
                    .advising("find out who wrote it; no service reads it");
            return doctor.report.add(&finding);
        }
    };
    let found = format!("generation {generation} in {collection}");
    let Some(record) = records.get(&file) else {
        let finding = Finding::of_file(Kind::ContentWithoutRecord, file, "a record", format!("none, but {found}"))
            .advising("was part of a dump restored? Restore the record, or remove the content by hand");
        return doctor.report.add(&finding);
    };
    let Some((kind, expected, to_do)) = judge(record, generation, content.layout) else { return Ok(()) };
    let finding = Finding::of_file(kind, file, expected, found).advising(to_do);
    let removable = matches!(kind, Kind::OlderGeneration | Kind::ContentNotRemoved);
    if !(doctor.repair && removable) {
        return doctor.report.add(&finding);
    }
    let removed = doctor.ledger.remove_unreachable(file, generation).await?;
    doctor.report.add(&match removed {
        true => finding.mended("the content was removed"),
        false => finding.left("the file is being worked on again"),
    })
}

/// What is wrong with content of this generation, what was expected and what to do; nothing where it belongs there.
fn judge(found: &FoundFile, generation: Generation, layout: Layout) -> Option<(Kind, String, &'static str)> {
    // A record that cannot be read is reported with the records.
    let record = found.record.as_ref().ok()?;
    let current = record.generation;
    if generation > current {
        let to_do = "was MongoDB restored from an older dump? Cancel the file and prepare it again";
        return Some((Kind::HigherGeneration, format!("generation {current} at most"), to_do));
    }
    // What has come to be unreachable just now is removed by a store that walks by.
    let late = !found.is_held() && found.ages.updated.longer_ago_than(LATE).is_some();
    let walk = "a store removes it when it walks by; or run with --repair";
    if generation < current {
        return late.then(|| (Kind::OlderGeneration, format!("content of generation {current} only"), walk));
    }
    if record.content_removed == Some(generation) {
        return late.then(|| (Kind::ContentNotRemoved, "no content: its retention is over".to_owned(), walk));
    }
    let misplaced = record.layout != Some(layout);
    misplaced.then(|| {
        let expected = match record.layout {
            Some(Layout::Embedded) => "this generation in contents",
            Some(Layout::Children) => "this generation in chunks",
            None => "no content: no chunker has begun with this generation",
        };
        (Kind::ContentMisplaced, expected.to_owned(), "find out who wrote it; no service reads it")
    })
}
