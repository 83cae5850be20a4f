//! Isolation and portability, read from the statements and the schema themselves: one account per
//! statement and per key, and nothing that only one Postgres can do.

mod conditions;
mod expressions;
mod known;
mod levels;
mod lint;
mod misfits;
mod repeated;
mod sources;
pub mod tokens;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use self::{
    known::Known,
    levels::{Fault, Rule},
    lint::faults,
};
use crate::support::db::TestDb;

/// Statements that look across accounts, and why.
const ACROSS_ACCOUNTS: [&str; 9] = [
    // What is due is due for whom it may; the claim that follows is of one account.
    "store::lease::find_due (across accounts)",
    // Whose records may have changed; the claim that follows is of one account.
    "store::hint_drains::find_due (across accounts)",
    // Streams that nobody follows; the claim that follows is of one account.
    "store::push_streams::find_due (across accounts)",
    // An operator's list; the token's accounts are its filter.
    "store::accounts::list (across accounts)",
    // Whose numbers are to be read again; the lock that follows is of one account.
    "store::reparse::find_due (across accounts)",
    // An uninstall names a company, not whose it is; what follows is each of one account.
    "store::integrations::find_installed (across accounts)",
    // Figures of the whole service, without a word of whose they are.
    "store::figures::read (across accounts)",
    "store::figures::read_channels (across accounts)",
    // A database is restored for all its accounts at once.
    "store::changes::distrust_all (across accounts)",
];

/// The only one of them that writes: by the operator's hand, after a restore.
const WRITES_ACROSS_ACCOUNTS: &str = "store::changes::distrust_all (across accounts)";

/// The tables that `identity` alone writes, by the statements of `store::contact_writes`.
const PERSONS: [&str; 3] = ["contacts", "external_refs", "phone_numbers"];

/// The only other statements that write them, and why.
const WRITE_PERSONS_TOO: [&str; 1] = [
    // Which sweep has met a ref is the sweep's progress, and says nothing of whose record it is.
    "store::sweeps::mark_seen",
];

/// Tables whose rows are no account's, and why. On a distributed database each node has them.
pub const WITHOUT_ACCOUNT: [(&str, &str); 2] =
    [("_sqlx_migrations", "what was done to the schema"), ("schema_compatibility", "which programs run on the schema")];

/// Whether the rows of this table are no account's.
pub fn is_without_account(table: &str) -> bool {
    WITHOUT_ACCOUNT.iter().any(|(name, _)| *name == table)
}

/// Indexes for scans across accounts: what is due, what a CRM names by its own number alone, and
/// what is old enough to be forgotten. None may be unique.
const SCANS: [&str; 5] =
    ["integrations_due_idx", "integrations_company_idx", "calls_created_idx", "hints_due_idx", "push_streams_due_idx"];

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

/// Statements that write several tables, and why that is not several statements of one transaction:
/// the pool of the call path has none (a cancelled one could stay open), and the parts must be kept
/// together.
const SEVERAL_WRITES: [&str; 5] = [
    // The stranger, its number, its first change and the call's answer: a call that is cut off
    // leaves all or nothing.
    "store::contact_writes::placeholders::insert",
    // An answer given makes doubtful what an automation was told of the call before.
    "store::calls::store_answer",
    // The agent's choice, for the call and for the number.
    "store::calls::select",
    // A click is taken once, by the call that it is for.
    "store::expected_calls::consume",
    // A decision and the correction that follows from it.
    "store::requester_decisions::try_record",
];

/// Statements that ask the database for the time: of leases and claims, which processes with
/// different clocks share, and before calls are forgotten, so that a clock of ours that is ahead
/// forgets nothing.
const BY_THE_DATABASES_CLOCK: [&str; 14] = [
    "store::access::claim",
    "store::access::find",
    "store::access::release",
    "store::audit::forget_batch",
    "store::hint_drains::find_due (across accounts)",
    "store::lease::claim",
    "store::lease::claim_for_hints",
    "store::lease::extend (the database's time)",
    "store::lease::find_due (across accounts)",
    "store::lease::is_held",
    "store::push_streams::claim",
    "store::push_streams::extend (the database's time)",
    "store::push_streams::find_due (across accounts)",
    "store::retention::remove_calls",
];

/// What the lists above allow to this statement.
fn is_allowed(name: &str, rule: Rule) -> bool {
    list_for(rule).contains(&name)
}

fn list_for(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::Account => &ACROSS_ACCOUNTS,
        Rule::OneWrite => &SEVERAL_WRITES,
        Rule::Clock => &BY_THE_DATABASES_CLOCK,
        _ => &[],
    }
}

/// Every statement is one account's, and fit for a distributed database.
#[tokio::test]
async fn statements_are_one_accounts_and_distributable() {
    let known = Known::read(&TestDb::create().await).await;
    let mut used = BTreeSet::new();
    let mut broken = Vec::new();
    for (name, sql) in statements() {
        if ACROSS_ACCOUNTS.contains(&name.as_str()) {
            assert_eq!(lint::writes(&sql), name == WRITES_ACROSS_ACCOUNTS, "{name} writes across accounts");
        }
        for Fault { rule, what } in faults(&sql, &known) {
            if is_allowed(&name, rule) {
                used.insert((name.clone(), list_for(rule)));
            } else {
                broken.push(format!("{name}: {rule:?}: {what}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let lists = [&ACROSS_ACCOUNTS[..], &SEVERAL_WRITES, &BY_THE_DATABASES_CLOCK];
    for (list, name) in lists.iter().flat_map(|list| list.iter().map(move |name| (*list, *name))) {
        assert!(used.contains(&(name.to_owned(), list)), "{name} is allowed what it does not need any more");
    }
}

#[tokio::test]
async fn contacts_refs_and_numbers_are_written_by_one_module() {
    let known = Known::read(&TestDb::create().await).await;
    let mut others = BTreeSet::new();
    for (name, sql) in statements() {
        let writes_persons = lint::written_tables(&sql, &known).iter().any(|table| PERSONS.contains(&table.as_str()));
        if writes_persons && !name.starts_with("store::contact_writes::") {
            others.insert(name);
        }
    }

    assert_eq!(others, BTreeSet::from(WRITE_PERSONS_TOO.map(str::to_owned)));
}

#[test]
fn every_statement_names_its_place() {
    let mut names = BTreeSet::new();
    for (name, sql) in statements() {
        assert!(sql.starts_with("-- store::"), "the first line names the place:\n{sql}");
        let place: Vec<&str> = name.split(' ').next().unwrap().split("::").collect();
        let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let (file, function) = match place[..] {
            ["store", folder, file, function] if store.join(folder).is_dir() => (format!("{folder}/{file}"), function),
            ["store", file, function, ..] => (file.to_owned(), function),
            _ => panic!("{name}"),
        };
        let source = store.join(format!("{file}.rs"));
        let source = fs::read_to_string(&source).unwrap_or_else(|_| panic!("{name}: there is no {}", source.display()));
        assert!(source.contains(&format!("-- {name}")), "{name} is not in that file");
        assert!(
            source.contains(&format!("fn {function}")) || source.contains(&format!("impl {function}")),
            "{name}: no such function"
        );
        assert!(names.insert(name.clone()), "two statements have one name: {name}");
    }
}

/// Statements and migrations use nothing that does not travel.
#[test]
fn statements_and_migrations_use_only_what_travels() {
    let mut texts = statements();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for file in fs::read_dir(migrations).unwrap() {
        let path = file.unwrap().path();
        texts.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    for (name, text) in texts {
        let code: String = text.lines().map(|line| line.split("--").next().unwrap()).collect::<Vec<_>>().join(" ");
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        // What tables and columns mean is said in words.
        let mut parts = code.split("comment on ");
        let first = parts.next().unwrap_or_default().to_owned();
        let code = parts.fold(first, |code, part| code + part.split_once("';").map_or("", |(_, rest)| rest));
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
    }
}

#[tokio::test]
async fn every_key_begins_with_the_account() {
    let db = TestDb::create().await;
    let keys: Vec<(String, String, bool, String)> = sqlx::query_as(
        "select c.relname::text, i.indexrelid::regclass::text, i.indisunique, a.attname::text
        from pg_index i
        join pg_class c on c.oid = i.indrelid and c.relnamespace = 'public'::regnamespace
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]",
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
    for (table, index, is_unique, first) in keys {
        let is_scan = SCANS.contains(&index.as_str()) && !is_unique;
        assert!(first == "account_id" || is_scan || is_without_account(&table), "{index} begins with {first}");
    }
    for (name, here, there) in foreign {
        assert_eq!((here.as_str(), there.as_str()), ("account_id", "account_id"), "{name}");
    }
    let unscoped: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
        and not exists (
            select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id' and a.attnum = 1 and a.attnotnull)
        order by 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert_eq!(
        unscoped,
        WITHOUT_ACCOUNT.map(|(table, _)| table),
        "the first column of every other table is the account"
    );
    let programs = db.number("select (select count(*) from pg_trigger where not tgisinternal) + (select count(*) from pg_class where relkind = 'S')").await;
    assert_eq!(programs, 0, "no trigger, no sequence");
}
