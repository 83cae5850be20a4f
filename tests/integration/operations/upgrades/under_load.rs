//! Calls do not notice migrations: those after the baseline, those of a next release, one that
//! finds its table in use. And they would notice others.

use std::{collections::BTreeSet, fs, path::Path};

use contact_sync::store::schema::ProgramSchema;
use sqlx::{Connection as _, PgConnection};

use super::{
    lint::{self, EarlierFiles},
    load::CallLoad,
    migration, version_of,
};
use crate::{
    operations::{
        migrations::migrations,
        plans::{ACCOUNT, load},
        statements::tokens::{Node, nodes},
    },
    support::TestApp,
};

const NEXT: i64 = 99_990_101_000_000;
const SAY: &str = "update schema_compatibility set oldest_program = '0.1.0';";

/// A service with so many contacts, and as many calls.
async fn service(contacts: i64) -> TestApp {
    let test = TestApp::start().await;
    test.db.execute(&load(ACCOUNT, contacts, 10)).await;
    test.db.execute("analyze").await;
    test
}

/// 20,000, or what the variable says.
fn contacts() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "tests have no Config")]
    let given = std::env::var("UPGRADE_CONTACTS").ok();
    given.map_or(20_000, |text| text.parse().expect("UPGRADE_CONTACTS is a number"))
}

/// The files of a folder that stands for the next release.
fn next_release() -> Vec<(i64, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/next_release");
    let mut files: Vec<(i64, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name.split('_').next().unwrap().parse().unwrap(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// What these files make: names of tables, indexes, columns and constraints. A constraint that one
/// of them drops, too, can be made under its own name.
fn made(files: &[(String, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut dropped = BTreeSet::new();
    for (_, text) in files {
        for statement in nodes(text).unwrap().split(|node| node.is_sign(";")) {
            let words: Vec<&str> = statement.iter().map(|node| node.name().unwrap_or_default()).collect();
            match words[..] {
                ["create", "table", name, ..] => {
                    names.insert(name.to_owned());
                    let Some(Node::Group(body)) = statement.get(3) else { continue };
                    let constraints = body.windows(2).filter(|pair| pair[0].is_word("constraint"));
                    names.extend(constraints.filter_map(|pair| pair[1].name().map(str::to_owned)));
                }
                ["create", "index", "concurrently", name, ..]
                | ["create", "unique", "index", "concurrently", name, ..]
                | ["create", "index", name, ..]
                | ["create", "unique", "index", name, ..]
                | ["alter", "table", _, "add", "column" | "constraint", name, ..] => {
                    names.insert(name.to_owned());
                }
                ["alter", "table", _, "drop", "constraint", name] => {
                    dropped.insert(name.to_owned());
                }
                _ => {}
            }
        }
    }
    &names - &dropped
}

/// The same text with other names in the place of these.
fn renamed(text: &str, names: &BTreeSet<String>) -> String {
    let mut renamed = String::new();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        renamed += word;
        if names.contains(word) {
            renamed += "_again";
        }
        let between = after.find(is_part).unwrap_or(after.len());
        renamed += &after[..between];
        rest = &after[between..];
    }
    renamed
}

/// The migrations after the baseline once more, under other names: the same locks on the same
/// tables, while the service has the schema that it needs.
fn once_more() -> Vec<(i64, String)> {
    let files = migrations();
    let names = made(&files[1..]);
    let offset = 10_000_000_000_000;
    let own = ProgramSchema::own();
    own.migrations()[1..]
        .iter()
        .map(|migration| (migration.version + offset, renamed(migration.sql.as_str(), &names)))
        .collect()
}

fn next_program(further: &[(i64, String)]) -> ProgramSchema {
    let own = ProgramSchema::own();
    let mut all = own.migrations().to_vec();
    all.extend(further.iter().map(|(version, text)| migration(*version, text)));
    all.sort();
    ProgramSchema::new(version_of("99.0.0"), all)
}

#[test]
fn next_release_of_the_tests_keeps_the_rules() {
    let mut earlier = EarlierFiles::default();
    let files = next_release();
    assert!(files.len() > 3);
    for (version, text) in files {
        assert_eq!(lint::faults(&text, &mut earlier), Vec::<String>::new(), "{version}");
    }
}

#[tokio::test]
async fn calls_do_not_notice_migrations() {
    let test = service(contacts()).await;
    let next = next_program(&[once_more(), next_release()].concat());
    let load = CallLoad::new(&test);

    let (state, tally) = load
        .during(async {
            load.pass(25).await;
            let state = next.migrate(test.db.url()).await.unwrap();
            load.pass(25).await;
            state
        })
        .await;

    assert_eq!(tally.failed, Vec::<String>::new(), "of {} calls", tally.calls);
    assert_eq!(state.applied.len(), next.migrations().len());
    // And back: this program's own binary, while the next one's schema stays.
    ProgramSchema::own().verify(test.db.url()).await.unwrap();
}

/// A page of a sync may take seconds: the migration waits for it, and calls do not wait for the
/// migration.
#[tokio::test]
async fn calls_do_not_notice_migration_that_waits_for_its_table() {
    let test = service(500).await;
    let next = next_program(&[(NEXT, format!("alter table calls add column weather text; {SAY}"))]);
    let load = CallLoad::new(&test);

    let (state, tally) = Box::pin(load.during(migrate_beside(&test, &next, &load))).await;

    assert_eq!(tally.failed, Vec::<String>::new(), "of {} calls", tally.calls);
    assert!(state.applied.contains(&NEXT));
}

/// Migrates while a transaction has the table for the time of a hundred calls.
async fn migrate_beside(
    test: &TestApp,
    next: &ProgramSchema,
    load: &CallLoad<'_>,
) -> contact_sync::store::schema::SchemaState {
    let mut user = PgConnection::connect(test.db.url()).await.unwrap();
    sqlx::raw_sql("begin; lock table calls in row exclusive mode").execute(&mut user).await.unwrap();
    let migrating = next.migrate(test.db.url());
    tokio::pin!(migrating);
    tokio::select! {
        ended = &mut migrating => panic!("it did not wait: {ended:?}"),
        () = load.pass(100) => {}
    }
    sqlx::raw_sql("commit").execute(&mut user).await.unwrap();
    migrating.await.unwrap()
}

/// The tests above can fail: this migration holds its lock while it does something else.
#[tokio::test]
async fn calls_notice_migration_that_holds_lock() {
    let test = service(500).await;
    let slow = format!("alter table calls add column weather text; select pg_sleep(1); {SAY}");
    let mut earlier = EarlierFiles::default();
    assert!(!lint::faults(&slow, &mut earlier).is_empty(), "the lint would have said so");
    let next = next_program(&[(NEXT, slow)]);
    let load = CallLoad::new(&test);

    let ((), tally) = load
        .during(async {
            load.pass(10).await;
            next.migrate(test.db.url()).await.unwrap();
            load.pass(10).await;
        })
        .await;

    assert!(!tally.failed.is_empty(), "none of {} calls failed", tally.calls);
}

/// And this one waits for its lock as `psql` does.
#[tokio::test]
async fn calls_notice_migration_without_lock_timeout() {
    let test = service(500).await;
    let load = CallLoad::new(&test);
    let mut user = PgConnection::connect(test.db.url()).await.unwrap();
    sqlx::raw_sql("begin; lock table calls in row exclusive mode").execute(&mut user).await.unwrap();

    let by_hand = test.db.execute("alter table calls add column weather text");
    let ((), tally) = load
        .during(async {
            tokio::select! {
                () = by_hand => panic!("it did not wait"),
                () = load.pass(100) => {}
            }
            sqlx::raw_sql("rollback").execute(&mut user).await.unwrap();
        })
        .await;

    assert!(!tally.failed.is_empty(), "none of {} calls failed", tally.calls);
}
