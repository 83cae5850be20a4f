//! A statement's query levels: each `select`, `update`, `delete` and `insert`, however deep, with
//! the tables that it reads itself. It must say of each of them whose rows it means, in its own
//! conditions.

use std::collections::BTreeSet;

use super::{
    conditions::{Reach, conjuncts, says_account},
    expressions::Frame,
    known::Known,
    sources::{Conditions, Source, alias},
    tokens::Node,
};

/// What a statement may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Only what is read here can be judged.
    Readable,
    /// Each table of each query level says `account_id = $1`; nothing else is compared with it, and
    /// nothing writes it.
    Account,
    /// Tables only: no view, no catalogue.
    Table,
    /// One write to a statement.
    OneWrite,
    /// An insert takes values, arrays of parameters or (in a CTE) what other CTEs give; never a
    /// table.
    Insert,
    /// What a writing statement calls is immutable; times and JSON come as parameters.
    Pure,
    /// No row needs another that a later part of the statement writes.
    ForeignKey,
    /// Reads the database's clock.
    Clock,
}

/// One broken rule, and what breaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub rule: Rule,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Delete,
}

/// Where a query stands.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Names of CTEs that can be seen.
    pub ctes: Vec<String>,
    /// The statement itself, and not a part of it.
    pub is_top: bool,
    /// What an insert takes its rows from; `Some(true)`: of an insert that is the statement itself.
    pub source_of_insert: Option<bool>,
}

impl Scope {
    pub fn inner(&self) -> Self {
        Self { is_top: false, ..self.clone() }
    }
}

/// Reads one statement and collects what it breaks.
pub struct Reader<'k> {
    pub known: &'k Known,
    pub faults: Vec<Fault>,
    /// Counts only if the statement writes.
    pub if_writing: Vec<Fault>,
    pub writes: Vec<(Verb, String)>,
    /// Columns that hold a time, and what this statement calls them.
    pub times: BTreeSet<String>,
}

impl<'k> Reader<'k> {
    pub fn new(known: &'k Known) -> Self {
        let times = known.time_columns.clone();
        Self { known, faults: Vec::new(), if_writing: Vec::new(), writes: Vec::new(), times }
    }

    pub fn fault(&mut self, rule: Rule, what: impl Into<String>) {
        self.faults.push(Fault { rule, what: what.into() });
    }

    /// A whole query: CTEs, then one or several arms.
    pub fn query(&mut self, nodes: &[Node], scope: &Scope) {
        let mut scope = scope.clone();
        let mut rest = nodes;
        if is_word(rest.first(), "with") {
            rest = self.ctes(&rest[1..], &mut scope);
        }
        match rest.first() {
            Some(Node::Word(word)) if word == "insert" => self.insert(rest, &scope),
            Some(Node::Word(word)) if word == "update" => self.update(rest, &scope),
            Some(Node::Word(word)) if word == "delete" => self.delete(rest, &scope),
            _ => self.arms(rest, &scope),
        }
    }

    /// Reads `name as (..), ..` and returns what follows.
    fn ctes<'n>(&mut self, nodes: &'n [Node], scope: &mut Scope) -> &'n [Node] {
        let mut rest = nodes;
        let is_recursive = is_word(rest.first(), "recursive");
        if is_recursive {
            rest = &rest[1..];
            if scope.is_top {
                let what = "a recursive CTE begins the statement; put it into the from".to_owned();
                self.if_writing.push(Fault { rule: Rule::Readable, what });
            }
        }
        while let Some(name) = rest.first().and_then(Node::name) {
            let mut at = 1;
            at += usize::from(matches!(rest.get(at), Some(Node::Group(_))));
            let is_as = is_word(rest.get(at), "as");
            at += 1;
            at += usize::from(is_word(rest.get(at), "not"));
            at += usize::from(is_word(rest.get(at), "materialized"));
            let (true, Some(Node::Group(body))) = (is_as, rest.get(at)) else { break };
            if self.known.tables.contains(name) {
                self.fault(Rule::Table, format!("the CTE {name} hides a table"));
            }
            let mut inner = scope.inner();
            if is_recursive {
                inner.ctes.push(name.to_owned());
            }
            self.query(body, &inner);
            scope.ctes.push(name.to_owned());
            rest = &rest[at + 1..];
            if !rest.first().is_some_and(|node| node.is_sign(",")) {
                return rest;
            }
            rest = &rest[1..];
        }
        self.fault(Rule::Readable, "a CTE that is not `name as (..)`");
        &[]
    }

    /// `select .. union select ..`, each arm a level of its own.
    fn arms(&mut self, nodes: &[Node], scope: &Scope) {
        for arm in nodes.split(|node| SET_OPERATORS.iter().any(|word| node.is_word(word))) {
            let arm = if ["all", "distinct"].iter().any(|word| is_word(arm.first(), word)) { &arm[1..] } else { arm };
            match arm.first() {
                Some(Node::Group(inner)) => {
                    self.query(inner, &scope.inner());
                    let tail = &arm[1..];
                    if tail
                        .first()
                        .is_some_and(|node| !["order", "limit", "offset"].iter().any(|word| node.is_word(word)))
                    {
                        self.fault(Rule::Readable, "something behind a query in brackets");
                    }
                    self.walk(tail, scope, Frame::default());
                }
                Some(Node::Word(word)) if word == "select" => self.select(arm, scope),
                Some(Node::Word(word)) if word == "values" => self.walk(&arm[1..], scope, Frame::default()),
                Some(node) => {
                    self.fault(Rule::Readable, format!("{node:?} begins no select, insert, update, delete or values"));
                }
                None => self.fault(Rule::Readable, "an empty query"),
            }
        }
    }

    fn select(&mut self, nodes: &[Node], scope: &Scope) {
        const CLAUSES: [&str; 11] =
            ["select", "into", "from", "where", "group", "having", "window", "order", "limit", "offset", "for"];
        let mut sources = Vec::new();
        let mut conditions = Vec::new();
        for (clause, inside) in self.clauses(nodes, &CLAUSES) {
            match clause {
                "from" => (sources, conditions) = self.from(inside, scope, 0),
                "where" => {
                    conditions.push((inside, Reach::Level));
                    self.walk(inside, scope, Frame::default());
                }
                "into" => self.fault(Rule::Readable, "select into"),
                "for" => {
                    let waits = !inside.iter().any(|node| ["skip", "nowait"].iter().any(|word| node.is_word(word)));
                    if !waits {
                        self.fault(Rule::Readable, "a lock that does not wait");
                    }
                }
                _ => self.walk(inside, scope, Frame::default()),
            }
        }
        self.judge(&sources, &conditions);
    }

    fn update(&mut self, nodes: &[Node], scope: &Scope) {
        let Some((target, rest)) = self.target(&nodes[1..], Verb::Update) else { return };
        let mut sources = vec![target];
        let mut conditions = Vec::new();
        for (clause, inside) in self.clauses(rest, &["set", "from", "where", "returning"]) {
            match clause {
                "set" => self.set(inside, scope),
                "from" => {
                    let (others, joins) = self.from(inside, scope, 1);
                    sources.extend(others);
                    conditions.extend(joins);
                }
                "where" => {
                    conditions.push((inside, Reach::Level));
                    self.walk(inside, scope, Frame::default());
                }
                _ => self.returning(inside, scope),
            }
        }
        self.judge(&sources, &conditions);
    }

    fn delete(&mut self, nodes: &[Node], scope: &Scope) {
        if !is_word(nodes.get(1), "from") {
            return self.fault(Rule::Readable, "a delete without from");
        }
        let Some((target, rest)) = self.target(&nodes[2..], Verb::Delete) else { return };
        let mut sources = vec![target];
        let mut conditions = Vec::new();
        for (clause, inside) in self.clauses(rest, &["using", "where", "returning"]) {
            match clause {
                "using" => {
                    let (others, joins) = self.from(inside, scope, 1);
                    sources.extend(others);
                    conditions.extend(joins);
                }
                "where" => {
                    conditions.push((inside, Reach::Level));
                    self.walk(inside, scope, Frame::default());
                }
                _ => self.returning(inside, scope),
            }
        }
        self.judge(&sources, &conditions);
    }

    fn insert(&mut self, nodes: &[Node], scope: &Scope) {
        if !is_word(nodes.get(1), "into") {
            return self.fault(Rule::Readable, "an insert without into");
        }
        let Some((_, rest)) = self.target(&nodes[2..], Verb::Insert) else { return };
        let Some((Node::Group(columns), rest)) = rest.split_first() else {
            return self.fault(Rule::Account, "an insert that does not name its columns");
        };
        if columns.first().and_then(Node::name) != Some("account_id") {
            self.fault(Rule::Account, "an insert whose first column is not account_id");
        }
        let is_end = |at: &usize| {
            (rest[*at].is_word("on") && is_word(rest.get(at + 1), "conflict")) || rest[*at].is_word("returning")
        };
        let end = (0..rest.len()).find(is_end).unwrap_or(rest.len());
        let (body, tail) = rest.split_at(end);
        let inner = Scope { source_of_insert: Some(scope.is_top), ..scope.inner() };
        self.rows(body, columns, &inner);
        let returning = tail.iter().position(|node| node.is_word("returning")).unwrap_or(tail.len());
        let (conflict, returning) = tail.split_at(returning);
        if let Some(set) = conflict.iter().position(|node| node.is_word("set")) {
            let filter = conflict.iter().skip(set).position(|node| node.is_word("where"));
            self.set(&conflict[set + 1..filter.map_or(conflict.len(), |at| set + at)], &inner);
        }
        if has_query(conflict) {
            self.fault(Rule::Insert, "a query in `on conflict`");
        }
        self.walk(conflict, &inner, Frame::default());
        self.returning(returning.get(1..).unwrap_or_default(), &inner);
    }

    /// What an insert inserts: each row begins with `$1`.
    fn rows(&mut self, body: &[Node], columns: &[Node], scope: &Scope) {
        let begins_with_account =
            |row: &[Node]| row.first() == Some(&Node::Parameter(1)) && row.get(1).is_none_or(|node| node.is_sign(","));
        match body.first() {
            Some(Node::Word(word)) if word == "values" => {
                for row in &body[1..] {
                    match row {
                        Node::Group(row) if begins_with_account(row) => {
                            self.walk(row, scope, Frame::default());
                            self.judge_times(columns, row);
                        }
                        node if node.is_sign(",") => {}
                        _ => self.fault(Rule::Account, "an inserted row that does not begin with $1"),
                    }
                }
            }
            Some(Node::Word(word)) if word == "select" => {
                for arm in body.split(|node| SET_OPERATORS.iter().any(|word| node.is_word(word))) {
                    let arm = if is_word(arm.first(), "all") { &arm[1..] } else { arm };
                    let items = arm.get(1..).unwrap_or_default();
                    let end = items.iter().position(|node| node.is_word("from") || node.is_word("where"));
                    let items = &items[..end.unwrap_or(items.len())];
                    if !begins_with_account(items) {
                        self.fault(Rule::Account, "an inserted row that does not begin with $1");
                    }
                    self.judge_times(columns, items);
                }
                self.arms(body, scope);
            }
            _ => self.fault(Rule::Readable, "an insert of neither values nor a select"),
        }
    }

    /// The table that is written, with its alias.
    fn target<'n>(&mut self, nodes: &'n [Node], verb: Verb) -> Option<(Source<'n>, &'n [Node])> {
        let name = nodes.first().and_then(Node::name).unwrap_or_default();
        if !self.known.tables.contains(name) {
            self.fault(Rule::Table, format!("{name} is no table that can be written"));
            return None;
        }
        self.writes.push((verb, name.to_owned()));
        let (given, rest) = alias(&nodes[1..], &["set", "using", "where", "returning"]);
        let alias = given.unwrap_or(name);
        self.judge_alias(alias, name);
        Some((Source { table: Some(name), alias }, rest))
    }

    pub fn judge_alias(&mut self, alias: &str, table: &str) {
        if alias != table && self.known.tables.contains(alias) {
            self.fault(Rule::Table, format!("{table} is called by the name of the table {alias}"));
        }
    }

    fn set(&mut self, nodes: &[Node], scope: &Scope) {
        for item in nodes.split(|node| node.is_sign(",")) {
            let equals = item.iter().position(|node| node.is_sign("=")).unwrap_or(item.len());
            let (targets, value) = item.split_at(equals);
            let names: Vec<&str> = match targets {
                [Node::Group(names)] => names.iter().filter_map(Node::name).collect(),
                names => names.iter().filter_map(Node::name).collect(),
            };
            if names.contains(&"account_id") {
                self.fault(Rule::Account, "account_id is written anew");
            }
            let is_time = names.iter().any(|name| self.times.contains(*name));
            self.walk(value.get(1..).unwrap_or_default(), scope, Frame { is_time, ..Frame::default() });
        }
    }

    fn returning(&mut self, nodes: &[Node], scope: &Scope) {
        if has_query(nodes) {
            self.fault(Rule::Readable, "a query in `returning`");
        }
        self.walk(nodes, scope, Frame::default());
    }

    /// Whether each table of this level says whose rows are meant.
    fn judge(&mut self, sources: &[Source<'_>], conditions: &Conditions<'_>) {
        let tables = sources.iter().filter(|source| source.table.is_some()).count();
        for (place, source) in sources.iter().enumerate() {
            let Some(table) = source.table else { continue };
            let is_said = conditions.iter().any(|(condition, reach)| {
                let reaches = *reach == Reach::Level || *reach == Reach::Source(place);
                reaches && conjuncts(condition).iter().any(|part| says_account(part, source.alias, tables == 1))
            });
            if !is_said {
                self.fault(
                    Rule::Account,
                    format!("{table} {} does not say `account_id = $1` in its own level", source.alias),
                );
            }
        }
    }

    /// Splits a level into its clauses, each at most once.
    fn clauses<'n, 'w>(&mut self, nodes: &'n [Node], words: &[&'w str]) -> Vec<(&'w str, &'n [Node])> {
        let mut starts: Vec<(usize, &'w str)> = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            // `is distinct from`
            let is_comparison = at >= 2 && nodes[at - 1].is_word("distinct") && !nodes[at - 2].is_word("select");
            let Some(word) = words.iter().find(|word| node.is_word(word) && !is_comparison) else { continue };
            if starts.iter().any(|(_, earlier)| earlier == word) && *word != "for" {
                self.fault(Rule::Readable, format!("two `{word}` in one level"));
            }
            starts.push((at, word));
        }
        if starts.first().is_some_and(|(at, _)| *at > 0) || (starts.is_empty() && !nodes.is_empty()) {
            self.fault(Rule::Readable, format!("{:?} begins no clause", nodes[0]));
        }
        let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([nodes.len()]).collect::<Vec<_>>();
        starts.into_iter().zip(ends).map(|((at, word), end)| (word, &nodes[at + 1..end])).collect()
    }
}

const SET_OPERATORS: [&str; 3] = ["union", "intersect", "except"];

pub fn is_word(node: Option<&Node>, word: &str) -> bool {
    node.is_some_and(|node| node.is_word(word))
}

/// Whether what stands in brackets is a query.
pub fn is_query(inner: &[Node]) -> bool {
    ["select", "with", "values", "insert", "update", "delete", "merge", "table"]
        .iter()
        .any(|word| is_word(inner.first(), word))
        || inner.iter().any(|node| SET_OPERATORS.iter().any(|word| node.is_word(word)))
}

fn has_query(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Group(inner) | Node::Index(inner) => is_query(inner) || has_query(inner),
        _ => false,
    })
}
