//! Records by a phone number. The index is behind by minutes, and compares digits as they stand in
//! a field: the number is looked for with its country code, without it, and as it is written at
//! home, where that has a 0 before it.

use futures_util::future::try_join_all;
use phone_key::PhoneKey;

use super::{
    client::SalesforceClient,
    map,
    model::{FOUND, NO_JSON},
};
use crate::{
    crm::{
        CrmError, FOUND_MAX,
        json::{self, BodyText, JsonCell, JsonFields},
    },
    domain::{
        provider::Provider,
        record::{ObjectType, RecordKey},
    },
};

impl SalesforceClient {
    /// Those of the kinds that are copied, each once.
    pub(super) async fn search(&self, key: PhoneKey) -> Result<Vec<RecordKey>, CrmError> {
        let mut forms = vec![key.as_i64().to_string(), key.national_digits(), key.home_digits()];
        forms.sort_unstable();
        forms.dedup();
        let mut found = try_join_all(forms.iter().map(|digits| self.search_digits(digits))).await?.concat();
        found.sort_unstable();
        found.dedup();
        found.truncate(FOUND_MAX);
        Ok(found)
    }

    async fn search_digits(&self, digits: &str) -> Result<Vec<RecordKey>, CrmError> {
        let copied = self.options.copied(Provider::Salesforce);
        let limit = FOUND_MAX.to_string();
        let mut query = vec![("q", digits), ("in", "PHONE"), ("fields", "Id"), ("overallLimit", limit.as_str())];
        query.extend(copied.iter().map(|object| ("sobject", object.as_str())));
        let body = self.rest.get("/parameterizedSearch", &query).await?.text().await?;
        json::off_thread(move || found(&body, &copied)).await
    }
}

/// The records of an answer that are of these kinds.
fn found(body: &BodyText, copied: &[ObjectType]) -> Result<Vec<RecordKey>, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &FOUND)).ok_or(NO_JSON)?;
    let mut keys = Vec::new();
    // More than were asked for are left.
    json::each(page.list("searchRecords").ok_or(NO_JSON)?, FOUND_MAX, |row| {
        let Some(row) = JsonFields::of(row, &["attributes", "Id"]) else { return };
        let JsonCell::Object(attributes) = row.cell("attributes") else { return };
        let Some(attributes) = JsonFields::of(attributes, &["type"]) else { return };
        let text = |cell: JsonCell<'_>| cell.text().ok().flatten();
        let kind = text(attributes.cell("type")).and_then(|kind| copied.iter().find(|known| known.as_str() == kind));
        keys.extend(kind.and_then(|kind| map::key(*kind, &text(row.cell("Id"))?)));
    });
    Ok(keys)
}
