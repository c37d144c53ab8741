//! What a claim is to deliver, decided before any connection is opened.

use contract::{Expectation, NameValues, ObjectPath, ProblemKind};
use ledger::{ClaimedFile, Problem};
use runtime::work::Failure;
use settings::OnClash;

use crate::prove::Content;
use crate::{Destination, Finaliser};

/// A delivery that may begin: the record has what the finalise request expects, and its remote is configured.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) claimed: &'a ClaimedFile,
    pub(crate) expectation: &'a Expectation,
    pub(crate) destination: &'a Destination,
    /// The path of the object at the remote.
    pub(crate) path: ObjectPath,
    pub(crate) content: Content,
    pub(crate) on_clash: OnClash,
    /// Whether an earlier claim may have sent the file. Then an equal object at the remote is ours.
    pub(crate) may_be_there: bool,
}

impl<'a> Plan<'a> {
    /// Judges the record and its expectation. A failure says what becomes of the file without a delivery.
    pub(crate) fn of(finaliser: &'a Finaliser, claimed: &'a ClaimedFile) -> Result<Self, Box<Failure>> {
        let (service, file) = (&finaliser.service, &claimed.file);
        let failed = |problem| Box::new(Failure::Final(problem));
        let content = Content::of(&service.ledger, file, service.settings.finaliser.prefetch, &finaliser.wide);
        let (Some(expectation), Some(content)) = (&file.expectation, content) else {
            let detail = format!("the record of {} has no expectation or no stored content", file.id);
            return Err(failed(Problem::new(ProblemKind::RecordIncomplete, detail)));
        };
        expectation.judge(content.proven()).map_err(|mismatch| failed(Problem::from(&mismatch)))?;
        let Some(destination) = finaliser.remotes.get(&expectation.remote) else {
            let detail = format!("the remote {:?} is not configured for this finaliser", expectation.remote);
            let problem = Problem::new(ProblemKind::UnknownRemote, detail);
            return Err(Box::new(Failure::Later { problem, attempts: None, at_least: None }));
        };
        let values = NameValues {
            name: &expectation.name,
            file_id: file.id,
            sha256: content.proven().sha256,
            // Not the time of this attempt: every attempt must give the same path.
            at: file.delivery.as_ref().map_or(file.created_at, |delivery| delivery.begun_at),
            metadata: &file.metadata,
        };
        let path = destination.settings.name().render(&values);
        let path = path.map_err(|error| failed(Problem::new(ProblemKind::Unnameable, error.to_string())))?;
        Ok(Self {
            claimed,
            expectation,
            destination,
            path,
            content,
            on_clash: destination.settings.on_clash(),
            may_be_there: file.delivery.as_ref().is_some_and(|delivery| delivery.resumed),
        })
    }
}
