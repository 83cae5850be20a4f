//! More trouble with the database: a full pool, a changed schema, sessions that the server ends, a
//! role without rights, a COMMIT that arrives late, a server that is stopped, loses a process, or
//! gives way to its standby. What is refused says which statement it was.

use std::{path::Path, process::Command, time::Duration};

use contact_sync::{
    domain::audit::AuditActor,
    rpc::pb,
    store::{StoreError, accounts, schema::ProgramSchema},
    telemetry::chain,
};
use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    feed::{Reader, strangers},
    operations::database_trouble::{BRYCE, Scene},
    operations::private_cluster::DataDir,
    support::calls::{call_with_id, id_of, refusal},
    support::sync::{ask_trigger, eventually},
    support::{TestApp, call, db::TestDb, start_time},
};

const STRANGER: &str = "+13105550178";

fn unavailable(status: &Status) -> bool {
    refusal(status) == (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned())
}

fn overloaded(status: &Status) -> bool {
    refusal(status) == (Code::ResourceExhausted, "OVERLOADED".to_owned())
        && status.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some())
}

/// A full pool whose database lives is an overload, and one without a database is not.
#[tokio::test]
async fn only_full_pool_with_database_is_overload() {
    let scene = Scene::start_on(TestDb::create().await, None, |config| {
        config.pools.call.connections = 2;
        config.pools.call.acquire_timeout_ms = 500;
    })
    .await;

    scene.proxy.lag(Duration::from_millis(100));
    let answers = join_all((0..30).map(|_| scene.look())).await;
    assert!(answers.iter().any(Result::is_ok));
    assert!(answers.iter().any(|answer| answer.as_ref().is_err_and(overloaded)), "{answers:?}");
    // Whoever comes next finds a shorter queue, and its answer.
    scene.answered_again().await;
    scene.proxy.lag(Duration::ZERO);
    join_all((0..30).map(|_| scene.look())).await.into_iter().for_each(|answer| answer.unwrap());

    scene.proxy.refuse(true);
    scene.proxy.cut();
    for answer in join_all((0..30).map(|_| scene.look())).await {
        assert!(answer.as_ref().is_err_and(unavailable), "{answer:?}");
    }
    scene.proxy.refuse(false);
    scene.answered_again().await;
}

fn somebody() -> AuditActor {
    AuditActor {
        event_id: uuid::Uuid::from_u128(1),
        called_at: start_time(),
        subject: None,
        method: "CreateAccount",
        request_id: uuid::Uuid::from_u128(2),
    }
}

/// What the database refuses names the statement, and no value.
#[tokio::test]
async fn database_refusals_name_statement_and_no_value() {
    let test = TestApp::start().await;
    let id = test.account().await.parse().unwrap();
    let account = accounts::find(&test.app.api_db, id).await.unwrap().unwrap();

    test.db.execute("alter table accounts add constraint odd check (display_name <> 'Oddname')").await;
    let mut odd = account.clone();
    (odd.id.0, odd.display_name) = (uuid::Uuid::from_u128(7), "Oddname".to_owned());
    let surprise = accounts::create(&test.app.api_db, &odd, &somebody()).await.unwrap_err();
    test.db.execute("alter table accounts rename column display_name to called").await;
    let missing = accounts::find(&test.app.api_db, id).await.unwrap_err();
    let refused = test.accounts().get_account(pb::GetAccountRequest { account_id: id.to_string() }).await.unwrap_err();

    assert!(matches!(surprise, StoreError::Constraint(..)), "{surprise}");
    for (error, name) in [(&surprise, "store::accounts::insert: "), (&missing, "store::accounts::find: ")] {
        let told = format!("{} {error:?}", chain(error));
        assert!(told.contains(name), "{told}");
        assert!(!told.contains("Oddname"), "{told}");
    }
    // Not a bug: the schema is another one, and an operator can mend that.
    assert!(unavailable(&refused), "{refused:?}");
}

/// A schema that changes under prepared statements is taken up.
#[tokio::test]
async fn schema_changed_under_prepared_statements_is_used() {
    let test = TestApp::start().await;
    let account_id = test.account().await;
    let get = async || test.accounts().get_account(pb::GetAccountRequest { account_id: account_id.clone() }).await;
    for _ in 0..8 {
        get().await.unwrap();
    }

    test.db.execute("alter table accounts alter column display_name type varchar(500)").await;

    eventually("an answer", async || match get().await {
        Ok(_) => true,
        Err(refused) => {
            assert!(unavailable(&refused), "{refused:?}");
            false
        }
    })
    .await;
}

/// Sessions that the server ends for idleness cost no call.
#[tokio::test]
async fn idle_sessions_ended_by_server_cost_nothing() {
    let scene = Scene::start().await;
    let db = &scene.test.db;
    if db.number("select current_setting('server_version_num')::bigint").await < 140_000 {
        return;
    }
    db.execute(
        "do $$ begin execute format('alter database %I set idle_session_timeout = 400', current_database()); end $$",
    )
    .await;
    scene.proxy.cut();

    for _ in 0..2 {
        eventually("all connections", async || scene.connections().await == 8).await;
        eventually("the end of all", async || scene.connections().await == 0).await;
        for answer in join_all((0..12).map(|_| scene.look())).await {
            answer.unwrap();
        }
    }
}

/// A known caller is named although the answer cannot be stored.
#[tokio::test]
async fn known_caller_is_named_though_answer_is_unstored() {
    let scene = Scene::start().await;
    let test = &scene.test;
    // As an operator's change of the table does.
    let mut session = test.db.pool.begin().await.unwrap();
    sqlx::query("lock table calls in share row exclusive mode").execute(&mut *session).await.unwrap();

    let named = test.ask(&scene.account, BRYCE, "call-1").await;
    session.rollback().await.unwrap();
    let repeat = test.ask(&scene.account, BRYCE, "call-1").await;

    for answer in [named, repeat] {
        assert_eq!(id_of(answer.selected.as_ref()), scene.contact);
    }
    assert_eq!(test.rows(&scene.account, "calls").await, 1);
}

/// A commit that arrives after its connection was given up is done once.
#[tokio::test]
async fn late_commit_of_lost_connection_counts_once() {
    let scene = Scene::start().await;
    let test = &scene.test;
    let integration = test.enable(&scene.account, "other").await;
    test.sync_due().await;
    let runs = test.rows(&scene.account, "sync_runs").await;
    let trigger = || {
        ask_trigger(test, &scene.account, &integration, |request| {
            request.request_id = uuid::Uuid::from_u128(7).to_string();
        })
    };

    scene.proxy.hold_at(b"commit\0");
    let refused = trigger().await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    assert_eq!(test.rows(&scene.account, "sync_runs").await, runs);
    scene.proxy.thaw();

    eventually("the late commit", async || test.rows(&scene.account, "sync_runs").await == runs + 1).await;
    trigger().await.unwrap();
    assert_eq!(test.rows(&scene.account, "sync_runs").await, runs + 1);
}

/// What is done and its event are committed together, late, or not at all.
#[tokio::test]
async fn late_or_lost_commit_keeps_deed_and_event_together() {
    let scene = Scene::start().await;
    let test = &scene.test;
    let integration = test.enable(&scene.account, "other").await;
    test.sync_due().await;
    let count =
        async || (test.rows(&scene.account, "sync_runs").await, test.rows(&scene.account, "audit_events").await);
    let (runs, events) = count().await;

    scene.proxy.hold_at(b"commit\0");
    let refused = ask_trigger(test, &scene.account, &integration, |_| {}).await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    scene.proxy.cut();
    let open = "select count(*) from pg_stat_activity where datname = current_database() and xact_start is not null
        and pid <> pg_backend_pid()";
    eventually("the end of the lost transaction", async || test.db.number(open).await == 0).await;
    assert_eq!(count().await, (runs, events), "neither was done");

    scene.answered_again().await;
    scene.proxy.hold_at(b"commit\0");
    let refused = ask_trigger(test, &scene.account, &integration, |_| {}).await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    scene.proxy.thaw();
    eventually("the late commit", async || count().await == (runs + 1, events + 1)).await;
    let event = test.audit(&scene.account).await.remove(0);
    assert_eq!((event.method.as_str(), event.result()), ("TriggerSync", pb::AuditResult::Done));
}

/// A role of the test's own, with the rights that operating.md names.
struct Role<'d> {
    db: &'d TestDb,
    name: String,
}

impl<'d> Role<'d> {
    async fn make(db: &'d TestDb) -> Self {
        let name: String =
            sqlx::query_scalar("select 'role_of_' || current_database()").fetch_one(&db.pool).await.unwrap();
        db.execute(&format!("create role {name} login")).await;
        db.execute(&format!("grant select, insert, update, delete on all tables in schema public to {name}")).await;
        Self { db, name }
    }

    async fn drop(self) {
        self.db.execute(&format!("drop owned by {0} cascade; drop role {0}", self.name)).await;
    }
}

/// A server without connections to spare answers calls on those that there are.
#[tokio::test]
async fn server_short_of_connections_answers_on_existing() {
    let db = TestDb::create().await;
    let role = Role::make(&db).await;
    let scene = Scene::start_on(db.share(), Some(&role.name), |_| {}).await;
    let limit = async |most: i32| db.execute(&format!("alter role {} connection limit {most}", role.name)).await;

    limit(3).await;
    scene.proxy.cut();
    scene.answered_again().await;
    for answer in join_all((0..20).map(|_| scene.look())).await {
        answer.unwrap();
    }
    limit(-1).await;

    eventually("all connections", async || scene.connections().await == 8).await;
    scene.test.app.close().await;
    role.drop().await;
}

/// Rights to the server's identity that come and go reset no reader of the feed.
#[tokio::test]
async fn changing_rights_to_identity_reset_no_reader() {
    let db = TestDb::create().await;
    let role = Role::make(&db).await;
    db.execute("revoke execute on function pg_control_system() from public").await;
    let scene = Scene::start_on(db.share(), Some(&role.name), |_| {}).await;
    let mut reader = Reader::new();
    assert_eq!(reader.read(&scene.test, &scene.account).await.unwrap(), 1);

    // This one may see more than the first.
    db.execute("grant execute on function pg_control_system() to public").await;
    let replica = scene.test.replica(|_| {}).await;
    for test in [&replica, &scene.test, &replica] {
        let before = test.rows(&scene.account, "contacts").await;
        test.match_caller(call(&scene.account, &format!("+1310556{before:04}"))).await;
        assert_eq!(reader.read(test, &scene.account).await.unwrap(), 1);
    }
    assert_eq!(db.number("select count(*) from feeds where origin like '%/%/%'").await, 1);

    join_all([scene.test.app.close(), replica.app.close()]).await;
    role.drop().await;
}

fn few_connections(config: &mut contact_sync::config::Config) {
    for pool in [&mut config.pools.call, &mut config.pools.api, &mut config.pools.sync] {
        pool.connections = 3;
    }
}

/// All processes of a server, stopped until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn stop(data: &Path) -> Self {
        let data = data.canonicalize().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let of_server =
            processes.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data));
        let pids = of_server.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        let stopped = Self(pids.collect());
        stopped.signal(Signal::SIGSTOP);
        stopped
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            let _ = kill(*pid, signal);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

/// A server that is stopped, loses a process or refuses the password is used again.
#[tokio::test]
async fn stopped_or_refusing_server_is_used_again() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    ProgramSchema::own().migrate(&cluster.url()).await.unwrap();
    let db = TestDb::at(&cluster.url());
    db.execute("create role service login password 'secret'").await;
    db.execute("grant select, insert, update, delete on all tables in schema public to service").await;
    let hba = cluster.data_dir().join("pg_hba.conf");
    let others = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all service scram-sha-256\n{others}")).unwrap();
    db.execute("select pg_reload_conf()").await;
    let scene = Scene::start_on(db, Some("service:secret"), few_connections).await;
    let of_calls = "select pid::bigint from pg_stat_activity where application_name = 'contact-sync calls' limit 1";

    let stopped = Stopped::stop(&cluster.data_dir());
    assert!(!stopped.0.is_empty());
    let refused = scene.look().await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused:?}");
    drop(stopped);
    scene.answered_again().await;

    // The others are ended with it, and the server recovers.
    let one = scene.test.db.number(of_calls).await;
    kill(Pid::from_raw(one.try_into().unwrap()), Signal::SIGKILL).unwrap();
    scene.answered_again().await;
    eventually("a stranger's call", async || {
        let request = call_with_id(&scene.account, STRANGER, "call-1");
        scene.test.callers().match_caller(request).await.is_ok()
    })
    .await;

    // What is established outlives a change of the password.
    scene.test.db.execute("alter role service password 'other'").await;
    scene.look().await.unwrap();
    scene.proxy.cut();
    let refused = scene.look().await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    scene.test.db.execute("alter role service password 'secret'").await;
    scene.answered_again().await;
    scene.test.app.close().await;
    cluster.stop().await.unwrap();
}

/// A standby that is promoted is used, and readers of the feed begin anew.
#[tokio::test]
async fn promoted_standby_is_used_and_readers_restart() {
    let (dir, other_dir) = (DataDir::new(), DataDir::new());
    let cluster = dir.start().await;
    ProgramSchema::own().migrate(&cluster.url()).await.unwrap();
    let (data, socket) = (cluster.data_dir(), cluster.socket_dir().display().to_string());
    cluster.stop().await.unwrap();
    let copied = Command::new("cp").arg("-a").args([dir.path(), other_dir.path()]).status().unwrap();
    assert!(copied.success());
    let other_data = other_dir.path().join(data.strip_prefix(dir.path()).unwrap());
    std::fs::write(other_data.join("standby.signal"), "").unwrap();
    let source = format!("primary_conninfo = 'host={socket} user=contact_sync'\n");
    std::fs::write(other_data.join("postgresql.auto.conf"), source).unwrap();
    let (primary, standby) = (dir.start().await, other_dir.start().await);
    let scene = Scene::start_on(TestDb::at(&primary.url()), None, few_connections).await;
    let (test, account) = (&scene.test, &scene.account);
    strangers(test, account, 0..3).await;
    let mut reader = Reader::new();
    assert_eq!(reader.read(test, account).await.unwrap(), 4);
    let on_standby = TestDb::at(&standby.url());
    eventually("the copy on the standby", async || {
        on_standby.number("select coalesce(max(last_number), 0) from feeds").await == 4
    })
    .await;

    scene.proxy.lead_to(&standby.url());
    scene.proxy.cut();
    scene.answered_again().await;
    let refused = test.match_refused(call_with_id(account, STRANGER, "call-1")).await;
    assert!(unavailable(&refused), "{refused:?}");
    let refused = reader.read(test, account).await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    on_standby.execute("select pg_promote()").await;

    strangers(test, account, 3..5).await;
    let reset = reader.read(test, account).await.unwrap_err();
    assert_eq!(refusal(&reset), (Code::FailedPrecondition, "FEED_RESET".to_owned()));
    reader.begin_anew(test, account).await;
    reader.read(test, account).await.unwrap();
    strangers(test, account, 5..6).await;
    assert_eq!(reader.read(test, account).await.unwrap(), 1);
    test.app.close().await;
    primary.stop().await.unwrap();
    standby.stop().await.unwrap();
}
