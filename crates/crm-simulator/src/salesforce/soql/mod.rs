//! SOQL, as far as syncs and their tools use it: fields and parents' fields, `count()`, conditions,
//! semi-joins, order, limit, offset. Owns: the language. Read: `lexer`, `parser` (a text becomes a
//! [`Statement`]), `bind` (names become fields, a [`Query`]), `evaluate` (a condition meets a row),
//! `plan` (which records to look at). Must not: know of pages.

mod bind;
mod evaluate;
mod lexer;
mod parser;
mod plan;

use super::{id::RecordId, objects::ObjectKind, record::Millis, schema::Slot};

pub(super) use bind::{bind, bind_search};
pub(super) use evaluate::Row;
pub(super) use parser::{parse, parse_condition_of_search};

/// Longest statement, characters; the vendor's limit.
const STATEMENT_CHARS_MAX: usize = 100_000;
/// Parents between a row and a field.
const PARENTS_MAX: usize = 5;

/// A name or value and the place where it stands in the text, in characters from zero.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot<T> {
    pub(super) at: usize,
    pub(super) it: T,
}

/// A statement as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    /// Paths as written; empty for `count()`.
    columns: Vec<Spot<String>>,
    object: Spot<String>,
    condition: Option<Expression>,
    order: Vec<OrderBy>,
    limit: Option<usize>,
    offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct OrderBy {
    path: Spot<String>,
    is_descending: bool,
    are_nulls_last: bool,
}

/// A condition as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare {
        path: Spot<String>,
        operator: Operator,
        values: Vec<Literal>,
    },
    /// `path IN (SELECT ..)`, or `NOT IN`: a semi-join, an anti-join.
    Join {
        path: Spot<String>,
        is_in: bool,
        of: Box<Statement>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    In,
    NotIn,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Flag(bool),
    Text(String),
    Number(String),
    Time(Millis),
    Date(String),
    /// `TODAY` is zero.
    LastDays(u32),
}

/// A field of the row, or of one of its parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Which of the query's parents; `None`: the row itself.
    parent: Option<usize>,
    object: ObjectKind,
    slot: Slot,
}

/// How to come from a row to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    /// The parent on the way; `None`: from the row itself.
    from: Option<usize>,
    reference: Slot,
    to: ObjectKind,
}

/// A column of the result.
#[derive(Debug)]
pub(super) struct Column {
    /// Relationship names, then the field's name, in the schema's spelling.
    pub(super) names: Vec<String>,
    /// The parents on the way, outermost first; as many as there are relationship names.
    pub(super) parents: Vec<usize>,
    path: Path,
}

/// A statement whose names are those of the schema.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) object: ObjectKind,
    /// Empty for `count()`.
    pub(super) columns: Vec<Column>,
    parents: Vec<Parent>,
    condition: Option<Condition>,
    /// They must hold besides the condition.
    joins: Vec<Join>,
    order: Vec<Order>,
    limit: Option<usize>,
    offset: usize,
}

#[derive(Debug)]
struct Order {
    path: Path,
    is_descending: bool,
    are_nulls_last: bool,
}

/// A reference that must be among the ids that another query gives, or must not.
#[derive(Debug)]
struct Join {
    path: Path,
    is_in: bool,
    /// It has one column, and no joins.
    of: Query,
}

/// A condition whose names and values are of the right type.
#[derive(Debug)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare { path: Path, operator: Operator, values: Vec<Operand> },
}

/// A value to compare with; texts in lower case.
#[derive(Debug, PartialEq)]
enum Operand {
    Null,
    Flag(bool),
    Text(String),
    Id(RecordId),
    Time(Millis),
    Date(String),
}

impl Query {
    pub(super) fn object_of_parent(&self, parent: usize) -> ObjectKind {
        self.parents[parent].to
    }
}
