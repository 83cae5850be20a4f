//! The items of a `from` or `using`: tables, CTEs, queries and functions, and the conditions by
//! which they are joined.

use super::{
    conditions::Reach,
    expressions::Frame,
    levels::{Reader, Rule, Scope, is_query, is_word},
    tokens::Node,
};

const JOINS: [&str; 8] = ["join", "inner", "left", "right", "full", "outer", "cross", "natural"];

/// One item of a level's `from`.
pub struct Source<'n> {
    /// The table; `None`: a CTE, a query or a function.
    pub table: Option<&'n str>,
    /// What it is called.
    pub alias: &'n str,
}

/// Conditions of a level, each with the items that it keeps rows away of.
pub type Conditions<'n> = Vec<(&'n [Node], Reach)>;

impl Reader<'_> {
    /// The items of a `from` or `using`, and the conditions of their joins.
    pub fn from<'n>(&mut self, nodes: &'n [Node], scope: &Scope, place: usize) -> (Vec<Source<'n>>, Conditions<'n>) {
        let mut sources = Vec::new();
        let mut conditions = Vec::new();
        let mut rest = nodes;
        let mut is_outer = false;
        while !rest.is_empty() {
            let (source, after) = self.item(rest, scope);
            rest = after;
            sources.extend(source);
            if is_word(rest.first(), "on") {
                let end = join_at(&rest[1..]).map_or(rest.len(), |at| at + 1);
                let reach = if is_outer { Reach::Source(place + sources.len() - 1) } else { Reach::Level };
                conditions.push((&rest[1..end], reach));
                self.walk(&rest[1..end], scope, Frame::default());
                rest = &rest[end..];
            } else if is_word(rest.first(), "using") {
                self.fault(Rule::Account, "a join by `using`");
                rest = rest.get(2..).unwrap_or_default();
            }
            let join = rest.iter().take_while(|node| JOINS.iter().any(|word| node.is_word(word))).count();
            is_outer = is_word(rest.first(), "left");
            if ["right", "full", "natural"].iter().any(|word| is_word(rest.first(), word)) {
                self.fault(Rule::Readable, "a right, full or natural join");
            }
            let join = if rest.first().is_some_and(|node| node.is_sign(",")) { 1 } else { join };
            if join == 0 && !rest.is_empty() {
                self.fault(Rule::Readable, format!("{:?} in a from", rest[0]));
                break;
            }
            rest = &rest[join..];
        }
        (sources, conditions)
    }

    fn item<'n>(&mut self, nodes: &'n [Node], scope: &Scope) -> (Option<Source<'n>>, &'n [Node]) {
        let nodes = if is_word(nodes.first(), "lateral") { &nodes[1..] } else { nodes };
        let mut table = None;
        let mut name = "";
        let rest = match (nodes.first(), nodes.get(1)) {
            (Some(Node::Group(inner)), _) => {
                if is_query(inner) {
                    self.query(inner, &scope.inner());
                } else {
                    self.fault(Rule::Readable, "joined tables in brackets");
                }
                &nodes[1..]
            }
            (Some(Node::Word(_) | Node::Quoted(_)), Some(Node::Group(_))) => {
                self.walk(&nodes[..2], scope, Frame::default());
                let has_ordinality = is_word(nodes.get(2), "with") && is_word(nodes.get(3), "ordinality");
                &nodes[if has_ordinality { 4 } else { 2 }..]
            }
            (Some(Node::Word(word) | Node::Quoted(word)), _) => {
                name = word;
                table = self.relation(word, scope).then_some(name);
                &nodes[1..]
            }
            _ => {
                self.fault(Rule::Readable, "a from without a table");
                return (None, &[]);
            }
        };
        let ends = [&JOINS[..], &["on", "using"]].concat();
        let (given, mut rest) = alias(rest, &ends);
        if let Some(Node::Group(_)) = rest.first() {
            if table.is_some() {
                self.fault(Rule::Account, format!("{name} with other names for its columns"));
            }
            rest = &rest[1..];
        }
        let alias = given.unwrap_or(name);
        self.judge_alias(alias, name);
        (Some(Source { table, alias }), rest)
    }

    /// Whether this names a table, and not a CTE.
    fn relation(&mut self, name: &str, scope: &Scope) -> bool {
        let is_table = self.known.tables.contains(name);
        match scope.source_of_insert {
            Some(_) if is_table => self.fault(Rule::Insert, format!("an insert that reads {name}")),
            Some(true) => self.fault(Rule::Insert, format!("the statement is an insert that takes rows from {name}")),
            _ => {}
        }
        if !is_table && !scope.ctes.iter().any(|cte| cte == name) {
            self.fault(Rule::Table, format!("{name} is neither a table nor a CTE"));
        }
        is_table
    }
}

/// Where the next item of a `from` begins.
fn join_at(nodes: &[Node]) -> Option<usize> {
    (0..nodes.len()).find(|at| {
        let is_function = matches!(nodes.get(at + 1), Some(Node::Group(_)))
            && ["left", "right"].iter().any(|w| nodes[*at].is_word(w));
        nodes[*at].is_sign(",") || (!is_function && JOINS.iter().any(|word| nodes[*at].is_word(word)))
    })
}

/// The name that follows a table, and what follows that.
pub fn alias<'n>(nodes: &'n [Node], ends: &[&str]) -> (Option<&'n str>, &'n [Node]) {
    if is_word(nodes.first(), "as") {
        return (nodes.get(1).and_then(Node::name), nodes.get(2..).unwrap_or_default());
    }
    match nodes.first() {
        Some(Node::Word(word)) if ends.contains(&word.as_str()) => (None, nodes),
        Some(Node::Word(name) | Node::Quoted(name)) => (Some(name), &nodes[1..]),
        _ => (None, nodes),
    }
}
