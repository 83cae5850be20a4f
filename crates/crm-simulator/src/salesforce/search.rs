//! Search by number, name or address: SOSL and `/parameterizedSearch`. Owns: what a search finds. A
//! phone number is found by its digits as they stand in the field, all of them, or by their
//! beginning and `*`: `4155551212` finds `(415) 555-1212`, not `+1 415 555 1212`. Deleted records
//! are not found. The index is behind as the organisation's configuration says: of a record that
//! changed since, it has the copy from before that change, or none.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Salesforce,
    objects::Kind,
    record::{Millis, Record},
    refusal::SalesforceRefusal,
    rest::body,
    schema::{Field, ObjectSchema, Schema},
    soql::{self, Expression},
    wire::Layout,
};
use crate::{call::ApiCall, reply::VendorReply};

/// Rows of one answer.
const RESULTS_MAX: usize = 2_000;

/// Where a search looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    All,
    Name,
    Email,
    Phone,
}

/// What is wanted of one object.
struct Returning {
    object: String,
    fields: Vec<String>,
    condition: Option<Expression>,
    limit: usize,
}

struct Search {
    words: Words,
    group: Group,
    returning: Vec<Returning>,
    limit: usize,
}

/// The text looked for.
struct Words {
    /// Lower case, each with whether more may follow.
    texts: Vec<(String, bool)>,
    digits: String,
    is_beginning: bool,
}

impl Words {
    fn read(text: &str) -> Result<Self, SalesforceRefusal> {
        let text = text.trim().trim_matches('"');
        let words = text.split_whitespace().map(|word| (word.trim_matches('*').to_lowercase(), word.ends_with('*')));
        let words: Vec<(String, bool)> = words.filter(|(word, _)| !word.is_empty()).collect();
        if words.iter().map(|(word, _)| word.chars().count()).sum::<usize>() < 2 {
            let message = "search term must be longer than one character: ";
            return Err(SalesforceRefusal::bad("MALFORMED_SEARCH", message));
        }
        Ok(Self { texts: words, digits: digits(text), is_beginning: text.ends_with('*') })
    }

    fn finds_phone(&self, phone: &str) -> bool {
        let phone = digits(phone);
        let is_found = if self.is_beginning { phone.starts_with(&self.digits) } else { phone == self.digits };
        is_found && !self.digits.is_empty()
    }

    fn finds_text(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let parts: Vec<&str> = text.split(|part: char| !part.is_alphanumeric() && part != '@' && part != '.').collect();
        self.texts.iter().all(|(word, may_go_on)| {
            parts.iter().any(|part| if *may_go_on { part.starts_with(word.as_str()) } else { part == word })
        })
    }
}

/// The digits of a number, without its extension.
fn digits(phone: &str) -> String {
    let number = phone.split(['x', 'X', '#']).next().unwrap_or_default();
    number.chars().filter(char::is_ascii_digit).collect()
}

impl Salesforce {
    /// `GET /search?q=FIND ..`.
    pub(super) fn search(&self, call: &ApiCall, version: &str) -> Result<VendorReply, SalesforceRefusal> {
        let no_query = || SalesforceRefusal::bad("MALFORMED_SEARCH", "A search string has to be specified");
        let search = read_sosl(call.param("q").ok_or_else(no_query)?)?;
        self.find(&search, version)
    }

    /// `GET` or `POST /parameterizedSearch`.
    pub(super) fn parameterized_search(&self, call: &ApiCall, version: &str) -> Result<VendorReply, SalesforceRefusal> {
        let search = match call.method {
            Method::GET => read_parameters(call)?,
            Method::POST => read_body(&Value::Object(body(call)?))?,
            _ => return Err(SalesforceRefusal::method_not_allowed(call.method.as_str())),
        };
        self.find(&search, version)
    }

    fn find(&self, search: &Search, version: &str) -> Result<VendorReply, SalesforceRefusal> {
        let mut state = self.state();
        state.lift_veils(self.now_millis());
        let lag = Millis::from(self.config.search_lag_seconds) * 1_000;
        let newest = if lag == 0 { Millis::MAX } else { self.now_millis() - lag };
        let mut found: Vec<Value> = Vec::new();
        let everywhere: Vec<Returning>;
        let returning = if search.returning.is_empty() {
            everywhere = searchable(&state.schema).map(|object| Returning::ids_of(object.name())).collect();
            &everywhere
        } else {
            &search.returning
        };
        for wanted in returning {
            let object = state.schema.find(&wanted.object)?;
            let query = soql::bind_search(
                &state.schema,
                object.kind,
                &wanted.fields,
                wanted.condition.clone(),
                self.now_millis(),
            )?;
            let layout = Layout::new(&state.schema, &query, version);
            let room = wanted.limit.min(search.limit - found.len());
            let seen = state.table(object.kind).records().values().filter_map(|record| state.seen(record));
            let seen = seen.filter_map(|record| state.copy_before(record, newest));
            let rows = seen
                .filter(|record| !record.is_deleted && is_found(record, object, search))
                .map(|record| query.row_of(&state, record))
                .filter(|row| query.accepts(&state, row))
                .take(room);
            for row in rows {
                let row = serde_json::to_value(layout.row(&row));
                found.push(row.expect("a row has string keys and no failing Serialize"));
            }
        }
        Ok(VendorReply::json(StatusCode::OK, &json!({"searchRecords": found})))
    }
}

impl Returning {
    fn ids_of(object: &str) -> Self {
        Self { object: object.to_owned(), fields: vec!["Id".to_owned()], condition: None, limit: RESULTS_MAX }
    }
}

/// Where a search looks that names no object.
fn searchable(schema: &Schema) -> impl Iterator<Item = &ObjectSchema> {
    schema.objects().filter(|object| object.kind.is_searchable())
}

fn is_found(record: &Record, object: &ObjectSchema, search: &Search) -> bool {
    let is_meant = |field: &Field| match search.group {
        Group::Phone => field.kind == Kind::Phone,
        Group::Email => field.kind == Kind::Email,
        Group::Name => field.name == "Name",
        Group::All => matches!(field.kind, Kind::Phone | Kind::Email | Kind::Text | Kind::LongText | Kind::Url),
    };
    object.visible_fields().filter(|(_, field)| is_meant(field)).any(|(slot, field)| {
        let value = record.get(object, slot);
        let super::record::FieldValue::Text(text) = value else { return false };
        if field.kind == Kind::Phone { search.words.finds_phone(&text) } else { search.words.finds_text(&text) }
    })
}

fn malformed(message: &str) -> SalesforceRefusal {
    SalesforceRefusal::bad("MALFORMED_SEARCH", message)
}

/// `FIND {..} IN PHONE FIELDS RETURNING Contact(Id, Name WHERE .. LIMIT n), Lead LIMIT n`.
fn read_sosl(text: &str) -> Result<Search, SalesforceRefusal> {
    let rest = keyword(text, "FIND").ok_or_else(|| malformed("unexpected token: FIND is expected"))?;
    let rest = rest.trim_start().strip_prefix('{').ok_or_else(|| malformed("the text to find stands in braces"))?;
    let mut looked_for = String::new();
    let mut characters = rest.char_indices();
    let after = loop {
        match characters.next() {
            Some((at, '}')) => break &rest[at + 1..],
            Some((_, '\\')) => looked_for.extend(characters.next().map(|(_, character)| character)),
            // Reserved characters must be escaped; these two at least cannot be meant otherwise.
            Some((_, '{')) => return Err(malformed("unexpected token: '{'")),
            Some((_, character)) => looked_for.push(character),
            None => return Err(malformed("the text to find is not closed by '}'")),
        }
    };
    let (group, after) = read_group(after)?;
    let (returning, after) = read_returning(after)?;
    let (limit, after) = read_limit(after)?;
    if !after.trim().is_empty() {
        return Err(malformed("unexpected token after the search"));
    }
    Ok(Search { words: Words::read(&looked_for)?, group, returning, limit: limit.unwrap_or(RESULTS_MAX) })
}

fn read_group(text: &str) -> Result<(Group, &str), SalesforceRefusal> {
    let Some(rest) = keyword(text, "IN") else { return Ok((Group::All, text)) };
    let rest = rest.trim_start();
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let group = group_of(name)?;
    let rest = keyword(rest, "FIELDS").ok_or_else(|| malformed("unexpected token: FIELDS is expected"))?;
    Ok((group, rest))
}

fn group_of(name: &str) -> Result<Group, SalesforceRefusal> {
    match name.to_ascii_uppercase().as_str() {
        "ALL" | "SIDEBAR" => Ok(Group::All),
        "NAME" => Ok(Group::Name),
        "EMAIL" => Ok(Group::Email),
        "PHONE" => Ok(Group::Phone),
        _ => Err(malformed("the fields to search are ALL, NAME, EMAIL, PHONE or SIDEBAR")),
    }
}

fn read_returning(text: &str) -> Result<(Vec<Returning>, &str), SalesforceRefusal> {
    let Some(mut rest) = keyword(text, "RETURNING") else { return Ok((Vec::new(), text)) };
    let mut returning = Vec::new();
    loop {
        rest = rest.trim_start();
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        let (object, after) = rest.split_at(end);
        rest = after.trim_start();
        if let Some(inside) = rest.strip_prefix('(') {
            let end = closing(inside).ok_or_else(|| malformed("a parenthesis is not closed"))?;
            returning.push(read_inside(object, &inside[..end])?);
            rest = inside[end + 1..].trim_start();
        } else {
            returning.push(Returning::ids_of(object));
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok((returning, rest)),
        }
    }
}

/// `Id, Name WHERE .. LIMIT n`.
fn read_inside(object: &str, text: &str) -> Result<Returning, SalesforceRefusal> {
    let (text, limit) = match find_keyword(text, "LIMIT") {
        Some(at) => (&text[..at], read_limit(&text[at..])?.0),
        None => (text, None),
    };
    let (fields, condition) = match find_keyword(text, "WHERE") {
        Some(at) => (&text[..at], Some(soql::parse_condition_of_search(&text[at + "WHERE".len()..])?)),
        None => (text, None),
    };
    let fields = fields.split(',').map(|field| field.trim().to_owned()).collect();
    Ok(Returning { object: object.to_owned(), fields, condition, limit: limit.unwrap_or(RESULTS_MAX) })
}

fn read_limit(text: &str) -> Result<(Option<usize>, &str), SalesforceRefusal> {
    let Some(rest) = keyword(text, "LIMIT") else { return Ok((None, text)) };
    let rest = rest.trim_start();
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let limit: usize = rest[..end].parse().map_err(|_| malformed("a limit is a number"))?;
    Ok((Some(limit.min(RESULTS_MAX)), &rest[end..]))
}

/// What follows a keyword at the beginning of a text.
fn keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let head = text.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword))?;
    let rest = &text[head.len()..];
    let is_whole = !rest.starts_with(|character: char| character.is_alphanumeric());
    is_whole.then_some(rest)
}

/// Where a keyword stands, outside of strings.
fn find_keyword(text: &str, keyword: &str) -> Option<usize> {
    let mut is_string = false;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character == '\'' && before != '\\' {
            is_string = !is_string;
        }
        if !is_string && before.is_whitespace() && self::keyword(&text[at..], keyword).is_some() && character != ' ' {
            return Some(at);
        }
        before = character;
    }
    None
}

/// Where the parenthesis that is open closes, outside of strings.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_string, mut before) = (0_usize, false, ' ');
    for (at, character) in text.char_indices() {
        match character {
            '\'' if before != '\\' => is_string = !is_string,
            '(' if !is_string => depth += 1,
            ')' if !is_string && depth == 0 => return Some(at),
            ')' if !is_string => depth -= 1,
            _ => {}
        }
        before = character;
    }
    None
}

/// `?q=..&in=PHONE&sobject=Contact&Contact.fields=Id,Name&fields=Id`.
fn read_parameters(call: &ApiCall) -> Result<Search, SalesforceRefusal> {
    let words = Words::read(call.param("q").unwrap_or_default())?;
    let group = call.param("in").map_or(Ok(Group::All), group_of)?;
    let returning = call.list_param("sobject").into_iter().map(|object| {
        let own = call.list_param(&format!("{object}.fields"));
        let fields = if own.is_empty() { call.list_param("fields") } else { own };
        let condition = call.param(&format!("{object}.where")).map(soql::parse_condition_of_search).transpose()?;
        let limit = call.param(&format!("{object}.limit")).and_then(|limit| limit.parse().ok());
        Ok(returning_of(object, &fields, condition, limit))
    });
    let limit = call.param("overallLimit").and_then(|limit| limit.parse().ok()).unwrap_or(RESULTS_MAX);
    Ok(Search {
        words,
        group,
        returning: returning.collect::<Result<_, SalesforceRefusal>>()?,
        limit: limit.min(RESULTS_MAX),
    })
}

/// `{"q": .., "in": "PHONE", "fields": [..], "sobjects": [{"name": .., "fields": [..], "where":
/// ..}]}`.
fn read_body(input: &Value) -> Result<Search, SalesforceRefusal> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let common = texts(&input["fields"]);
    let returning = input["sobjects"].as_array().into_iter().flatten().map(|wanted| {
        let own = texts(&wanted["fields"]);
        let fields: Vec<&str> = if own.is_empty() { &common } else { &own }.iter().map(String::as_str).collect();
        let condition = wanted["where"].as_str().map(soql::parse_condition_of_search).transpose()?;
        Ok(returning_of(wanted["name"].as_str().unwrap_or_default(), &fields, condition, number(&wanted["limit"])))
    });
    Ok(Search {
        words: Words::read(input["q"].as_str().unwrap_or_default())?,
        group: input["in"].as_str().map_or(Ok(Group::All), group_of)?,
        returning: returning.collect::<Result<_, SalesforceRefusal>>()?,
        limit: number(&input["overallLimit"]).unwrap_or(RESULTS_MAX).min(RESULTS_MAX),
    })
}

fn returning_of(object: &str, fields: &[&str], condition: Option<Expression>, limit: Option<usize>) -> Returning {
    let mut returning = Returning { condition, ..Returning::ids_of(object) };
    if !fields.is_empty() {
        returning.fields = fields.iter().map(|field| (*field).to_owned()).collect();
    }
    returning.limit = limit.unwrap_or(RESULTS_MAX).min(RESULTS_MAX);
    returning
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sosl_is_read_with_conditions_and_limits() {
        let returning = "Contact(Id, Name WHERE Name != 'a)b' LIMIT 3), Lead LIMIT 9";
        let text = format!(r"FIND {{\+1 \(415\) 555}} IN PHONE FIELDS RETURNING {returning}");

        let search = read_sosl(&text).unwrap();

        assert_eq!(search.words.digits, "1415555");
        assert!(search.group == Group::Phone && search.limit == 9);
        assert_eq!(search.returning[0].fields, ["Id", "Name"]);
        assert!(search.returning[0].condition.is_some() && search.returning[0].limit == 3);
        assert_eq!((search.returning[1].object.as_str(), search.returning.len()), ("Lead", 2));
    }

    /// A number is found by all its digits, or by their beginning.
    #[test]
    fn number_is_found_whole_or_by_its_beginning() {
        let finds = |text: &str, phone: &str| Words::read(text).unwrap().finds_phone(phone);

        assert!(finds("4155551212", "(415) 555-1212 x7"));
        assert!(!finds("4155551212", "+1 415 555 1212"));
        assert!(!finds("5551212", "(415) 555-1212"));
        assert!(finds("415555*", "(415) 555-1212"));
        assert!(!finds("ann doe", "(415) 555-1212"));
    }

    #[test]
    fn mistakes_are_malformed_searches() {
        for text in [
            "",
            "FIND x",
            "FIND {x",
            "FIND {x}",
            "FIND {ab} IN SHOE FIELDS",
            "FIND {ab} RETURNING Contact(Id",
            "FIND {ab} x",
        ] {
            assert_eq!(read_sosl(text).err().map(|refusal| refusal.code), Some("MALFORMED_SEARCH"), "{text}");
        }
    }
}
