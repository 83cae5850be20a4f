//! Search as far as callers are looked up with it: `phone:*digits`, `email:`, `name:`, `role:`,
//! `external_id:` and free words. The index is behind as the account's configuration says: it has
//! the copy of a user from before a later change, or none. Results end at the thousandth. A search
//! reads every user: it is not for large accounts.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Zendesk,
    export::identities_json,
    lists::{numbered_envelope, size_of, user_json},
    refusal::ZendeskRefusal,
    state::State,
    user::{EMAIL, MICROS, Role, Stamp, User, UserJson},
};
use crate::{call::ApiCall, reply::VendorReply};

const RESULTS_MAX: usize = 1_000;
/// Longest query read, bytes.
const QUERY_BYTES_MAX: usize = 4_096;

/// One condition of a query; all must hold.
enum Term {
    Phone {
        digits: String,
        any_before: bool,
        any_after: bool,
    },
    Email(String),
    Name(String),
    Role(Role),
    ExternalId(String),
    Suspended(bool),
    Word(String),
    /// What no user can be: `type:ticket`.
    Nothing,
}

impl Term {
    fn read(text: &str) -> Option<Self> {
        let Some((key, value)) = text.split_once(':') else {
            let word = text.trim_matches('*').to_lowercase();
            return (!word.is_empty()).then_some(Self::Word(word));
        };
        let term = match key {
            "phone" => Self::Phone {
                digits: value.chars().filter(char::is_ascii_digit).collect(),
                any_before: value.starts_with('*'),
                any_after: value.ends_with('*'),
            },
            "email" => Self::Email(value.trim_matches('*').to_lowercase()),
            "name" | "user" => Self::Name(value.trim_matches('*').to_lowercase()),
            "role" => Role::parse(value).map_or(Self::Nothing, Self::Role),
            "external_id" => Self::ExternalId(value.to_lowercase()),
            "is" if value == "suspended" => Self::Suspended(true),
            "suspended" => Self::Suspended(value == "true"),
            "type" if value == "user" => return None,
            _ => Self::Nothing,
        };
        Some(term)
    }

    fn holds(&self, user: &User) -> bool {
        match self {
            Self::Phone { digits, any_before, any_after } => {
                !digits.is_empty()
                    && user.numbers().any(|number| number_matches(number, digits, *any_before, *any_after))
            }
            Self::Email(email) => user.identity_values(EMAIL).any(|value| value.to_lowercase().contains(email)),
            Self::Name(name) => user.name.to_lowercase().contains(name),
            Self::Role(role) => user.role == *role,
            Self::ExternalId(wanted) => user.external_id.as_ref().is_some_and(|id| id.to_lowercase() == *wanted),
            Self::Suspended(wanted) => user.is_suspended == *wanted,
            Self::Word(word) => {
                user.name.to_lowercase().contains(word)
                    || user.identity_values(EMAIL).any(|value| value.to_lowercase().contains(word))
                    || user.numbers().any(|number| number.contains(word.as_str()))
            }
            Self::Nothing => false,
        }
    }
}

fn number_matches(number: &str, digits: &str, any_before: bool, any_after: bool) -> bool {
    let number: String = number.chars().filter(char::is_ascii_digit).collect();
    match (any_before, any_after) {
        (true, true) => number.contains(digits),
        (true, false) => number.ends_with(digits),
        (false, true) => number.starts_with(digits),
        (false, false) => number == digits,
    }
}

/// The terms of a query: words apart, but for what stands in quotation marks.
fn read_query(query: &str) -> Vec<Term> {
    let mut texts = vec![String::new()];
    let mut is_quoted = false;
    for letter in query.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            letter if letter.is_whitespace() && !is_quoted => texts.push(String::new()),
            letter => texts.last_mut().expect("never empty").push(letter),
        }
    }
    texts.iter().filter(|text| !text.is_empty()).filter_map(|text| Term::read(text)).collect()
}

impl Zendesk {
    /// `GET /api/v2/search`: results of several types in one list; here users only.
    pub(super) fn search_all(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let is_for_users = call.param("filter[type]").is_none_or(|kind| kind == "user");
        let state = self.state();
        let found = if is_for_users { find_matches(self.indexed(&state), call)? } else { Vec::new() };
        let shape = |user| UserJson { user, base_url: &call.base_url, is_search_result: true };
        let mut body = search_page(call, "results", &found, shape)?;
        body["facets"] = Value::Null;
        Ok(VendorReply::json(StatusCode::OK, &body))
    }

    /// `GET /api/v2/search/count`.
    pub(super) fn search_count(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let found = find_matches(self.indexed(&state), call)?;
        Ok(VendorReply::json(StatusCode::OK, &json!({"count": found.len()})))
    }

    /// `GET /api/v2/users/search`.
    pub(super) fn search_users(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let found = match call.param("external_id") {
            Some(external_id) => {
                state.external_id_owner(external_id).and_then(|id| state.find(id)).into_iter().collect()
            }
            None => find_matches(self.indexed(&state), call)?,
        };
        let mut body = search_page(call, "users", &found, |user| user_json(user, call))?;
        if let Some(identities) = identities_json(&found, call).filter(|_| self.config.quirks.sideloads_of_search) {
            body["identities"] = serde_json::to_value(identities).expect("our shapes have string keys");
        }
        Ok(VendorReply::json(StatusCode::OK, &body))
    }

    /// Users as the index has them.
    fn indexed<'s>(&self, state: &'s State) -> impl Iterator<Item = &'s User> {
        let lag = i64::from(self.config.search_lag_seconds) * MICROS;
        // Without a lag there is no bound: stamps may run a little ahead of a clock that stands
        // still.
        let newest = if lag == 0 { Stamp::MAX } else { self.now().timestamp_micros() - lag };
        let is_known = move |user: &&User| user.updated_at <= newest;
        let before = move |user: &'s User| state.previous_copy(Some(user.id)).filter(is_known);
        state.users().values().filter_map(move |user| Some(user).filter(is_known).or_else(|| before(user)))
    }
}

fn find_matches<'u>(users: impl Iterator<Item = &'u User>, call: &ApiCall) -> Result<Vec<&'u User>, ZendeskRefusal> {
    let query = call.param("query").filter(|query| query.len() <= QUERY_BYTES_MAX);
    let query = query.ok_or(ZendeskRefusal::BadRequest { code: "InvalidValue", description: "query is required" })?;
    let terms = read_query(query);
    Ok(users.filter(|user| user.is_active && terms.iter().all(|term| term.holds(user))).collect())
}

fn search_page<'u>(
    call: &ApiCall,
    key: &str,
    found: &[&'u User],
    shape: impl Fn(&'u User) -> UserJson<'u>,
) -> Result<Value, ZendeskRefusal> {
    let size = size_of(call, "per_page")?;
    let number = call.param("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1);
    let first = number.saturating_sub(1).saturating_mul(size);
    if first >= RESULTS_MAX {
        return Err(ZendeskRefusal::SearchTooDeep);
    }
    let last = found.len().min(RESULTS_MAX);
    let items: Vec<Value> = found[first.min(last)..(first + size).min(last)]
        .iter()
        .map(|user| serde_json::to_value(shape(user)).expect("our shapes have string keys"))
        .collect();
    let mut body = numbered_envelope(call, number, size, found.len());
    body.insert(key.to_owned(), Value::Array(items));
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_match_whole_or_by_star() {
        assert!(number_matches("(310)-867-5309", "3108675309", false, false));
        assert!(number_matches("+1 310 867 5309", "3108675309", true, false));
        assert!(!number_matches("+1 310 867 5309", "3108675309", false, false));
        assert!(number_matches("+1 310", "13", false, true));
    }

    #[test]
    fn quotes_keep_words_together() {
        let terms = read_query("role:end-user name:\"Ann Doe\"  type:user");

        assert_eq!(terms.len(), 2);
        assert!(matches!(&terms[1], Term::Name(name) if name == "ann doe"));
    }
}
