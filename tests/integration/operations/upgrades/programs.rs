//! Which programs take which schema: with `--no-migrate` (`verify`) and without (`migrate`).

use contact_sync::store::schema::{ProgramSchema, SchemaError, SchemaState};
use sqlx::Row as _;

use super::{first_migrations, program};
use crate::support::db::TestDb;

const NEXT: i64 = 99_990_101_000_000;
const EXPANDS: &str = "alter table calls add column weather text;
    update schema_compatibility set oldest_program = '0.2.0';";
const CONTRACTS: &str = "alter table calls drop column weather;
    update schema_compatibility set oldest_program = '0.3.0';";

/// Everything that the database says of its columns, and of what was done to it.
async fn everything(db: &TestDb) -> Vec<String> {
    let rows =
        "select 'column ' || table_name || '.' || column_name || ' ' || data_type from information_schema.columns
            where table_schema = 'public'
        union all select 'migration ' || version from _sqlx_migrations
        union all select 'oldest ' || oldest_program from schema_compatibility order by 1";
    sqlx::query(rows).fetch_all(&db.pool).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// By both ways in.
async fn refusals(program: &ProgramSchema, db: &TestDb) -> [SchemaError; 2] {
    let before = everything(db).await;
    let refusals = [program.migrate(db.url()).await.unwrap_err(), program.verify(db.url()).await.unwrap_err()];
    assert_eq!(everything(db).await, before, "nothing was changed");
    refusals
}

async fn taken(program: &ProgramSchema, db: &TestDb) -> SchemaState {
    let before = everything(db).await;
    program.verify(db.url()).await.unwrap();
    let state = program.migrate(db.url()).await.unwrap();
    assert_eq!(everything(db).await, before, "nothing was changed");
    state
}

/// Back and forth: the binaries of two releases on the newer one's schema.
#[tokio::test]
async fn older_program_runs_on_newer_schema_and_undoes_nothing() {
    let db = TestDb::create().await;
    let (older, newer) = (program("0.2.0", &[]), program("0.3.0", &[(NEXT, EXPANDS)]));
    newer.migrate(db.url()).await.unwrap();

    let state = taken(&older, &db).await;

    assert!(state.applied.contains(&NEXT));
    assert_eq!(state.oldest_program.unwrap().to_string(), "0.2.0");
    taken(&newer, &db).await;
}

/// The schema says so, and the error what to do.
#[tokio::test]
async fn program_older_than_schema_allows_is_refused_with_remedy() {
    let db = TestDb::create().await;
    let newest = program("0.4.0", &[(NEXT, EXPANDS), (NEXT + 1, CONTRACTS)]);
    newest.migrate(db.url()).await.unwrap();

    for version in ["0.2.0", "0.2.9", "0.1.99"] {
        for error in refusals(&program(version, &[]), &db).await {
            assert!(matches!(error, SchemaError::TooOld { .. }), "{error}");
            let said = error.to_string();
            for words in
                ["needs version 0.3.0", &format!("this is {version}"), "Run 0.3.0 or newer", "restore the backup"]
            {
                assert!(said.contains(words), "{said}");
            }
        }
    }
    for (version, further) in [("0.3.0", &[(NEXT, EXPANDS)][..]), ("0.3.1", &[]), ("0.10.0", &[]), ("1.0.0", &[])] {
        taken(&program(version, further), &db).await;
    }
}

/// What it lacks is not run under what a newer program has made.
#[tokio::test]
async fn program_that_knows_other_migrations_is_refused() {
    let db = TestDb::create().await;
    program("0.3.0", &[(NEXT + 1, EXPANDS)]).migrate(db.url()).await.unwrap();

    let other = program("0.3.0", &[(NEXT, "update schema_compatibility set oldest_program = '0.1.0'")]);

    for error in refusals(&other, &db).await {
        assert!(matches!(error, SchemaError::Diverged { found, missing: 1 } if found == NEXT + 1), "{error}");
    }
}

/// Migrations come first: a program does not run on the schema of the release before it.
#[tokio::test]
async fn program_refuses_older_schema_unless_it_may_migrate() {
    let db = TestDb::create().await;
    let newer = program("0.3.0", &[(NEXT, EXPANDS)]);

    let refused = newer.verify(db.url()).await.unwrap_err();

    assert!(matches!(refused, SchemaError::Pending(1)), "{refused}");
    newer.migrate(db.url()).await.unwrap();
    newer.verify(db.url()).await.unwrap();
}

/// The schema of the baseline does not say which programs it is for.
#[tokio::test]
async fn schema_of_the_baseline_is_brought_to_today() {
    let db = TestDb::empty().await;
    first_migrations("0.1.0", 1).migrate(db.url()).await.unwrap();

    assert!(matches!(ProgramSchema::own().verify(db.url()).await, Err(SchemaError::Pending(_))));
    let state = ProgramSchema::own().migrate(db.url()).await.unwrap();

    let all: Vec<i64> = ProgramSchema::own().migrations().iter().map(|migration| migration.version).collect();
    assert_eq!(state.applied.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(everything(&db).await, everything(&TestDb::create().await).await);
}

/// A row that is gone, or says nothing, is no leave to run.
#[tokio::test]
async fn schema_that_does_not_say_its_programs_is_refused() {
    let db = TestDb::create().await;
    db.execute("delete from schema_compatibility").await;
    for error in refusals(&ProgramSchema::own(), &db).await {
        assert!(matches!(error, SchemaError::Unsaid(None)), "{error}");
    }

    db.execute("alter table schema_compatibility drop constraint schema_compatibility_program_check").await;
    db.execute("insert into schema_compatibility (oldest_program) values ('soon')").await;
    for error in refusals(&ProgramSchema::own(), &db).await {
        assert!(matches!(error, SchemaError::Unsaid(Some(_))), "{error}");
        assert!(error.to_string().contains("schema_compatibility.oldest_program"), "{error}");
    }
}

/// There is one row.
#[tokio::test]
async fn schema_names_one_oldest_program_alone() {
    let db = TestDb::create().await;
    for wrong in [
        "insert into schema_compatibility (oldest_program) values ('0.1.0')",
        "insert into schema_compatibility (is_only, oldest_program) values (false, '0.1.0')",
        "update schema_compatibility set oldest_program = '0.1'",
    ] {
        assert!(sqlx::query(wrong).execute(&db.pool).await.is_err(), "{wrong}");
    }
}
