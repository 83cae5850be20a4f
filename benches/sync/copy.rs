//! The yardstick: the rows of a first copy, read out in PostgreSQL's binary form, and written again
//! by one COPY a table.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sqlx::{Connection as _, PgConnection};

use crate::database::Database;

/// What the measured rows refer to.
const REFERRED: [&str; 2] = ["accounts", "integrations"];
/// In the order of their foreign keys.
const MEASURED: [&str; 4] = ["contacts", "external_refs", "phone_numbers", "changes"];
/// Bytes of one message to the server.
const CHUNK_BYTES: usize = 64 * 1024;

/// Rows of some tables, in the order in which they were written.
pub(crate) struct Rows {
    referred: Vec<(&'static str, Vec<u8>)>,
    measured: Vec<(&'static str, Vec<u8>)>,
}

impl Rows {
    pub(crate) async fn read_out(database: &Database) -> anyhow::Result<Self> {
        let mut connection = database.connect().await?;
        let mut rows = Self { referred: Vec::new(), measured: Vec::new() };
        for table in REFERRED {
            rows.referred.push((table, read_out(&mut connection, table).await?));
        }
        for table in MEASURED {
            rows.measured.push((table, read_out(&mut connection, table).await?));
        }
        Ok(rows)
    }

    /// How long the measured tables took, each a transaction.
    pub(crate) async fn write_to(&self, database: &Database) -> anyhow::Result<Duration> {
        let mut connection = database.connect().await?;
        for (table, rows) in &self.referred {
            write(&mut connection, table, rows).await?;
        }
        database.checkpoint().await?;
        let started = Instant::now();
        for (table, rows) in &self.measured {
            write(&mut connection, table, rows).await?;
        }
        let took = started.elapsed();
        connection.close().await?;
        Ok(took)
    }
}

async fn read_out(connection: &mut PgConnection, table: &str) -> anyhow::Result<Vec<u8>> {
    let mut rows = Vec::new();
    let mut stream = connection.copy_out_raw(&format!("copy {table} to stdout (format binary)")).await?;
    while let Some(chunk) = stream.next().await {
        rows.extend_from_slice(&chunk?);
    }
    Ok(rows)
}

async fn write(connection: &mut PgConnection, table: &str, rows: &[u8]) -> anyhow::Result<()> {
    let mut copy = connection.copy_in_raw(&format!("copy {table} from stdin (format binary)")).await?;
    for chunk in rows.chunks(CHUNK_BYTES) {
        copy.send(chunk).await?;
    }
    copy.finish().await?;
    Ok(())
}
