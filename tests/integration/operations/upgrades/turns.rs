//! Migrations of several processes at once, and of one that failed before: one at a time, none
//! hangs, an index that was left invalid is made anew, and a role without rights is told so.

use contact_sync::store::schema::{ProgramSchema, SchemaError};
use sqlx::{Connection as _, PgConnection};

use super::program;
use crate::support::{db::TestDb, sync::eventually};

const NEXT: i64 = 99_990_101_000_000;
const INDEX: &str = "-- no-transaction
-- Of a test.
drop index concurrently if exists contacts_weather_idx;
create unique index concurrently contacts_weather_idx on contacts (account_id, created_at);
update schema_compatibility set oldest_program = '0.1.0';";
const COLUMN: &str = "alter table contacts add column weather text;
    update schema_compatibility set oldest_program = '0.1.0';";
/// A valid index of that name.
const VALID: &str = "select count(*) from pg_index where indexrelid = 'contacts_weather_idx'::regclass and indisvalid";

async fn session(db: &TestDb) -> PgConnection {
    PgConnection::connect(db.url()).await.unwrap()
}

async fn run(session: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(session).await.unwrap();
}

/// Who waits for its turn must not hold what `create index concurrently` waits for.
#[tokio::test]
async fn replicas_that_migrate_at_once_wait_for_each_other() {
    let db = TestDb::create().await;
    let next = program("0.3.0", &[(NEXT, COLUMN), (NEXT + 1, INDEX)]);

    let all = tokio::join!(next.migrate(db.url()), next.migrate(db.url()), next.migrate(db.url()));

    let states = [all.0.unwrap(), all.1.unwrap(), all.2.unwrap()];
    assert!(states.iter().all(|state| *state == states[0] && state.applied.contains(&(NEXT + 1))));
    assert_eq!(db.number(VALID).await, 1);
}

/// Without anybody's help, as soon as its cause is gone.
#[tokio::test]
async fn index_that_failed_is_made_anew() {
    let db = TestDb::create().await;
    let next = program("0.3.0", &[(NEXT, INDEX)]);
    let account = "11111111-1111-4111-8111-111111111111";
    let twins = format!(
        "insert into accounts (account_id, display_name, default_region, further_regions, created_at, updated_at)
        values ('{account}', 'Test', 'US', '{{}}', now(), now());
        insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        select '{account}', gen_random_uuid(), '', '', '{{}}', false, '2026-11-30', now() from generate_series(1, 2)"
    );
    db.execute(&twins).await;

    let error = next.migrate(db.url()).await.unwrap_err();

    assert!(matches!(error, SchemaError::Migrate { version: NEXT, .. }), "{error}");
    assert_eq!(db.number(VALID).await, 0, "it is there, and not valid");
    db.execute("delete from contacts").await;
    let state = next.migrate(db.url()).await.unwrap();
    assert!(state.applied.contains(&NEXT));
    assert_eq!(db.number(VALID).await, 1);
}

/// An index waits for transactions that were there before it.
#[tokio::test]
async fn index_waits_for_older_transactions_and_comes() {
    let db = TestDb::create().await;
    let next = program("0.3.0", &[(NEXT, INDEX)]);
    let mut older = session(&db).await;
    run(&mut older, "begin isolation level repeatable read; select count(*) from accounts").await;

    let migrating = next.migrate(db.url());
    tokio::pin!(migrating);
    tokio::select! {
        ended = &mut migrating => panic!("it did not wait: {ended:?}"),
        () = waits(&db, "create unique index concurrently") => {}
    }
    run(&mut older, "commit").await;

    migrating.await.unwrap();
    assert_eq!(db.number(VALID).await, 1);
}

/// A transaction gives way, and comes when its table is free; what failed leaves nothing.
#[tokio::test]
async fn column_gives_way_to_who_uses_its_table() {
    let db = TestDb::create().await;
    let next = program("0.3.0", &[(NEXT, COLUMN)]);
    let mut user = session(&db).await;
    run(&mut user, "begin; lock table contacts in row exclusive mode").await;
    let has_column = "select count(*) from information_schema.columns where column_name = 'weather'";

    let migrating = next.migrate(db.url());
    tokio::pin!(migrating);
    for _ in 0..2 {
        tokio::select! {
            ended = &mut migrating => panic!("it did not give way: {ended:?}"),
            () = waits(&db, "begin") => {}
        }
        // It lets others in, and leaves nothing.
        tokio::select! {
            ended = &mut migrating => panic!("it did not give way: {ended:?}"),
            () = waits_no_more(&db, "begin") => {}
        }
        assert_eq!(db.number(has_column).await, 0);
    }
    run(&mut user, "commit").await;

    migrating.await.unwrap();
    assert_eq!(db.number(has_column).await, 1);
}

/// A role that may not do what is asked of it is told so, with what would help.
#[tokio::test]
async fn role_without_rights_is_told_what_it_lacks() {
    let db = TestDb::create().await;
    let role: String = sqlx::query_scalar("select 'idle_in_' || current_database()").fetch_one(&db.pool).await.unwrap();
    db.execute(&format!("create role {role}")).await;
    let with = if db.url().contains('?') { '&' } else { '?' };
    let as_role = format!("{}{with}options=-c%20role%3D{role}", db.url());

    let unread = ProgramSchema::own().verify(&as_role).await.unwrap_err();
    db.execute(&format!("grant select, insert, update, delete on all tables in schema public to {role}")).await;
    ProgramSchema::own().verify(&as_role).await.unwrap();
    let next = program("0.2.0", &[(NEXT, "alter table calls add column weather text;")]);
    let unmade = next.migrate(&as_role).await.unwrap_err();
    db.execute(&format!("drop owned by {role} cascade; drop role {role}")).await;

    assert!(matches!(unread, SchemaError::Denied(_)), "{unread:?}");
    let told = unread.to_string();
    assert!(told.contains("(permission denied for table") && told.contains("grant select"), "{told}");
    assert!(matches!(unmade, SchemaError::Denied(_)), "{unmade:?}");
    let told = unmade.to_string();
    assert!(told.contains("(permission denied for schema public)") && told.contains("MIGRATE_DATABASE_URL"), "{told}");
}

/// Until a migrating session waits for a lock in a statement that begins so.
async fn waits(db: &TestDb, beginning: &str) {
    eventually("a wait", async || waiting(db, beginning).await > 0).await;
}

async fn waits_no_more(db: &TestDb, beginning: &str) {
    eventually("no wait", async || waiting(db, beginning).await == 0).await;
}

async fn waiting(db: &TestDb, beginning: &str) -> i64 {
    db.number(&format!(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and application_name = 'contact-sync migrate' and query like '{beginning}%'"
    ))
    .await
}
