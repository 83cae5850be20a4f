//! Which records a query looks at, and in which order. Owns: the use of the two indexes
//! (`SystemModstamp` with id, and id), so that a window over a large object costs the window's
//! rows. Invariant: bounds only leave out what the condition refuses; every record is held against
//! the condition all the same.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use super::{
    super::{
        id::RecordId,
        record::{Millis, Record},
        schema::Slot,
        state::State,
    },
    Condition, Operand, Operator, Order, Query, Row,
    evaluate::Joined,
};

/// The records to look at, by one of the indexes.
enum AccessPath {
    Ids(BTreeSet<RecordId>),
    ByStamp(RangeInclusive<Millis>),
    ById(RangeInclusive<RecordId>),
}

type Records<'s> = Box<dyn DoubleEndedIterator<Item = &'s Arc<Record>> + 's>;

impl Query {
    /// The rows of the result, in order. Deleted records are among them only if `with_deleted`.
    pub(in super::super) fn run(&self, state: &State, with_deleted: bool) -> Vec<Row> {
        let object = state.schema.object(self.object);
        let (Some(id), Some(stamp)) = (object.slot("Id"), object.slot("SystemModstamp")) else { return Vec::new() };
        let access = self.access(id, stamp);
        let stand_ins: Vec<&Arc<Record>> = state.stand_ins(self.object).collect();
        let is_sorted = stand_ins.is_empty() && self.is_sorted_by(&access, id, stamp);
        let needs_parents_first = self.condition.as_ref().is_some_and(Condition::needs_parents)
            || self.order.iter().any(|order| order.path.parent.is_some())
            || self.joins.iter().any(|join| join.path.parent.is_some());
        let joins: Vec<Joined> = self.joins.iter().map(|join| Joined::new(join, state, with_deleted)).collect();
        let enough = self.limit.map(|limit| limit.saturating_add(self.offset)).filter(|_| is_sorted);
        let records = access.records(state, self.object).filter(|record| state.is_plain(record.id));
        let mut records: Records<'_> = Box::new(records);
        if is_sorted && self.order.first().is_some_and(|order| order.is_descending) {
            records = Box::new(records.rev());
        }
        let mut rows = Vec::new();
        for record in records.chain(stand_ins) {
            if enough.is_some_and(|enough| rows.len() >= enough) {
                break;
            }
            if record.is_deleted && !with_deleted {
                continue;
            }
            let mut row = Row::bare(record);
            if needs_parents_first {
                row.find_parents(&self.parents, self.object, state);
            }
            if self.accepts(state, &row) && joins.iter().all(|join| join.matches(&row, &state.schema)) {
                rows.push(row);
            }
        }
        if !is_sorted {
            rows.sort_by(|left, right| {
                let orders = self.order.iter().map(|order| order.compare(left, right, &state.schema));
                orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            });
        }
        let mut rows: Vec<Row> = rows.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).collect();
        if !needs_parents_first && !self.parents.is_empty() {
            for row in &mut rows {
                row.find_parents(&self.parents, self.object, state);
            }
        }
        rows
    }

    /// One record as a row of this query, whatever its condition.
    pub(in super::super) fn row_of(&self, state: &State, record: &Arc<Record>) -> Row {
        let mut row = Row::bare(record);
        row.find_parents(&self.parents, self.object, state);
        row
    }

    /// Whether a record meets the query's condition, joins apart.
    pub(in super::super) fn accepts(&self, state: &State, row: &Row) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.matches(row, &state.schema))
    }

    fn access(&self, id: Slot, stamp: Slot) -> AccessPath {
        if let Some(ids) = self.condition.as_ref().and_then(|condition| ids_of(condition, id)) {
            return AccessPath::Ids(ids);
        }
        let stamps = self.condition.as_ref().map_or(Millis::MIN..=Millis::MAX, |condition| stamps_of(condition, stamp));
        let is_first = |slot| self.order.first().is_some_and(|order| is_own(order, slot));
        let is_page_by_id = is_first(id) && self.limit.is_some();
        let is_bounded = stamps != (Millis::MIN..=Millis::MAX);
        if !is_page_by_id && (is_bounded || is_first(stamp)) {
            return AccessPath::ByStamp(stamps);
        }
        let all = RecordId::MIN..=RecordId::MAX;
        AccessPath::ById(self.condition.as_ref().map_or(all, |condition| id_range_of(condition, id)))
    }

    /// Whether the index gives the rows in the query's order.
    fn is_sorted_by(&self, access: &AccessPath, id: Slot, stamp: Slot) -> bool {
        match (access, self.order.as_slice()) {
            (_, []) => true,
            (AccessPath::ByStamp(_), [first]) => is_own(first, stamp),
            (AccessPath::ByStamp(_), [first, second]) => {
                is_own(first, stamp) && is_own(second, id) && first.is_descending == second.is_descending
            }
            (AccessPath::ById(_) | AccessPath::Ids(_), [first, ..]) => is_own(first, id),
            _ => false,
        }
    }
}

impl AccessPath {
    fn records<'s>(&'s self, state: &'s State, kind: super::ObjectKind) -> Records<'s> {
        let table = state.table(kind);
        let find = |id: &RecordId| table.records().get(id);
        match self {
            Self::Ids(ids) => Box::new(ids.iter().filter_map(find)),
            Self::ByStamp(range) if range.is_empty() => Box::new(std::iter::empty()),
            Self::ByStamp(range) => {
                let keys = (*range.start(), RecordId::MIN)..=(*range.end(), RecordId::MAX);
                Box::new(table.by_stamp().range(keys).filter_map(move |(_, id)| find(id)))
            }
            Self::ById(range) if range.is_empty() => Box::new(std::iter::empty()),
            Self::ById(range) => Box::new(table.records().range(range.clone()).map(|(_, record)| record)),
        }
    }
}

fn is_own(order: &Order, slot: Slot) -> bool {
    order.path.parent.is_none() && order.path.slot == slot
}

/// The stamps that the condition may accept.
fn stamps_of(condition: &Condition, slot: Slot) -> RangeInclusive<Millis> {
    let read = |operand: &Operand| if let Operand::Time(time) = operand { Some(*time) } else { None };
    range_of(condition, slot, Millis::MIN..=Millis::MAX, &read)
}

/// The ids that the condition may accept.
fn id_range_of(condition: &Condition, slot: Slot) -> RangeInclusive<RecordId> {
    let read = |operand: &Operand| if let Operand::Id(id) = operand { Some(*id) } else { None };
    range_of(condition, slot, RecordId::MIN..=RecordId::MAX, &read)
}

/// The smallest range around everything of one field that the condition may accept.
fn range_of<T: Copy + Ord>(
    condition: &Condition,
    slot: Slot,
    all: RangeInclusive<T>,
    read: &impl Fn(&Operand) -> Option<T>,
) -> RangeInclusive<T> {
    let (lowest, highest) = (*all.start(), *all.end());
    let of = |part: &Condition| range_of(part, slot, all.clone(), read);
    match condition {
        Condition::All(parts) => parts
            .iter()
            .map(of)
            .fold(all.clone(), |left, right| *left.start().max(right.start())..=*left.end().min(right.end())),
        Condition::Any(parts) => {
            let ranges = parts.iter().map(of).filter(|range| !range.is_empty());
            let hull = ranges.reduce(|left, right| *left.start().min(right.start())..=*left.end().max(right.end()));
            hull.unwrap_or(highest..=lowest)
        }
        Condition::Compare { path, operator, values } if path.parent.is_none() && path.slot == slot => {
            let mut bounds = values.iter().map(read);
            let value = bounds.next().flatten();
            match (operator, value) {
                (Operator::Equal, Some(value)) => value..=value,
                (Operator::Less | Operator::LessOrEqual, Some(value)) => lowest..=value,
                (Operator::Greater | Operator::GreaterOrEqual, Some(value)) => value..=highest,
                _ => all,
            }
        }
        Condition::Compare { .. } | Condition::Not(_) => all,
    }
}

/// The ids among which the condition's rows must be, if it names them.
fn ids_of(condition: &Condition, slot: Slot) -> Option<BTreeSet<RecordId>> {
    match condition {
        Condition::All(parts) => parts.iter().find_map(|part| ids_of(part, slot)),
        Condition::Any(parts) => {
            parts.iter().map(|part| ids_of(part, slot)).try_fold(BTreeSet::new(), |mut all, ids| {
                all.extend(ids?);
                Some(all)
            })
        }
        Condition::Compare { path, operator: Operator::Equal | Operator::In, values }
            if path.parent.is_none() && path.slot == slot =>
        {
            Some(values.iter().filter_map(|value| if let Operand::Id(id) = value { Some(*id) } else { None }).collect())
        }
        Condition::Compare { .. } | Condition::Not(_) => None,
    }
}
