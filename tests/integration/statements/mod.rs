//! Isolation and portability, read from the statements and the schema themselves: one account per statement and per key, and nothing
//! that only one Postgres can do.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::support::db::TestDb;

/// Statements that look across accounts, and why.
const ACROSS_ACCOUNTS: [&str; 3] = [
    // What is due is due for whom it may; the claim that follows is of one account.
    "store::lease::find_due (across accounts)",
    // An operator's list; the token's accounts are its filter.
    "store::accounts::list (across accounts)",
    // Whose numbers are to be read again; the lock that follows is of one account.
    "store::reread::find_due (across accounts)",
];

/// Indexes for scans across accounts: what is due, and what is old enough to be forgotten. None may be unique.
const SCANS: [&str; 2] = ["integrations_due_idx", "calls_created_idx"];

fn statements() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut statements = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let query = json["query"].as_str().unwrap().to_owned();
        let name = query.lines().next().unwrap().trim_start_matches("-- ").to_owned();
        statements.push((name, query));
    }
    assert!(statements.len() > 50, "the statements are in .sqlx");
    statements.sort();
    statements
}

fn words(sql: &str) -> Vec<String> {
    sql.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$' || c == '.'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

const TABLES: [&str; 18] = [
    "accounts",
    "integrations",
    "sync_runs",
    "contacts",
    "external_refs",
    "phone_numbers",
    "calls",
    "expected_calls",
    "authorizations",
    "selections",
    "changes",
    "feeds",
    "requester_decisions",
    "requester_grounds",
    "suppression_keys",
    "suppressions",
    "contact_details",
    "integration_freshness",
];

/// How often a statement names a table, and how often it says which account's rows of it are meant.
fn tables_and_accounts(sql: &str) -> (usize, usize) {
    let words = words(sql);
    let names_table = |at: usize| ["from", "join", "into", "update", "using"].contains(&words[at - 1].as_str());
    let tables = (1..words.len()).filter(|at| TABLES.contains(&words[*at].as_str()) && names_table(*at)).count();
    let flat = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let wheres = flat.matches("account_id = $1").count();
    // An insert: account_id is the first column, $1 its value.
    let inserts = flat
        .match_indices("insert into ")
        .filter(|(at, _)| {
            let rest = &flat[*at..];
            let columns = rest.split_once('(').map_or("", |(_, columns)| columns);
            let values = rest.split_once(')').map_or("", |(_, values)| values.trim_start());
            columns.starts_with("account_id") && (values.starts_with("values ($1") || values.starts_with("select $1"))
        })
        .count();
    (tables, wheres + inserts)
}

#[test]
fn every_statement_says_whose_rows_it_means_for_each_table_that_it_names() {
    let mut across = BTreeSet::new();
    for (name, sql) in statements() {
        if ACROSS_ACCOUNTS.contains(&name.as_str()) {
            across.insert(name);
            continue;
        }
        let (tables, accounts) = tables_and_accounts(&sql);
        assert!(tables > 0, "{name} names no table: is the list of tables here complete?");
        assert!(accounts >= tables, "{name} names {tables} tables and says {accounts} times `account_id = $1`:\n{sql}");
    }
    assert_eq!(across.len(), ACROSS_ACCOUNTS.len(), "a statement that is allowed to look across accounts is gone");
}

#[test]
fn the_check_of_statements_finds_what_is_missing() {
    for wrong in [
        "select 1 from contacts where contact_id = $1",
        "select 1 from contacts where account_id = $2",
        "select 1 from contacts c join external_refs e on e.contact_id = c.contact_id where c.account_id = $1",
        "insert into calls (call_id, account_id) values ($1, $2)",
        "insert into calls (account_id, call_id) select $2, $1 from x",
        "update calls set outcome = $2",
        "delete from calls using contacts where calls.account_id = $1",
    ] {
        let (tables, accounts) = tables_and_accounts(wrong);
        assert!(accounts < tables, "{wrong}");
    }
    let right = "insert into calls (account_id, call_id) select $1, $2 from contacts c where c.account_id = $1";
    assert_eq!(tables_and_accounts(right), (2, 2));
}

#[test]
fn every_statement_names_its_place() {
    let mut names = BTreeSet::new();
    for (name, sql) in statements() {
        assert!(sql.starts_with("-- store::"), "the first line names the place:\n{sql}");
        let [file, function] = name.strip_prefix("store::").unwrap().split("::").collect::<Vec<_>>()[..2] else {
            panic!("{name}");
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/store/{file}.rs"));
        let source = fs::read_to_string(&source).unwrap_or_else(|_| panic!("{name}: there is no {}", source.display()));
        assert!(source.contains(&format!("-- {name}")), "{name} is not in that file");
        let function = function.split_whitespace().next().unwrap();
        assert!(
            source.contains(&format!("fn {function}")) || source.contains(&format!("impl {function}")),
            "{name}: no such function"
        );
        assert!(names.insert(name.clone()), "two statements have one name: {name}");
    }
}

#[test]
fn statements_and_migrations_use_nothing_that_does_not_travel() {
    let mut texts = statements();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for file in fs::read_dir(migrations).unwrap() {
        let path = file.unwrap().path();
        texts.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    for (name, text) in texts {
        let code: String = text.lines().map(|line| line.split("--").next().unwrap()).collect::<Vec<_>>().join(" ");
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        for forbidden in [
            "trigger",
            "sequence",
            "serial",
            "nextval",
            "advisory",
            "listen ",
            "notify ",
            "skip locked",
            "temporary",
            "temp table",
            "generated ",
            "unlogged",
            "plpgsql",
            "create function",
            "materialized view",
            "gen_random_uuid",
            " set local",
            "set_config",
        ] {
            assert!(!code.contains(forbidden), "{name} uses {forbidden}");
        }
        // Leases use the database's clock, and so does the claim of a refresh, which is one; and forgetting asks it too, so that a clock of ours that is ahead forgets nothing.
        let asks_time =
            ["now()", "clock_timestamp()", "current_timestamp", "transaction_timestamp()", "statement_timestamp()"];
        if asks_time.iter().any(|time| code.contains(time)) {
            let is_lease = name.starts_with("store::lease::") || code.contains("lease_until");
            let is_lease =
                is_lease || name.starts_with("store::access::") || name == "store::retention::remove_batch (calls)";
            assert!(is_lease, "{name} asks the database for the time");
        }
    }
}

#[tokio::test]
async fn every_key_begins_with_the_account() {
    let db = TestDb::create().await;
    let keys: Vec<(String, bool, String)> = sqlx::query_as(
        "select i.indexrelid::regclass::text, i.indisunique, a.attname::text
        from pg_index i
        join pg_class c on c.oid = i.indrelid and c.relnamespace = 'public'::regnamespace
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where c.relname <> '_sqlx_migrations'",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let foreign: Vec<(String, String, String)> = sqlx::query_as(
        "select k.conname::text, a.attname::text, f.attname::text
        from pg_constraint k
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
        join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[1]
        where k.contype = 'f' and k.connamespace = 'public'::regnamespace",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();

    assert!(keys.len() >= 15 && foreign.len() >= 5);
    for (index, is_unique, first) in keys {
        let is_scan = SCANS.contains(&index.as_str()) && !is_unique;
        assert!(first == "account_id" || is_scan, "{index} begins with {first}");
    }
    for (name, here, there) in foreign {
        assert_eq!((here.as_str(), there.as_str()), ("account_id", "account_id"), "{name}");
    }
    let unscoped = db
        .number(
            "select count(*) from pg_class c where c.relkind in ('r', 'v') and c.relnamespace = 'public'::regnamespace
            and c.relname <> '_sqlx_migrations' and not exists (
                select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id' and a.attnum = 1 and a.attnotnull = (c.relkind = 'r'))",
        )
        .await;
    assert_eq!(unscoped, 0, "the first column of every table and view is the account");
    let programs = db.number("select (select count(*) from pg_trigger where not tgisinternal) + (select count(*) from pg_class where relkind = 'S')").await;
    assert_eq!(programs, 0, "no trigger, no sequence");
}
