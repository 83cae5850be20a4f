//! A database to a test: cloned from a template that the first one migrates. The server is
//! `TEST_DATABASE_URL` (a throw-away cluster, which `./dev test` starts) or `DATABASE_URL`, whose
//! databases are dropped again.

use std::{str::FromStr, sync::Arc};

use contact_sync::store::schema::ProgramSchema;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

/// Serialises the making of the template between test processes.
const TEMPLATE_LOCK: i64 = 0x0063_6f6e_7461_6374;

/// One test's database.
pub struct TestDb {
    url: String,
    /// Another database of the same server.
    server: String,
    /// For looking behind the service, with at most a few connections.
    pub pool: PgPool,
    dropped: Option<Arc<DropLater>>,
}

struct DropLater {
    server: String,
    name: String,
}

impl TestDb {
    /// With the tables of today.
    pub async fn create() -> Self {
        Self::create_with(true).await
    }

    /// Without tables.
    pub async fn empty() -> Self {
        Self::create_with(false).await
    }

    async fn create_with(has_tables: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests have no Config")]
        let env = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let (server, is_throwaway) = match (env("TEST_DATABASE_URL"), env("DATABASE_URL")) {
            (Some(url), _) => (url, true),
            (None, Some(url)) => (url, false),
            (None, None) => panic!(
                "run the tests with `./dev test`, or set TEST_DATABASE_URL to a PostgreSQL server that may be filled"
            ),
        };
        let mut admin = connect(&server).await;
        let template = if has_tables { ensure_template(&mut admin, &server).await } else { "template0".to_owned() };
        let name = format!("test_{}", random());
        execute(&mut admin, format!("create database {name} template {template}")).await;
        admin.close().await.unwrap();
        let url = with_database(&server, &name);
        let pool = PgPool::connect_lazy(&url).unwrap();
        let dropped = (!is_throwaway).then(|| Arc::new(DropLater { server: server.clone(), name }));
        Self { url, server, pool, dropped }
    }

    /// A database that somebody else has made, and keeps.
    pub fn at(url: &str) -> Self {
        let pool = PgPool::connect_lazy(url).unwrap();
        Self { url: url.to_owned(), server: url.to_owned(), pool, dropped: None }
    }

    /// The same database for another replica.
    pub fn share(&self) -> Self {
        Self {
            url: self.url.clone(),
            server: self.server.clone(),
            pool: self.pool.clone(),
            dropped: self.dropped.clone(),
        }
    }

    /// The same database, by another way; the test itself keeps its own.
    pub fn through(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.share() }
    }

    /// The database as it is now, kept as a copy beside it; its name. Sessions are ended for it.
    pub async fn back_up(&self) -> String {
        let (mut admin, name) = self.alone().await;
        let copy = format!("{name}_copy");
        execute(&mut admin, format!("create database {copy} template {name}")).await;
        execute(&mut admin, format!("alter database {name} allow_connections true")).await;
        copy
    }

    /// Puts a copy in the place of the database.
    pub async fn restore(&self, copy: &str) {
        let (mut admin, name) = self.alone().await;
        execute(&mut admin, format!("drop database {name} with (force)")).await;
        execute(&mut admin, format!("create database {name} template {copy}")).await;
        execute(&mut admin, format!("drop database {copy}")).await;
    }

    /// Drops the database.
    pub async fn vanish(&self) {
        let (mut admin, name) = self.alone().await;
        execute(&mut admin, format!("drop database {name} with (force)")).await;
    }

    /// A database without tables under the same name again.
    pub async fn reappear(&self) {
        let name = self.name();
        execute(&mut connect(&self.server).await, format!("create database {name}")).await;
    }

    fn name(&self) -> String {
        PgConnectOptions::from_str(&self.url).unwrap().get_database().unwrap().to_owned()
    }

    /// A session elsewhere on the server, while nobody is in this database, or may come.
    async fn alone(&self) -> (PgConnection, String) {
        let (mut admin, name) = (connect(&self.server).await, self.name());
        execute(&mut admin, format!("alter database {name} allow_connections false")).await;
        let end = format!("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'");
        execute(&mut admin, end).await;
        (admin, name)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement of the test's own.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// One number, such as a count.
    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }
}

impl Drop for DropLater {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = connect(&server).await;
                execute(&mut admin, format!("drop database if exists {name} with (force)")).await;
            });
        });
        thread.join().unwrap();
    }
}

async fn ensure_template(admin: &mut PgConnection, server: &str) -> String {
    let schema = ProgramSchema::own();
    let template = format!("contact_sync_template_{}_{}", schema.newest_version(), schema.checksum());
    execute(admin, format!("select pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let is_there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&template)
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    if !is_there {
        let unfinished = format!("{template}_unfinished");
        execute(admin, format!("drop database if exists {unfinished}")).await;
        execute(admin, format!("create database {unfinished}")).await;
        schema.migrate(&with_database(server, &unfinished)).await.unwrap();
        execute(admin, format!("alter database {unfinished} rename to {template}")).await;
    }
    execute(admin, format!("select pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    template
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect_with(&PgConnectOptions::from_str(url).unwrap()).await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// The same server, another database: the path of the URL is the database.
fn with_database(server: &str, name: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap();
    let (rest, query) = rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    format!("{scheme}://{authority}/{name}{query}")
}

#[expect(clippy::disallowed_methods, reason = "a name that no other process takes")]
fn random() -> String {
    Uuid::new_v4().simple().to_string()
}
