//! The release before this one runs on this one's schema: its statements, kept in
//! `tests/fixtures/previous_release`, still mean the same. They stand for its program, which a test
//! does not have.

use std::{fs, path::Path};

use contact_sync::store::schema::ProgramVersion;
use serde_json::Value;
use sqlx::{
    Column as _, Connection as _, Either, Executor as _, PgConnection, SqlSafeStr as _, Statement as _, TypeInfo as _,
};

use crate::support::db::TestDb;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/previous_release");

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Its version, and its newest migration.
pub fn release() -> (ProgramVersion, i64) {
    let release = read(&Path::new(FOLDER).join("release.json"));
    (release["version"].as_str().unwrap().parse().unwrap(), release["newest_migration"].as_i64().unwrap())
}

/// A statement with the types of its parameters, and names and types of what it gives.
type Meaning = (String, Vec<String>, Vec<(String, String)>);

fn statements() -> Vec<Meaning> {
    let files = fs::read_dir(Path::new(FOLDER).join("statements")).unwrap();
    files
        .map(|file| {
            let json = read(&file.unwrap().path());
            let describe = &json["describe"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let parameters = describe["parameters"]["Left"].as_array().unwrap().iter().map(type_name).collect();
            let columns = describe["columns"].as_array().unwrap();
            let columns =
                columns.iter().map(|column| (text(&column["name"]), type_name(&column["type_info"]))).collect();
            (text(&json["query"]), parameters, columns)
        })
        .collect()
}

/// As `.sqlx` spells it, in the database's spelling.
fn type_name(spelled: &Value) -> String {
    let name = spelled.as_str().unwrap();
    let name = name.strip_suffix("Array").map_or_else(|| name.to_owned(), |element| format!("{element}[]"));
    name.to_uppercase()
}

/// What the schema of today makes of a statement.
async fn meaning(session: &mut PgConnection, sql: &str) -> Result<Meaning, sqlx::Error> {
    let prepared = session.prepare(sqlx::AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
    let parameters = match prepared.parameters() {
        Some(Either::Left(types)) => types.iter().map(|of| of.name().to_owned()).collect(),
        _ => Vec::new(),
    };
    let columns = prepared.columns();
    let columns = columns.iter().map(|column| (column.name().to_owned(), column.type_info().name().to_owned()));
    Ok((sql.to_owned(), parameters, columns.collect()))
}

#[tokio::test]
async fn statements_of_previous_release_mean_the_same_today() {
    let db = TestDb::create().await;
    let mut session = PgConnection::connect(db.url()).await.unwrap();
    let statements = statements();
    assert!(statements.len() > 100, "the statements of the previous release are there");

    for then in statements {
        let today = meaning(&mut session, &then.0).await.unwrap_or_else(|error| panic!("{error}: {}", then.0));
        assert_eq!(today, then);
    }
}

#[tokio::test]
async fn statement_that_previous_release_lost_is_noticed() {
    let db = TestDb::create().await;
    let mut session = PgConnection::connect(db.url()).await.unwrap();
    db.execute("alter table calls drop column tier").await;

    let mut broken = 0;
    for then in statements() {
        broken += usize::from(meaning(&mut session, &then.0).await.ok() != Some(then));
    }
    assert!((1..100).contains(&broken), "{broken} statements");
}
