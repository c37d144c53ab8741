//! Finds streams and consumers that are missing or not set as this release needs them.

use anyhow::Result;
use bus::drift::{self, Drift, Of};

use super::Doctor;
use super::finding::{Finding, FindingKind};

const TO_DO: &str = "start the services, or run with --repair";

pub(super) async fn audit(doctor: &mut Doctor) -> Result<()> {
    let drifts = drift::report(&doctor.nats, doctor.lease).await?;
    if drifts.is_empty() || !doctor.repair {
        return drifts.iter().try_for_each(|drift| doctor.report.add(&finding(drift)));
    }
    let failure = match drift::mend(&doctor.nats, doctor.lease).await {
        Ok(hints_are_lost) => {
            if hints_are_lost {
                doctor.ledger.make_all_due().await?;
            }
            None
        }
        Err(error) => Some(error.to_string()),
    };
    let left = drift::report(&doctor.nats, doctor.lease).await?;
    for drift in &drifts {
        let finding = finding(drift);
        let finding = match (left.iter().any(|left| left.of == drift.of), drift.differences.is_empty()) {
            (true, _) => {
                finding.left(failure.as_deref().unwrap_or("it has not changed; another system may be setting it"))
            }
            (false, true) => finding.mended("it was created"),
            (false, false) => finding.mended("it was set as this release needs it"),
        };
        doctor.report.add(&finding)?;
    }
    Ok(())
}

fn finding(drift: &Drift) -> Finding {
    let missing = drift.differences.is_empty();
    let kind = match (&drift.of, missing) {
        (Of::Stream(_), true) => FindingKind::StreamMissing,
        (Of::Stream(_), false) => FindingKind::StreamDiffers,
        (Of::Consumer { .. }, true) => FindingKind::ConsumerMissing,
        (Of::Consumer { .. }, false) => FindingKind::ConsumerDiffers,
    };
    let (expected, found) = if missing {
        ("it to exist".to_owned(), "none".to_owned())
    } else {
        let list = |side: fn(&bus::Difference) -> &String| {
            drift.differences.iter().map(|one| format!("{} {}", one.setting, side(one))).collect::<Vec<_>>().join(", ")
        };
        (list(|one| &one.expected), list(|one| &one.found))
    };
    Finding::of_name(kind, drift.of.to_string(), expected, found).advising(TO_DO)
}
