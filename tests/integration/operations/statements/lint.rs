//! What a statement breaks of the rules by which it runs on a distributed database, and by which it
//! is one account's.

use std::collections::BTreeSet;

use super::{
    expressions::begins_right,
    known::Known,
    levels::{Fault, Reader, Rule, Scope, Verb},
    tokens::{Node, nodes},
};

/// All broken rules, each once.
pub fn faults(sql: &str, known: &Known) -> Vec<Fault> {
    let nodes = match nodes(sql) {
        Ok(nodes) => nodes,
        Err(what) => return vec![Fault { rule: Rule::Readable, what }],
    };
    let mut reader = Reader::new(known);
    if !begins_right(&nodes) {
        reader.fault(Rule::Readable, "neither a select nor an insert, update or delete");
    }
    if nodes.iter().any(|node| node.is_sign(";")) {
        reader.fault(Rule::Readable, "two statements in one");
    }
    reader.learn_times(&nodes);
    reader.query(&nodes, &Scope { is_top: true, ..Scope::default() });
    let writes = std::mem::take(&mut reader.writes);
    if !writes.is_empty() {
        reader.faults.append(&mut reader.if_writing);
    }
    if writes.len() > 1 {
        let tables: Vec<&str> = writes.iter().map(|(_, table)| table.as_str()).collect();
        reader.fault(Rule::OneWrite, format!("several writes: {}", tables.join(", ")));
    }
    for (at, earlier) in writes.iter().enumerate() {
        for later in &writes[at + 1..] {
            if is_out_of_order(known, earlier, later) {
                let what = format!("{} is written before {}, which its foreign key needs", earlier.1, later.1);
                reader.fault(Rule::ForeignKey, what);
            }
        }
    }
    let mut faults = reader.faults;
    faults.sort_by(|a, b| (a.rule, &a.what).cmp(&(b.rule, &b.what)));
    faults.dedup();
    faults
}

/// The tables that the statement writes.
pub fn written_tables(sql: &str, known: &Known) -> BTreeSet<String> {
    let nodes = nodes(sql).unwrap();
    let mut reader = Reader::new(known);
    reader.query(&nodes, &Scope { is_top: true, ..Scope::default() });
    reader.writes.into_iter().map(|(_, table)| table).collect()
}

/// Whether a part of the statement, run before the other, meets a foreign key that only the other
/// satisfies.
fn is_out_of_order(known: &Known, (verb, earlier): &(Verb, String), (next, later): &(Verb, String)) -> bool {
    known.foreign_keys.iter().any(|key| {
        let is_child_first =
            key.child == *earlier && key.parent == *later && *verb != Verb::Delete && *next == Verb::Insert;
        let is_parent_gone =
            key.parent == *earlier && key.child == *later && *verb == Verb::Delete && !key.is_cascading;
        !key.is_deferred && (is_child_first || is_parent_gone)
    })
}

/// Whether the statement writes anything.
pub fn writes(sql: &str) -> bool {
    fn is_write(nodes: &[Node]) -> bool {
        let begins =
            ["insert", "update", "delete"].iter().any(|word| nodes.first().is_some_and(|node| node.is_word(word)));
        begins || nodes.iter().any(|node| matches!(node, Node::Group(inner) if is_write(inner))) || follows_a_cte(nodes)
    }
    fn follows_a_cte(nodes: &[Node]) -> bool {
        nodes.windows(2).any(|pair| {
            matches!(pair[0], Node::Group(_)) && ["insert", "update", "delete"].iter().any(|word| pair[1].is_word(word))
        })
    }
    nodes(sql).is_ok_and(|nodes| is_write(&nodes))
}
