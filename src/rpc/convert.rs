//! Domain answers into proto.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use phone_key::PhoneKey;

use super::pb;
use crate::domain::{
    account::Account,
    call::{MatchOutcome, MatchTier, PossibleCaller},
    change::{Change, ChangeKind, Correction},
    contact::{Contact, ContactRecord},
    hook::{PushState, PushStatus},
    ids::IntegrationId,
    integration::{Freshness, Integration, IntegrationState},
    look_aside::AsideOutcome,
    match_policy::MatchPolicy,
    notice::Notice,
    options::{PushWish, UserRoles},
    provider::Provider,
    record::ObjectType,
    requester::RequesterVerdict,
    sync_run::{SyncKind, SyncRun, SyncRunState},
};

pub(super) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

fn duration(delta: TimeDelta) -> prost_types::Duration {
    prost_types::Duration { seconds: delta.num_seconds(), nanos: 0 }
}

pub(super) fn e164(key: Option<PhoneKey>) -> String {
    key.map(PhoneKey::e164).unwrap_or_default()
}

impl From<Provider> for pb::Provider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Zendesk => Self::Zendesk,
            Provider::Salesforce => Self::Salesforce,
            Provider::Pipedrive => Self::Pipedrive,
        }
    }
}

impl pb::Provider {
    /// The CRM that this is; `None`: none, or one that this version does not know.
    pub(crate) fn known(self) -> Option<Provider> {
        Provider::ALL.iter().copied().find(|known| Self::from(*known) == self)
    }
}

fn state(state: IntegrationState) -> pb::IntegrationState {
    match state {
        IntegrationState::Pending => pb::IntegrationState::Pending,
        IntegrationState::InitialSync => pb::IntegrationState::InitialSync,
        IntegrationState::Active => pb::IntegrationState::Active,
        IntegrationState::Stale => pb::IntegrationState::Stale,
        IntegrationState::Paused => pb::IntegrationState::Paused,
        IntegrationState::QuotaPaused => pb::IntegrationState::QuotaPaused,
        IntegrationState::AuthFailed => pb::IntegrationState::AuthFailed,
        IntegrationState::Off => pb::IntegrationState::Off,
    }
}

pub(super) fn account(account: &Account) -> pb::Account {
    pb::Account {
        id: account.id.to_string(),
        display_name: account.display_name.clone(),
        default_region: account.default_region.as_str().to_owned(),
        further_regions: account.further_regions.iter().map(|region| region.as_str().to_owned()).collect(),
        match_policy: match_policy(account.match_policy).into(),
        preferred_integration_id: account.match_policy.preferred().map(|id| id.to_string()).unwrap_or_default(),
        look_aside_ms: account.look_aside_ms,
        create_time: Some(timestamp(account.created_at)),
        update_time: Some(timestamp(account.updated_at)),
    }
}

fn match_policy(policy: MatchPolicy) -> pb::MatchPolicy {
    match policy {
        MatchPolicy::FirstCreated => pb::MatchPolicy::FirstCreated,
        MatchPolicy::LastSelected => pb::MatchPolicy::LastSelected,
        MatchPolicy::LastUpdated => pb::MatchPolicy::LastUpdated,
        MatchPolicy::PreferredIntegration(_) => pb::MatchPolicy::PreferredIntegration,
    }
}

pub(super) fn contact(contact: Contact) -> pb::Contact {
    let numbers = contact.numbers.into_iter().map(|number| pb::PhoneNumber {
        raw: number.raw,
        e164: e164(number.key),
        label: number.label,
        extension: number.extension,
    });
    pb::Contact {
        id: contact.id.to_string(),
        display_name: contact.display_name,
        organization: contact.organization,
        emails: contact.emails,
        numbers: numbers.collect(),
        records: contact.records.into_iter().map(record).collect(),
        create_time: Some(timestamp(contact.created_at)),
        delete_time: contact.deleted_at.map(timestamp),
        survivor_id: contact.survivor_id.map(|id| id.to_string()).unwrap_or_default(),
        is_placeholder: contact.is_placeholder,
    }
}

pub(super) fn record(record: ContactRecord) -> pb::Record {
    pb::Record {
        integration_id: record.integration_id.to_string(),
        provider: pb::Provider::from(record.key.object_type.provider()).into(),
        object_type: record.key.object_type.as_str().to_owned(),
        record_id: record.key.record_id,
        url: record.url,
        is_live: record.is_live,
        role: record.role,
    }
}

pub(super) fn source(freshness: &Freshness, now: DateTime<Utc>) -> pb::Source {
    pb::Source {
        integration_id: freshness.integration_id.to_string(),
        provider: pb::Provider::from(freshness.provider).into(),
        state: state(freshness.state(now)).into(),
        known_through: freshness.known_through.map(timestamp),
        note: freshness.note(now).to_owned(),
        has_unread: freshness.has_unread,
        push: push_state(freshness.push_state(now)).into(),
    }
}

pub(super) fn integration(integration: Integration, now: DateTime<Utc>) -> pb::Integration {
    let (at_present, note) = (integration.freshness.state(now), integration.freshness.note(now));
    let state_detail = match (&integration.hold_notice, integration.is_purging) {
        (_, true) => "disabled; the copied contacts are being removed".to_owned(),
        (Some(reason), _) => format!("{note}: {reason}"),
        (None, false) => note.to_owned(),
    };
    let is_on = integration.freshness.is_sync_on;
    let mode = if is_on { pb::SyncMode::On } else { pb::SyncMode::Off };
    let period = TimeDelta::seconds(i64::from(integration.freshness.period_seconds));
    let options = options(&integration, mode, period);
    let push = push(integration.push_now(now), integration.push_unasked());
    let hold = integration.hold_notice.filter(|_| at_present != IntegrationState::Off);
    pb::Integration {
        id: integration.freshness.integration_id.to_string(),
        provider: pb::Provider::from(integration.freshness.provider).into(),
        organization: integration.organization,
        state: state(at_present).into(),
        state_detail,
        options: Some(options),
        known_through: integration.freshness.known_through.map(timestamp),
        last_completed_time: integration.freshness.last_completed_at.map(timestamp),
        next_due_time: integration.due_at.filter(|_| is_on && integration.current_sync_run_id.is_none()).map(timestamp),
        current_sync_run_id: integration.current_sync_run_id.map(|id| id.to_string()).unwrap_or_default(),
        enabled: integration.freshness.is_enabled,
        create_time: Some(timestamp(integration.created_at)),
        has_credentials: integration.has_credentials,
        held_deletions: integration.held_deletions.unwrap_or(0),
        next_sweep_time: integration.sweep_due_at.filter(|_| is_on).map(timestamp),
        hold: hold.map(notice),
        push: Some(push),
    }
}

fn push_state(state: Option<PushState>) -> pb::PushState {
    match state {
        None => pb::PushState::NotConfigured,
        Some(PushState::Active) => pb::PushState::Active,
        Some(PushState::Degraded) => pb::PushState::Degraded,
        Some(PushState::Unavailable) => pb::PushState::Unavailable,
    }
}

/// `unasked`: why nothing is set up, where nobody has decided so.
fn push(status: Option<PushStatus>, unasked: Option<Notice>) -> pb::PushStatus {
    let state = push_state(status.as_ref().map(|status| status.state)).into();
    let Some(status) = status else {
        return pb::PushStatus { state, notice: unasked.map(notice), ..pb::PushStatus::default() };
    };
    pb::PushStatus {
        state,
        notice: status.notice.map(notice),
        last_event_time: status.last_event_at.map(timestamp),
        last_lag: status.last_lag_ms.map(lag),
        suspected_losses: status.suspected_losses,
    }
}

pub(super) fn look_aside((integration_id, outcome): (IntegrationId, AsideOutcome)) -> pb::LookAside {
    let outcome = match outcome {
        AsideOutcome::Found => pb::LookAsideOutcome::Found,
        AsideOutcome::NothingFound => pb::LookAsideOutcome::NothingFound,
        AsideOutcome::TimedOut => pb::LookAsideOutcome::TimedOut,
        AsideOutcome::Failed => pb::LookAsideOutcome::Failed,
        AsideOutcome::OutOfBudget => pb::LookAsideOutcome::OutOfBudget,
        AsideOutcome::TooSoon => pb::LookAsideOutcome::TooSoon,
        AsideOutcome::NotForThisCrm => pb::LookAsideOutcome::NotForThisCrm,
        AsideOutcome::Repeated => pb::LookAsideOutcome::Repeated,
        AsideOutcome::TooManyMisses => pb::LookAsideOutcome::TooManyMisses,
        AsideOutcome::Busy => pb::LookAsideOutcome::Busy,
        AsideOutcome::NoTime => pb::LookAsideOutcome::NoTime,
    };
    pb::LookAside { integration_id: integration_id.to_string(), outcome: outcome.into() }
}

/// In whole milliseconds.
pub(super) fn wait(wait: std::time::Duration) -> prost_types::Duration {
    lag(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

fn lag(milliseconds: i64) -> prost_types::Duration {
    let nanos = i32::try_from(milliseconds % 1_000 * 1_000_000).unwrap_or(0);
    prost_types::Duration { seconds: milliseconds / 1_000, nanos }
}

const fn switch(is_on: bool) -> pb::Switch {
    if is_on { pb::Switch::On } else { pb::Switch::Off }
}

fn options(integration: &Integration, mode: pb::SyncMode, period: TimeDelta) -> pb::IntegrationOptions {
    let of_object = |kind| {
        let wishes = integration.options.of(kind);
        Some(pb::ObjectOptions {
            copy: switch(wishes.is_copied).into(),
            mirror_deletions: switch(wishes.mirrors_deletions).into(),
        })
    };
    let of_provider = |kind: ObjectType| {
        if kind.provider() == integration.freshness.provider { of_object(kind) } else { None }
    };
    let zendesk_users = match (integration.freshness.provider, integration.options.user_roles) {
        (Provider::Zendesk, UserRoles::All) => pb::ZendeskUsers::All,
        (Provider::Zendesk, UserRoles::EndUsers) => pb::ZendeskUsers::EndUsers,
        _ => pb::ZendeskUsers::Unspecified,
    };
    pb::IntegrationOptions {
        sync: mode.into(),
        period: Some(duration(period)),
        salesforce_contacts: of_provider(ObjectType::Contact),
        salesforce_leads: of_provider(ObjectType::Lead),
        pipedrive_persons: of_provider(ObjectType::Person),
        zendesk_users: zendesk_users.into(),
        zendesk_phone_fields: (integration.freshness.provider == Provider::Zendesk)
            .then(|| pb::ZendeskPhoneFields { keys: integration.options.phone_fields.clone() }),
        push: switch(integration.options.push == PushWish::On).into(),
    }
}

pub(super) fn sync_run(run: SyncRun, now: DateTime<Utc>) -> pb::SyncRun {
    let kind = match run.kind {
        SyncKind::Initial => pb::SyncKind::Initial,
        SyncKind::Incremental => pb::SyncKind::Incremental,
        SyncKind::Sweep => pb::SyncKind::Sweep,
    };
    let state = match run.state {
        SyncRunState::Queued => pb::SyncRunState::Queued,
        SyncRunState::Running => pb::SyncRunState::Running,
        SyncRunState::Succeeded => pb::SyncRunState::Succeeded,
        SyncRunState::Failed => pb::SyncRunState::Failed,
        SyncRunState::Cancelled => pb::SyncRunState::Cancelled,
    };
    pb::SyncRun {
        estimated_time_left: run.estimated_time_left(now).map(duration),
        id: run.id.to_string(),
        integration_id: run.integration_id.to_string(),
        kind: kind.into(),
        state: state.into(),
        phase: run.phase,
        counts: Some(pb::SyncCounts {
            read: run.counts.read,
            created: run.counts.created,
            updated: run.counts.updated,
            deleted: run.counts.deleted,
            skipped: run.counts.skipped,
            rejected: run.counts.rejected,
        }),
        estimated_total: run.estimated_total,
        create_time: Some(timestamp(run.created_at)),
        start_time: run.started_at.map(timestamp),
        end_time: run.finished_at.map(timestamp),
        error: run.error.map(notice),
        attempt: run.attempt,
        notices: run.notices.into_iter().map(notice).collect(),
    }
}

fn notice(notice: Notice) -> pb::Notice {
    pb::Notice { reason: notice.reason.into_owned(), message: notice.message.into_owned() }
}

/// As it is told to operators: `REASON: words`.
impl fmt::Display for pb::Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

pub(super) fn outcome(outcome: MatchOutcome) -> pb::MatchOutcome {
    match outcome {
        MatchOutcome::Matched => pb::MatchOutcome::Matched,
        MatchOutcome::Ambiguous => pb::MatchOutcome::Ambiguous,
        MatchOutcome::Created => pb::MatchOutcome::Created,
        MatchOutcome::NotFound => pb::MatchOutcome::NotFound,
        MatchOutcome::NotKnownYet => pb::MatchOutcome::NotKnownYet,
        MatchOutcome::Withheld => pb::MatchOutcome::Withheld,
        MatchOutcome::Unparseable => pb::MatchOutcome::Unparseable,
    }
}

pub(super) fn tier(tier: Option<MatchTier>) -> pb::MatchTier {
    match tier {
        None => pb::MatchTier::Unspecified,
        Some(MatchTier::Exact) => pb::MatchTier::Exact,
        Some(MatchTier::Clicked) => pb::MatchTier::Clicked,
        Some(MatchTier::Variant) => pb::MatchTier::Variant,
        Some(MatchTier::AssumedRegion) => pb::MatchTier::AssumedRegion,
    }
}

pub(super) fn possible(possible: PossibleCaller) -> pb::PossibleMatch {
    match possible {
        PossibleCaller::Suffix(found) => pb::PossibleMatch {
            tier: pb::MatchTier::Suffix.into(),
            contact: Some(contact(found)),
            ..pb::PossibleMatch::default()
        },
        PossibleCaller::Organization { name, key } => pb::PossibleMatch {
            tier: pb::MatchTier::OrgPrefix.into(),
            organization: name,
            main_line: key.e164(),
            ..pb::PossibleMatch::default()
        },
    }
}

pub(super) fn change(change: Change) -> pb::Change {
    let kind = match change.kind {
        ChangeKind::Created => pb::ChangeKind::Created,
        ChangeKind::Changed => pb::ChangeKind::Changed,
        ChangeKind::Deleted => pb::ChangeKind::Deleted,
        ChangeKind::Merged => pb::ChangeKind::Merged,
        ChangeKind::Adopted => pb::ChangeKind::Adopted,
        ChangeKind::Erased => pb::ChangeKind::Erased,
        ChangeKind::Corrected => pb::ChangeKind::Corrected,
    };
    pb::Change {
        number: change.number,
        kind: kind.into(),
        contact_id: change.contact_id.map(|id| id.to_string()).unwrap_or_default(),
        survivor_id: change.survivor_id.map(|id| id.to_string()).unwrap_or_default(),
        contact: change.contact.map(contact),
        correction: change.correction.map(correction),
        create_time: Some(timestamp(change.created_at)),
    }
}

fn correction(correction: Correction) -> pb::Correction {
    let told = |verdict: &RequesterVerdict| {
        if correction.is_erased { pb::RequesterVerdict::default() } else { self::verdict(verdict) }
    };
    pb::Correction {
        integration_id: correction.integration_id.to_string(),
        before: Some(told(&correction.before)),
        after: Some(told(&correction.after)),
        is_erased: correction.is_erased,
        call_id: correction.call_id,
    }
}

fn verdict(verdict: &RequesterVerdict) -> pb::RequesterVerdict {
    let outcome = match verdict {
        RequesterVerdict::Resolved(..) => pb::RequesterVerdictOutcome::Resolved,
        RequesterVerdict::Ambiguous => pb::RequesterVerdictOutcome::Ambiguous,
        RequesterVerdict::Nobody => pb::RequesterVerdictOutcome::None,
    };
    let record = verdict.record();
    pb::RequesterVerdict {
        outcome: outcome.into(),
        object_type: record.map(|record| record.object_type.as_str().to_owned()).unwrap_or_default(),
        record_id: record.map(|record| record.record_id.clone()).unwrap_or_default(),
    }
}

/// One more than a page, to learn whether there is another.
pub(super) fn limit(page_size: usize) -> i64 {
    i64::try_from(page_size).map_or(i64::MAX, |size| size + 1)
}

/// Cuts what was read down to a page; returns its last entry if there is more.
pub(super) fn cut_page<T>(rows: &mut Vec<T>, page_size: usize) -> Option<&T> {
    if rows.len() <= page_size {
        return None;
    }
    rows.truncate(page_size);
    rows.last()
}
