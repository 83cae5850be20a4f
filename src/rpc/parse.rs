//! Requests into domain types. Whatever is wrong is `INVALID_ARGUMENT` that names the field and
//! says what would be right.

use std::{collections::HashSet, str::FromStr};

use chrono::{DateTime, Utc};
use phone_key::{RAW_LENGTH_MAX, Region};
use tonic::Status;
use uuid::Uuid;

use super::{
    pb, status,
    together::{self, ReadTogether},
};
use crate::domain::{
    call::CALL_ID_CHARS_MAX,
    descriptor::Descriptors,
    integration::Organization,
    options::{FIELD_KEY_CHARS_MAX, ObjectChange, Options, OptionsChange, PHONE_FIELDS_MAX, PushWish, UserRoles},
    provider::Provider,
    record::ObjectType,
    sync_run::SyncKind,
};

/// Where the option that names custom fields is, in a request.
pub(super) const PHONE_FIELDS: &str = "options.zendesk_phone_fields";
const PERIOD_SECONDS_MIN: i64 = 60;
const PERIOD_SECONDS_MAX: i64 = 86_400;

/// An id that must be given.
pub(super) fn id<T: FromStr>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|_| status::invalid(field, "must be a UUID"))
}

/// An id that may be left out.
pub(super) fn optional_id<T: FromStr>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

/// Later than any time that is taken: the year 10,000.
pub(super) const TIME_MAX: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_800, 0) {
    Some(time) => time,
    None => DateTime::<Utc>::MAX_UTC,
};

/// A time that may be left out, from 1970 on.
pub(super) fn time(field: &str, given: Option<&prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>, Status> {
    let Some(given) = given else { return Ok(None) };
    let time = u32::try_from(given.nanos).ok().and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
    let time = time.filter(|time| (DateTime::UNIX_EPOCH..TIME_MAX).contains(time));
    time.map(Some).ok_or_else(|| status::invalid(field, "must be a time from 1970 to 9999"))
}

/// A client's id of its own request.
pub(super) fn request_id(text: &str) -> Result<Option<Uuid>, Status> {
    optional_id("request_id", text)
}

/// A text of the router or an agent's desk that is bounded like a call id, and may be empty.
pub(super) fn short_text(field: &str, text: &str) -> Result<String, Status> {
    if text.chars().count() > CALL_ID_CHARS_MAX || text.contains('\0') {
        return Err(status::invalid(field, "must have at most 128 characters, and no NUL"));
    }
    Ok(text.to_owned())
}

/// A call id that must be given.
pub(super) fn call_id(text: &str) -> Result<String, Status> {
    if text.is_empty() {
        return Err(status::invalid("call_id", "is required"));
    }
    short_text("call_id", text)
}

/// A call id that may be left out.
pub(super) fn optional_call_id(text: &str) -> Result<Option<String>, Status> {
    if text.is_empty() { Ok(None) } else { call_id(text).map(Some) }
}

/// A text that is shown, at most 200 characters; control characters become spaces.
pub(super) fn shown_text(field: &str, text: &str) -> Result<String, Status> {
    if text.chars().count() > 200 {
        return Err(status::invalid(field, "must have at most 200 characters"));
    }
    Ok(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// A number as the carrier, an agent or a CRM writes it.
pub(super) fn phone_number(text: &str) -> Result<String, Status> {
    if text.len() > RAW_LENGTH_MAX || text.contains('\0') {
        return Err(status::invalid("phone_number", "must have at most 250 bytes, and no NUL"));
    }
    Ok(text.to_owned())
}

/// A region that must be given.
pub(super) fn region(field: &str, text: &str) -> Result<Region, Status> {
    Region::parse(text).map_err(|_| {
        status::invalid(field, "must be an ISO 3166-1 alpha-2 code of a region with phone numbers, such as US")
    })
}

/// A region that may be left out.
pub(super) fn optional_region(field: &str, text: &str) -> Result<Option<Region>, Status> {
    if text.is_empty() { Ok(None) } else { region(field, text).map(Some) }
}

/// A region is there for a number alone.
pub(super) fn only_with_number(region: &str, has_number: bool) -> Result<(), Status> {
    if region.is_empty() || has_number {
        return Ok(());
    }
    Err(status::invalid("default_region", "goes with phone_number, and with nothing else"))
}

/// `a, b or c`.
pub(super) fn listed(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// A CRM.
pub(super) fn provider(value: i32) -> Result<Provider, Status> {
    let found = pb::Provider::try_from(value).ok().and_then(pb::Provider::known);
    found.ok_or_else(|| {
        let known = Provider::ALL.iter().map(|known| pb::Provider::from(*known).as_str_name().to_owned());
        status::invalid("provider", &format!("must be {}", listed(known)))
    })
}

/// The organisation of a connection, which must fit the provider.
pub(super) fn organization(
    descriptors: &Descriptors,
    provider: Provider,
    connection: Option<pb::Connection>,
) -> Result<Organization, Status> {
    use pb::connection::Organization as Given;
    let field_of = |provider: Provider| format!("connection.{}", descriptors[provider].organization.field);
    let needed = field_of(provider);
    let given = connection.and_then(|connection| connection.organization);
    let (of, text) = match given {
        Some(Given::ZendeskSubdomain(text)) => (Provider::Zendesk, text),
        Some(Given::SalesforceOrgId(text)) => (Provider::Salesforce, text),
        Some(Given::PipedriveCompany(text)) => (Provider::Pipedrive, text),
        None => return Err(status::invalid(&needed, &format!("is required for {provider}"))),
    };
    if of != provider {
        let problem = format!("is required for {provider}; {} is for {of} only", field_of(of));
        return Err(status::invalid(&needed, &problem));
    }
    descriptors[provider].parse_organization(&text).map_err(|error| status::invalid(&needed, &error.to_string()))
}

/// Whether sync is wished on or off; `None`: not said.
pub(super) fn sync_mode(value: i32) -> Result<Option<bool>, Status> {
    match pb::SyncMode::try_from(value) {
        Ok(pb::SyncMode::Unspecified) => Ok(None),
        Ok(pb::SyncMode::On) => Ok(Some(true)),
        Ok(pb::SyncMode::Off) => Ok(Some(false)),
        Err(_) => Err(status::invalid("options.sync", "must be SYNC_MODE_ON or SYNC_MODE_OFF")),
    }
}

/// The period in seconds; `None`: not said.
pub(super) fn period(duration: Option<&prost_types::Duration>) -> Result<Option<i32>, Status> {
    let Some(duration) = duration else { return Ok(None) };
    let seconds = Some(duration.seconds)
        .filter(|seconds| (PERIOD_SECONDS_MIN..=PERIOD_SECONDS_MAX).contains(seconds) && duration.nanos == 0);
    let seconds = seconds.and_then(|seconds| i32::try_from(seconds).ok());
    seconds
        .map(Some)
        .ok_or_else(|| status::invalid("options.period", "must be from 1 minute to 24 hours, in whole seconds"))
}

/// Refuses what belongs to another CRM than the one that is meant.
pub(super) fn only(needed: Provider, provider: Provider, field: &str) -> Result<(), Status> {
    if needed == provider { Ok(()) } else { Err(status::invalid(field, &format!("is for {needed} only"))) }
}

/// What is wished to be copied and mirrored. What says something of another CRM's objects is
/// refused.
pub(super) fn options(provider: Provider, given: &pb::IntegrationOptions) -> Result<OptionsChange, Status> {
    let user_roles = match pb::ZendeskUsers::try_from(given.zendesk_users) {
        Ok(pb::ZendeskUsers::Unspecified) => Ok(None),
        Ok(pb::ZendeskUsers::All) => Ok(Some(UserRoles::All)),
        Ok(pb::ZendeskUsers::EndUsers) => Ok(Some(UserRoles::EndUsers)),
        Err(_) => Err(status::invalid("options.zendesk_users", "must be ZENDESK_USERS_ALL or ZENDESK_USERS_END_USERS")),
    };
    let push = switch("options.push", given.push)
        .map(|wish| wish.map(|is_on| if is_on { PushWish::On } else { PushWish::Off }));
    let objects = [
        (ObjectType::Contact, "options.salesforce_contacts", given.salesforce_contacts.as_ref()),
        (ObjectType::Lead, "options.salesforce_leads", given.salesforce_leads.as_ref()),
        (ObjectType::Person, "options.pipedrive_persons", given.pipedrive_persons.as_ref()),
    ];
    let changes = objects.iter().map(|(_, field, given)| object_change(field, *given));
    let phone_fields = given.zendesk_phone_fields.as_ref().map(|given| phone_fields(&given.keys)).transpose();
    let (changes, user_roles, push, phone_fields) =
        (together::all(changes), user_roles, push, phone_fields).together()?;
    let own = |is_said: bool, of, field| if is_said { only(of, provider, field) } else { Ok(()) };
    let names_fields = phone_fields.is_some();
    let mut change = OptionsChange { user_roles, phone_fields, push, ..OptionsChange::default() };
    let objects_are_own = together::all(objects.iter().zip(changes).map(|((kind, field, _), wished)| {
        change.objects[*kind] = wished;
        own(wished != ObjectChange::default(), kind.provider(), field)
    }));
    let users_are_own = own(user_roles.is_some(), Provider::Zendesk, "options.zendesk_users");
    let fields_are_own = own(names_fields, Provider::Zendesk, PHONE_FIELDS);
    (objects_are_own, users_are_own, fields_are_own).together()?;
    Ok(change)
}

/// Keys of fields, each once.
fn phone_fields(keys: &[String]) -> Result<Vec<String>, Status> {
    let field = &format!("{PHONE_FIELDS}.keys");
    if keys.len() > PHONE_FIELDS_MAX {
        return Err(status::invalid(field, &format!("must be at most {PHONE_FIELDS_MAX}")));
    }
    let read = |(at, key): (usize, &String)| {
        let is_key = (1..=FIELD_KEY_CHARS_MAX).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let words =
            format!("must be a field's key: 1 to {FIELD_KEY_CHARS_MAX} letters, digits, underscores and hyphens");
        if is_key { Ok(key.clone()) } else { Err(status::invalid(&format!("{field}[{at}]"), &words)) }
    };
    let mut keys = together::all(keys.iter().enumerate().map(read))?;
    let mut known = HashSet::new();
    keys.retain(|key| known.insert(key.clone()));
    Ok(keys)
}

/// The options of a new integration.
pub(super) fn new_options(provider: Provider, given: &pb::IntegrationOptions) -> Result<Options, Status> {
    let at_first = Options { push: PushWish::On, ..Options::default() };
    let options = options(provider, given)?.apply(provider, &at_first);
    options.map_err(|error| status::invalid("options", &error.to_string()))
}

fn object_change(field: &str, given: Option<&pb::ObjectOptions>) -> Result<ObjectChange, Status> {
    let Some(given) = given else { return Ok(ObjectChange::default()) };
    let (is_copied, mirrors_deletions) = (
        switch(&format!("{field}.copy"), given.copy),
        switch(&format!("{field}.mirror_deletions"), given.mirror_deletions),
    )
        .together()?;
    Ok(ObjectChange { is_copied, mirrors_deletions })
}

fn switch(field: &str, value: i32) -> Result<Option<bool>, Status> {
    match pb::Switch::try_from(value) {
        Ok(pb::Switch::Unspecified) => Ok(None),
        Ok(pb::Switch::On) => Ok(Some(true)),
        Ok(pb::Switch::Off) => Ok(Some(false)),
        Err(_) => Err(status::invalid(field, "must be SWITCH_ON or SWITCH_OFF")),
    }
}

/// The kind of run; `None`: the usual one.
pub(super) fn sync_kind(value: i32) -> Result<Option<SyncKind>, Status> {
    match pb::SyncKind::try_from(value) {
        Ok(pb::SyncKind::Unspecified) => Ok(None),
        Ok(pb::SyncKind::Initial) => Ok(Some(SyncKind::Initial)),
        Ok(pb::SyncKind::Incremental) => Ok(Some(SyncKind::Incremental)),
        Ok(pb::SyncKind::Sweep) => Ok(Some(SyncKind::Sweep)),
        Err(_) => Err(status::invalid("kind", "must be SYNC_KIND_INITIAL, SYNC_KIND_INCREMENTAL or SYNC_KIND_SWEEP")),
    }
}
