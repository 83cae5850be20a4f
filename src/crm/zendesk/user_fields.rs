//! Custom fields of users. Zendesk has no type of field for phone numbers: an administrator says
//! which of those with text hold some. Source: Zendesk developer documentation, "User Fields".

use std::sync::atomic::Ordering;

use super::client::{ZendeskClient, page_after};
use crate::{
    crm::{
        CrmError, TextField, http,
        json::{self, BodyText, JsonFields},
    },
    domain::notice::Notice,
};

/// Fields in a page: Zendesk's maximum ..
const FIELDS_PER_PAGE: usize = 100;
/// .. and pages of them.
const PAGES_MAX: usize = 5;
/// Longest title that is shown, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Keys that a refusal names.
const NAMED_MAX: usize = 30;
/// Types whose values are texts of one line.
const TEXT_TYPES: [&str; 2] = ["text", "regexp"];

const NO_FIELDS: CrmError = CrmError::Unreadable("it is not the JSON of user fields that Zendesk documents");

impl ZendeskClient {
    /// The fields that may hold numbers. An error: one that is said to hold some is not among them.
    /// Where none is, it is no harm that they cannot be listed.
    pub(super) async fn check_fields(&self) -> Result<Vec<TextField>, CrmError> {
        let wished = &self.mapping.phone_fields;
        let known = match self.text_fields().await {
            Err(_) if wished.is_empty() => return Ok(Vec::new()),
            known => known?,
        };
        match wished.iter().find(|key| !is_among(key, &known)) {
            Some(key) => Err(CrmError::FieldUnknown { wished: key.clone(), known: named(&known) }),
            None => Ok(known),
        }
    }

    /// What to tell, once, of fields that are not there any more. A list that does not come tells
    /// nothing.
    pub(super) async fn missing_fields(&self) -> Vec<Notice> {
        let wished = &self.mapping.phone_fields;
        if wished.is_empty() || self.has_checked_fields.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let Ok(known) = self.text_fields().await else { return Vec::new() };
        let missing = wished.iter().filter(|key| !is_among(key, &known));
        missing
            .map(|key| {
                Notice::new(
                    "FIELD_HIDDEN",
                    format!("users have no active text field {key} any more, and no numbers come of it; change the integration's options"),
                )
            })
            .collect()
    }

    async fn text_fields(&self) -> Result<Vec<TextField>, CrmError> {
        let (mut fields, mut after) = (Vec::new(), None::<String>);
        let size = FIELDS_PER_PAGE.to_string();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("page[size]", size.as_str())];
            query.extend(after.as_deref().map(|after| ("page[after]", after)));
            let (body, _) = self.ask("/api/v2/user_fields", &query, http::SMALL_BODY_BYTES_MAX).await?;
            let page = BodyText::json(body)?;
            fields.extend(fields_of(&page)?);
            let next = page_after(&page);
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        Ok(fields)
    }
}

fn is_among(key: &str, known: &[TextField]) -> bool {
    known.iter().any(|field| field.key == key)
}

fn named(known: &[TextField]) -> String {
    let keys: Vec<&str> = known.iter().take(NAMED_MAX).map(|field| field.key.as_str()).collect();
    match (keys.is_empty(), known.len() - keys.len()) {
        (true, _) => "there is none".to_owned(),
        (false, 0) => format!("there are: {}", keys.join(", ")),
        (false, more) => format!("there are: {}, and {more} more", keys.join(", ")),
    }
}

/// Active fields with text. One that cannot be read is none.
fn fields_of(body: &BodyText) -> Result<Vec<TextField>, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &["user_fields"])).ok_or(NO_FIELDS)?;
    let mut fields = Vec::new();
    let is_whole = json::each(page.list("user_fields").ok_or(NO_FIELDS)?, PAGES_MAX * FIELDS_PER_PAGE, |row| {
        let Some(row) = JsonFields::of(row, &["key", "type", "title", "active"]) else { return };
        let text = |name| row.cell(name).text().ok().flatten().unwrap_or_default();
        let is_active = row.cell("active").flag() != Ok(Some(false));
        let key = text("key");
        if is_active && TEXT_TYPES.contains(&text("type").as_str()) && !key.is_empty() {
            let title = text("title");
            let shown = title.chars().take(TITLE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c });
            fields.push(TextField { key, title: shown.collect() });
        }
    });
    if is_whole { Ok(fields) } else { Err(NO_FIELDS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what is active and holds text may hold numbers.
    #[test]
    fn active_fields_with_text_count() {
        let body = br#"{"user_fields":[
            {"key":"mobile_2","type":"text","title":"Second\u0009mobile","active":true,"surprise":1},
            {"key":"desk","type":"regexp","title":null},
            {"key":"old","type":"text","title":"Old","active":false},
            {"key":"vip","type":"checkbox","title":"VIP","active":true},
            {"type":"text","title":"Keyless"},null,7],"meta":{"has_more":false}}"#;

        let fields = fields_of(&BodyText::json(body.to_vec()).unwrap()).unwrap();

        let field = |key: &str, title: &str| TextField { key: key.to_owned(), title: title.to_owned() };
        assert_eq!(fields, [field("mobile_2", "Second mobile"), field("desk", "")]);
        assert_eq!(named(&fields), "there are: mobile_2, desk");
        assert_eq!(named(&[]), "there is none");
        let many: Vec<TextField> = (0..32).map(|n| field(&format!("f{n}"), "")).collect();
        assert!(named(&many).ends_with("f29, and 2 more"), "{}", named(&many));
    }
}
