//! Rules of migrations that run while calls are answered, read from their text: none takes a lock
//! that calls wait for, or changes what the release before needs. docs/writing-migrations.md says
//! them to people.

use std::collections::{BTreeMap, BTreeSet};

use contact_sync::store::schema::ProgramVersion;

use crate::operations::statements::tokens::{Node, nodes};

/// The first line of a file that is no transaction.
const NO_TRANSACTION: &str = "-- no-transaction";
/// How a file says that nobody uses any more what it takes away.
const UNUSED: &str = "-- unused since ";

/// What earlier files have made.
#[derive(Default)]
pub struct EarlierFiles {
    /// Checks that a column is not null: by name, its table and column, and whether all rows were
    /// looked at.
    not_null_checks: BTreeMap<String, (String, String, bool)>,
    oldest_program: Option<ProgramVersion>,
}

/// One file, while it is read.
struct MigrationText<'a> {
    text: &'a str,
    is_transaction: bool,
    statements: usize,
    /// Made by this file: nobody uses them yet.
    new_tables: BTreeSet<String>,
    /// What was there before, and is locked more strongly than calls do.
    locked_tables: BTreeSet<String>,
    /// Indexes that were dropped where they were left invalid.
    dropped_indexes: BTreeSet<String>,
    faults: Vec<String>,
}

/// What is wrong with a file, after those before it.
pub fn faults(text: &str, earlier: &mut EarlierFiles) -> Vec<String> {
    let nodes = match nodes(text) {
        Ok(nodes) => nodes,
        Err(what) => return vec![what],
    };
    let statements: Vec<&[Node]> =
        nodes.split(|node| node.is_sign(";")).filter(|statement| !statement.is_empty()).collect();
    let mut file = MigrationText {
        text,
        is_transaction: !text.starts_with(NO_TRANSACTION),
        statements: statements.len(),
        new_tables: BTreeSet::new(),
        locked_tables: BTreeSet::new(),
        dropped_indexes: BTreeSet::new(),
        faults: Vec::new(),
    };
    for statement in &statements {
        file.statement(statement, earlier);
    }
    file.finish(&statements, earlier);
    file.faults
}

/// The version that a file writes, if it does so once.
pub fn oldest_program(text: &str) -> Option<ProgramVersion> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let forms = ["set oldest_program = '", "(oldest_program) values ('"];
    let mut written = forms.iter().flat_map(|form| code.split(form).skip(1)).map(|rest| rest.split('\'').next());
    match (written.next(), written.next()) {
        (Some(version), None) => version?.parse().ok(),
        _ => None,
    }
}

/// A word for each node; empty for what is none.
fn words(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.name().unwrap_or_default()).collect()
}

impl MigrationText<'_> {
    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn statement(&mut self, statement: &[Node], earlier: &mut EarlierFiles) {
        let words = words(statement);
        let is_concurrent = words.contains(&"concurrently");
        let is_last = matches!(words[..], ["update" | "insert", ..]) && words.contains(&"schema_compatibility");
        if !self.is_transaction && !is_concurrent && !is_last {
            self.fault(format!("no transaction, but `{}` is not concurrent: a file of its own", words.join(" ")));
        }
        match words[..] {
            ["create", "table", "if", ..] | ["create", "index", "concurrently", "if", ..] => {
                self.fault("`if not exists` takes for right what is there; say what is made");
            }
            ["create", "table", name, ..] => {
                self.new_tables.insert(name.to_owned());
                self.lock_referenced(&statement[3..]);
            }
            ["create", "index", "concurrently", name, ..] | ["create", "unique", "index", "concurrently", name, ..] => {
                self.concurrent_index(name);
            }
            ["create", "index", _, "on", table, ..] | ["create", "unique", "index", _, "on", table, ..] => {
                if !self.new_tables.contains(table) {
                    self.fault(format!("an index on {table}, which is in use, without `concurrently`: writers wait"));
                }
            }
            ["drop", "index", "concurrently", "if", "exists", name] => {
                self.dropped_indexes.insert(name.to_owned());
                if self.is_transaction {
                    self.fault("`concurrently` in a transaction");
                }
            }
            ["drop", "index", ..] => self.fault("an index is dropped by `drop index concurrently if exists`"),
            ["drop", "table", table, ..] => {
                self.locked_tables.insert(table.to_owned());
                self.taken_away("a table", earlier);
            }
            ["alter", "table", "if" | "only", ..] => self.fault("say which table is altered"),
            ["alter", "table", table, ..] => self.alter(table, &statement[3..], earlier),
            ["comment", "on", ..] => {}
            _ if is_last => {}
            ["update" | "delete" | "insert" | "merge" | "truncate" | "copy", ..] => {
                self.fault("rows are written by the program, in batches, once every process knows how");
            }
            ["lock" | "vacuum" | "cluster" | "reindex" | "refresh", ..] => {
                self.fault(format!("`{}` makes calls wait", words[0]));
            }
            ["begin" | "commit" | "start" | "rollback" | "set" | "reset" | "savepoint", ..] => {
                self.fault(format!(
                    "`{}`: the program says when a transaction begins and how long a lock may take",
                    words[0]
                ));
            }
            _ => self.fault(format!("`{}` is not known to run beside calls", words.join(" "))),
        }
    }

    fn concurrent_index(&mut self, name: &str) {
        if self.is_transaction {
            self.fault("`concurrently` in a transaction");
        }
        if !self.dropped_indexes.contains(name) {
            self.fault(format!("before {name} is made, what failed is dropped: `drop index concurrently if exists`"));
        }
    }

    /// A reference locks the other table against writes, as long as the transaction lasts.
    fn lock_referenced(&mut self, nodes: &[Node]) {
        for (at, node) in nodes.iter().enumerate() {
            if let Node::Group(inner) = node {
                self.lock_referenced(inner);
            }
            if node.is_word("references")
                && let Some(table) = nodes.get(at + 1).and_then(Node::name)
                && !self.new_tables.contains(table)
            {
                self.locked_tables.insert(table.to_owned());
            }
        }
    }

    fn alter(&mut self, table: &str, subcommand: &[Node], earlier: &mut EarlierFiles) {
        if self.new_tables.contains(table) {
            return;
        }
        self.locked_tables.insert(table.to_owned());
        let words = words(subcommand);
        match words[..] {
            ["add", "column", name, ..] => self.add_column(name, subcommand),
            ["add", "constraint", name, ..] => self.add_constraint(table, name, subcommand, earlier),
            ["validate", "constraint", name] => {
                if self.statements > 2 {
                    self.fault("`validate constraint` reads the whole table: a file of its own, so that no lock is held for so long");
                }
                if let Some((_, _, is_validated)) = earlier.not_null_checks.get_mut(name) {
                    *is_validated = true;
                }
            }
            ["drop", "constraint", name] => {
                earlier.not_null_checks.remove(name);
            }
            ["drop", "column", ..] => self.taken_away("a column", earlier),
            ["alter", "column", _, "drop", "default"] => self.taken_away("a default", earlier),
            ["alter", "column", _, "drop", "not", "null"] | ["alter", "column", _, "set", "default", ..] => {}
            ["alter", "column", column, "set", "not", "null"] => {
                let is_checked = |(of, checked, is_validated): &(String, String, bool)| {
                    of == table && checked == column && *is_validated
                };
                if !earlier.not_null_checks.values().any(is_checked) {
                    self.fault(format!(
                        "`set not null` reads the whole table, unless an earlier file has validated `check ({column} is not null)`"
                    ));
                }
            }
            ["alter", "column", _, "type", ..] | ["alter", "column", _, "set", "data", ..] => {
                self.fault("a column of another type: add a new one instead");
            }
            ["rename", ..] => {
                self.fault("the release before knows the old name: add what is new, drop the old a release later");
            }
            _ => self.fault(format!("`alter table {table} {}` is not known to run beside calls", words.join(" "))),
        }
    }

    fn add_column(&mut self, name: &str, subcommand: &[Node]) {
        let words = words(subcommand);
        let default = words.iter().position(|word| *word == "default").map(|at| &subcommand[at + 1..]);
        if words.contains(&"null") && words.contains(&"not") && default.is_none() {
            self.fault(format!("{name} is not null and has no default: the release before cannot insert"));
        }
        if let Some(default) = default {
            let is_constant = match default {
                [Node::Text | Node::Number, rest @ ..] => !rest.iter().any(|node| matches!(node, Node::Group(_))),
                [Node::Sign(sign), Node::Number, ..] => sign == "-",
                [node, ..] => ["true", "false", "null"].iter().any(|word| node.is_word(word)),
                [] => false,
            };
            if !is_constant {
                self.fault(format!("the default of {name} is calculated: every row would be written"));
            }
        }
        for word in ["references", "check", "unique", "primary", "constraint"] {
            if words.contains(&word) {
                self.fault(format!(
                    "{name} comes with `{word}`, which reads the table or makes an index: a statement of its own"
                ));
            }
        }
        for word in ["generated", "identity", "serial", "bigserial", "smallserial"] {
            if words.contains(&word) {
                self.fault(format!("{name} is calculated by the database: every row would be written"));
            }
        }
    }

    fn add_constraint(&mut self, table: &str, name: &str, subcommand: &[Node], earlier: &mut EarlierFiles) {
        let words = words(subcommand);
        self.lock_referenced(subcommand);
        match words.get(3) {
            Some(&("check" | "foreign")) if !words.ends_with(&["not", "valid"]) => {
                self.fault(format!(
                    "{name} reads the whole table: add it `not valid`, and validate it in a file of its own"
                ));
            }
            Some(&"check") => {
                if let Some(Node::Group(condition)) = subcommand.get(4)
                    && let [column, "is", "not", "null"] = self::words(condition)[..]
                {
                    let check = (table.to_owned(), column.to_owned(), false);
                    earlier.not_null_checks.insert(name.to_owned(), check);
                }
            }
            Some(&"foreign") => {}
            _ => self.fault(format!("{name} makes an index: `create unique index concurrently` instead")),
        }
    }

    /// What is gone must not be used by the release before: it has said so since a release, and
    /// programs from before that do not start any more.
    fn taken_away(&mut self, what: &str, earlier: &EarlierFiles) {
        let since = self.text.lines().find_map(|line| line.strip_prefix(UNUSED)).map(str::parse::<ProgramVersion>);
        let oldest = oldest_program(self.text).or(earlier.oldest_program);
        match since {
            Some(Ok(since)) if oldest.is_some_and(|oldest| oldest >= since) => {}
            Some(Ok(since)) => {
                self.fault(format!("{what} is used by programs before {since}: write that as oldest_program"));
            }
            _ => self.fault(format!("{what} is taken away: say `{UNUSED}1.2.3`, the first release without it")),
        }
    }

    fn finish(&mut self, statements: &[&[Node]], earlier: &mut EarlierFiles) {
        if self.locked_tables.len() > 1 {
            let tables: Vec<&str> = self.locked_tables.iter().map(String::as_str).collect();
            self.fault(format!("{} are locked together: a file for each", tables.join(" and ")));
        }
        let is_last = |statement: &[Node]| {
            matches!(
                words(statement)[..],
                ["update", "schema_compatibility", "set", "oldest_program", "", ""]
                    | ["insert", "into", "schema_compatibility", "", "values", ""]
            )
        };
        let written = oldest_program(self.text);
        match written {
            Some(version) if statements.last().is_some_and(|statement| is_last(statement)) => {
                if earlier.oldest_program.is_some_and(|before| version < before) {
                    self.fault(format!("oldest_program goes back to {version}"));
                }
                earlier.oldest_program = Some(version);
            }
            _ => self.fault("the last statement is `update schema_compatibility set oldest_program = '1.2.3'`, once"),
        }
        if !self.is_transaction {
            self.finish_statements();
        }
    }

    /// The program splits such a file at its semicolons, past lines of comment.
    fn finish_statements(&mut self) {
        let code = self.text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
        let parts = code.split(';').filter(|part| !part.trim().is_empty()).count();
        if parts != self.statements || code.contains("--") || code.contains("/*") || code.contains('$') {
            self.fault("without a transaction: comments on lines of their own, and no semicolon in a text");
        }
        if !self.text.contains("concurrently") {
            self.fault("no transaction, and nothing concurrent");
        }
    }
}
