//! The server and its databases: each cloned from a migrated template, dropped when it is no longer
//! needed.

use std::str::FromStr as _;

use anyhow::Context as _;
use contact_sync::store::schema::ProgramSchema;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};

const TEMPLATE: &str = "bench_template";

/// A PostgreSQL server that may be filled: `BENCH_DATABASE_URL`, which `./dev bench` sets.
pub(crate) struct Server {
    url: String,
}

/// One database.
pub(crate) struct Database {
    url: String,
}

impl Server {
    /// Makes the template.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a bench has no Config")]
        let url = std::env::var("BENCH_DATABASE_URL")
            .context("run it by ./dev bench, or set BENCH_DATABASE_URL to a PostgreSQL server that may be filled")?;
        let server = Self { url };
        server.run(&format!("drop database if exists {TEMPLATE}")).await?;
        server.run(&format!("create database {TEMPLATE}")).await?;
        ProgramSchema::own().migrate(&with_database(&server.url, TEMPLATE)).await?;
        Ok(server)
    }

    /// A fresh one with this name.
    pub(crate) async fn create(&self, name: &str) -> anyhow::Result<Database> {
        self.run(&format!("drop database if exists bench_{name} with (force)")).await?;
        self.run(&format!("create database bench_{name} template {TEMPLATE}")).await?;
        Ok(Database { url: with_database(&self.url, &format!("bench_{name}")) })
    }

    /// Version and durability, in a line.
    pub(crate) async fn facts(&self) -> anyhow::Result<String> {
        let mut connection = connect(&self.url).await?;
        let shown =
            ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"];
        let mut facts = Vec::new();
        for setting in shown {
            let value: String =
                sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&mut connection).await?;
            facts.push(format!("{setting} {value}"));
        }
        Ok(format!("PostgreSQL: {}", facts.join(", ")))
    }

    async fn run(&self, statement: &str) -> anyhow::Result<()> {
        let mut connection = connect(&self.url).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
        Ok(())
    }
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        connect(&self.url).await
    }

    /// So that no earlier writes are flushed while something is measured.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("checkpoint").execute(&mut self.connect().await?).await?;
        Ok(())
    }

    /// So many records, spread evenly over all that were copied.
    pub(crate) async fn record_ids(&self, count: u64) -> anyhow::Result<Vec<String>> {
        let all = sqlx::query("select record_id from external_refs order by object_type, record_id")
            .fetch_all(&mut self.connect().await?)
            .await?;
        let step = all.len() / usize::try_from(count)?.max(1);
        let some = all.iter().step_by(step.max(1)).take(usize::try_from(count)?);
        some.map(|row| Ok(row.try_get(0)?)).collect()
    }
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url).context("BENCH_DATABASE_URL")?;
    PgConnection::connect_with(&options).await.context("the server cannot be reached")
}

/// The same server, another database: the path of the URL is the database.
fn with_database(server: &str, name: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap_or(("postgres", server));
    let (rest, query) = rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    format!("{scheme}://{authority}/{name}{query}")
}
