//! The log of deletions: records that are deleted for good are in no query any more. The log alone
//! does not make a record gone: it may have been taken out of the recycle bin since. So each is
//! looked at once more: if a query shows it, that is what is known of it, and if none does, it is
//! gone.

use chrono::DateTime;

use super::{
    client::SalesforceClient,
    map,
    model::{DELETED, NO_JSON},
    position::{DeletedProgress, ObjectProgress, RowKeyset},
    refusal::{ErrorCode, RequestFailure},
    step::{NextStage, StepResult},
};
use crate::{
    crm::{
        CrmError, RecordPage,
        json::{self, BodyText, JsonFields},
        times,
    },
    domain::record::{AbsentRecord, ObjectType, RecordKey},
};

/// Entries that one page deals with.
const ENTRIES_PER_PAGE: usize = 4_000;
/// Ids in one query: in a URL they have 27 bytes each, and Salesforce takes 16 KiB of URL and
/// headers.
const IDS_PER_QUERY: usize = 400;
/// Salesforce ignores the seconds of an interval's start and end.
const MINUTE: i64 = 60_000;

/// Whether Salesforce answers for this interval, in milliseconds: its start must precede its end by
/// more than one minute.
pub(super) const fn is_askable(start: i64, end: i64) -> bool {
    end.div_euclid(MINUTE) - start.div_euclid(MINUTE) > 1
}

impl SalesforceClient {
    pub(super) async fn read_deleted(
        &self,
        mark: &ObjectProgress,
        deleted: DeletedProgress,
    ) -> Result<StepResult, CrmError> {
        let (object, start) = (mark.object, mark.deleted_through);
        let log = match self.ask_deleted(object, start, deleted.upto).await {
            Ok(log) => log,
            // What was deleted between the mark and the beginning of the log will never be told.
            Err(RequestFailure::Vendor(ErrorCode::ReplicationDate, _)) => return Ok(gap_in_log(deleted.end)),
            Err(
                RequestFailure::Vendor(ErrorCode::IdLimit, _)
                | RequestFailure::Known(CrmError::TooMuch(_) | CrmError::TimedOut { .. }),
            ) => {
                let upto = start + (deleted.upto - start) / 2;
                if !is_askable(start, upto) {
                    return Ok(gap_in_log(deleted.end));
                }
                let more = Some(DeletedProgress { upto, after: None, ..deleted });
                return Ok(StepResult {
                    page: RecordPage::default(),
                    then: NextStage::Deletions { through: start, more },
                });
            }
            Err(failure) => return Err(failure.into()),
        };
        let covered = log.covered.clamp(start, deleted.upto);
        let rejected = log.rejected;
        let mut entries = behind(log.entries, deleted.after.as_ref());
        let is_whole = entries.len() <= ENTRIES_PER_PAGE;
        entries.truncate(ENTRIES_PER_PAGE);
        let mut page = self.look_again(object, &mark.fields, &entries).await?;
        // Whose deletion could not be read is found by asking for everybody.
        page.needs_sweep |= rejected > 0;
        let then = if is_whole {
            let more = deleted.upto < deleted.end && covered > start && is_askable(covered, deleted.end);
            let more = more.then_some(DeletedProgress { end: deleted.end, upto: deleted.end, after: None });
            NextStage::Deletions { through: covered, more }
        } else {
            NextStage::Deletions { through: start, more: Some(DeletedProgress { after: entries.pop(), ..deleted }) }
        };
        Ok(StepResult { page, then })
    }

    async fn ask_deleted(&self, object: ObjectType, start: i64, end: i64) -> Result<DeletionLog, RequestFailure> {
        let path = format!("/sobjects/{}/deleted/", object.as_str());
        let reply = self.rest.get(&path, &[("start", &minute(start)), ("end", &minute(end))]).await?;
        Ok(json::off_thread(move || DeletionLog::read(object, &BodyText::json(reply.body)?)).await?)
    }

    /// What is known now of records that were deleted at some time.
    async fn look_again(
        &self,
        object: ObjectType,
        fields: &[String],
        entries: &[RowKeyset],
    ) -> Result<RecordPage, CrmError> {
        let mut page = RecordPage::default();
        for some in entries.chunks(IDS_PER_QUERY) {
            let keys: Vec<RecordKey> = some.iter().filter_map(|entry| map::key(object, &entry.id)).collect();
            let (answer, at) = self.rows_of(object, fields, &keys).await?;
            // A row that cannot be read must not make its record gone. One that does not say whose
            // it is may be anybody's.
            if answer.nameless() == 0 {
                let absent = keys.into_iter().filter(|key| !answer.shown.contains(key));
                page.gone.extend(absent.map(|key| AbsentRecord { key, seen_at: Some(at), successor: None }));
            } else {
                page.needs_sweep = true;
            }
            page.records.extend(answer.records);
            page.rejects.absorb(answer.rejects);
        }
        Ok(page)
    }
}

/// A page of the log.
struct DeletionLog {
    entries: Vec<RowKeyset>,
    /// Entries that could not be read.
    rejected: usize,
    /// How far it reaches, milliseconds.
    covered: i64,
}

impl DeletionLog {
    fn read(object: ObjectType, body: &BodyText) -> Result<Self, CrmError> {
        let page = body.value().and_then(|page| JsonFields::of(page, &DELETED)).ok_or(NO_JSON)?;
        let covered = times::read(page.cell("latestDateCovered"))
            .ok_or(CrmError::Unreadable("its log of deletions does not say how far it reaches"))?;
        let mut log = Self { entries: Vec::new(), rejected: 0, covered: covered.timestamp_millis() };
        json::each(page.list("deletedRecords").ok_or(NO_JSON)?, usize::MAX, |row| {
            let entry = JsonFields::of(row, &["id", "deletedDate"]).and_then(|entry| {
                let id = map::key(object, &entry.cell("id").text().ok()??)?.record_id;
                Some(RowKeyset { at: times::read(entry.cell("deletedDate"))?.timestamp_millis(), id })
            });
            match entry {
                Some(entry) => log.entries.push(entry),
                None => log.rejected += 1,
            }
        });
        Ok(log)
    }
}

/// The entries behind this one in order of time and id.
fn behind(mut entries: Vec<RowKeyset>, after: Option<&RowKeyset>) -> Vec<RowKeyset> {
    entries.retain(|entry| after.is_none_or(|after| entry > after));
    entries.sort_unstable();
    entries.dedup_by(|a, b| a.id == b.id);
    entries
}

/// The log does not tell; a sweep must find out.
fn gap_in_log(end: i64) -> StepResult {
    StepResult {
        page: RecordPage { needs_sweep: true, ..RecordPage::default() },
        then: NextStage::Deletions { through: end, more: None },
    }
}

/// `2026-01-02T10:00:00+00:00`.
fn minute(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%dT%H:%M:00+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log goes on behind the last entry that is done.
    #[test]
    fn log_resumes_behind_last_entry_done() {
        let json = serde_json::json!({
            "deletedRecords": [
                {"id": "003D000000QV9n3", "deletedDate": "2026-01-02T10:00:01.000+0000"},
                {"id": "003D000000QV9n2IAD", "deletedDate": "2026-01-02T10:00:01.000+0000"},
                {"id": "003D000000QV9n1", "deletedDate": "2026-01-02T10:00:00.000+0000"},
                {"id": "007", "deletedDate": "2026-01-02T10:00:00.000+0000"},
                {"id": "003D000000QV9n4", "deletedDate": "later"},
                null, 7,
            ],
            "latestDateCovered": "2026-01-02T10:30:00.000+0000",
        });
        let log =
            DeletionLog::read(ObjectType::Contact, &BodyText::json(json.to_string().into_bytes()).unwrap()).unwrap();

        let all = behind(log.entries.clone(), None);
        let rest = behind(log.entries, Some(&all[0]));

        assert_eq!(log.rejected, 4);
        assert_eq!(
            all.iter().map(|entry| &entry.id[..15]).collect::<Vec<_>>(),
            ["003D000000QV9n1", "003D000000QV9n2", "003D000000QV9n3"]
        );
        assert_eq!(rest, all[1..]);
    }

    /// An interval of a minute is not asked for.
    #[test]
    fn interval_within_minute_is_not_asked_for() {
        assert!(!is_askable(0, 119_999));
        assert!(!is_askable(59_999, 60_000));
        assert!(is_askable(59_999, 120_000));
        assert_eq!(minute(1_767_348_059_999), "2026-01-02T10:00:00+00:00");
    }
}
