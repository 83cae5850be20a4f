//! A list of persons as it was asked for: order, window, filters, place. Owns: cursors and
//! parameters. A cursor stands between two rows of the order it was made for, so that a page costs
//! its own length, however many persons there are: only a filter that few persons pass makes a page
//! read more.

use std::ops::Bound;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    input::parse_time,
    person::{INCLUDABLE_FIELDS, Person, Shown, Stamp, wire_time},
    refusal::PipedriveRefusal,
    state::State,
};
use crate::call::ApiCall;

/// Rows of a page unless asked otherwise, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;
/// Ids in one `ids` list.
const IDS_MAX: usize = 100;
/// Keys in one `custom_fields` list.
const CUSTOM_FIELDS_MAX: usize = 15;
/// Changes within a window up to which they are sorted for each page by id; a fuller window is met
/// often enough by reading all persons in order.
const WINDOW_SORTED_MAX: usize = 20_000;

const BAD_CURSOR: PipedriveRefusal = PipedriveRefusal::Invalid { field: "cursor", problem: "is invalid" };

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SortBy {
    Id,
    UpdateTime,
    AddTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    Asc,
    Desc,
}

/// A place in a list's order, after the row with this value and id: in JSON, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cursor {
    field: SortBy,
    field_value: Value,
    sort_direction: Direction,
    id: i64,
    /// Makes a cursor differ from one at the same place; zero is not written.
    #[serde(default, skip_serializing_if = "is_zero")]
    turn: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(turn: &u32) -> bool {
    *turn == 0
}

impl Cursor {
    /// The place after `id` in a list by id.
    pub(super) fn after_id(id: i64) -> Self {
        Self { field: SortBy::Id, field_value: json!(id), sort_direction: Direction::Asc, id, turn: 0 }
    }

    /// The id of a cursor in a list by id.
    pub(super) fn read_id(call: &ApiCall) -> Result<i64, PipedriveRefusal> {
        let Some(text) = call.param("cursor") else { return Ok(0) };
        Self::decode(text).filter(|cursor| cursor.field == SortBy::Id).map(|cursor| cursor.id).ok_or(BAD_CURSOR)
    }

    pub(super) fn encode(&self) -> String {
        STANDARD_NO_PAD.encode(serde_json::to_vec(self).expect("string keys"))
    }

    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?).ok()
    }
}

/// A key of any order: the sorted value, then the id. By id both are the id.
pub(super) type Key = (i64, i64);

/// A list as it was asked for.
pub(super) struct Listing<'a> {
    sort_by: SortBy,
    direction: Direction,
    pub(super) limit: usize,
    pub(super) after: Option<Key>,
    pub(super) turn: u32,
    since: Stamp,
    until: Option<Stamp>,
    has_window: bool,
    owner_id: Option<i64>,
    org_id: Option<i64>,
    ids: Option<Vec<i64>>,
    pub(super) shown: Shown<'a>,
}

impl<'a> Listing<'a> {
    pub(super) fn read(call: &'a ApiCall) -> Result<Self, PipedriveRefusal> {
        for (field, problem) in [("filter_id", "names no filter"), ("deal_id", "names no deal")] {
            if call.param(field).is_some() {
                return Err(PipedriveRefusal::Invalid { field, problem });
            }
        }
        let sort_by = match call.param("sort_by") {
            None | Some("id") => SortBy::Id,
            Some("update_time") => SortBy::UpdateTime,
            Some("add_time") => SortBy::AddTime,
            Some(_) => {
                return Err(PipedriveRefusal::Invalid {
                    field: "sort_by",
                    problem: "must be id, update_time or add_time",
                });
            }
        };
        let direction = match call.param("sort_direction") {
            None | Some("asc") => Direction::Asc,
            Some("desc") => Direction::Desc,
            Some(_) => {
                return Err(PipedriveRefusal::Invalid { field: "sort_direction", problem: "must be asc or desc" });
            }
        };
        let (since, until) = (read_time(call, "updated_since")?, read_time(call, "updated_until")?);
        let mut listing = Self {
            sort_by,
            direction,
            limit: limit_of(call)?,
            after: None,
            turn: 0,
            since: since.unwrap_or(0),
            until,
            has_window: since.is_some() || until.is_some(),
            owner_id: read_id(call, "owner_id")?,
            org_id: read_id(call, "org_id")?,
            ids: read_ids(call)?,
            shown: read_shown(call)?,
        };
        if let Some(text) = call.param("cursor") {
            listing.place(&Cursor::decode(text).ok_or(BAD_CURSOR)?)?;
        }
        Ok(listing)
    }

    fn place(&mut self, cursor: &Cursor) -> Result<(), PipedriveRefusal> {
        if cursor.field != self.sort_by || cursor.sort_direction != self.direction {
            return Err(BAD_CURSOR);
        }
        let value = match self.sort_by {
            SortBy::Id => cursor.field_value.as_i64(),
            SortBy::UpdateTime | SortBy::AddTime => cursor.field_value.as_str().and_then(parse_time),
        };
        self.after = Some((value.ok_or(BAD_CURSOR)?, cursor.id));
        self.turn = cursor.turn;
        Ok(())
    }

    pub(super) fn cursor(&self, (value, id): Key, turn: u32) -> Cursor {
        let field_value = match self.sort_by {
            SortBy::Id => json!(value),
            SortBy::UpdateTime | SortBy::AddTime => json!(wire_time(value)),
        };
        Cursor { field: self.sort_by, field_value, sort_direction: self.direction, id, turn }
    }

    pub(super) fn key(&self, person: &Person) -> Key {
        match self.sort_by {
            SortBy::Id => (person.id, person.id),
            SortBy::UpdateTime => person.update_key(),
            SortBy::AddTime => (person.add_time, person.id),
        }
    }

    /// The place before the first row of all.
    pub(super) fn beginning(&self) -> Key {
        match self.direction {
            Direction::Asc => (0, 0),
            Direction::Desc => (parse_time("9999-12-31T23:59:59Z").unwrap_or(i64::MAX), i64::MAX),
        }
    }

    fn is_in_window(&self, stamp: Stamp) -> bool {
        self.since <= stamp && self.until.is_none_or(|until| stamp < until)
    }

    fn wants(&self, person: &Person, lists_deleted: bool) -> bool {
        !person.is_hidden
            && (lists_deleted || !person.is_deleted())
            && self.is_in_window(person.update_time)
            && self.owner_id.is_none_or(|id| person.owner_id == id)
            && self.org_id.is_none_or(|id| person.org_id == Some(id))
    }

    /// The rows after the cursor, at most one more than the page holds.
    pub(super) fn rows<'s>(&self, state: &'s State, lists_deleted: bool) -> Vec<&'s Person> {
        let wanted = |id: i64| state.find(id).filter(|person| self.wants(person, lists_deleted));
        let count = self.limit + 1;
        if let Some(ids) = &self.ids {
            let mut rows: Vec<_> = ids.iter().filter_map(|id| wanted(*id)).collect();
            rows.sort_by_key(|person| self.key(person));
            if self.direction == Direction::Desc {
                rows.reverse();
            }
            let is_after = |person: &&Person| self.after.is_none_or(|after| self.is_beyond(self.key(person), after));
            return rows.into_iter().filter(is_after).take(count).collect();
        }
        let (from, to) = match (self.after, self.direction) {
            (None, _) => (Bound::Unbounded, Bound::Unbounded),
            (Some(after), Direction::Asc) => (Bound::Excluded(after), Bound::Unbounded),
            (Some(after), Direction::Desc) => (Bound::Unbounded, Bound::Excluded(after)),
        };
        match self.sort_by {
            SortBy::AddTime => self
                .directed(state.by_add().range((from, to)).map(|key| key.1))
                .filter_map(wanted)
                .take(count)
                .collect(),
            SortBy::UpdateTime => {
                // The window is a stretch of this order: what lies outside is not even looked at.
                let low = Bound::Included((self.since, i64::MIN));
                let from = if matches!(from, Bound::Excluded(key) if key.0 >= self.since) { from } else { low };
                let high = self.until.map_or(Bound::Unbounded, |until| Bound::Excluded((until, i64::MIN)));
                let to = if matches!(to, Bound::Excluded(key) if self.is_in_window(key.0)) { to } else { high };
                if is_empty_range(from, to) {
                    return Vec::new();
                }
                self.directed(state.by_update().range((from, to)).map(|key| key.1))
                    .filter_map(wanted)
                    .take(count)
                    .collect()
            }
            SortBy::Id => {
                if let Some(ids) = self.few_changed(state) {
                    let is_after = |id: &i64| self.after.is_none_or(|after| self.is_beyond((*id, *id), after));
                    return self.directed(ids.into_iter()).filter(is_after).filter_map(wanted).take(count).collect();
                }
                let id_of = |bound: Bound<Key>| bound.map(|key| key.1);
                let range = state.persons().range((id_of(from), id_of(to))).map(|(id, _)| *id);
                self.directed(range).filter_map(wanted).take(count).collect()
            }
        }
    }

    /// The ids in the window, sorted, if there is a window and it is small.
    fn few_changed(&self, state: &State) -> Option<Vec<i64>> {
        if !self.has_window {
            return None;
        }
        let changed = state.by_update().range((self.since, i64::MIN)..).take_while(|key| self.is_in_window(key.0));
        let mut ids: Vec<i64> = changed.take(WINDOW_SORTED_MAX + 1).map(|key| key.1).collect();
        if ids.len() > WINDOW_SORTED_MAX {
            return None;
        }
        ids.sort_unstable();
        Some(ids)
    }

    fn is_beyond(&self, key: Key, after: Key) -> bool {
        match self.direction {
            Direction::Asc => key > after,
            Direction::Desc => key < after,
        }
    }

    fn directed<'s>(&self, ids: impl DoubleEndedIterator<Item = i64> + 's) -> Box<dyn Iterator<Item = i64> + 's> {
        match self.direction {
            Direction::Asc => Box::new(ids),
            Direction::Desc => Box::new(ids.rev()),
        }
    }
}

fn is_empty_range(from: Bound<Key>, to: Bound<Key>) -> bool {
    match (from, to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

/// From 1 to 500; Pipedrive refuses what is outside.
pub(super) fn limit_of(call: &ApiCall) -> Result<usize, PipedriveRefusal> {
    match call.param("limit") {
        None => Ok(PAGE_DEFAULT),
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or(PipedriveRefusal::Invalid { field: "limit", problem: "must be from 1 to 500" }),
    }
}

pub(super) fn read_id(call: &ApiCall, field: &'static str) -> Result<Option<i64>, PipedriveRefusal> {
    let Some(text) = call.param(field) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| PipedriveRefusal::Invalid { field, problem: "must be a whole number" })
}

pub(super) fn read_ids(call: &ApiCall) -> Result<Option<Vec<i64>>, PipedriveRefusal> {
    let ids = call.list_param("ids");
    if ids.is_empty() {
        return Ok(None);
    }
    let problem = "must be at most 100 whole numbers";
    let numbers: Result<Vec<i64>, _> = ids.iter().map(|id| id.parse()).collect();
    let mut numbers =
        numbers.ok().filter(|ids| ids.len() <= IDS_MAX).ok_or(PipedriveRefusal::Invalid { field: "ids", problem })?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}

fn read_time(call: &ApiCall, field: &'static str) -> Result<Option<Stamp>, PipedriveRefusal> {
    let Some(text) = call.param(field) else { return Ok(None) };
    let problem = "is invalid, RFC 3339 in whole seconds is expected";
    parse_time(text).map(Some).ok_or(PipedriveRefusal::Invalid { field, problem })
}

pub(super) fn read_shown(call: &ApiCall) -> Result<Shown<'_>, PipedriveRefusal> {
    let included = call.list_param("include_fields");
    if !included.iter().all(|field| INCLUDABLE_FIELDS.contains(field)) {
        return Err(PipedriveRefusal::Invalid { field: "include_fields", problem: "holds an unknown field" });
    }
    let custom_fields = call.list_param("custom_fields");
    if custom_fields.len() > CUSTOM_FIELDS_MAX {
        return Err(PipedriveRefusal::Invalid { field: "custom_fields", problem: "must be at most 15 keys" });
    }
    Ok(Shown { included, custom_fields, has_empty_phones: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_has_the_vendors_notation() {
        let text = "eyJmaWVsZCI6ImlkIiwiZmllbGRWYWx1ZSI6Nywic29ydERpcmVjdGlvbiI6ImFzYyIsImlkIjo3fQ";

        assert_eq!(Cursor::after_id(7).encode(), text);
        assert_eq!(Cursor::decode(text), Some(Cursor::after_id(7)));
        assert_eq!(Cursor::decode(&format!("{text}==")), Some(Cursor::after_id(7)));
    }

    #[test]
    fn anything_else_is_no_cursor() {
        for text in ["", "x", "e30", "7"] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
