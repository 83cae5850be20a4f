//! One run: object by object, first its rows, then the log of deletions. Each call does one step
//! and says in the position what comes next; nothing is kept outside of it.
//!
//! An increment reads from where the last run *began* each object, less an overlap, by the server's
//! clock: a row becomes visible some time after its `SystemModstamp`, and what changes during a run
//! belongs to the next one.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    client::SalesforceClient,
    deleted::is_askable,
    fields::{self, ObjectDescription, UntrackedFields, VisibleFields},
    position::{DeletedProgress, ObjectProgress, ObjectTurn, RowsProgress, RunStage, SalesforcePosition},
    refusal::{ErrorCode, HIDDEN, RequestFailure},
    step::{NextStage, StepResult},
};
use crate::{
    crm::{CrmError, PageEffort, RecordPage},
    domain::{notice::Notice, provider::Provider, record::ObjectType},
};

/// How far an increment reaches back behind the last one. Rows have been seen to appear seconds
/// after their `SystemModstamp`, and those of a long transaction minutes after (airbyte #27146,
/// Estuary flow #2678); ten minutes is what Airbyte takes.
pub(super) const OVERLAP: TimeDelta = TimeDelta::minutes(10);
/// What is promised to be known ends this long before a run began: Estuary and Fivetran never trust
/// the newest five minutes.
const FRESHNESS_LAG: TimeDelta = TimeDelta::minutes(5);
/// Jobs of the bulk interface that may come to nothing in a run, before an object is read by REST
/// however large it is.
const BULK_FAILURES_MAX: u8 = 2;

impl SalesforceClient {
    /// The page at this position.
    pub(super) async fn page_at(&self, position: Option<&str>, effort: PageEffort) -> Result<RecordPage, CrmError> {
        let mut position = position.map_or_else(|| Ok(SalesforcePosition::default()), SalesforcePosition::decode)?;
        let known = position.turn.as_ref().and_then(|turn| turn.known);
        let Some(ObjectTurn { object, known, is_again, stage }) = self.current(&mut position) else {
            return ended(RecordPage::default(), &position, known);
        };
        let step = match self.step(object, stage.clone(), position.mark(object), effort).await {
            Err(error) if effort == PageEffort::Essential && error.is_local() => {
                self.leave(object, stage, &position, error).await?
            }
            step => step?,
        };
        let mut page = step.page;
        let known = match step.then {
            NextStage::Stay(stage) => {
                position.turn = Some(ObjectTurn { object, known, is_again, stage });
                return under_way(page, &position);
            }
            NextStage::Rows { fields, through } => {
                let mark = position.rows_are_known(object, through, fields);
                if let Some(deleted) = self.deletions_to_read(&mark) {
                    position.turn = Some(ObjectTurn { object, known, is_again, stage: RunStage::Deleted(deleted) });
                    return under_way(page, &position);
                }
                Some(earlier(known, through))
            }
            NextStage::Deletions { through, more } => {
                position.deletions_are_known(object, through);
                if let Some(deleted) = more {
                    position.turn = Some(ObjectTurn { object, known, is_again, stage: RunStage::Deleted(deleted) });
                    return under_way(page, &position);
                }
                position.mark(object).map_or(known, |mark| Some(earlier(known, mark.rows_through)))
            }
            NextStage::DeletionsLeft => position
                .mark(object)
                .map_or(known, |mark| Some(earlier(known, mark.rows_through.min(mark.deleted_through)))),
            NextStage::Hidden => known,
            NextStage::Left(stage) => {
                position.leave(object, stage);
                position.mark(object).map_or(known, |mark| Some(earlier(known, mark.rows_through)))
            }
        };
        match self.next_after(object, is_again, &position) {
            Some((next, is_again)) => {
                position.turn = Some(position.begin(next, known, is_again));
                under_way(page, &position)
            }
            // Nothing was seen of anything.
            None if known.is_none() => Err(HIDDEN),
            None => {
                page.is_last = true;
                ended(page, &position, known)
            }
        }
    }

    /// Kinds of objects that the run which ended here has left.
    pub(super) fn left_at(position: &str) -> Vec<ObjectType> {
        SalesforcePosition::decode(position)
            .map_or_else(|_| Vec::new(), |at| at.left.iter().map(|turn| turn.object).collect())
    }

    /// Where the run stands, by what is copied now: wishes may have changed since.
    fn current(&self, position: &mut SalesforcePosition) -> Option<ObjectTurn> {
        let copied = self.options.copied(Provider::Salesforce);
        position.left.retain(|turn| copied.contains(&turn.object));
        match position.turn.take() {
            None => copied.first().map(|object| position.begin(*object, None, false)),
            Some(turn) if copied.contains(&turn.object) => Some(turn),
            Some(turn) => self
                .next_after(turn.object, turn.is_again, position)
                .map(|(next, is_again)| position.begin(next, turn.known, is_again)),
        }
    }

    /// Whose turn is next. When all have had theirs, those that were left have another one: a run
    /// that goes on after a failure has left them long ago.
    fn next_after(
        &self,
        object: ObjectType,
        is_again: bool,
        position: &SalesforcePosition,
    ) -> Option<(ObjectType, bool)> {
        let copied = self.options.copied(Provider::Salesforce);
        let is_left = |other: &ObjectType| position.left.iter().any(|turn| turn.object == *other);
        if is_again {
            return copied.into_iter().find(|other| *other > object && is_left(other)).map(|next| (next, true));
        }
        let next = copied.iter().find(|other| **other > object).map(|next| (*next, false));
        next.or_else(|| copied.iter().find(|other| is_left(other)).map(|next| (*next, true)))
    }

    /// An object that brings nothing but errors: the others go on without it, unless there is no
    /// other, or it is Salesforce as a whole that does not answer.
    async fn leave(
        &self,
        object: ObjectType,
        stage: RunStage,
        position: &SalesforcePosition,
        error: CrmError,
    ) -> Result<StepResult, CrmError> {
        let name = object.as_str();
        let (then, notice) = match stage {
            // Salesforce works on a job by itself; there are other ways to the rows.
            RunStage::Bulk(bulk) => return Ok(StepResult::stay(bulk.begin_again())),
            RunStage::Deleted(_) => (
                NextStage::DeletionsLeft,
                Notice::new(
                    "DELETIONS_LEFT",
                    format!(
                        "the log of deleted {name}s was not read: {error}; the next run reads it from where it was"
                    ),
                ),
            ),
            stage => {
                let copied = self.options.copied(Provider::Salesforce).into_iter();
                let is_left = |other: &ObjectType| position.left.iter().any(|turn| turn.object == *other);
                if copied.filter(|other| *other != object).all(|other| is_left(&other)) {
                    return Err(error);
                }
                (
                    NextStage::Left(stage),
                    Notice::new(
                        "OBJECT_LEFT",
                        format!(
                            "{name}s were not read: {error}; what is known of them stays, and the next run tries again"
                        ),
                    ),
                )
            }
        };
        self.rest.identity().await?;
        Ok(StepResult { page: RecordPage { notices: vec![notice], ..RecordPage::default() }, then })
    }

    async fn step(
        &self,
        object: ObjectType,
        stage: RunStage,
        mark: Option<&ObjectProgress>,
        effort: PageEffort,
    ) -> Result<StepResult, CrmError> {
        match (stage, mark) {
            (RunStage::Begin { .. }, Some(mark)) => {
                let since = (mark.rows_through - OVERLAP.num_milliseconds()).max(0);
                let rows = RowsProgress { fields: mark.fields.clone(), since: Some(since), ..RowsProgress::default() };
                self.read_rows(object, rows).await
            }
            (RunStage::Begin { bulk_failures }, None) => self.begin_full(object, bulk_failures, effort).await,
            (RunStage::Rows(rows), _) => self.read_rows(object, rows).await,
            (RunStage::Bulk(bulk), _) => self.read_bulk(object, bulk).await,
            (RunStage::Deleted(deleted), Some(mark)) => self.read_deleted(mark, deleted).await,
            (RunStage::Deleted(_), None) => Err(CrmError::PositionRefused),
        }
    }

    /// Everything of an object, the first time: by the bulk interface if it is large.
    async fn begin_full(
        &self,
        object: ObjectType,
        bulk_failures: u8,
        effort: PageEffort,
    ) -> Result<StepResult, CrmError> {
        let visible = match self.describe(object).await {
            Err(RequestFailure::Vendor(ErrorCode::InvalidType | ErrorCode::NotFound, _)) => {
                return Ok(StepResult::hidden(object));
            }
            described => described?,
        };
        let Some(VisibleFields { fields, notices }) = visible else { return Ok(StepResult::hidden(object)) };
        let is_bulk = bulk_failures < BULK_FAILURES_MAX && self.is_large(object, effort).await?;
        let mut step = if is_bulk {
            self.begin_bulk(object, fields, bulk_failures, effort).await?
        } else {
            self.read_rows(object, RowsProgress { fields, ..RowsProgress::default() }).await?
        };
        step.page.notices.splice(0..0, notices);
        Ok(step)
    }

    /// What is to be asked for of an object; `None`: its rows cannot be read.
    pub(super) async fn describe(&self, object: ObjectType) -> Result<Option<VisibleFields>, RequestFailure> {
        let describe = self.description(object).await?;
        Ok(describe.queryable.then(|| fields::visible(object, &describe)))
    }

    /// The fields of an object that its user sees, and that are not copied.
    pub(super) async fn untracked(&self, object: ObjectType) -> Result<UntrackedFields, RequestFailure> {
        Ok(fields::untracked(object, &self.description(object).await?))
    }

    async fn description(&self, object: ObjectType) -> Result<ObjectDescription, RequestFailure> {
        let path = format!("/sobjects/{}/describe", object.as_str());
        let body = self.rest.get(&path, &[]).await?.text().await?;
        Ok(ObjectDescription::read(&body)?)
    }

    async fn is_large(&self, object: ObjectType, effort: PageEffort) -> Result<bool, CrmError> {
        match self.count_of(object).await {
            Ok(count) => Ok(count > self.bulk_above),
            Err(RequestFailure::Vendor(ErrorCode::QueryTimeout, _)) => Ok(true),
            Err(failure) => match CrmError::from(failure) {
                // By REST every object can be read.
                error if effort == PageEffort::Essential && error.is_local() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// What the log of deletions has to tell after this mark; `None`: its end is too near, or
    /// nobody wishes to know. Then it stays where it is, and a later run catches up.
    fn deletions_to_read(&self, mark: &ObjectProgress) -> Option<DeletedProgress> {
        let end = mark.rows_through;
        let is_due = is_askable(mark.deleted_through, end);
        let is_wished = self.options.of(mark.object).mirrors_deletions;
        (is_due && is_wished).then_some(DeletedProgress { end, upto: end, after: None })
    }
}

fn earlier(known: Option<i64>, through: i64) -> i64 {
    known.map_or(through, |known| known.min(through))
}

fn under_way(page: RecordPage, position: &SalesforcePosition) -> Result<RecordPage, CrmError> {
    Ok(RecordPage { next: Some(position.encode()?), ..page })
}

fn ended(page: RecordPage, position: &SalesforcePosition, known: Option<i64>) -> Result<RecordPage, CrmError> {
    let known: Option<DateTime<Utc>> = known.and_then(DateTime::from_timestamp_millis);
    let is_incomplete = position.is_incomplete();
    Ok(RecordPage {
        next: Some(position.encode()?),
        is_last: true,
        known_through: known.map(|known| known - FRESHNESS_LAG).filter(|_| !is_incomplete),
        is_incomplete,
        ..page
    })
}
