//! A run, page by page: persons, then (in an increment) recent changes that hint at deletions, then
//! the persons they hint at.
//!
//! The window of a run ends when its first answer is made, by the server's clock, and the next run
//! begins there. The end is not asked for by `updated_until`: a person who changes during the run
//! would leave such a window, and a full read would miss it; this way it is read in whichever state
//! it is met, and once more by the next run. Ids do not change, so that in their order nothing is
//! passed by.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::HeaderMap;

use super::{
    client::PipedriveClient,
    map,
    model::{self, PAGE},
    organizations::LeftOut,
    position::PipedrivePosition,
};
use crate::{
    crm::{
        CrmError, PageEffort, RecordPage, http,
        json::{self, BodyText, JsonCell, JsonFields},
    },
    domain::{notice::Notice, record::RecordKey},
};

/// Persons, or changes, in a page: Pipedrive's maximum.
pub(super) const PER_PAGE: usize = 500;
/// A page with more changes than this is not Pipedrive's.
const CHANGES_PER_PAGE_MAX: usize = 1_000;
/// Pipedrive's have about 80 bytes.
const CURSOR_BYTES_MAX: usize = 4_096;
/// What two runs have in common: times are whole seconds, and a change may show a moment later than
/// it says.
pub(super) const OVERLAP: TimeDelta = TimeDelta::seconds(60);
/// Pipedrive documents no delay; a few seconds for a change that is on its way.
const FRESHNESS_LAG: TimeDelta = TimeDelta::seconds(5);
/// Changes of one run that are looked through for deletions: ten pages of 20 tokens.
const RECENTS_MAX: u64 = 5_000;
/// Persons of one run that may be deleted and are asked for.
const SUSPECTS_MAX: usize = 200;
/// Of those in one page, so that a crash or a limit costs few of them again.
const SUSPECTS_PER_PAGE: usize = 25;

const NOT_ADMIN: Notice = Notice::fixed(
    "NOT_ADMIN",
    "the user of the token is no administrator: persons hidden from this user cannot be told from deleted ones; they are not copied, and deleted ones are kept; bring an administrator's token",
);
const RECENTS_HIDDEN: Notice = Notice::fixed(
    "RECENTS_HIDDEN",
    "Pipedrive does not show this token what was changed recently: deleted persons are found by the next sweep only; give it the scope recents:read",
);
const DELETIONS_LEFT: Notice = Notice::fixed(
    "DELETIONS_LEFT",
    "more changes or deletions since the last run than one run looks through; deleted persons that are left are found by the next sweep",
);
const PERSONS_LEFT: Notice = Notice::fixed(
    "DELETIONS_LEFT",
    "Pipedrive did not answer for some persons who may be deleted; the next sweep asks again",
);
const RECENTS_LEFT: Notice = Notice::fixed(
    "DELETIONS_LEFT",
    "Pipedrive did not tell what was changed recently; deleted persons are found by the next sweep",
);

impl PipedriveClient {
    /// The page at this position.
    pub(super) async fn next_page(&self, position: Option<&str>, effort: PageEffort) -> Result<RecordPage, CrmError> {
        if !self.is_copied {
            return Ok(RecordPage { is_last: true, ..RecordPage::default() });
        }
        match position.map(PipedrivePosition::read).transpose()? {
            None => self.first_of_all(effort).await,
            Some(PipedrivePosition::Checkpoint { through }) => {
                let since = through.checked_sub_signed(OVERLAP).ok_or(CrmError::PositionRefused)?;
                self.persons(Some(since), None, None, effort).await
            }
            Some(PipedrivePosition::Persons { since, until, cursor }) => {
                self.persons(since, Some(until), Some(&cursor), effort).await
            }
            Some(PipedrivePosition::Recents { since, until, start, suspects }) => {
                self.recents(since, until, start, suspects, effort).await
            }
            Some(PipedrivePosition::Confirm { until, suspects }) => self.confirm(until, suspects, effort).await,
        }
    }

    async fn first_of_all(&self, effort: PageEffort) -> Result<RecordPage, CrmError> {
        let is_admin = match self.sees_everything().await {
            // It only tells what to say; where it matters it is asked again.
            Err(error) if effort == PageEffort::Essential && error.is_local() => true,
            answer => answer?,
        };
        let mut page = self.persons(None, None, None, effort).await?;
        page.notices.extend((!is_admin).then_some(NOT_ADMIN));
        Ok(page)
    }

    async fn persons(
        &self,
        since: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
        cursor: Option<&str>,
        effort: PageEffort,
    ) -> Result<RecordPage, CrmError> {
        let limit = self.quota.page_size().of(PER_PAGE).to_string();
        // With a cursor the other parameters must be the same as before, but for the limit: the
        // cursor names the last person.
        let mut query = vec![("limit", limit.as_str()), ("sort_by", "id"), ("sort_direction", "asc")];
        let updated_since = since.map(|since| since.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        query.extend(updated_since.as_deref().map(|since| ("updated_since", since)));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let answer = self.get_text("/api/v2/persons", &query).await;
        let (body, headers) = answer.map_err(|error| match error {
            CrmError::Refused(400) if cursor.is_some() => CrmError::PositionRefused,
            other => other,
        })?;
        let mut left_out = LeftOut::default();
        let page = self.persons_of(body, map::page, effort, &mut left_out).await?;
        let until = until.map_or_else(|| window_end(&headers, since), Ok)?;
        let next = match (next_cursor(page.next_cursor, cursor)?, since) {
            (Some(cursor), since) => PipedrivePosition::Persons { since, until, cursor },
            (None, Some(since)) => PipedrivePosition::Recents { since, until, start: 0, suspects: Vec::new() },
            // Whoever was deleted before a full read is not in it.
            (None, None) => PipedrivePosition::Checkpoint { through: until },
        };
        let records = self.records(page.persons, effort, &mut left_out).await?;
        let LeftOut { notices, is_partial } = left_out;
        Ok(RecordPage { records, rejects: page.rejects, notices, is_partial, ..leading_to(next) })
    }

    async fn recents(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        start: u64,
        mut suspects: Vec<u64>,
        effort: PageEffort,
    ) -> Result<RecordPage, CrmError> {
        let since_timestamp = since.format("%Y-%m-%d %H:%M:%S").to_string();
        let (from, limit) = (start.to_string(), self.quota.page_size().of(PER_PAGE).to_string());
        let query =
            [("since_timestamp", since_timestamp.as_str()), ("items", "person"), ("start", &from), ("limit", &limit)];
        let body = match self.get_text("/api/v1/recents", &query).await {
            Ok((body, _)) => body,
            // Only a hint; version 1 is on its way out, and its scope is one that a token can lack.
            Err(
                CrmError::PermissionMissing(_)
                | CrmError::OrganizationNotFound
                | CrmError::HostMoved
                | CrmError::Refused(_),
            ) => {
                let notices = vec![RECENTS_HIDDEN];
                return Ok(RecordPage { notices, ..leading_to(to_confirm(until, suspects)) });
            }
            Err(error) if effort == PageEffort::Essential && error.is_local() => {
                let notices = vec![RECENTS_LEFT];
                return Ok(RecordPage { notices, ..leading_to(to_confirm(until, suspects)) });
            }
            Err(error) => return Err(error),
        };
        let changes = json::off_thread(move || changes(&body)).await?;
        for id in changes.suspects {
            if !suspects.contains(&id) {
                suspects.push(id);
            }
        }
        let next_start = changes.has_more.then(|| changes.next_start.unwrap_or(start + changes.count));
        let next_start = next_start.filter(|next| *next > start);
        let is_left = suspects.len() > SUSPECTS_MAX || next_start.is_some_and(|next| next >= RECENTS_MAX);
        suspects.truncate(SUSPECTS_MAX);
        let next = match next_start {
            Some(start) if !is_left => PipedrivePosition::Recents { since, until, start, suspects },
            _ => to_confirm(until, suspects),
        };
        let notices = is_left.then_some(DELETIONS_LEFT).into_iter().collect();
        Ok(RecordPage { notices, ..leading_to(next) })
    }

    async fn confirm(
        &self,
        until: DateTime<Utc>,
        mut suspects: Vec<u64>,
        effort: PageEffort,
    ) -> Result<RecordPage, CrmError> {
        let later = suspects.split_off(suspects.len().min(SUSPECTS_PER_PAGE));
        let keys: Vec<RecordKey> = suspects.into_iter().map(map::key).collect();
        let mut page = leading_to(to_confirm(until, later));
        // At last each for itself, so that one who brings no answer costs nobody else.
        let batch = if effort == PageEffort::Essential { 1 } else { SUSPECTS_PER_PAGE };
        for some in keys.chunks(batch) {
            let seen = match self.sightings_alone(some).await {
                Err(error) if effort == PageEffort::Essential && error.is_local() => {
                    page.notices = vec![PERSONS_LEFT];
                    continue;
                }
                answer => answer?,
            };
            page.gone.extend(seen.gone);
            page.records.extend(seen.records);
            page.rejects.absorb(seen.rejects);
        }
        Ok(page)
    }
}

/// A page of recent changes.
struct RecentChanges {
    count: u64,
    suspects: Vec<u64>,
    has_more: bool,
    next_start: Option<u64>,
}

/// Reads a page of recent changes. Version 1 says null where there is nothing.
fn changes(body: &BodyText) -> Result<RecentChanges, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(map::NO_PAGE)?;
    let mut changes = RecentChanges { count: 0, suspects: Vec::new(), has_more: false, next_start: None };
    if let Some(list) = page.list("data") {
        let is_whole = json::each(list, CHANGES_PER_PAGE_MAX, |change| {
            changes.count += 1;
            changes.suspects.extend(model::suspect(change));
        });
        if !is_whole {
            return Err(CrmError::Unreadable("a page has more than 1,000 changes"));
        }
    }
    if let JsonCell::Object(paging) = page.cell("additional_data")
        && let Some(paging) = JsonFields::of(paging, &["pagination"])
        && let JsonCell::Object(offset) = paging.cell("pagination")
        && let Some(offset) = JsonFields::of(offset, &["more_items_in_collection", "next_start"])
    {
        changes.has_more = offset.cell("more_items_in_collection").flag() == Ok(Some(true));
        changes.next_start = offset.cell("next_start").id();
    }
    Ok(changes)
}

/// The server's clock at the first answer of a run. If it stands before the run's beginning, an
/// earlier run was told a time that had not come: nobody knows what was changed since, and
/// everything is read again.
fn window_end(headers: &HeaderMap, since: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, CrmError> {
    let now = http::answered_at(headers)?;
    if since.is_some_and(|since| now < since) { Err(CrmError::PositionRefused) } else { Ok(now) }
}

fn next_cursor(next: Option<String>, current: Option<&str>) -> Result<Option<String>, CrmError> {
    let Some(next) = next else { return Ok(None) };
    if next.is_empty() || next.len() > CURSOR_BYTES_MAX || !next.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CrmError::Unreadable("its cursor is no cursor"));
    }
    if Some(next.as_str()) == current { Err(CrmError::Stuck) } else { Ok(Some(next)) }
}

fn to_confirm(until: DateTime<Utc>, suspects: Vec<u64>) -> PipedrivePosition {
    if suspects.is_empty() {
        PipedrivePosition::Checkpoint { through: until }
    } else {
        PipedrivePosition::Confirm { until, suspects }
    }
}

/// A page without rows that leads there; to a checkpoint only the last one does.
fn leading_to(position: PipedrivePosition) -> RecordPage {
    let through = match position {
        PipedrivePosition::Checkpoint { through } => Some(through),
        _ => None,
    };
    RecordPage {
        next: Some(position.write()),
        is_last: through.is_some(),
        known_through: through.map(|through| through - FRESHNESS_LAG),
        ..RecordPage::default()
    }
}
