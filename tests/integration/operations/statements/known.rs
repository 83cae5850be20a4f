//! What the rules must know of the database: read from the one that the migrations make.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::db::TestDb;

/// The schema as the rules see it.
pub struct Known {
    pub tables: BTreeSet<String>,
    /// Columns that hold a time, in any table.
    pub time_columns: BTreeSet<String>,
    pub foreign_keys: Vec<ForeignKey>,
    /// By name, the worst of all functions that have it: `i`mmutable, `s`table, `v`olatile.
    functions: BTreeMap<String, char>,
}

pub struct ForeignKey {
    pub child: String,
    pub parent: String,
    /// Looked at when the transaction commits.
    pub is_deferred: bool,
    /// The children go with their parent.
    pub is_cascading: bool,
}

impl Known {
    pub async fn read(db: &TestDb) -> Self {
        let names = async |sql: &'static str| -> BTreeSet<String> {
            sqlx::query_scalar::<_, String>(sql).fetch_all(&db.pool).await.unwrap().into_iter().collect()
        };
        let keys: Vec<(String, String, bool, bool)> = sqlx::query_as(
            "select conrelid::regclass::text, confrelid::regclass::text, condeferred, confdeltype = 'c'
            from pg_constraint
            where contype = 'f' and connamespace = 'public'::regnamespace",
        )
        .fetch_all(&db.pool)
        .await
        .unwrap();
        let functions: Vec<(String, String)> =
            sqlx::query_as("select proname::text, max(provolatile)::text from pg_proc group by proname")
                .fetch_all(&db.pool)
                .await
                .unwrap();
        Self {
            tables: names(
                "select tablename::text from pg_tables where schemaname = 'public' and tablename <> '_sqlx_migrations'",
            )
            .await,
            time_columns: names(
                "select column_name::text from information_schema.columns
                where table_schema = 'public' and data_type similar to '(timestamp|date|time|interval)%'",
            )
            .await,
            foreign_keys: keys
                .into_iter()
                .map(|(child, parent, is_deferred, is_cascading)| ForeignKey {
                    child,
                    parent,
                    is_deferred,
                    is_cascading,
                })
                .collect(),
            functions: functions.into_iter().map(|(name, worst)| (name, worst.chars().next().unwrap())).collect(),
        }
    }

    /// Of all functions with this name; `None`: there is none.
    pub fn volatility(&self, function: &str) -> Option<char> {
        self.functions.get(function).copied()
    }
}
