//! The log of deletions: records that are deleted for good are in no query any more. The log alone does not make a record gone: it may
//! have been taken out of the recycle bin since. So each is looked at once more: if a query shows it, that is what is known of it, and
//! if none does, it is gone.

use chrono::DateTime;

use super::{
    client::Salesforce,
    map,
    model::DeletedPage,
    pass::{Step, Then},
    position::{Deleted, Keyset, Mark},
    refusal::{Failure, Word},
};
use crate::{
    crm::{CrmError, Page, http},
    domain::record::{ObjectType, RecordKey},
};

/// Entries that one page deals with.
const ENTRIES_PER_PAGE: usize = 4_000;
/// Ids in one query: in a URL they have 27 bytes each, and Salesforce takes 16 KiB of URL and headers.
const IDS_PER_QUERY: usize = 400;
/// Salesforce ignores the seconds of an interval's start and end.
const MINUTE: i64 = 60_000;

/// Whether Salesforce answers for this interval, in milliseconds: its start must precede its end by more than one minute.
pub(super) const fn is_askable(start: i64, end: i64) -> bool {
    end.div_euclid(MINUTE) - start.div_euclid(MINUTE) > 1
}

impl Salesforce {
    pub(super) async fn read_deleted(&self, mark: &Mark, deleted: Deleted) -> Result<Step, CrmError> {
        let (object, start) = (mark.object, mark.deleted_through);
        let log = match self.ask_deleted(object, start, deleted.upto).await {
            Ok(log) => log,
            // What was deleted between the mark and the beginning of the log will never be told.
            Err(Failure::Said(Word::ReplicationDate, _)) => return Ok(untold(deleted.end)),
            Err(Failure::Said(Word::IdLimit, _) | Failure::Known(CrmError::Unreadable(http::TOO_LARGE))) => {
                let upto = start + (deleted.upto - start) / 2;
                if !is_askable(start, upto) {
                    return Ok(untold(deleted.end));
                }
                let more = Some(Deleted { upto, after: None, ..deleted });
                return Ok(Step { page: Page::default(), then: Then::Deletions { through: start, more } });
            }
            Err(failure) => return Err(failure.into()),
        };
        let covered = map::time(&log.latest_date_covered)
            .ok_or(CrmError::Unreadable("its log of deletions does not say how far it reaches"))?;
        let covered = covered.timestamp_millis().clamp(start, deleted.upto);
        let (mut entries, rejected) = entries(object, &log, deleted.after.as_ref());
        let is_whole = entries.len() <= ENTRIES_PER_PAGE;
        entries.truncate(ENTRIES_PER_PAGE);
        let mut page = self.look_again(object, &mark.fields, &entries).await?;
        page.rejected += rejected;
        let then = if is_whole {
            let more = deleted.upto < deleted.end && covered > start && is_askable(covered, deleted.end);
            let more = more.then_some(Deleted { end: deleted.end, upto: deleted.end, after: None });
            Then::Deletions { through: covered, more }
        } else {
            Then::Deletions { through: start, more: Some(Deleted { after: entries.pop(), ..deleted }) }
        };
        Ok(Step { page, then })
    }

    async fn ask_deleted(&self, object: ObjectType, start: i64, end: i64) -> Result<DeletedPage, Failure> {
        let path = format!("/sobjects/{}/deleted/", object.as_str());
        let reply = self.rest.get(&path, &[("start", &minute(start)), ("end", &minute(end))]).await?;
        Ok(reply.json()?)
    }

    /// What is known now of records that were deleted at some time.
    async fn look_again(&self, object: ObjectType, fields: &[String], entries: &[Keyset]) -> Result<Page, CrmError> {
        let mut page = Page::default();
        for some in entries.chunks(IDS_PER_QUERY) {
            let keys: Vec<RecordKey> = some.iter().filter_map(|entry| map::key(object, &entry.id)).collect();
            let answer = self.rows_of(object, fields, &keys).await?;
            // A row that cannot be read must not make its record gone.
            let shown: Vec<String> =
                answer.records.iter().filter_map(|raw| Some(map::keyset(&map::row(raw)?)?.id)).collect();
            if shown.len() < answer.records.len() {
                return Err(CrmError::Unreadable("a row has no id"));
            }
            let shown: Vec<_> = shown.iter().filter_map(|id| map::key(object, id)).collect();
            page.gone.extend(keys.into_iter().filter(|key| !shown.contains(key)));
            let (records, rejected, _) = self.records(object, &answer, fields);
            page.records.extend(records);
            page.rejected += rejected;
        }
        Ok(page)
    }
}

/// The entries behind this one in order of time and id, and how many could not be understood.
fn entries(object: ObjectType, log: &DeletedPage, after: Option<&Keyset>) -> (Vec<Keyset>, usize) {
    let read = log.deleted_records.iter().filter_map(|entry| {
        let id = map::key(object, &entry.id)?.record_id;
        Some(Keyset { at: map::time(&entry.deleted_date)?.timestamp_millis(), id })
    });
    let mut entries: Vec<Keyset> = read.collect();
    let rejected = if after.is_none() { log.deleted_records.len() - entries.len() } else { 0 };
    entries.retain(|entry| after.is_none_or(|after| entry > after));
    entries.sort_unstable();
    entries.dedup_by(|a, b| a.id == b.id);
    (entries, rejected)
}

/// The log does not tell; a sweep must find out.
fn untold(end: i64) -> Step {
    Step { page: Page { needs_sweep: true, ..Page::default() }, then: Then::Deletions { through: end, more: None } }
}

/// `2026-01-02T10:00:00+00:00`.
fn minute(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%dT%H:%M:00+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_on_behind_the_last_entry_that_is_done() {
        let log: DeletedPage = serde_json::from_value(serde_json::json!({
            "deletedRecords": [
                {"id": "003D000000QV9n3", "deletedDate": "2026-01-02T10:00:01.000+0000"},
                {"id": "003D000000QV9n2IAD", "deletedDate": "2026-01-02T10:00:01.000+0000"},
                {"id": "003D000000QV9n1", "deletedDate": "2026-01-02T10:00:00.000+0000"},
                {"id": "007", "deletedDate": "2026-01-02T10:00:00.000+0000"},
                {"id": "003D000000QV9n4", "deletedDate": "later"},
            ],
            "latestDateCovered": "2026-01-02T10:30:00.000+0000",
        }))
        .unwrap();

        let (all, rejected) = entries(ObjectType::Contact, &log, None);
        let (rest, _) = entries(ObjectType::Contact, &log, Some(&all[0]));

        assert_eq!(rejected, 2);
        assert_eq!(
            all.iter().map(|entry| &entry.id[..15]).collect::<Vec<_>>(),
            ["003D000000QV9n1", "003D000000QV9n2", "003D000000QV9n3"]
        );
        assert_eq!(rest, all[1..]);
    }

    #[test]
    fn an_interval_of_a_minute_is_not_asked_for() {
        assert!(!is_askable(0, 119_999));
        assert!(!is_askable(59_999, 60_000));
        assert!(is_askable(59_999, 120_000));
        assert_eq!(minute(1_767_348_059_999), "2026-01-02T10:00:00+00:00");
    }
}
