//! Persons by a phone number. The index is behind by a moment, and compares letters: a number is
//! found as it was typed, so that it is looked for without its country code.

use phone_key::PhoneKey;

use super::{
    client::PipedriveClient,
    map::{self, NO_PAGE},
    model::PAGE,
};
use crate::{
    crm::{
        CrmError, FOUND_MAX,
        json::{self, BodyText, JsonCell, JsonFields},
    },
    domain::record::RecordKey,
};

impl PipedriveClient {
    /// Those who have the number.
    pub(super) async fn search(&self, key: PhoneKey) -> Result<Vec<RecordKey>, CrmError> {
        if !self.is_copied {
            return Ok(Vec::new());
        }
        let (term, limit) = (key.national_digits(), FOUND_MAX.to_string());
        let query = [("term", term.as_str()), ("fields", "phone,custom_fields"), ("limit", &limit)];
        let (body, _) = self.get_text("/api/v2/persons/search", &query).await?;
        json::off_thread(move || found(&body)).await
    }
}

/// The persons of an answer.
fn found(body: &BodyText) -> Result<Vec<RecordKey>, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
    let JsonCell::Object(data) = page.cell("data") else { return Err(NO_PAGE) };
    let data = JsonFields::of(data, &["items"]).ok_or(NO_PAGE)?;
    let mut keys = Vec::new();
    // More than were asked for are left.
    json::each(data.list("items").ok_or(NO_PAGE)?, FOUND_MAX, |row| {
        let Some(row) = JsonFields::of(row, &["item"]) else { return };
        let JsonCell::Object(person) = row.cell("item") else { return };
        let id = JsonFields::of(person, &["id"]).and_then(|person| person.cell("id").id());
        keys.extend(id.map(map::key));
    });
    Ok(keys)
}
