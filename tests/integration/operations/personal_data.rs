//! `docs/personal-data.md` names every table, and every column that could hold something of a
//! person: one that is new is thought about before it is there.

use std::collections::BTreeSet;

use sqlx::Row as _;

use crate::support::TestApp;

const PAGE: &str = include_str!("../../../docs/personal-data.md");

/// What can hold a name, a number or an address: all but ids, switches, times and counts. Numbers
/// of people are eight bytes, and are called so.
const COLUMNS: &str = "
    select table_name::text, column_name::text
    from information_schema.columns
    where table_schema = 'public' and table_name not like '\\_sqlx%'
      and (
        data_type not in ('uuid', 'boolean', 'timestamp with time zone', 'smallint', 'integer', 'bigint')
        or column_name in ('e164', 'local_digits')
      )
    order by 1, 2";

/// The words in backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of the page's first list, by their table, and the names of the columns that hold
/// nothing of a person.
fn listed() -> (Vec<(&'static str, BTreeSet<&'static str>)>, BTreeSet<&'static str>) {
    let (_, tables) = PAGE.split_once("\n## Tables\n").unwrap();
    let (tables, _) = tables.split_once("\n## ").unwrap();
    let (rows, harmless) = tables.split_once("\nTexts, lists and bytes").unwrap();
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        let (table, cells) = row.split_once('`').unwrap();
        (table, quoted(cells.split(" | ").nth(1).unwrap()))
    });
    (rows.collect(), quoted(harmless))
}

#[tokio::test]
async fn every_column_that_may_be_personal_is_listed() {
    let test = TestApp::start().await;
    let rows = sqlx::query(COLUMNS).fetch_all(&test.db.pool).await.unwrap();
    let there: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(there.len() > 40, "the schema is read");
    let (tables, harmless) = listed();
    for (table, column) in &there {
        let row = tables.iter().find(|(name, _)| name == table);
        let (_, named) = row.unwrap_or_else(|| panic!("{table} is not in docs/personal-data.md"));
        let is_listed = named.contains(&**column) || harmless.contains(&*format!("{table}.{column}"));
        assert!(is_listed, "{table}.{column} is not in docs/personal-data.md");
    }
    for (table, column) in tables.iter().flat_map(|(table, columns)| columns.iter().map(move |column| (table, column)))
    {
        assert!(there.contains(&((*table).to_owned(), (*column).to_owned())), "there is no {table}.{column} any more");
    }
    for name in harmless {
        let (table, column) = name.split_once('.').unwrap();
        assert!(there.contains(&(table.to_owned(), column.to_owned())), "there is no {name} any more");
    }
}

#[tokio::test]
async fn every_table_is_listed() {
    let test = TestApp::start().await;
    let tables = "select table_name::text from information_schema.tables where table_schema = 'public' order by 1";
    let rows = sqlx::query(tables).fetch_all(&test.db.pool).await.unwrap();
    let (listed, _) = listed();

    let missing: Vec<String> = rows
        .iter()
        .map(|row| row.get::<String, _>(0))
        .filter(|table| table != "_sqlx_migrations" && !listed.iter().any(|(name, _)| name == table))
        .collect();

    assert!(missing.is_empty() && rows.len() > 10, "not in docs/personal-data.md: {missing:?}");
}
