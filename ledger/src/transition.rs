use contract::{EventKind, State};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;

use crate::bson_form::{literal, now_plus};
use crate::{FileRecord, Ledger, LedgerError, RetentionPeriods};

/// One change of a record, as the pipeline of an update. It always increments `version` and appends its events to the
/// outbox on the server, so a concurrent pop of an older event is never undone.
#[derive(Clone, Default)]
pub(crate) struct Transition {
    set: Document,
    unset: Vec<&'static str>,
    events: Vec<Bson>,
    /// The condition under which the events are appended; `None`: always.
    events_if: Option<Bson>,
}

impl Transition {
    pub(crate) fn to(state: State) -> Self {
        Self::default().set("state", state.as_str())
    }

    /// Sets a field to an expression. What a caller wrote must go through [`Transition::set_literal`].
    pub(crate) fn set(mut self, field: &'static str, expression: impl Into<Bson>) -> Self {
        self.set.insert(field, expression.into());
        self
    }

    pub(crate) fn set_literal(self, field: &'static str, value: impl Into<Bson>) -> Self {
        self.set(field, literal(value))
    }

    pub(crate) fn unset(mut self, fields: &[&'static str]) -> Self {
        self.unset.extend_from_slice(fields);
        self
    }

    /// To a terminal state: the only thing still due is the removal of the content, after its retention period.
    pub(crate) fn end(state: State, retention: RetentionPeriods) -> Self {
        Self::to(state).set("due_at", now_plus(retention.of(state))).unset(&[
            "lease",
            "not_before",
            "hint_refusals",
            "deferrals",
            "cancel_requested",
        ])
    }

    pub(crate) fn event(mut self, kind: EventKind, state: State, detail: Option<Bson>) -> Self {
        let step = i64::try_from(self.events.len()).unwrap_or(i64::MAX).saturating_add(1);
        let mut entry = doc! {
            "version": { "$add": ["$version", step] },
            "event": kind.as_str(),
            "state": state.as_str(),
            "at": "$$NOW",
            // As it was before the change; left out if it is unset.
            "finalised_by": "$finalised_by",
        };
        if let Some(detail) = detail {
            entry.insert("detail", literal(detail));
        }
        self.events.push(entry.into());
        self
    }

    /// The events so far are appended only if `condition` holds for the record before the change.
    pub(crate) fn events_if(mut self, condition: impl Into<Bson>) -> Self {
        self.events_if = Some(condition.into());
        self
    }

    /// Makes this change to the record that passes `filter`, and returns the changed record; `None` if no record
    /// passes.
    pub(crate) async fn commit(
        self,
        ledger: &Ledger,
        operation: &'static str,
        filter: Document,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let (files, limit) = (ledger.files.clone(), ledger.server_limit());
        let pipeline = self.into_pipeline();
        let after = ledger
            .run(operation, async move {
                let update = files.find_one_and_update(filter, pipeline).max_time(limit);
                update.return_document(ReturnDocument::After).await
            })
            .await?;
        after.map(FileRecord::from_document).transpose()
    }

    fn into_pipeline(self) -> Vec<Document> {
        let Self { mut set, unset, events, events_if } = self;
        let steps = i64::try_from(events.len().max(1)).unwrap_or(i64::MAX);
        set.insert("version", doc! { "$add": ["$version", steps] });
        set.insert("updated_at", "$$NOW");
        if !events.is_empty() {
            let old = doc! { "$ifNull": ["$outbox", []] };
            let appended = doc! { "$concatArrays": [old, events] };
            match events_if {
                None => {
                    set.insert("outbox", appended);
                    set.insert("outbox_at", "$$NOW");
                }
                Some(condition) => {
                    let or_keep = |new: Bson, field: &str| doc! { "$cond": [condition.clone(), new, field] };
                    set.insert("outbox", or_keep(appended.into(), "$outbox"));
                    set.insert("outbox_at", or_keep("$$NOW".into(), "$outbox_at"));
                }
            }
        }
        let mut pipeline = vec![doc! { "$set": set }];
        if !unset.is_empty() {
            pipeline.push(doc! { "$unset": unset });
        }
        pipeline
    }
}
