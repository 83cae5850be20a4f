//! Rows and the conditions they meet. Owns: equality and order of values. As in Salesforce, texts
//! compare without regard to case, ids with it; null equals null, is unequal to everything else,
//! and neither less nor greater.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeSet, sync::Arc};

use super::{
    super::{
        id::RecordId,
        record::{FieldValue, Record},
        schema::Schema,
        state::State,
    },
    Column, Condition, Join, Operand, Operator, Order, Parent, Path,
};

/// A record of a result with the parents that the query names, all as they were when it was asked.
#[derive(Clone)]
pub(in super::super) struct Row {
    pub(in super::super) record: Arc<Record>,
    parents: Box<[Option<Arc<Record>>]>,
}

impl Row {
    /// A row that knows no parents yet.
    pub(super) fn bare(record: &Arc<Record>) -> Self {
        Self { record: Arc::clone(record), parents: Box::default() }
    }

    /// A row of another copy of the record.
    pub(in super::super) fn of_copy(&self, record: &Arc<Record>) -> Self {
        Self { record: Arc::clone(record), parents: self.parents.clone() }
    }

    pub(super) fn find_parents(&mut self, parents: &[Parent], kind: super::ObjectKind, state: &State) {
        let mut found: Vec<Option<Arc<Record>>> = Vec::with_capacity(parents.len());
        for parent in parents {
            let (child, object) = match parent.from {
                None => (Some(&self.record), kind),
                Some(from) => (found[from].as_ref(), parents[from].to),
            };
            let id = child.and_then(|child| child.reference(state.schema.object(object), parent.reference));
            found.push(id.and_then(|id| state.find(id)).cloned());
        }
        self.parents = found.into_boxed_slice();
    }

    pub(in super::super) fn parent(&self, parent: usize) -> Option<&Arc<Record>> {
        self.parents.get(parent).and_then(Option::as_ref)
    }

    pub(in super::super) fn column(&self, schema: &Schema, column: &Column) -> FieldValue<'_> {
        self.value(schema, column.path)
    }

    fn value(&self, schema: &Schema, path: Path) -> FieldValue<'_> {
        let record = path.parent.map_or(Some(&self.record), |parent| self.parent(parent));
        record.map_or(FieldValue::Null, |record| record.get(schema.object(path.object), path.slot))
    }
}

/// A join whose query has been answered.
pub(super) struct Joined {
    path: Path,
    is_in: bool,
    ids: BTreeSet<RecordId>,
}

impl Joined {
    pub(super) fn new(join: &Join, state: &State, with_deleted: bool) -> Self {
        let rows = join.of.run(state, with_deleted);
        let values = rows.iter().flat_map(|row| join.of.columns.iter().map(|column| row.column(&state.schema, column)));
        let ids = values.filter_map(|value| if let FieldValue::Id(id) = value { Some(id) } else { None }).collect();
        Self { path: join.path, is_in: join.is_in, ids }
    }

    pub(super) fn matches(&self, row: &Row, schema: &Schema) -> bool {
        let is_among = matches!(row.value(schema, self.path), FieldValue::Id(id) if self.ids.contains(&id));
        is_among == self.is_in
    }
}

impl Condition {
    pub(super) fn matches(&self, row: &Row, schema: &Schema) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(row, schema)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(row, schema)),
            Self::Not(inner) => !inner.matches(row, schema),
            Self::Compare { path, operator, values } => compare(&row.value(schema, *path), *operator, values),
        }
    }

    /// Whether any of the fields is a parent's.
    pub(super) fn needs_parents(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::needs_parents),
            Self::Not(inner) => inner.needs_parents(),
            Self::Compare { path, .. } => path.parent.is_some(),
        }
    }
}

fn compare(value: &FieldValue<'_>, operator: Operator, operands: &[Operand]) -> bool {
    let is_any =
        |wanted: fn(Ordering) -> bool| operands.iter().any(|operand| ordering(value, operand).is_some_and(wanted));
    match operator {
        Operator::Equal | Operator::In => is_any(Ordering::is_eq),
        Operator::NotEqual | Operator::NotIn => !is_any(Ordering::is_eq),
        Operator::Less => is_any(Ordering::is_lt),
        Operator::LessOrEqual => is_any(Ordering::is_le),
        Operator::Greater => is_any(Ordering::is_gt),
        Operator::GreaterOrEqual => is_any(Ordering::is_ge),
        Operator::Like => operands.iter().any(|operand| match (value, operand) {
            (FieldValue::Text(text), Operand::Text(pattern)) => is_like(&folded(text), pattern),
            _ => false,
        }),
    }
}

/// `None` where neither is less: null and something else.
fn ordering(value: &FieldValue<'_>, operand: &Operand) -> Option<Ordering> {
    match (value, operand) {
        (FieldValue::Null, Operand::Null) => Some(Ordering::Equal),
        (FieldValue::Text(text), Operand::Text(wanted)) => Some(folded(text).as_ref().cmp(wanted)),
        (FieldValue::Id(id), Operand::Id(wanted)) => Some(id.cmp(wanted)),
        (FieldValue::Flag(flag), Operand::Flag(wanted)) => Some(flag.cmp(wanted)),
        (FieldValue::Time(time), Operand::Time(wanted)) => Some(time.cmp(wanted)),
        (FieldValue::Date(date), Operand::Date(wanted)) => Some((*date).cmp(wanted.as_str())),
        _ => None,
    }
}

/// In lower case; most phone numbers need no copy for it.
fn folded(text: &str) -> Cow<'_, str> {
    let is_folded = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_folded { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

/// `%` is any text, `_` any character, `\` takes the next one as it is.
fn is_like(text: &str, pattern: &str) -> bool {
    #[derive(Clone, Copy)]
    enum Part {
        AnyText,
        AnyOne,
        One(char),
    }
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        parts.push(match character {
            '%' => Part::AnyText,
            '_' => Part::AnyOne,
            '\\' => Part::One(characters.next().unwrap_or('\\')),
            other => Part::One(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0, 0);
    // Where the last `%` stands, and how far the text was when it was met.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        let is_met = match parts.get(part) {
            Some(Part::AnyText) => {
                retry = Some((part, at));
                part += 1;
                continue;
            }
            Some(Part::AnyOne) => true,
            Some(Part::One(wanted)) => *wanted == text[at],
            None => false,
        };
        if is_met {
            (at, part) = (at + 1, part + 1);
        } else if let Some((any_text, from)) = retry {
            retry = Some((any_text, from + 1));
            (at, part) = (from + 1, any_text + 1);
        } else {
            return false;
        }
    }
    parts[part..].iter().all(|part| matches!(part, Part::AnyText))
}

impl Order {
    pub(super) fn compare(&self, left: &Row, right: &Row, schema: &Schema) -> Ordering {
        let (left, right) = (left.value(schema, self.path), right.value(schema, self.path));
        let ordering = match (&left, &right) {
            (FieldValue::Null, FieldValue::Null) => Ordering::Equal,
            (FieldValue::Null, _) if self.are_nulls_last => return Ordering::Greater,
            (_, FieldValue::Null) if self.are_nulls_last => return Ordering::Less,
            (FieldValue::Null, _) => return Ordering::Less,
            (_, FieldValue::Null) => return Ordering::Greater,
            (FieldValue::Text(left), FieldValue::Text(right)) => folded(left).cmp(&folded(right)),
            (FieldValue::Id(left), FieldValue::Id(right)) => left.cmp(right),
            (FieldValue::Flag(left), FieldValue::Flag(right)) => left.cmp(right),
            (FieldValue::Time(left), FieldValue::Time(right)) => left.cmp(right),
            (FieldValue::Date(left), FieldValue::Date(right)) => left.cmp(right),
            _ => Ordering::Equal,
        };
        if self.is_descending { ordering.reverse() } else { ordering }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_wildcards_and_their_escapes() {
        for (text, pattern, expected) in [
            ("+1 415 555", "%555", true),
            ("+1 415 555", "%415%", true),
            ("+1 415 555", "415%", false),
            ("abcabd", "%ab_", true),
            ("abcabd", "%ab", false),
            ("", "%", true),
            ("", "_", false),
            ("50%", "50\\%", true),
            ("501", "50\\%", false),
            ("ü", "_", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }

    /// Null is unequal to all but null, and never less.
    #[test]
    fn null_equals_only_null_and_is_never_less() {
        let x = || [Operand::Text("x".to_owned())];

        assert!(compare(&FieldValue::Null, Operator::NotEqual, &x()));
        assert!(compare(&FieldValue::Null, Operator::NotIn, &x()));
        assert!(compare(&FieldValue::Null, Operator::Equal, &[Operand::Null]));
        for operator in [Operator::Less, Operator::GreaterOrEqual, Operator::Equal, Operator::Like] {
            assert!(!compare(&FieldValue::Null, operator, &x()));
        }
        assert!(compare(&FieldValue::Text("X".into()), Operator::Equal, &x()));
    }
}
