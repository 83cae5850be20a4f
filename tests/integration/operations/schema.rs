//! Which databases are taken: an empty one, and one that this program's migrations made. Others are
//! refused, and left as they are.

use contact_sync::store::schema::{ProgramSchema, SchemaError};

use crate::support::db::TestDb;

/// As a program from before the baseline left it: these migrations applied, and tables.
async fn made_by(versions: &[i64]) -> TestDb {
    let db = TestDb::create().await;
    db.execute("delete from _sqlx_migrations").await;
    for version in versions {
        db.execute(&format!(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
            values ({version}, 'create accounts', true, '\\x00', 1)"
        ))
        .await;
    }
    db
}

fn baseline() -> i64 {
    ProgramSchema::own().migrations()[0].version
}

async fn is_untouched(db: &TestDb, migrations: usize) {
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert!(db.number(tables).await > 15, "nothing was dropped");
    let rows = db.number("select count(*) from _sqlx_migrations").await;
    assert_eq!(usize::try_from(rows).unwrap(), migrations);
}

/// A database from before the baseline is refused with what to do.
#[tokio::test]
async fn database_before_baseline_is_refused_with_remedy() {
    let seven = [
        20_261_122_000_000,
        20_261_122_000_100,
        20_261_122_000_200,
        20_261_122_000_300,
        20_261_122_000_400,
        20_261_126_000_000,
        20_261_126_000_100,
    ];
    let own = ProgramSchema::own();
    for versions in [&seven[..], &seven[..1], &seven[..5], &[seven[6], baseline()]] {
        let db = made_by(versions).await;
        for error in [own.migrate(db.url()).await.unwrap_err(), own.verify(db.url()).await.unwrap_err()] {
            assert!(matches!(error, SchemaError::BeforeBaseline { .. }), "{error}");
            let said = error.to_string();
            for words in ["before the first baseline", "new, empty database", "enable the integrations again"] {
                assert!(said.contains(words), "{said}");
            }
            is_untouched(&db, versions.len()).await;
        }
    }
}

/// A database of another text is refused, too.
#[tokio::test]
async fn edited_database_is_refused_too() {
    let edited = made_by(&[baseline()]).await;
    let own = ProgramSchema::own();
    for error in [own.migrate(edited.url()).await.unwrap_err(), own.verify(edited.url()).await.unwrap_err()] {
        assert!(matches!(error, SchemaError::Edited(_)), "{error}");
    }
    is_untouched(&edited, 1).await;
}

/// A migrated database is taken, and migrating it again changes nothing.
#[tokio::test]
async fn migrating_migrated_database_changes_nothing() {
    let db = TestDb::create().await;
    ProgramSchema::own().verify(db.url()).await.unwrap();
    ProgramSchema::own().migrate(db.url()).await.unwrap();
    is_untouched(&db, ProgramSchema::own().migrations().len()).await;
}

/// A start on a migrated database that can only be read needs no write.
#[tokio::test]
async fn read_only_migrated_database_needs_no_write() {
    let db = TestDb::create().await;
    let read_only = "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$";
    db.execute(read_only).await;

    ProgramSchema::own().migrate(db.url()).await.unwrap();
}

/// An operator reads in `psql` what a table and a column mean.
#[tokio::test]
async fn every_table_and_column_has_comment() {
    let db = TestDb::create().await;
    let tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
        and relname <> '_sqlx_migrations' and obj_description(oid, 'pg_class') is null";
    let columns = "select count(*) from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> '_sqlx_migrations'
          and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null";

    assert_eq!((db.number(tables).await, db.number(columns).await), (0, 0));
}
