//! PostgreSQL's own load generator on the look-up's statement: what the database can do if nothing
//! stands before it. The statement is the code's own, as sqlx keeps it for the compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    contacts::{Asked, FIRST_NUMBER, NUMBERS_BETWEEN_AREAS, NUMBERS_OF_AREA},
    figures::Figures,
    process::Scratch,
    service::{LOCK_TIMEOUT, STATEMENT_TIMEOUT},
};

/// How the statement's text begins.
const NAME: &str = "-- store::caller_lookup::read_lean\n";
/// The last word of a figure's line.
const RATE: &str = "tps = ";

/// A program, and what it shall run.
pub(crate) struct Pgbench {
    program: PathBuf,
    script: PathBuf,
    logs: PathBuf,
    database_url: String,
    account_id: String,
}

impl Pgbench {
    /// `None`: there is no pgbench, neither beside the server's programs nor on the path.
    pub(crate) fn find(database_url: &str, asked: Asked, scratch: &Scratch) -> anyhow::Result<Option<Self>> {
        #[expect(clippy::disallowed_methods, reason = "a bench has no Config")]
        let folder = std::env::var("PG_BIN_DIR").unwrap_or_default();
        let places = [Path::new(&folder).join("pgbench"), PathBuf::from("pgbench")];
        let runs = |program: &PathBuf| {
            let said = std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status();
            said.is_ok_and(|status| status.success())
        };
        let Some(program) = places.into_iter().find(runs) else { return Ok(None) };
        let logs = scratch.path().join("pgbench");
        fs::create_dir_all(&logs)?;
        Ok(Some(Self {
            program,
            script: scratch.write("look-up.sql", &script(asked)?)?,
            logs,
            database_url: database_url.to_owned(),
            account_id: asked.account_id.to_string(),
        }))
    }

    /// So many clients, each with its next statement as soon as it has its answer.
    pub(crate) async fn saturate(&self, clients: u32, seed: u64, span: Duration) -> anyhow::Result<Figures> {
        let millis = |duration: Duration| duration.as_millis();
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--log"])
            .arg(format!("--log-prefix={}", self.logs.join("round").display()))
            .arg(format!("--client={clients}"))
            .arg(format!("--time={}", span.as_secs()))
            .arg(format!("--random-seed={seed}"))
            .arg(format!("--define=account={}", self.account_id))
            .arg("--define=nobody=-")
            .arg(format!("--file={}", self.script.display()))
            .arg(&self.database_url)
            // What the call path's connections have.
            .env(
                "PGOPTIONS",
                format!(
                    "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off -c statement_timeout={} -c lock_timeout={} \
                    -c idle_in_transaction_session_timeout=10000 -c timezone=UTC",
                    millis(STATEMENT_TIMEOUT),
                    millis(LOCK_TIMEOUT)
                ),
            )
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("pgbench cannot be started")?;
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "pgbench failed: {complaint}");
        // The last one leaves the time of connecting out.
        let rate =
            said.lines().filter_map(|line| line.strip_prefix(RATE)).next_back().context("pgbench says no rate")?;
        let rate = rate.split(' ').next().unwrap_or_default().parse().context("pgbench's rate")?;
        Ok(Figures { rate, ..Figures::of(self.take_latencies()?, span)? })
    }

    /// Each line of its logs is a statement, whose third field is its microseconds.
    fn take_latencies(&self) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for log in fs::read_dir(&self.logs)? {
            let path = log?.path();
            for line in fs::read_to_string(&path)?.lines() {
                let micros = line.split(' ').nth(2).and_then(|field| field.parse().ok()).context("pgbench's log")?;
                latencies.push(Duration::from_micros(micros));
            }
            fs::remove_file(path)?;
        }
        Ok(latencies)
    }
}

/// Known callers at random, as the other clients ask for them. pgbench has no NULL as an argument,
/// so what is empty is made one by the server.
fn script(asked: Asked) -> anyhow::Result<String> {
    let (text, types) = statement()?;
    let arguments = [":account", ":number", "nullif(:nobody::text, '-')"];
    ensure!(
        types == ["Uuid", "Int8", "Text"],
        "the look-up's statement takes other arguments now: {types:?}; say here what they are"
    );
    let mut text = text;
    for (index, (argument, kind)) in arguments.iter().zip(&types).enumerate() {
        text = text.replace(&format!("${}", index + 1), &format!("{argument}::{kind}"));
    }
    Ok(format!(
        "\\set contact random(0, {} - 1)\n\
        \\set number {FIRST_NUMBER} + :contact + :contact / {NUMBERS_OF_AREA} * {NUMBERS_BETWEEN_AREAS}\n\
        {text};\n",
        asked.contacts
    ))
}

/// Its text, and the types of its arguments.
fn statement() -> anyhow::Result<(String, Vec<String>)> {
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx"))? {
        let entry: Value = serde_json::from_str(&fs::read_to_string(file?.path())?)?;
        let text = entry["query"].as_str().unwrap_or_default();
        if text.starts_with(NAME) {
            let types = serde_json::from_value(entry["describe"]["parameters"]["Left"].clone())?;
            return Ok((text.to_owned(), types));
        }
    }
    anyhow::bail!(".sqlx has no statement that begins with {NAME:?}")
}
