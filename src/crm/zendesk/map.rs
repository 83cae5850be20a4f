//! Zendesk users into records: phone numbers are `phone` ∪ the identities of type `phone_number`,
//! since a shared number stands in `phone` only, and a deleted identity can leave its number there;
//! and what stands in custom fields that are said to hold numbers.

use std::{collections::HashMap, sync::Arc};

use serde_json::value::RawValue;

use super::model::{CUSTOM_FIELDS, IDENTITY, PAGE, USER};
use crate::{
    crm::{
        CrmError,
        json::{self, BodyText, JsonCell, JsonFields, TextValues},
        times,
    },
    domain::{
        options::UserRoles,
        record::{ObjectType, Record, RecordKey},
        rejected::{PageRejects, RejectReason, ValueLosses},
    },
};

/// A page with more rows than this is not Zendesk's.
const ROWS_MAX: usize = 2_000;

const NO_PAGE: CrmError = CrmError::Unreadable("it is not the JSON that Zendesk documents");

/// What users become records by.
#[derive(Clone)]
pub(super) struct UserMapping {
    /// Where agents open them.
    pub base_url: String,
    /// Users who are not wished are gone.
    pub roles: UserRoles,
    /// Keys of custom fields that hold numbers.
    pub phone_fields: Arc<[String]>,
}

/// An answer with users.
pub(super) struct UsersPage {
    pub records: Vec<Record>,
    pub rejects: PageRejects,
    pub after_cursor: Option<String>,
    /// `None`: it does not say.
    pub end_of_stream: Option<bool>,
    /// The identities of its users are in it.
    pub has_identities: bool,
    /// Ids of live users whose identities are not in it, though they must have some.
    pub without_identities: Vec<u64>,
}

/// The addresses of one user.
struct OwnIdentities {
    numbers: TextValues,
    emails: TextValues,
    losses: ValueLosses,
    /// Whatever it is.
    has_any: bool,
}

/// A user without its identities.
struct UserRow<'a> {
    id: u64,
    record: Record,
    numbers: TextValues,
    emails: TextValues,
    /// Of custom fields.
    further_numbers: TextValues,
    losses: ValueLosses,
    raw: &'a str,
}

impl UserMapping {
    /// Reads an answer. The identities are in it, or come in answers of their own.
    pub(super) fn page(&self, body: &BodyText, identities: &[BodyText]) -> Result<UsersPage, CrmError> {
        let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
        let (mut users, mut rejects) = (Vec::new(), PageRejects::default());
        let list = page.list("users").ok_or(NO_PAGE)?;
        let is_whole = json::each(list, ROWS_MAX, |row| {
            users.extend(self.user(row, &mut rejects));
        });
        if !is_whole {
            return Err(CrmError::Unreadable("a page has more than 2,000 users"));
        }
        rejects.characters += body.replaced;
        let page_identities = page.list("identities");
        Ok(UsersPage {
            after_cursor: page.cell("after_cursor").text().map_err(|_| NO_PAGE)?,
            end_of_stream: page.cell("end_of_stream").flag().map_err(|_| NO_PAGE)?,
            ..UsersPage::of(users, rejects, page_identities, identities)
        })
    }

    /// Reads an answer about one user.
    pub(super) fn one(&self, body: &BodyText, identities: &[BodyText]) -> Result<UsersPage, CrmError> {
        let page = body.value().and_then(|page| JsonFields::of(page, &["user"])).ok_or(NO_PAGE)?;
        let mut rejects = PageRejects { characters: body.replaced, ..PageRejects::default() };
        let users = self.user(page.raw("user").ok_or(NO_PAGE)?, &mut rejects).into_iter().collect();
        Ok(UsersPage::of(users, rejects, None, identities))
    }

    fn user<'a>(&self, row: &'a RawValue, rejects: &mut PageRejects) -> Option<UserRow<'a>> {
        let raw = row.get();
        let mut reject = |id: Option<u64>, reason, field| {
            rejects.reject(ObjectType::User, id.map(|id| id.to_string()), reason, field, raw);
        };
        let Some(user) = JsonFields::of(row, &USER) else {
            reject(None, RejectReason::NotAnObject, "");
            return None;
        };
        let Some(id) = user.cell("id").id() else {
            reject(None, RejectReason::IdUnreadable, "id");
            return None;
        };
        // One that was never changed may have the time of its creation only.
        let changed = [user.cell("updated_at"), user.cell("created_at")];
        let Some(updated_at) = changed.into_iter().find(|cell| !matches!(cell, JsonCell::Null)).and_then(times::read)
        else {
            reject(Some(id), RejectReason::TimeUnreadable, "updated_at");
            return None;
        };
        let mut losses = ValueLosses::default();
        let (mut numbers, mut emails) = (TextValues::numbers(), TextValues::emails());
        numbers.take(user.cell("phone"), "phone", "phone", &mut losses);
        emails.take(user.cell("email"), "email", "", &mut losses);
        let further_numbers = self.custom_numbers(user.raw(CUSTOM_FIELDS), &mut losses);
        let role = user.cell("role").text_or_loss("role", &mut losses).unwrap_or_default();
        // What does not say whether it is active is there.
        let is_active = user.cell("active").flag_or_loss("active", &mut losses).unwrap_or(true);
        let is_wished = self.roles == UserRoles::All || role.is_empty() || role == "end-user";
        let record = Record {
            key: RecordKey { object_type: ObjectType::User, record_id: id.to_string() },
            updated_at,
            answered_at: None,
            is_gone: !is_active || !is_wished,
            // Polling never names the winner of a merge.
            successor: None,
            region: None,
            display_name: user.cell("name").text_or_loss("name", &mut losses).unwrap_or_default(),
            // Users carry the id of their organisation only.
            organization: String::new(),
            emails: Vec::new(),
            numbers: Vec::new(),
            role,
            url: format!("{}/agent/users/{id}", self.base_url),
        };
        Some(UserRow { id, record, numbers, emails, further_numbers, losses, raw })
    }

    /// Labelled by the field's key: its title can change without any user changing.
    fn custom_numbers(&self, values: Option<&RawValue>, losses: &mut ValueLosses) -> TextValues {
        let mut numbers = TextValues::numbers();
        let wanted: Vec<&str> = self.phone_fields.iter().map(String::as_str).collect();
        match values.map_or(JsonCell::Null, JsonCell::of) {
            _ if wanted.is_empty() => {}
            JsonCell::Object(values) => {
                let Some(values) = JsonFields::of(values, &wanted) else {
                    losses.number(CUSTOM_FIELDS);
                    return numbers;
                };
                for key in wanted {
                    numbers.take(values.cell(key), CUSTOM_FIELDS, key, losses);
                }
            }
            JsonCell::Null => {}
            _ => losses.number(CUSTOM_FIELDS),
        }
        numbers
    }
}

impl UsersPage {
    fn of(
        users: Vec<UserRow<'_>>,
        mut rejects: PageRejects,
        in_answer: Option<&RawValue>,
        identities: &[BodyText],
    ) -> Self {
        let mut own: HashMap<u64, OwnIdentities> = users.iter().map(|user| (user.id, OwnIdentities::none())).collect();
        for list in in_answer.into_iter().chain(identities.iter().filter_map(identities_of)) {
            json::each(list, usize::MAX, |row| identity(row, &mut own, &mut rejects));
        }
        rejects.characters += identities.iter().map(|text| text.replaced).sum::<usize>();
        let lacks_identities = |user: &&UserRow<'_>| {
            let has_address = !user.emails.found.is_empty() || !user.numbers.found.is_empty();
            let is_known = own.get(&user.id).is_some_and(|own| own.has_any);
            !user.record.is_gone && !is_known && (has_address || in_answer.is_none())
        };
        let without_identities = users.iter().filter(lacks_identities).map(|user| user.id).collect();
        Self {
            records: users.into_iter().map(|user| user.finish(&own, &mut rejects)).collect(),
            rejects,
            after_cursor: None,
            end_of_stream: None,
            has_identities: in_answer.is_some(),
            without_identities,
        }
    }
}

impl UserRow<'_> {
    fn finish(mut self, own: &HashMap<u64, OwnIdentities>, rejects: &mut PageRejects) -> Record {
        if let Some(own) = own.get(&self.id) {
            self.losses.absorb(&own.losses);
            for number in &own.numbers.found {
                self.numbers.add(number.raw.clone(), &number.label, "identities", &mut self.losses);
            }
            for email in &own.emails.found {
                self.emails.add(email.raw.clone(), "", "identities", &mut self.losses);
            }
        }
        for number in self.further_numbers.found {
            self.numbers.add(number.raw, &number.label, CUSTOM_FIELDS, &mut self.losses);
        }
        // Of one who is gone nothing is kept anyway.
        if !self.record.is_gone {
            rejects.lose(ObjectType::User, Some(self.id.to_string()), &self.losses, self.raw);
        }
        Record { numbers: self.numbers.found, emails: self.emails.into_texts(), ..self.record }
    }
}

impl OwnIdentities {
    fn none() -> Self {
        let (numbers, emails) = (TextValues::numbers(), TextValues::emails());
        Self { numbers, emails, losses: ValueLosses::default(), has_any: false }
    }
}

fn identities_of(body: &BodyText) -> Option<&RawValue> {
    JsonFields::of(body.value()?, &PAGE)?.list("identities")
}

/// An identity that cannot be read costs itself, not its user.
fn identity(row: &RawValue, own: &mut HashMap<u64, OwnIdentities>, rejects: &mut PageRejects) {
    let mut losses = ValueLosses::default();
    let read = JsonFields::of(row, &IDENTITY);
    let Some((user_id, identity)) = read.and_then(|identity| Some((identity.cell("user_id").id()?, identity))) else {
        losses.number("identities");
        return rejects.lose(ObjectType::User, None, &losses, row.get());
    };
    let Some(own) = own.get_mut(&user_id) else { return };
    own.has_any = true;
    let kind = identity.cell("type").text();
    match kind.as_ref().map(|kind| kind.as_deref()) {
        Ok(Some("phone_number")) => {
            own.numbers.take(identity.cell("value"), "identities", "direct line", &mut own.losses);
        }
        Ok(Some("email")) => own.emails.take(identity.cell("value"), "identities", "", &mut own.losses),
        // Accounts of social media and the like.
        Ok(Some(_)) => {}
        Ok(None) | Err(_) => own.losses.number("identities"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(json: &[u8], roles: UserRoles) -> UsersPage {
        let phone_fields = ["mobile_2".to_owned(), "desk".to_owned()].into();
        let mapping = UserMapping { base_url: "https://acme.zendesk.com".to_owned(), roles, phone_fields };
        mapping.page(&BodyText::json(json.to_vec()).unwrap(), &[]).unwrap()
    }

    fn records_of(json: &str, roles: UserRoles) -> (Vec<Record>, usize) {
        let page = page_of(json.as_bytes(), roles);
        (page.records, page.rejects.records)
    }

    fn numbers(record: &Record) -> Vec<&str> {
        record.numbers.iter().map(|number| number.raw.as_str()).collect()
    }

    /// The numbers are the phone and the phone identities, without repeats.
    #[test]
    fn numbers_are_phone_and_identities_without_repeats() {
        let (records, rejected) = records_of(
            r#"{"users":[{"id":1,"name":"A","phone":"+15551234567","updated_at":"2026-01-02T10:00:00Z"}],
                "identities":[{"user_id":"1","type":"phone_number","value":"+15551234567"},{"user_id":1,"type":"phone_number","value":"+15557654321"},
                    {"user_id":1,"type":"email","value":"a@example.com"},{"user_id":2,"type":"phone_number","value":"+1"}],
                "end_of_stream":true}"#,
            UserRoles::All,
        );

        assert_eq!(rejected, 0);
        assert_eq!(
            records[0].numbers.iter().map(|number| number.raw.as_str()).collect::<Vec<_>>(),
            ["+15551234567", "+15557654321"]
        );
        assert_eq!(records[0].emails, ["a@example.com"]);
        assert_eq!(records[0].url, "https://acme.zendesk.com/agent/users/1");
    }

    /// A row that cannot be read is rejected alone.
    #[test]
    fn unreadable_row_is_rejected_alone() {
        let (records, rejected) = records_of(
            r#"{"users":[{"id":"x","updated_at":"2026-01-02T10:00:00Z"},{"id":2,"updated_at":"yesterday"},{"id":3},7,null,
                {"id":4,"name":null,"phone":null,"email":null,"updated_at":"2026-01-02T10:00:00.5+0000","surprise":[1]}],
                "identities":[{"user_id":4},{"user_id":4,"type":"phone_number","value":null}],"end_of_stream":false,"after_cursor":null}"#,
            UserRoles::All,
        );

        assert_eq!(rejected, 5);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key.record_id, "4");
    }

    /// Numbers of the fields that are said to hold some come last, by the field's key; other fields
    /// hold none, and what cannot be read is told.
    #[test]
    fn numbers_of_named_custom_fields_count() {
        let page = page_of(
            br#"{"users":[{"id":1,"phone":"+15551234567","updated_at":"2026-01-02T10:00:00Z",
                    "user_fields":{"notes":"+15550000000","desk":"+15552222222","mobile_2":"+15551111111"}},
                {"id":2,"updated_at":"2026-01-02T10:00:00Z","user_fields":{"mobile_2":null,"desk":""}},
                {"id":3,"updated_at":"2026-01-02T10:00:00Z","user_fields":[]},
                {"id":4,"updated_at":"2026-01-02T10:00:00Z","user_fields":{"mobile_2":true,"desk":4155551212}}],
                "identities":[{"user_id":1,"type":"phone_number","value":"+15553333333"}],"end_of_stream":true}"#,
            UserRoles::All,
        );

        assert_eq!(numbers(&page.records[0]), ["+15551234567", "+15553333333", "+15551111111", "+15552222222"]);
        assert_eq!(page.records[0].numbers[2].label, "mobile_2");
        assert!(page.records[1].numbers.is_empty() && page.records[2].numbers.is_empty());
        assert_eq!(numbers(&page.records[3]), ["4155551212"]);
        let lost: Vec<_> =
            page.rejects.kept.iter().map(|kept| (kept.record_id.as_deref(), kept.fields.as_str())).collect();
        assert_eq!(lost, [(Some("3"), "user_fields"), (Some("4"), "user_fields")]);
        assert_eq!(page.rejects.hidden_numbers, 2);
    }

    #[test]
    fn inactive_is_deleted_and_suspended_is_not() {
        let (records, _) = records_of(
            r#"{"users":[{"id":1,"active":false,"updated_at":"2026-01-02T10:00:00Z"},{"id":2,"active":true,"suspended":true,"updated_at":"2026-01-02T10:00:00Z"}],
                "end_of_stream":true}"#,
            UserRoles::All,
        );

        assert!(records[0].is_gone);
        assert!(!records[1].is_gone);
    }

    /// Agents are gone where only end users are wished.
    #[test]
    fn agents_are_gone_where_only_end_users_wished() {
        let users = r#"{"users":[{"id":1,"role":"agent","updated_at":"2026-01-02T10:00:00Z"},{"id":2,"role":"end-user","updated_at":"2026-01-02T10:00:00Z"}],
            "end_of_stream":true}"#;

        let gone = |roles| records_of(users, roles).0.iter().map(|record| record.is_gone).collect::<Vec<_>>();

        assert_eq!(gone(UserRoles::EndUsers), [true, false]);
        assert_eq!(gone(UserRoles::All), [false, false]);
    }

    /// A value that cannot be read costs itself alone, and is counted.
    #[test]
    fn unreadable_value_costs_itself_and_is_counted() {
        let page = page_of(
            br#"{"users":[{"id":1,"name":["A"],"phone":13108675309,"email":7,"active":null,"role":null,"updated_at":"2026-01-02T10:00:00Z"},
                {"id":2,"phone":true,"active":"perhaps","updated_at":"2026-01-02 10:00:00"},
                {"id":3,"phone":["+1",{"value":"+2"}],"phone":"+3","updated_at":1767348000},
                {"id":"4","phone":{"value":4155551212.0},"active":1,"updated_at":null,"created_at":"2026-01-02T10:00:00+0000"}],
                "identities":[{"user_id":"1","type":"phone_number","value":4155551212},{"user_id":2,"type":"phone_number","value":{}},7,
                    {"user_id":3,"type":null,"value":"+4"},{"user_id":3,"type":"twitter","value":null}],"end_of_stream":true}"#,
            UserRoles::EndUsers,
        );

        assert_eq!(page.records.len(), 4);
        assert!(page.records.iter().all(|record| !record.is_gone));
        assert_eq!(numbers(&page.records[0]), ["13108675309", "4155551212"]);
        assert_eq!(page.records[0].emails, ["7"]);
        assert_eq!(numbers(&page.records[2]), ["+3"]);
        assert_eq!(numbers(&page.records[3]), ["4155551212"]);
        let lost: Vec<_> = page
            .rejects
            .kept
            .iter()
            .map(|kept| (kept.record_id.as_deref(), kept.fields.as_str(), kept.hides_number))
            .collect();
        assert_eq!(
            lost,
            [
                (None, "identities", true),
                (Some("1"), "name", false),
                (Some("2"), "phone, active, identities", true),
                (Some("3"), "identities", true),
            ]
        );
        assert_eq!((page.rejects.records, page.rejects.values, page.rejects.hidden_numbers), (0, 6, 3));
    }

    /// A bad byte and half a surrogate cost a character each.
    #[test]
    fn bad_byte_or_half_surrogate_costs_one_character() {
        let page = page_of(
            b"\xef\xbb\xbf{\"users\":[{\"id\":1,\"name\":\"Jos\xe9 \\ud83d \\ud83d\\ude00 \\\\ud83d\x01\",\"phone\":\"+1310867\xff5309\",\"updated_at\":\"2026-01-02T10:00:00Z\"}],\"identities\":[],\"end_of_stream\":true}",
            UserRoles::All,
        );

        assert_eq!(page.records[0].display_name, "Jos\u{fffd} \u{fffd} \u{1f600} \\ud83d ");
        assert!(page.records[0].numbers.is_empty(), "which digit it was cannot be known");
        assert_eq!((page.rejects.characters, page.rejects.values), (4, 1));
    }

    /// A user with very many numbers keeps the first ones, and the rest is told.
    #[test]
    fn user_with_many_numbers_keeps_first_ones() {
        let identity = |n: usize| format!(r#"{{"user_id":1,"type":"phone_number","value":"+1310{n:07}"}}"#);
        let identities: Vec<String> = (0..100_000).map(identity).collect();
        let json = format!(
            r#"{{"users":[{{"id":1,"updated_at":"2026-01-02T10:00:00Z"}}],"identities":[{}],"end_of_stream":true}}"#,
            identities.join(",")
        );

        let page = page_of(json.as_bytes(), UserRoles::All);

        assert_eq!(page.records[0].numbers.len(), crate::domain::record::NUMBERS_MAX);
        assert_eq!(page.rejects.kept[0].reason, RejectReason::TooManyNumbers);
        assert_eq!(page.rejects.kept.len(), 1);
    }

    /// Millions of rows are refused before any is kept.
    #[test]
    fn millions_of_rows_are_refused_before_keeping() {
        let mapping = UserMapping { base_url: String::new(), roles: UserRoles::All, phone_fields: Arc::default() };
        let json = format!(r#"{{"users":[{}0],"end_of_stream":true}}"#, "0,".repeat(1_000_000));

        let refused = mapping.page(&BodyText::json(json.into_bytes()).unwrap(), &[]);

        assert!(matches!(refused, Err(CrmError::Unreadable(_))));
    }
}
