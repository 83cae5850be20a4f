//! Rules of the migrations, read from their text, and that docs/scaling.md distributes each table
//! that they make.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    operations::statements::{
        WITHOUT_ACCOUNT, is_without_account,
        tokens::{Node, nodes},
    },
    support::db::TestDb,
};

/// The text of all migrations, in order.
pub fn migrations() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut texts: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    texts.sort();
    texts
}

/// What in a migration would not run on a distributed database, or not mean the same there.
fn faults(sql: &str) -> Vec<String> {
    match nodes(sql) {
        Err(what) => vec![what],
        Ok(nodes) => nodes
            .split(|node| node.is_sign(";"))
            .filter(|statement| !statement.is_empty())
            .flat_map(statement_faults)
            .collect(),
    }
}

fn statement_faults(statement: &[Node]) -> Vec<String> {
    let words: Vec<&str> = statement.iter().map(|node| node.name().unwrap_or_default()).collect();
    let mut faults = match words[..] {
        ["create", "table", name, "", ..] => table_faults(name, statement),
        ["create", "unique", "index", "concurrently", _, "on", table, ..] => index_faults(table, statement.get(7)),
        ["create", "unique", "index", _, "on", table, ..] => index_faults(table, statement.get(6)),
        ["create", "index", "concurrently", _, "on", _, ..]
        | ["create", "index", _, "on", _, ..]
        | ["drop", "index", "concurrently", "if", "exists", _]
        | ["drop", "index" | "table", _]
        | ["insert", "into", "schema_compatibility", ..]
        | ["update", "schema_compatibility", ..]
        | ["comment", "on", ..] => Vec::new(),
        ["alter", "table", table, ..] => alter_faults(table, &statement[3..]),
        _ => vec![format!("{} is neither a table nor an index", words.join(" "))],
    };
    faults.extend(forbidden(statement));
    faults
}

/// Anywhere in a statement.
fn forbidden(nodes: &[Node]) -> Vec<String> {
    const WORDS: [&str; 13] = [
        "serial",
        "bigserial",
        "smallserial",
        "generated",
        "nextval",
        "inherits",
        "partition",
        "unlogged",
        "temporary",
        "temp",
        "like",
        "exclude",
        "returns",
    ];
    let mut faults = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        if let Node::Word(word) = node
            && WORDS.contains(&word.as_str())
        {
            faults.push(format!("{word} does not travel"));
        }
        // Ids and times come from the service.
        if node.is_word("default") {
            let is_call = matches!(nodes.get(at + 2), Some(Node::Group(_)));
            let is_clock = nodes.get(at + 1).and_then(Node::name).is_some_and(|name| name.starts_with("current_"));
            if is_call || is_clock {
                faults.push("a default that is calculated".into());
            }
        }
        if let Node::Group(inner) = node {
            faults.extend(forbidden(inner));
        }
    }
    faults
}

fn table_faults(name: &str, statement: &[Node]) -> Vec<String> {
    let [_, _, _, Node::Group(body)] = statement else {
        return vec![format!("{name} is not a plain table")];
    };
    if is_without_account(name) {
        return Vec::new();
    }
    let items: Vec<&[Node]> = body.split(|node| node.is_sign(",")).collect();
    let mut faults: Vec<String> = items.iter().flat_map(|item| key_faults(name, item)).collect();
    let words = |item: &[Node]| item.iter().filter_map(Node::name).map(str::to_owned).collect::<Vec<_>>();
    if words(items[0]) != ["account_id", "uuid", "not", "null"] {
        faults.push(format!("the first column of {name} is not account_id uuid not null"));
    }
    if !items.iter().any(|item| item.windows(2).any(|pair| pair[0].is_word("primary") && pair[1].is_word("key"))) {
        faults.push(format!("{name} has no primary key"));
    }
    faults
}

/// Keys begin with the account, on both ends, and are written as constraints of the table.
fn key_faults(table: &str, item: &[Node]) -> Vec<String> {
    let begins = |node: Option<&Node>| matches!(node, Some(Node::Group(columns)) if columns.first().and_then(Node::name) == Some("account_id"));
    let mut faults = Vec::new();
    for (at, node) in item.iter().enumerate() {
        let is_key = ["primary", "foreign"].iter().any(|word| node.is_word(word));
        let columns = if is_key { item.get(at + 2) } else { item.get(at + 1) };
        if (is_key || node.is_word("unique")) && !begins(columns) {
            faults.push(format!("a key of {table} does not begin with account_id"));
        }
        if node.is_word("references") {
            let is_of_table = item.iter().any(|node| node.is_word("foreign"));
            if !is_of_table || !begins(item.get(at + 2)) {
                faults.push(format!("a reference of {table} does not begin with account_id"));
            }
        }
    }
    faults
}

fn index_faults(table: &str, columns: Option<&Node>) -> Vec<String> {
    match columns {
        Some(Node::Group(columns)) if columns.first().and_then(Node::name) == Some("account_id") => Vec::new(),
        _ => vec![format!("a unique index of {table} does not begin with account_id")],
    }
}

fn alter_faults(table: &str, subcommand: &[Node]) -> Vec<String> {
    let mut faults = key_faults(table, subcommand);
    let words: Vec<&str> = subcommand.iter().map(|node| node.name().unwrap_or_default()).collect();
    if subcommand.iter().any(|node| node.is_sign(",")) {
        faults.push(format!("several subcommands in one `alter table {table}`"));
    }
    let is_allowed = matches!(
        words[..],
        ["add", "column" | "constraint", _, ..]
            | ["drop", "column" | "constraint", _]
            | ["validate", "constraint", _]
            | ["alter", "column", _, ..]
    );
    if !is_allowed {
        faults.push(format!("`alter table {table} {}`; write another constraint instead", words.join(" ")));
    }
    let is_column = matches!(words[..], ["drop" | "alter" | "add", "column", "account_id", ..]);
    if is_column || matches!(words[..], ["alter", "column", _, "type", ..] | ["alter", "column", _, "set", "data", ..])
    {
        faults.push(format!("a column of {table} is made anew"));
    }
    if words[..].starts_with(&["add", "column"]) && words.contains(&"constraint") {
        faults.push(format!("a column and a constraint of {table} in one subcommand"));
    }
    faults
}

#[test]
fn migrations_run_on_a_distributed_database() {
    for (name, text) in migrations() {
        assert_eq!(faults(&text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_rules_of_migrations_find_what_breaks_them() {
    let table = |columns: &str| format!("create table t ({columns})");
    let key = "constraint t_pkey primary key (account_id, id)";
    let wrong = [
        "alter table t add column a integer, add column b integer".to_owned(),
        "alter table t add column a integer, add constraint c check (a > 0)".to_owned(),
        "ALTER TABLE t DROP CONSTRAINT a, ADD CONSTRAINT b CHECK (x > 0)".to_owned(),
        "alter table t add column a integer constraint c check (a > 0)".to_owned(),
        "alter table t alter constraint c deferrable initially deferred".to_owned(),
        "alter table t alter column a type bigint".to_owned(),
        "alter table t alter column account_id drop not null".to_owned(),
        "alter table t drop column account_id".to_owned(),
        "alter table t rename column account_id to customer_id".to_owned(),
        "alter table t add column a uuid references u (account_id)".to_owned(),
        "alter table t add constraint c unique (id)".to_owned(),
        "alter table t add constraint c foreign key (id) references u (id)".to_owned(),
        "alter table t add constraint c foreign key (account_id, id) references u (id, account_id)".to_owned(),
        "alter table t add constraint c foreign key (account_id, id) references u".to_owned(),
        "alter table t enable row level security".to_owned(),
        "alter table t set unlogged".to_owned(),
        table("id uuid not null, account_id uuid not null, constraint t_pkey primary key (account_id, id)"),
        table("account_id uuid, id uuid not null, constraint t_pkey primary key (account_id, id)"),
        table("account_id uuid not null, id uuid not null, constraint t_pkey primary key (id, account_id)"),
        table("account_id uuid not null, id uuid primary key"),
        table("account_id uuid not null, id uuid not null"),
        table(&format!("account_id uuid not null, id bigserial not null, {key}")),
        table(&format!("account_id uuid not null, id bigint generated always as identity, {key}")),
        table(&format!("account_id uuid not null, id uuid not null default gen_random_uuid(), {key}")),
        table(&format!("account_id uuid not null, at timestamptz default current_timestamp, {key}")),
        table(&format!("account_id uuid not null, id uuid not null unique, {key}")),
        table(&format!("account_id uuid not null, id uuid references u (id), {key}")),
        format!("{} partition by hash (account_id)", table(&format!("account_id uuid not null, id uuid not null, {key}"))),
        "create unlogged table t (account_id uuid not null, constraint t_pkey primary key (account_id))".to_owned(),
        "create temporary table t (account_id uuid not null, constraint t_pkey primary key (account_id))".to_owned(),
        "create table t as select 1".to_owned(),
        "create unique index i on t (id, account_id)".to_owned(),
        "create unique index i on t (id) where id is not null".to_owned(),
        "create unique index concurrently i on t (id)".to_owned(),
        "update contacts set version = 1".to_owned(),
        "create view v as select 1".to_owned(),
        "create or replace view v as select 1".to_owned(),
        "create materialized view v as select 1".to_owned(),
        "create trigger g after insert on t execute function f()".to_owned(),
        "create function f() returns integer language sql as $$ select 1; $$".to_owned(),
        "create or replace procedure p() language sql as 'select 1'".to_owned(),
        "create sequence s".to_owned(),
        "create extension pg_trgm".to_owned(),
        "create rule r as on insert to t do nothing".to_owned(),
        "do $$ begin perform 1; end $$".to_owned(),
        "-- alter table\nupdate t set a = 1".to_owned(),
        "create table t (account_id uuid not null, constraint t_pkey primary key (account_id)); create view v as select 1;".to_owned(),
    ];
    for sql in wrong {
        assert!(!faults(&sql).is_empty(), "{sql}");
    }
    for sql in [
        "-- create view\ncreate table t (account_id uuid not null, id uuid not null, constraint t_pkey primary key (account_id, id),
            constraint t_fkey foreign key (account_id, id) references u (account_id, id) on delete cascade);",
        "create index i on t (created_at);",
        "create unique index i on t (account_id, id) where id is not null",
        "drop index concurrently if exists i; create unique index concurrently i on t (account_id, id);",
        "alter table t validate constraint c",
        "update schema_compatibility set oldest_program = '0.1.0'",
        "alter table t add column a integer not null default 0 check (a in (1, 2));",
        "alter table t add constraint c unique (account_id, a); alter table t drop constraint d;",
        "alter table t alter column a set default 'view'",
        "drop index i;",
    ] {
        assert_eq!(faults(sql), Vec::<String>::new(), "{sql}");
    }
}

/// The tables of the block of SQL in docs/scaling.md, in its order, each with the table that it
/// lies beside.
fn distributed(text: &str) -> Vec<(String, Option<String>)> {
    let calls = text.lines().filter_map(|line| line.trim().strip_prefix("select create_distributed_table("));
    calls
        .map(|call| {
            let names: Vec<&str> = call.split('\'').skip(1).step_by(2).collect();
            assert_eq!(names[1], "account_id", "{call}");
            (names[0].to_owned(), names.get(2).map(|name| (*name).to_owned()))
        })
        .collect()
}

/// The page `docs/scaling.md` distributes each table, with parents before children.
#[tokio::test]
async fn docs_scaling_distributes_parents_before_children() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md")).unwrap();
    let db = TestDb::create().await;
    let mut tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    tables.retain(|table| !is_without_account(table));
    let keys: Vec<(String, String)> = sqlx::query_as(
        "select conrelid::regclass::text, confrelid::regclass::text from pg_constraint
        where contype = 'f' and connamespace = 'public'::regnamespace",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();

    let listed = distributed(&text);
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each table once");
    assert_eq!(
        names.iter().copied().collect::<BTreeSet<_>>(),
        tables.iter().map(String::as_str).collect(),
        "docs/scaling.md and the schema have the same tables"
    );
    let place = |table: &str| names.iter().position(|name| *name == table);
    for (child, parent) in keys {
        assert!(place(&parent) <= place(&child), "{parent} comes before {child}");
    }
    for (name, beside) in &listed {
        let expected = (name != "accounts").then(|| "accounts".to_owned());
        assert_eq!(*beside, expected, "{name} lies beside the accounts");
    }
    for (table, _) in WITHOUT_ACCOUNT {
        let is_everywhere = text.contains(&format!("select create_reference_table('{table}')"));
        assert!(is_everywhere, "{table} is on every node, since a process may be connected to any");
    }
}
