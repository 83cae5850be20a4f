//! The company's own phone fields of persons. Persons have their values under codes that say
//! nothing; which of them are phones is in the description of persons, asked for once in a client's
//! life, and only if a person has such values.

use std::sync::Arc;

use super::{
    client::PipedriveClient,
    map::{self, NO_PAGE, PersonsPage},
    model::PhoneField,
    organizations::LeftOut,
};
use crate::{
    crm::{
        CrmError, PageEffort,
        json::{self, BodyText, JsonFields},
    },
    domain::notice::Notice,
};

/// Own phone fields that are taken, as of one object of Salesforce.
pub(super) const CUSTOM_PHONES_MAX: usize = 16;
/// Fields in a page: Pipedrive's maximum ..
const FIELDS_PER_PAGE: usize = 500;
/// .. and pages of them.
const PAGES_MAX: usize = 4;
/// Longest code of a field in bytes; Pipedrive's have 40.
const CODE_BYTES_MAX: usize = 128;

const FIELDS_LEFT_OUT: Notice = Notice::fixed(
    "FIELDS_LEFT_OUT",
    "persons have more than 16 custom phone fields; numbers in the others are not copied",
);
const FIELDS_HIDDEN: Notice = Notice::fixed(
    "FIELD_HIDDEN",
    "the token may not read which fields persons have: numbers in the company's own phone fields are not copied; give it the scope contacts:read, or bring an administrator's token",
);
const FIELDS_LEFT: Notice = Notice::fixed(
    "FIELDS_LEFT",
    "Pipedrive did not tell which fields persons have: numbers in the company's own phone fields are left out; the next full read brings them",
);

/// How an answer with persons is read.
pub(super) type PersonsReader = fn(&BodyText, &[PhoneField]) -> Result<PersonsPage, CrmError>;

impl PipedriveClient {
    /// Reads persons with the numbers in their company's own fields.
    pub(super) async fn persons_of(
        &self,
        body: BodyText,
        read: PersonsReader,
        effort: PageEffort,
        left_out: &mut LeftOut,
    ) -> Result<PersonsPage, CrmError> {
        let known = self.phone_fields.get().cloned();
        let is_known = known.is_some();
        let fields = known.unwrap_or_default();
        let reading = move || Ok((read(&body, &fields)?, body));
        let (page, body) = json::off_thread(reading).await?;
        if is_known || !page.has_custom_fields {
            return Ok(page);
        }
        let fields = self.find_phone_fields(effort, left_out).await?;
        if fields.is_empty() { Ok(page) } else { json::off_thread(move || read(&body, &fields)).await }
    }

    async fn find_phone_fields(
        &self,
        effort: PageEffort,
        left_out: &mut LeftOut,
    ) -> Result<Arc<[PhoneField]>, CrmError> {
        let notices = &mut left_out.notices;
        let asked = self.phone_fields.get_or_try_init(|| async move {
            match self.list_phone_fields(notices).await {
                Err(CrmError::PermissionMissing(_)) => {
                    notices.push(FIELDS_HIDDEN);
                    Ok(Arc::default())
                }
                fields => fields,
            }
        });
        match asked.await {
            // As with names of organizations: only at last are they left.
            Err(error) if effort == PageEffort::Essential && error.is_local() => {
                left_out.is_partial = true;
                left_out.notices.push(FIELDS_LEFT);
                Ok(Arc::default())
            }
            fields => fields.cloned(),
        }
    }

    async fn list_phone_fields(&self, notices: &mut Vec<Notice>) -> Result<Arc<[PhoneField]>, CrmError> {
        let (mut fields, mut cursor) = (Vec::new(), None::<String>);
        let limit = FIELDS_PER_PAGE.to_string();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("limit", limit.as_str())];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (body, _) = self.get_text("/api/v2/personFields", &query).await?;
            let (some, next) = json::off_thread(move || phone_fields(&body)).await?;
            fields.extend(some);
            if next.is_none() || next == cursor {
                break;
            }
            cursor = next;
        }
        if fields.len() > CUSTOM_PHONES_MAX {
            fields.truncate(CUSTOM_PHONES_MAX);
            notices.push(FIELDS_LEFT_OUT);
        }
        Ok(fields.into())
    }
}

/// The own phone fields of a page of the description, and where it goes on. A field that cannot be
/// read is none.
fn phone_fields(body: &BodyText) -> Result<(Vec<PhoneField>, Option<String>), CrmError> {
    let (page, next) = map::page_of_list(body)?;
    let mut fields = Vec::new();
    let is_whole = json::each(page.list("data").ok_or(NO_PAGE)?, 2 * FIELDS_PER_PAGE, |row| {
        let Some(row) = JsonFields::of(row, &["field_code", "field_name", "field_type", "is_custom_field"]) else {
            return;
        };
        let text = |name| row.cell(name).text().ok().flatten().unwrap_or_default();
        let is_own = row.cell("is_custom_field").flag() == Ok(Some(true));
        let code = text("field_code");
        if is_own && text("field_type") == "phone" && (1..=CODE_BYTES_MAX).contains(&code.len()) {
            fields.push(PhoneField { code, name: text("field_name") });
        }
    });
    if is_whole { Ok((fields, next)) } else { Err(CrmError::Unreadable("it has more fields than were asked for")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what is a phone by its type, and the company's own, counts.
    #[test]
    fn own_fields_of_type_phone_count() {
        let body = br#"{"success":true,"data":[
            {"field_name":"Phone","field_code":"phone","field_type":"phone","is_custom_field":false},
            {"field_name":"Desk","field_code":"a1","field_type":"phone","is_custom_field":true,"surprise":1},
            {"field_name":"Notes","field_code":"a2","field_type":"text","is_custom_field":true},
            {"field_name":null,"field_code":"a3","field_type":"phone","is_custom_field":true},
            {"field_name":"Codeless","field_type":"phone","is_custom_field":true},null,7],
            "additional_data":{"next_cursor":"abc"}}"#;

        let (fields, next) = phone_fields(&BodyText::json(body.to_vec()).unwrap()).unwrap();

        let field = |code: &str, name: &str| PhoneField { code: code.to_owned(), name: name.to_owned() };
        assert_eq!(fields, [field("a1", "Desk"), field("a3", "")]);
        assert_eq!(next.as_deref(), Some("abc"));
    }
}
