//! The database in trouble: connections that go silent, come late or lead to a standby, a database
//! that is gone or has lost its tables. Calls are answered again by themselves, nothing says
//! INTERNAL, and health says what is so.

use std::time::Duration;

use contact_sync::{config::Config, rpc::pb};
use futures_util::future::join_all;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::{
    api::methods::invoke,
    support::calls::{call_with_id, id_of, refusal},
    support::sync::eventually,
    support::{TestApp, call, db::TestDb, proxy::Proxy},
};

pub const BRYCE: &str = "+13108675309";
const STRANGER: &str = "+13105550177";
const CALLS: &str = "contactsync.v1.CallerService";
const CONTACTS: &str = "contactsync.v1.ContactService";

/// A service that reaches its database through a proxy, and a caller that it knows.
pub struct Scene {
    pub test: TestApp,
    pub proxy: Proxy,
    pub account: String,
    /// The one with Bryce's number.
    pub contact: String,
}

impl Scene {
    pub async fn start() -> Self {
        Self::start_as(None).await
    }

    /// As this role of the database.
    pub async fn start_as(role: Option<&str>) -> Self {
        Self::start_on(TestDb::create().await, role, |_| {}).await
    }

    pub async fn start_on(direct: TestDb, role: Option<&str>, change: impl FnOnce(&mut Config)) -> Self {
        let proxy = Proxy::start(direct.url()).await;
        let url = role.map_or_else(|| proxy.url().to_owned(), |role| proxy.url_as(role));
        let test = TestApp::start_on(direct.through(&url), |config| {
            config.pools.call.acquire_timeout_ms = 1_000;
            config.pools.api.acquire_timeout_ms = 2_000;
            change(config);
        })
        .await;
        test.user("Bryce Love", BRYCE);
        let (account, _) = test.synced().await;
        let contact = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
        Self { test, proxy, account, contact }
    }

    /// A call of the known caller that only looks.
    pub async fn look(&self) -> Result<(), Status> {
        let mut request = call(&self.account, BRYCE);
        request.set_on_no_match(pb::OnNoMatch::LookupOnly);
        let answer = self.test.callers().match_caller(request).await?.into_inner();
        assert_eq!(answer.selected.map(|contact| contact.id).unwrap_or_default(), self.contact);
        Ok(())
    }

    pub async fn answered_again(&self) {
        eventually("an answered call", async || self.look().await.is_ok()).await;
    }

    /// Open connections of the call path.
    pub async fn connections(&self) -> i64 {
        let count = "select count(*) from pg_stat_activity
            where datname = current_database() and application_name = 'contact-sync calls'";
        self.test.db.number(count).await
    }

    async fn says(&self, name: &str) -> i32 {
        #[derive(Message)]
        struct Name {
            #[prost(string, tag = "1")]
            service: String,
        }
        #[derive(Message)]
        struct Said {
            #[prost(int32, tag = "1")]
            status: i32,
        }
        let asked = Name { service: name.to_owned() }.encode_to_vec();
        let channel = self.test.channel.clone();
        let said = invoke(channel, "/grpc.health.v1.Health/Check", Request::new(asked)).await.unwrap();
        Said::decode(said.as_slice()).unwrap().status
    }
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// Connections that have gone silent are closed, and calls are answered by new ones.
#[tokio::test]
async fn silent_connections_are_closed_for_new_ones() {
    let scene = Scene::start().await;
    for freeze in [Proxy::freeze, Proxy::freeze_questions, Proxy::freeze_answers] {
        let before = scene.proxy.count();

        freeze(&scene.proxy);
        scene.answered_again().await;

        // Nobody meets a second one of those that were as old.
        for _ in 0..20 {
            scene.look().await.unwrap();
        }
        assert!(scene.proxy.count() > before);
        // Nor what comes late.
        scene.proxy.thaw();
        scene.look().await.unwrap();
    }
    let request = pb::GetAccountRequest { account_id: scene.account.clone() };
    scene.test.accounts().get_account(request).await.unwrap();
}

/// Many calls at once on silent connections lose one limit together, not one each.
#[tokio::test]
async fn calls_on_silent_connections_lose_one_limit() {
    let scene = Scene::start().await;
    join_all((0..20).map(|_| scene.look())).await.into_iter().for_each(|answer| answer.unwrap());

    scene.proxy.freeze();
    join_all((0..20).map(|_| scene.look())).await;
    scene.answered_again().await;

    for answer in join_all((0..20).map(|_| scene.look())).await {
        answer.unwrap();
    }
}

/// What is written on a silent connection is whole or absent, and can be done again.
#[tokio::test]
async fn silent_connections_writes_are_whole_or_absent() {
    let scene = Scene::start().await;
    let account_id = Uuid::from_u128(7).to_string();
    let create = || pb::CreateAccountRequest {
        account_id: account_id.clone(),
        display_name: "Written meanwhile".into(),
        default_region: "US".into(),
        ..Default::default()
    };

    scene.proxy.freeze();
    eventually("a written account", async || scene.test.accounts().create_account(create()).await.is_ok()).await;

    let rows = format!("select count(*) from accounts where account_id = '{account_id}'");
    assert_eq!(scene.test.db.number(&rows).await, 1);
}

#[tokio::test]
async fn connections_that_were_cut_cost_no_call() {
    let scene = Scene::start().await;

    for cut in [Proxy::cut, Proxy::reset, Proxy::cut] {
        cut(&scene.proxy);
        for answer in join_all((0..12).map(|_| scene.look())).await {
            answer.unwrap();
        }
        eventually("all connections again", async || scene.connections().await == 8).await;
    }
}

/// All connections are there before the first call, and come back however late each is.
#[tokio::test]
async fn connections_precede_calls_and_return_however_late() {
    let direct = TestDb::create().await;
    let proxy = Proxy::start(direct.url()).await;
    // Later than anybody waits for one.
    proxy.delay(Duration::from_millis(500));
    let test = TestApp::start_on(direct.through(proxy.url()), |config| {
        config.pools.call.acquire_timeout_ms = 400;
    })
    .await;
    let account = test.account().await;
    let scene = Scene { test, proxy, account, contact: String::new() };
    assert_eq!(scene.connections().await, 8);

    // More than there are connections, and none has to wait for one to be made.
    for answer in join_all((0..24).map(|_| scene.look())).await {
        answer.unwrap();
    }
    scene.proxy.cut();
    eventually("all connections again", async || {
        let _ = scene.look().await;
        scene.connections().await == 8
    })
    .await;
    for answer in join_all((0..24).map(|_| scene.look())).await {
        answer.unwrap();
    }
}

/// On a database that cannot write known callers are named, and nothing stays so.
#[tokio::test]
async fn read_only_database_still_names_known_callers() {
    let scene = Scene::start().await;
    let test = &scene.test;
    let name = "(select current_database())";
    let switch = |how: &str| format!("do $$ begin execute format('alter database %I {how}', {name}); end $$");
    // As if the address led to a standby: what is established is cut, what is new cannot write.
    test.db.execute(&switch("set default_transaction_read_only = on")).await;
    scene.proxy.cut();

    let refused = test.match_refused(call_with_id(&scene.account, STRANGER, "call-1")).await;
    let known = test.ask(&scene.account, BRYCE, "call-2").await;

    assert_eq!(id_of(known.selected.as_ref()), scene.contact);
    assert!(known.degraded && known.as_of.is_some(), "it is not stored, and says so");
    assert_eq!(refusal(&refused), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
    // The address leads to the primary again: new connections do, those to the standby live on.
    let mut session = test.db.pool.acquire().await.unwrap();
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut *session).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(switch("reset default_transaction_read_only")))
        .execute(&mut *session)
        .await
        .unwrap();
    eventually("a stranger's call", async || {
        let request = call_with_id(&scene.account, STRANGER, "call-1");
        test.callers().match_caller(request).await.is_ok()
    })
    .await;
    let repeat = test.ask(&scene.account, BRYCE, "call-2").await;
    assert_eq!(id_of(repeat.selected.as_ref()), scene.contact);
    assert!(!repeat.degraded);
}

/// Health says of calls, and of the rest, what is so.
#[tokio::test]
async fn health_tells_truth_of_calls_and_rest() {
    let scene = Scene::start().await;
    assert_eq!((scene.says(CALLS).await, scene.says(CONTACTS).await), (SERVING, SERVING));

    scene.proxy.silence(true);
    scene.proxy.freeze();
    eventually("NOT_SERVING of all", async || {
        let _ = scene.look().await;
        (scene.says(CALLS).await, scene.says("").await, scene.says(CONTACTS).await)
            == (NOT_SERVING, NOT_SERVING, NOT_SERVING)
    })
    .await;
    scene.proxy.silence(false);

    eventually("SERVING of all", async || {
        (scene.says(CALLS).await, scene.says("").await, scene.says(CONTACTS).await) == (SERVING, SERVING, SERVING)
    })
    .await;
}

/// Health of calls follows calls, and not another pool.
#[tokio::test]
async fn health_of_calls_ignores_other_pools() {
    let scene = Scene::start().await;
    // What calls read is gone; everything else answers.
    scene.test.db.execute("alter table phone_numbers rename to elsewhere").await;

    eventually("NOT_SERVING of calls", async || {
        let refused = scene.look().await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
        scene.says(CALLS).await == NOT_SERVING
    })
    .await;
    assert_eq!(scene.says(CONTACTS).await, SERVING);
    scene.test.db.execute("alter table elsewhere rename to phone_numbers").await;

    eventually("SERVING of calls", async || scene.says(CALLS).await == SERVING).await;
    scene.look().await.unwrap();
}

/// A dropped database is UNAVAILABLE, and taken up again without a restart.
#[tokio::test]
async fn dropped_database_is_taken_up_without_restart() {
    let scene = Scene::start().await;
    let db = &scene.test.db;
    let copy = db.back_up().await;
    eventually("calls after the copy", async || scene.look().await.is_ok()).await;

    db.vanish().await;
    let refused = [
        scene.look().await.unwrap_err(),
        scene
            .test
            .contacts()
            .list_contacts(pb::ListContactsRequest { account_id: scene.account.clone(), ..Default::default() })
            .await
            .unwrap_err(),
    ];
    for refused in &refused {
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    db.reappear().await;
    let empty = scene.look().await.unwrap_err();
    assert_eq!(empty.code(), Code::Unavailable, "{empty:?}");
    db.restore(&copy).await;

    scene.answered_again().await;
}

/// Pools close in a moment, whatever their connections do.
#[tokio::test]
async fn pools_close_at_once_whatever_connections_do() {
    let scene = Scene::start().await;
    scene.proxy.silence(true);
    scene.proxy.freeze();
    let looking = scene.look();

    let (closed, answer) = tokio::join!(timeout(Duration::from_secs(20), scene.test.app.close()), looking);

    closed.unwrap();
    assert!(answer.is_err());
    assert_eq!(scene.look().await.unwrap_err().code(), Code::Unavailable);
}
