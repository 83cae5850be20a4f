//! The rules of `lint` are kept by the migrations, and find what breaks them.

use contact_sync::store::schema::{ProgramSchema, ProgramVersion};

use super::{
    lint::{self, EarlierFiles, oldest_program},
    previous_release,
};
use crate::operations::migrations::migrations;

/// Appends what every file ends with.
fn with_program(sql: &str) -> String {
    format!("{sql};\nupdate schema_compatibility set oldest_program = '0.1.0';\n")
}

/// Faults of the last of these files, each of which ends as it must.
fn faults_of_last(files: &[&str]) -> Vec<String> {
    let mut earlier = EarlierFiles::default();
    files.iter().map(|sql| lint::faults(&with_program(sql), &mut earlier)).last().unwrap()
}

#[test]
fn no_migration_takes_lock_that_calls_wait_for() {
    let mut earlier = EarlierFiles::default();
    for (name, text) in migrations().iter().skip(1) {
        assert_eq!(lint::faults(text, &mut earlier), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn oldest_program_is_written_and_is_the_previous_release_at_most() {
    let (previous, newest_then) = previous_release::release();
    let own = ProgramSchema::own();
    let written: Vec<(String, Option<ProgramVersion>)> =
        migrations().into_iter().skip(1).map(|(name, text)| (name, oldest_program(&text))).collect();

    for (name, version) in &written {
        let version = version.unwrap_or_else(|| panic!("{name} writes no oldest_program"));
        assert!(version <= previous, "{name}: the previous release, {previous}, runs on the next one's schema");
    }
    let is_newer = own.newest_version() > newest_then;
    assert!(!is_newer || own.version() > previous, "the version rises with a release that has a migration");
    assert!(own.version() >= previous, "tests/fixtures/previous_release is of a release");
}

#[test]
fn migrations_beside_calls_are_accepted() {
    for files in [
        &["alter table calls add column agent_id text"][..],
        &["alter table calls add column score integer not null default -1"],
        &["alter table calls add column kind text not null default 'A'"],
        &["alter table calls add column is_new boolean not null default false; comment on column calls.is_new is 'x; y'"],
        &["create table t (account_id uuid not null, constraint t_fkey foreign key (account_id) references accounts (account_id));
            create unique index t_key on t (account_id); alter table t add constraint t_check check (true)"],
        &["-- no-transaction\n-- Why; for what.\ndrop index concurrently if exists i;\ncreate index concurrently i on calls (account_id)"],
        &["-- no-transaction\ndrop index concurrently if exists i"],
        &["alter table calls add constraint c check (e164 > 0) not valid", "alter table calls validate constraint c"],
        &["alter table calls drop constraint c; alter table calls add constraint c check (tier in ('A', 'B')) not valid"],
        &["alter table calls alter column tier drop not null; alter table calls alter column tier set default 'A'"],
        &[
            "alter table calls add constraint c check (tier is not null) not valid",
            "alter table calls validate constraint c",
            "alter table calls alter column tier set not null; alter table calls drop constraint c",
        ],
        &["-- unused since 0.1.0\nalter table calls drop column tier"],
        &["-- unused since 0.1.0\ndrop table selections"],
    ] {
        assert_eq!(faults_of_last(files), Vec::<String>::new(), "{files:?}");
    }
}

/// Each with the words that tell what is wrong.
const WRONG: &[(&str, &[&str])] = &[
    ("without `concurrently`", &["create index i on calls (account_id)"]),
    ("without `concurrently`", &["create unique index i on calls (account_id)"]),
    ("`concurrently` in a transaction", &["drop index concurrently if exists i; create index concurrently i on calls (a)"]),
    ("what failed is dropped", &["-- no-transaction\ncreate index concurrently i on calls (account_id)"]),
    ("what failed is dropped", &["-- no-transaction\ndrop index concurrently if exists j; create index concurrently i on calls (a)"]),
    ("if not exists", &["-- no-transaction\ncreate index concurrently if not exists i on calls (account_id)"]),
    ("if not exists", &["create table if not exists t (account_id uuid not null)"]),
    ("a file of its own", &["-- no-transaction\ndrop index concurrently if exists i; alter table calls add column a text"]),
    ("nothing concurrent", &["-- no-transaction\ncreate table t (account_id uuid not null)"]),
    ("no semicolon in a text", &["-- no-transaction\ndrop index concurrently if exists i; create index concurrently i on calls (a) where b = ';'"]),
    ("no semicolon in a text", &["-- no-transaction\ndrop index concurrently if exists i; -- why\ncreate index concurrently i on calls (a)"]),
    ("drop index concurrently", &["drop index i"]),
    ("has no default", &["alter table calls add column a integer not null"]),
    ("is calculated", &["alter table calls add column a timestamptz not null default now()"]),
    ("is calculated", &["alter table calls add column a uuid default gen_random_uuid()"]),
    ("is calculated", &["alter table calls add column a timestamptz default current_timestamp"]),
    ("is calculated", &["alter table calls add column a integer default ('1' || '2')::integer"]),
    ("is calculated by the database", &["alter table calls add column a bigint generated always as identity"]),
    ("is calculated by the database", &["alter table calls add column a bigserial"]),
    ("`references`", &["alter table calls add column a uuid references contacts (contact_id)"]),
    ("`check`", &["alter table calls add column a integer check (a > 0)"]),
    ("`unique`", &["alter table calls add column a integer unique"]),
    ("not valid", &["alter table calls add constraint c check (e164 > 0)"]),
    ("not valid", &["alter table calls add constraint c foreign key (account_id) references accounts (account_id)"]),
    ("makes an index", &["alter table calls add constraint c unique (account_id)"]),
    ("makes an index", &["alter table calls add constraint c primary key (account_id)"]),
    ("reads the whole table", &["alter table calls add column a text; alter table calls validate constraint c"]),
    ("set not null", &["alter table calls alter column tier set not null"]),
    (
        "set not null",
        &["alter table calls add constraint c check (tier is not null) not valid", "alter table calls alter column tier set not null"],
    ),
    (
        "set not null",
        &[
            "alter table calls add constraint c check (tier is not null) not valid",
            "alter table calls validate constraint c",
            "alter table calls alter column outcome set not null",
        ],
    ),
    ("another type", &["alter table calls alter column e164 type text"]),
    ("another type", &["alter table calls alter column e164 set data type text"]),
    ("the old name", &["alter table calls rename column e164 to number"]),
    ("the old name", &["alter table calls rename to conversations"]),
    ("the old name", &["alter table calls rename constraint a to b"]),
    ("unused since", &["alter table calls drop column tier"]),
    ("unused since", &["drop table selections"]),
    ("unused since", &["alter table calls alter column tier drop default"]),
    ("write that as oldest_program", &["-- unused since 0.3.0\nalter table calls drop column tier"]),
    ("not known to run", &["alter table calls set unlogged"]),
    ("not known to run", &["alter table calls set tablespace fast"]),
    ("not known to run", &["alter table calls disable trigger all"]),
    ("which table", &["alter table only calls add column a text"]),
    ("makes calls wait", &["lock table calls in share mode"]),
    ("makes calls wait", &["vacuum full calls"]),
    ("makes calls wait", &["cluster calls using calls_pkey"]),
    ("makes calls wait", &["reindex table calls"]),
    ("in batches", &["update calls set tier = 'EXACT'"]),
    ("in batches", &["delete from calls"]),
    ("in batches", &["truncate calls"]),
    ("in batches", &["insert into calls select * from calls"]),
    ("says when a transaction begins", &["begin; alter table calls add column a text; commit"]),
    ("says when a transaction begins", &["set lock_timeout = 0; alter table calls add column a text"]),
    ("not known to run", &["select pg_sleep(1)"]),
    ("not known to run", &["do $$ begin perform pg_sleep(1); end $$"]),
    ("not known to run", &["alter index i rename to j"]),
    ("locked together", &["alter table calls add column a text; alter table contacts add column a text"]),
    (
        "locked together",
        &["create table t (account_id uuid, contact_id uuid, constraint a foreign key (account_id) references accounts (account_id),
            constraint b foreign key (account_id, contact_id) references contacts (account_id, contact_id))"],
    ),
    (
        "locked together",
        &["alter table calls add constraint c foreign key (account_id) references accounts (account_id) not valid"],
    ),
];

#[test]
fn migrations_that_calls_would_wait_for_are_found() {
    for (what, files) in WRONG {
        let found = faults_of_last(files);
        assert!(found.iter().any(|fault| fault.contains(what)), "{files:?}: {what} is not in {found:?}");
    }
}

#[test]
fn oldest_program_is_last_once_and_never_goes_back() {
    let say = |version: &str| format!("update schema_compatibility set oldest_program = '{version}';");
    let mut earlier = EarlierFiles::default();
    assert!(lint::faults(&say("0.1.0"), &mut earlier).is_empty());
    assert!(lint::faults(&say("0.2.0"), &mut earlier).is_empty());
    assert!(lint::faults(&say("0.2.0"), &mut earlier).is_empty());
    for wrong in [
        say("0.1.0"),
        say("0.2"),
        say("soon"),
        String::new(),
        format!("-- {}", say("0.2.0")),
        say("0.2.0") + &say("0.2.0"),
        say("0.2.0") + "alter table calls add column a text;",
        "update schema_compatibility set oldest_program = '0.2.0' where false;".to_owned(),
    ] {
        assert!(!lint::faults(&wrong, &mut earlier).is_empty(), "{wrong}");
    }
}
