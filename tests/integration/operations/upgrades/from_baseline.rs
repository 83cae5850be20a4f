//! A database of the baseline with data in it becomes what an empty one becomes, and its callers
//! are known.

use contact_sync::{rpc::pb::MatchOutcome, store::schema::ProgramSchema};
use sqlx::Row as _;

use super::first_migrations;
use crate::{
    operations::plans::{ACCOUNT, load},
    support::{TestApp, db::TestDb},
};

const CONTACTS: i64 = 20_000;
const TABLES: [&str; 6] = ["accounts", "integrations", "contacts", "external_refs", "phone_numbers", "calls"];

/// Columns, constraints, indexes and comments of all tables.
const SCHEMA: &str = "
    select 'column ' || concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
        from information_schema.columns where table_schema = 'public'
    union all select 'constraint ' || concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
        from pg_constraint where connamespace = 'public'::regnamespace
    union all select 'index ' || concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid)
        from pg_index join pg_class on pg_class.oid = indrelid where relnamespace = 'public'::regnamespace
    union all select 'comment ' || concat_ws(' ', objoid::regclass, objsubid, description)
        from pg_description join pg_class on pg_class.oid = objoid and classoid = 'pg_class'::regclass
        where relnamespace = 'public'::regnamespace
    order by 1";

async fn schema(db: &TestDb) -> Vec<String> {
    sqlx::query(SCHEMA).fetch_all(&db.pool).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn counts(db: &TestDb) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(db.number(&format!("select count(*) from {table}")).await);
    }
    counts
}

#[tokio::test]
async fn baseline_with_data_becomes_todays_schema_and_answers() {
    let db = TestDb::empty().await;
    first_migrations("0.1.0", 1).migrate(db.url()).await.unwrap();
    db.execute(&load(ACCOUNT, CONTACTS, 10)).await;
    let before = counts(&db).await;

    ProgramSchema::own().migrate(db.url()).await.unwrap();

    assert_eq!(counts(&db).await, before, "nothing is lost");
    assert_eq!(schema(&db).await, schema(&TestDb::create().await).await);
    let test = TestApp::start_on(db, |_| {}).await;
    let known = format!("+{}", 13_105_540_000_i64 + 100);
    let answer = test.ask(ACCOUNT, &known, "after-the-upgrade").await;
    assert_eq!((answer.outcome(), answer.degraded), (MatchOutcome::Matched, false));
    assert_eq!(answer.selected.unwrap().display_name, "Person 100");
    let stranger = test.ask(ACCOUNT, "+12127360000", "after-the-upgrade-2").await;
    assert_eq!(stranger.outcome(), MatchOutcome::Created);
}
