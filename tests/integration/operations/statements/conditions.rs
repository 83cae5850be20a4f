//! Conditions: what must hold of every row that a level reads.

use super::tokens::Node;

/// Of which items of a `from` a condition keeps rows away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Of all.
    Level,
    /// Of one: the right side of a left join.
    Source(usize),
}

/// The parts of a condition that are joined by `and`; none where an `or` stands beside them.
pub fn conjuncts(condition: &[Node]) -> Vec<&[Node]> {
    let mut parts = Vec::new();
    let (mut start, mut cases, mut betweens) = (0, 0_usize, 0_usize);
    for (at, node) in condition.iter().enumerate() {
        match node {
            Node::Word(word) if word == "case" => cases += 1,
            Node::Word(word) if word == "end" => cases = cases.saturating_sub(1),
            _ if cases > 0 => {}
            Node::Word(word) if word == "or" => return Vec::new(),
            Node::Word(word) if word == "between" => betweens += 1,
            Node::Word(word) if word == "and" && betweens > 0 => betweens -= 1,
            Node::Word(word) if word == "and" => {
                parts.push(&condition[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&condition[start..]);
    parts
        .into_iter()
        .flat_map(|part| match part {
            [Node::Group(inner)] => conjuncts(inner),
            part => vec![part],
        })
        .collect()
}

/// Whether this is `account_id = $1`, of this table: by its alias, or without one where no other
/// table has the column. One spelling, so that it can be searched for.
pub fn says_account(part: &[Node], alias: &str, is_only_table: bool) -> bool {
    let is_column = |node: &Node| node.name() == Some("account_id");
    let is_equal = |sign: &Node, value: &Node| sign.is_sign("=") && *value == Node::Parameter(1);
    match part {
        [column, sign, value] => is_only_table && is_column(column) && is_equal(sign, value),
        [table, dot, column, sign, value] => {
            table.name() == Some(alias) && dot.is_sign(".") && is_column(column) && is_equal(sign, value)
        }
        _ => false,
    }
}
