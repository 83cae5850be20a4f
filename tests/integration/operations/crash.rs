//! A real process of the service, killed with SIGKILL in the middle of a first copy again and
//! again: what is written stays, what is not is read again, nothing is double.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use chrono::TimeDelta;
use contact_sync::{
    domain::{clock::Clock, provider},
    rpc::{
        claims::TokenAccounts,
        local_token,
        methods::TokenScope,
        pb::{self, sync_service_client::SyncServiceClient},
    },
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::{GateAt, RequestGate},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{RngExt, rngs::StdRng};

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::calls::{dice, seeds},
    support::statements::aim_at,
    support::sync::{EXPORT, arrived, column, eventually, expire_leases, pages, param, soon, system_now},
    support::{TestApp, enable_request},
};

const PEOPLE: usize = 5_500;
const PAGES: usize = 6;
const KILLS: usize = 8;
/// The one that a test's own service seals with.
const KEY_RING: &str = r#"{"primary":"k1","keys":[{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;
/// Connections of a service's workers; those of the test's own service, too.
const OF_WORKERS: &str = "datname = current_database() and application_name = 'contact-sync sync'";

/// The files that a process needs, removed at the end.
pub struct Files(pub PathBuf);

impl Files {
    pub fn make(test: &TestApp) -> Self {
        let dir = std::env::temp_dir().join(format!("cs-crash-{}-{}", std::process::id(), test.address.port()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("jwks.json"), &local_token::generate(&[7; 32]).jwks_json).unwrap();
        fs::write(dir.join("key-ring.json"), KEY_RING).unwrap();
        Self(dir)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process of the service, killed when it is dropped.
pub struct Process {
    pub child: Child,
    /// The connections of its workers.
    connections: String,
}

impl Process {
    pub async fn start(test: &TestApp, files: &Files) -> Self {
        Self::start_on(test, files, test.db.url()).await
    }

    /// With this way to the test's database.
    pub async fn start_on(test: &TestApp, files: &Files, database_url: &str) -> Self {
        Self::start_with(test, files, database_url, &[]).await
    }

    /// And with these variables.
    pub async fn start_with(test: &TestApp, files: &Files, database_url: &str, variables: &[(&str, &str)]) -> Self {
        let others =
            format!("select coalesce(string_agg(pid::text, ','), '0') from pg_stat_activity where {OF_WORKERS}");
        let others: String = sqlx::query_scalar(sqlx::AssertSqlSafe(others)).fetch_one(&test.db.pool).await.unwrap();
        let zendesk = test.config.providers.each[provider::Provider::Zendesk].base_url.as_ref().unwrap();
        let path = |name: &str| files.0.join(name).display().to_string();
        let log = fs::File::options().create(true).append(true).open(files.0.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_contact-sync"))
            .args(["serve", "--no-migrate", "--listen", "127.0.0.1:0", "--data-dir", &path("data")])
            .args(["--set", "admin.listen=127.0.0.1:0"])
            .args(["--set", &format!("auth.jwks_file={}", path("jwks.json"))])
            .args(["--set", &format!("vault.key_ring_file={}", path("key-ring.json"))])
            .args(["--set", &format!("providers.zendesk.base_url={zendesk}")])
            .args(["--set", "worker.lease_seconds=3", "--set", "worker.heartbeat_seconds=1"])
            .args(["--set", "worker.poll_ms=50", "--set", "worker.backoff_base_ms=10", "--set", "drain.wait_seconds=0"])
            .env_clear()
            .env("DATABASE_URL", database_url)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, connections: format!("{OF_WORKERS} and pid not in ({others})") }
    }

    fn assert_runs(&mut self, files: &Files) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the process ended by itself, {status}: {}", fs::read_to_string(files.0.join("log")).unwrap());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A test whose clock is this machine's, since the process has no other; with an integration that
/// is due.
pub async fn stage(people: usize) -> (TestApp, String, String) {
    let test = TestApp::start().await;
    test.pass(system_now() - test.clock.now());
    test.zendesk.generate_people(people, 1).unwrap();
    let client = test.client_with(&test.token(&TokenAccounts::All, &TokenScope::ALL));
    let account = {
        let request =
            pb::CreateAccountRequest { display_name: "Test".into(), default_region: "US".into(), ..Default::default() };
        let mut accounts = pb::account_service_client::AccountServiceClient::new(client.clone());
        accounts.create_account(request).await.unwrap().into_inner().account.unwrap().id
    };
    let enabled = SyncServiceClient::new(client).enable_sync(enable_request(&account, "acme")).await.unwrap();
    let integration = enabled.into_inner().integration.unwrap().id;
    (test, account, integration)
}

/// Kills it where chance wants: while a page is on its way, or in the middle of a transaction.
async fn kill_somewhere(test: &TestApp, process: Process, gate: &RequestGate, dice: &mut StdRng, files: &Files) {
    let mut process = process;
    let complete = "select count(*) from sync_runs where state = 'SUCCEEDED'";
    for releases in [true, false].into_iter().skip(usize::from(dice.random_bool(0.5))) {
        eventually("the next page, or the end", async || {
            process.assert_runs(files);
            gate.count().held > 0 || test.db.number(complete).await > 0
        })
        .await;
        if releases {
            gate.release_one();
            soon("the released page", gate.deserted()).await;
        }
    }
    if dice.random_bool(0.7) {
        let came = gate.count().arrived;
        gate.release_one();
        let busy = format!(
            "select count(*) from pg_stat_activity where {} and query ~ '{}' and state <> 'idle'",
            process.connections,
            aim_at(&[
                "store::contact_writes::",
                "store::lease::lock",
                "store::run_progress::advance",
                "store::run_progress::complete"
            ])
        );
        let mut looks = dice.random_range(1..6);
        while looks > 0 && gate.count().arrived == came {
            looks -= test.db.number(&busy).await.min(looks);
            if test.db.number(complete).await > 0 {
                break;
            }
        }
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    soon("the dead client's requests", gate.deserted()).await;
    let gone = format!("select count(*) from pg_stat_activity where {}", process.connections);
    eventually("the end of the dead process's connections", async || test.db.number(&gone).await == 0).await;
}

/// A first copy survives any number of kills, and is exact.
#[tokio::test]
async fn first_copy_survives_kills_and_is_exact() {
    for seed in seeds(1) {
        let mut dice = dice(seed);
        let (test, _, integration) = stage(PEOPLE).await;
        let files = Files::make(&test);
        let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
        let (mut kills, mut written) = (0, 0);
        while kills < KILLS && column(&test, &integration, "last_completed_at").await.is_empty() {
            kill_somewhere(&test, Process::start(&test, &files).await, &gate, &mut dice, &files).await;
            kills += 1;

            let read = test.db.number("select read_count from sync_runs").await;
            assert!(read >= written, "{read} after {written}: a written page was lost");
            written = read;
            assert_eq!(test.db.number("select count(*) from contacts").await, read, "half a page was written");
            assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);
            assert_holds(&test).await;
            expire_leases(&test).await;
        }
        gate.open();
        let mut last = Process::start(&test, &files).await;
        eventually("the first copy", async || {
            last.assert_runs(&files);
            !column(&test, &integration, "last_completed_at").await.is_empty()
        })
        .await;
        drop(last);

        println!("{kills} kills, {} pages asked for", pages(&test).len());
        assert!(kills >= 4);
        let people = i64::try_from(PEOPLE).unwrap();
        assert_eq!(test.db.number("select read_count from sync_runs").await, people);
        assert_eq!(test.db.number("select created_count from sync_runs").await, people);
        assert_at_most_one_page_was_redone(&pages(&test), kills);
        assert_is_a_true_copy(&test, &integration).await;
        assert_holds(&test).await;
    }
}

/// Positions only move on; each kill costs one request at most.
fn assert_at_most_one_page_was_redone(asked: &[String], kills: usize) {
    assert!(asked.len() <= PAGES + kills, "{} requests for {PAGES} pages and {kills} kills", asked.len());
    let mut order = BTreeMap::new();
    let mut newest = 0;
    for query in asked {
        let place = param(query, "cursor").unwrap_or("start").to_owned();
        let next = order.len();
        let index = *order.entry(place).or_insert(next);
        assert!(index >= newest, "a written page was asked for again");
        newest = index;
    }
    assert_eq!(order.len(), PAGES);
}

/// A process that sleeps past its lease in a transaction wakes to no effect.
#[tokio::test]
async fn process_sleeping_past_lease_has_no_effect() {
    let (test, _, integration) = stage(PEOPLE).await;
    let files = Files::make(&test);
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let mut sleeper = Process::start(&test, &files).await;
    let pid = Pid::from_raw(i32::try_from(sleeper.child.id()).unwrap());
    let open = format!(
        "select count(*) from pg_stat_activity where {} and xact_start is not null and query ~ '{}'",
        sleeper.connections,
        aim_at(&["store::contact_writes::", "store::lease::lock"])
    );
    loop {
        eventually("a page", async || {
            sleeper.assert_runs(&files);
            gate.count().held > 0
        })
        .await;
        gate.release_one();
        eventually("a transaction, or the next page", async || {
            test.db.number(&open).await > 0 || gate.count().held > 0
        })
        .await;
        kill(pid, Signal::SIGSTOP).unwrap();
        // It was stopped between two statements, and its transaction stays open.
        if test.db.number(&open).await > 0 {
            break;
        }
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(gate.count().arrived < 6, "no transaction was caught open");
    }
    let written = test.db.number("select read_count from sync_runs").await;

    // The row is the sleeper's until the database ends its idle transaction.
    expire_leases(&test).await;
    gate.open();
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    kill(pid, Signal::SIGCONT).unwrap();
    eventually("the sleeper to see what happened", async || {
        let log = fs::read_to_string(files.0.join("log")).unwrap();
        log.contains("a run was left") || log.contains("lease is lost") || log.contains("taken over")
    })
    .await;

    let people = i64::try_from(PEOPLE).unwrap();
    assert!(written < people);
    assert_eq!(test.db.number("select read_count from sync_runs").await, people);
    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A process that is told to end hands its run over, and exits in order.
#[tokio::test]
async fn process_told_to_end_hands_run_over() {
    let (test, _, integration) = stage(1_500).await;
    let files = Files::make(&test);
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Request).unwrap();
    let mut process = Process::start(&test, &files).await;
    arrived(&gate, 1).await;

    kill(Pid::from_raw(i32::try_from(process.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut status = None;
    eventually("the process's end", async || {
        status = process.child.try_wait().unwrap();
        status.is_some()
    })
    .await;

    assert!(status.unwrap().success(), "{}", fs::read_to_string(files.0.join("log")).unwrap());
    assert_eq!(column(&test, &integration, "lease_until").await, "", "the lease is given back, not left to run out");
    assert_eq!(test.db.number("select read_count from sync_runs where state = 'RUNNING'").await, 1_000);
    assert_holds(&test).await;

    gate.open();
    test.pass(TimeDelta::seconds(1));
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A log of a whole sync holds no name, number, address or secret.
#[tokio::test]
async fn log_of_sync_holds_nothing_personal() {
    let (test, _, integration) = stage(0).await;
    let canaries =
        ["Quixotecanary", "quixote.canary", "3108675301", "867-5301", "admin@example.com", "c2VjcmV0", ":secret"];
    test.zendesk
        .create_user(&serde_json::json!({"name": "Quixotecanary", "email": "quixote.canary@example.com", "phone": "(310) 867-5301"}))
        .unwrap();
    let faults =
        [Fault::ServerError, Fault::Truncate, Fault::Html, Fault::RateLimited { retry_after_seconds: Some(0) }];
    for (skip, fault) in (0..).zip(faults) {
        test.zendesk.faults().add(FaultRule { skip, ..FaultRule::once(EXPORT, fault) }).unwrap();
    }
    let files = Files::make(&test);
    let mut process = Process::start(&test, &files).await;
    let log = || fs::read_to_string(files.0.join("log")).unwrap();
    eventually("the first copy", async || {
        process.assert_runs(&files);
        log().contains("sync run is complete")
    })
    .await;
    assert_ne!(column(&test, &integration, "last_completed_at").await, "");

    let log = log();
    assert_eq!(log.matches("will try again").count(), 4);
    for canary in canaries {
        assert!(!log.contains(canary), "{canary} in the log");
    }
}
