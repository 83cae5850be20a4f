//! Which fields are asked for: those that name a person and that the integration's user sees. One
//! field more than that, and Salesforce refuses the whole query.

use std::collections::HashSet;

use super::model::{DESCRIBE, NO_JSON};
use crate::{
    crm::{
        CrmError,
        json::{self, BodyText, JsonFields},
    },
    domain::{notice::Notice, record::ObjectType},
};

/// Fields of one object that are looked at; Salesforce allows 800 custom ones.
const FIELDS_MAX: usize = 5_000;

/// Fields that every user sees, asked for always.
pub(super) const ESSENTIAL: [&str; 3] = ["Id", "IsDeleted", "SystemModstamp"];
/// The phone fields that every organisation has. Not `AssistantPhone`: it is the assistant's
/// number, and must not name this person.
const PHONES: [&str; 5] = ["Phone", "MobilePhone", "HomePhone", "OtherPhone", "Fax"];
/// An organisation's own phone fields that are taken of one object.
const CUSTOM_PHONES_MAX: usize = 16;
/// The fields of a kind of object, by their names in events, that were described to the
/// integration's user and are not copied. What was not described is not in it.
pub(super) type UntrackedFields = HashSet<Box<str>>;

/// Longest name of a field in bytes: namespace, name and suffix have 61, a parent's field twice as
/// many.
const NAME_BYTES_MAX: usize = 128;
/// The name of a Contact's Account, by way of `AccountId`.
pub(super) const ACCOUNT_NAME: &str = "Account.Name";

/// A field that is wished for.
struct FieldWish {
    /// As queries have it.
    name: &'static str,
    /// Where the description shows it.
    shown_as: &'static str,
    /// Missing, it costs names or numbers, and somebody should know. Else it is there in some
    /// organisations only.
    is_missed: bool,
}

const fn wish(name: &'static str) -> FieldWish {
    FieldWish { name, shown_as: name, is_missed: true }
}

const CONTACT: &[FieldWish] = &[
    wish("MasterRecordId"),
    wish("Name"),
    FieldWish { is_missed: false, ..wish("FirstName") },
    FieldWish { is_missed: false, ..wish("LastName") },
    wish("Email"),
    wish("Phone"),
    wish("MobilePhone"),
    wish("HomePhone"),
    wish("OtherPhone"),
    wish("Fax"),
    FieldWish { shown_as: "AccountId", ..wish(ACCOUNT_NAME) },
    // Only where there are person accounts.
    FieldWish { is_missed: false, ..wish("IsPersonAccount") },
    // Only where countries are chosen from a list.
    FieldWish { is_missed: false, ..wish("MailingCountryCode") },
    FieldWish { is_missed: false, ..wish("MailingCountry") },
];

const LEAD: &[FieldWish] = &[
    wish("MasterRecordId"),
    wish("IsConverted"),
    wish("ConvertedContactId"),
    wish("Name"),
    FieldWish { is_missed: false, ..wish("FirstName") },
    FieldWish { is_missed: false, ..wish("LastName") },
    wish("Company"),
    wish("Email"),
    wish("Phone"),
    wish("MobilePhone"),
    wish("Fax"),
    FieldWish { is_missed: false, ..wish("CountryCode") },
    FieldWish { is_missed: false, ..wish("Country") },
];

/// What can be asked for besides [`ESSENTIAL`], and what to tell about the rest.
pub(super) struct VisibleFields {
    pub(super) fields: Vec<String>,
    pub(super) notices: Vec<Notice>,
}

/// What an object looks like to the integration's user.
pub(super) struct ObjectDescription {
    pub(super) queryable: bool,
    fields: Vec<DescribeField>,
}

struct DescribeField {
    name: String,
    kind: String,
}

impl ObjectDescription {
    /// Reads a description. A field that cannot be read is not seen.
    pub(super) fn read(body: &BodyText) -> Result<Self, CrmError> {
        let describe = body.value().and_then(|page| JsonFields::of(page, &DESCRIBE)).ok_or(NO_JSON)?;
        let mut fields = Vec::new();
        let is_whole = json::each(describe.list("fields").ok_or(NO_JSON)?, FIELDS_MAX, |field| {
            let Some(field) = JsonFields::of(field, &["name", "type"]) else { return };
            let text = |name| field.cell(name).text().ok().flatten().unwrap_or_default();
            let (name, kind) = (text("name"), text("type"));
            if name.len() <= NAME_BYTES_MAX && !name.is_empty() {
                fields.push(DescribeField { name, kind });
            }
        });
        if !is_whole {
            return Err(NO_JSON);
        }
        Ok(Self { queryable: describe.cell("queryable").flag().ok().flatten().unwrap_or(true), fields })
    }
}

/// Chooses from an object's description.
pub(super) fn visible(object: ObjectType, describe: &ObjectDescription) -> VisibleFields {
    let wishes = if object == ObjectType::Lead { LEAD } else { CONTACT };
    let mut visible = VisibleFields { fields: Vec::new(), notices: Vec::new() };
    for wish in wishes {
        if describe.fields.iter().any(|field| field.name == wish.shown_as) {
            visible.fields.push(wish.name.to_owned());
        } else if wish.is_missed {
            visible.notices.push(hidden(object, wish.shown_as));
        }
    }
    let is_own_phone = |name: &str| name.ends_with("__c") && is_name(name);
    let mut own = describe.fields.iter().filter(|field| field.kind == "phone" && is_own_phone(&field.name));
    visible.fields.extend(own.by_ref().take(CUSTOM_PHONES_MAX).map(|field| field.name.clone()));
    if own.next().is_some() {
        visible.notices.push(Notice::new(
            "FIELDS_LEFT_OUT",
            format!(
                "{} has more than {CUSTOM_PHONES_MAX} custom phone fields; numbers in the others are not copied",
                object.as_str()
            ),
        ));
    }
    visible
}

/// The fields that are shown and not copied, by the names that change events have for them. A
/// compound field is copied if a part of it is.
pub(super) fn untracked(object: ObjectType, describe: &ObjectDescription) -> UntrackedFields {
    let (address, mut copied) = (if object == ObjectType::Lead { "Address" } else { "MailingAddress" }, Vec::new());
    for field in visible(object, describe).fields {
        match field.as_str() {
            "FirstName" | "LastName" => copied.extend(["Name".to_owned(), field]),
            ACCOUNT_NAME => copied.push("AccountId".to_owned()),
            "MailingCountryCode" | "MailingCountry" | "CountryCode" | "Country" => {
                copied.extend([address.to_owned(), field]);
            }
            _ => copied.push(field),
        }
    }
    describe
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .filter(|name| !copied.iter().any(|own| own == name))
        .map(Into::into)
        .collect()
}

/// The notice of a field that is not seen.
pub(super) fn hidden(object: ObjectType, field: &str) -> Notice {
    Notice::new(
        "FIELD_HIDDEN",
        format!(
            "{}.{field} is not visible to the integration's user, and is not copied; give the user's profile or a permission set read access to it",
            object.as_str()
        ),
    )
}

/// Whether a value of this field is a phone number of the record's person. Of custom fields only
/// phones are asked for.
pub(super) fn is_phone(field: &str) -> bool {
    PHONES.contains(&field) || field.ends_with("__c")
}

/// Whether this can stand in a query: letters, digits, underscores and, for a parent's field, one
/// dot.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text.len() <= NAME_BYTES_MAX && text.split('.').count() <= 2 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(fields: &[(&str, &str)]) -> ObjectDescription {
        let fields: Vec<_> =
            fields.iter().map(|(name, kind)| serde_json::json!({"name": name, "type": kind})).collect();
        let json = serde_json::json!({"queryable": null, "fields": fields, "surprise": 1}).to_string();
        ObjectDescription::read(&BodyText::json(json.into_bytes()).unwrap()).unwrap()
    }

    /// A hidden field is told, and not asked for.
    #[test]
    fn hidden_field_is_told_not_asked_for() {
        let fields: Vec<(&str, &str)> =
            CONTACT.iter().map(|wish| (wish.shown_as, "string")).filter(|(name, _)| *name != "MobilePhone").collect();

        let visible = visible(ObjectType::Contact, &describe(&fields));

        assert!(!visible.fields.iter().any(|field| field == "MobilePhone"));
        assert!(visible.fields.iter().any(|field| field == ACCOUNT_NAME));
        assert_eq!(visible.notices.len(), 1);
        assert!(
            visible.notices[0].to_string().starts_with("FIELD_HIDDEN: Contact.MobilePhone "),
            "{}",
            visible.notices[0]
        );
    }

    /// The customer's own phone fields are taken, and the assistant's phone is not.
    #[test]
    fn own_phone_fields_count_assistants_does_not() {
        let visible = visible(
            ObjectType::Lead,
            &describe(&[
                ("Phone", "phone"),
                ("AssistantPhone", "phone"),
                ("Site__c", "phone"),
                ("ns__Desk__c", "phone"),
                ("Notes__c", "string"),
                ("bad name__c", "phone"),
            ]),
        );

        assert_eq!(visible.fields, ["Phone", "Site__c", "ns__Desk__c"]);
        assert!(is_phone("Site__c") && is_phone("Fax") && !is_phone("AssistantPhone") && !is_phone("Email"));
    }

    #[test]
    fn own_phone_fields_beyond_the_limit_are_told() {
        let names: Vec<String> = (0..=CUSTOM_PHONES_MAX).map(|number| format!("Phone{number}__c")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "phone")).collect();

        let visible = visible(ObjectType::Lead, &describe(&fields));

        assert_eq!(visible.fields.len(), CUSTOM_PHONES_MAX);
        assert!(visible.notices.iter().any(|notice| notice.to_string().starts_with("FIELDS_LEFT_OUT: Lead ")));
    }

    /// What is copied has its field in events: a name by its record, an account by its id, a
    /// country by its address. What was not described is in no list.
    #[test]
    fn copied_fields_are_tracked_by_their_names_in_events() {
        let shown = [
            ("Id", "id"),
            ("Name", "string"),
            ("FirstName", "string"),
            ("Salutation", "picklist"),
            ("AccountId", "reference"),
            ("Phone", "phone"),
            ("Site__c", "phone"),
            ("Notes__c", "string"),
            ("MailingAddress", "address"),
            ("MailingCountry", "string"),
            ("OtherAddress", "address"),
            ("SystemModstamp", "datetime"),
            ("LastModifiedDate", "datetime"),
        ];

        let contact = untracked(ObjectType::Contact, &describe(&shown));

        let mut names: Vec<&str> = contact.iter().map(|name| &**name).collect();
        names.sort_unstable();
        let expected = ["Id", "LastModifiedDate", "Notes__c", "OtherAddress", "Salutation", "SystemModstamp"];
        assert_eq!(names, expected);
        let lead = untracked(
            ObjectType::Lead,
            &describe(&[("Address", "address"), ("CountryCode", "picklist"), ("Title", "string")]),
        );
        assert_eq!(lead.into_iter().collect::<Vec<_>>(), ["Title".into()]);
    }

    #[test]
    fn only_names_stand_in_queries() {
        for name in ["Id", "Account.Name", "ns__Desk_2__c"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", "a b", "a,b", "a.b.c", ".a", "1a", "a'", "a)", "é", &"a".repeat(129)] {
            assert!(!is_name(other), "{other}");
        }
    }
}
