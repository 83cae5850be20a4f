//! Clients that hang up and deadlines that run, at any microsecond of any method: what was
//! acknowledged is there, what was not is whole or absent, and no connection is left in a
//! transaction.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{self, MatchOutcome, Provider},
};
use futures_util::{StreamExt, future::join_all, stream};
use prost::Message;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    api::methods::{Call, Things, invoke, requests},
    histories::integrity,
    support::TestApp,
    support::calls::{ORG, call_with_id, click_on, dice, refusal, seeds},
    support::sync::eventually,
};

/// reliability: ten thousand cancellations, over every method.
const CALLS: usize = 10_000;
/// More than all pools have connections, so that cancelled calls also wait for one.
const AT_ONCE: usize = 24;

/// A write of its own, and how to see whether it has happened: a count that is then above zero.
struct Write {
    path: &'static str,
    request: Vec<u8>,
    proof: String,
}

/// What was written, if something of its own, and what the client heard of it: nothing if it hung
/// up.
type Told = (Option<Write>, Option<Result<Vec<u8>, Status>>);

/// The n-th write: each is about something that no other write is about.
fn write(n: usize, things: &Things, salesforce: &str) -> Write {
    let account = &things.account;
    let number = format!("+1310{:07}", 5_000_000 + n);
    let key = &number[1..];
    match n % 6 {
        0 => Write {
            path: "/contactsync.v1.CallerService/MatchCaller",
            request: call_with_id(account, &number, &format!("stranger-{n}")).encode_to_vec(),
            proof: format!(
                "select count(*) from calls k join phone_numbers p on p.contact_id = k.contact_id and p.e164 = {key}
                where k.call_id = 'stranger-{n}' and k.outcome = 'CREATED'"
            ),
        },
        1 => Write {
            path: "/contactsync.v1.CallerService/MatchCaller",
            request: call_with_id(account, &things.number, &format!("known-{n}")).encode_to_vec(),
            proof: format!("select count(*) from calls where call_id = 'known-{n}' and contact_id is not null"),
        },
        2 => Write {
            path: "/contactsync.v1.CallerService/PreRegisterContact",
            request: pb::PreRegisterContactRequest {
                call_id: format!("clicked-{n}"),
                ..click_on(account, salesforce, "Lead", &format!("00QD0000{n:07}"), &number)
            }
            .encode_to_vec(),
            proof: format!(
                "select count(*) from calls k join external_refs e on e.contact_id = k.selection_id
                where k.call_id = 'clicked-{n}' and e.record_id like '00QD0000{n:07}%'"
            ),
        },
        3 => Write {
            path: "/contactsync.v1.CallerService/SelectMatch",
            request: pb::SelectMatchRequest {
                account_id: account.clone(),
                call_id: format!("chosen-{n}"),
                contact_id: things.contact.clone(),
                agent_id: String::new(),
            }
            .encode_to_vec(),
            proof: format!("select count(*) from calls where call_id = 'chosen-{n}' and selection_id is not null"),
        },
        4 => Write {
            path: "/contactsync.v1.AccountService/CreateAccount",
            request: pb::CreateAccountRequest {
                account_id: format!("00000000-0000-4000-8000-{n:012}"),
                display_name: "Made under fire".into(),
                default_region: "US".into(),
                further_regions: Vec::new(),
                match_policy: 0,
                look_aside_ms: 0,
            }
            .encode_to_vec(),
            proof: format!("select count(*) from accounts where account_id = '00000000-0000-4000-8000-{n:012}'"),
        },
        _ => Write {
            path: "/contactsync.v1.SyncService/EnableSync",
            request: pb::EnableSyncRequest {
                account_id: account.clone(),
                provider: Provider::Pipedrive.into(),
                connection: Some(pb::Connection {
                    organization: Some(pb::connection::Organization::PipedriveCompany(format!("company-{n}"))),
                    ..Default::default()
                }),
                options: Some(pb::IntegrationOptions {
                    sync: pb::SyncMode::Off.into(),
                    period: None,
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            proof: format!("select count(*) from integrations where organization = 'company-{n}'"),
        },
    }
}

/// Calls a method and gives up at a random microsecond of the time that calls take here (in the
/// middle of them, mostly): by hanging up, or by a deadline that the server is told.
async fn call_and_give_up(
    client: Channel,
    token: &MetadataValue<Ascii>,
    path: &'static str,
    request: Vec<u8>,
    usual: Duration,
    dice: &mut StdRng,
) -> Option<Result<Vec<u8>, Status>> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", token.clone());
    let usual = u64::try_from(usual.as_micros()).unwrap();
    let patience = Duration::from_micros(match dice.random_range(0..4) {
        0 => dice.random_range(0..usual / 10),
        1 | 2 => dice.random_range(0..usual),
        _ => dice.random_range(0..usual * 4),
    });
    if dice.random_bool(0.3) {
        request.set_timeout(patience);
        return Some(invoke(client, path, request).await);
    }
    timeout(patience, invoke(client, path, request)).await.ok()
}

/// Ten thousand cancelled calls lose nothing and leave no transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_lose_nothing_leave_no_transaction() {
    let test = Arc::new(
        TestApp::start_with(|config| {
            config.pools.call.connections = 2;
            config.pools.api.connections = 2;
            config.pools.call.acquire_timeout_ms = 1_000;
            config.pools.api.acquire_timeout_ms = 1_000;
        })
        .await,
    );
    let number = "+13108675309";
    let user = test.user("Bryce Love", number);
    let (account, integration) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let contact = test.ask(&account, number, "call-1").await.selected.unwrap().id;
    let run = test.last_run(&account, &integration).await.id;
    let calls = format!(
        "insert into calls (account_id, call_id, direction, outcome, raw, created_at, updated_at)
        select '{account}', 'chosen-' || n, 'INBOUND', 'WITHHELD', '', now(), now() from generate_series(0, {}) n",
        CALLS * 3
    );
    test.db.execute(&calls).await;
    let things = Things {
        account,
        integration,
        run,
        contact,
        call_id: "call-1".into(),
        number: number.into(),
        subdomain: "acme".into(),
        record_id: user,
    };
    let token: MetadataValue<Ascii> =
        format!("Bearer {}", test.token(&TokenAccounts::All, &TokenScope::ALL)).parse().unwrap();
    let stranger = test.ask(&things.account, "+13105559999", "call-2").await.selected.unwrap().id;
    let every_method = Arc::new(gentle(requests(&things), &stranger));
    for seed in seeds(1) {
        let mut dice = dice(seed);
        // A connection that sees too many resets is closed: the others must not suffer.
        let endpoint = Endpoint::from_shared(format!("http://{}", test.address)).unwrap();
        let channels: Vec<Channel> = (0..8).map(|_| endpoint.connect_lazy()).collect();
        let usual = usual_time(&test, &every_method).await;

        let told: Vec<Told> = stream::iter((0..CALLS).map(|n| {
            let mut dice = StdRng::seed_from_u64(dice.random());
            let (things, salesforce, every_method) = (things.clone(), salesforce.clone(), Arc::clone(&every_method));
            let (client, token) = (channels[n % channels.len()].clone(), token.clone());
            async move {
                if dice.random_bool(0.5) {
                    let write = write(n, &things, &salesforce);
                    let told =
                        call_and_give_up(client, &token, write.path, write.request.clone(), usual, &mut dice).await;
                    (Some(write), told)
                } else {
                    let (path, request) = every_method[dice.random_range(0..every_method.len())].clone();
                    (None, call_and_give_up(client, &token, path, request, usual, &mut dice).await)
                }
            }
        }))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

        assert_was_a_fair_mix(&told);
        assert_nobody_is_left_in_a_transaction(&test).await;
        for (write, told) in &told {
            if let (Some(write), Some(Ok(_))) = (write, told) {
                assert!(
                    test.db.number(&write.proof).await > 0,
                    "acknowledged and lost: {} {}",
                    write.path,
                    write.proof
                );
            }
        }
        assert_writes_last(&test, &things, &salesforce).await;
        integrity::assert_holds(&test).await;
    }
}

/// How long a call takes when as many are under way as there will be: the median.
async fn usual_time(test: &TestApp, requests: &[Call]) -> Duration {
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let mut times: Vec<Duration> =
        stream::iter(requests.iter().cycle().take(requests.len() * 10).map(async |(path, request)| {
            let started = Instant::now();
            let _told = test.invoke(&token, path, request).await;
            started.elapsed()
        }))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    times.sort();
    times[times.len() / 2].max(Duration::from_millis(1))
}

/// Without what takes the ground from under the others.
fn gentle(requests: Vec<Call>, stranger: &str) -> Vec<Call> {
    let keep = |(path, request): Call| {
        if path.ends_with("/EraseContact") {
            // Whom the others ask about must stay: a stranger is erased, the first time.
            let erase = pb::EraseContactRequest::decode(request.as_slice()).unwrap();
            return (path, pb::EraseContactRequest { contact_id: stranger.to_owned(), ..erase }.encode_to_vec());
        }
        if !path.ends_with("/DisableSync") {
            return (path, request);
        }
        let disable = pb::DisableSyncRequest::decode(request.as_slice()).unwrap();
        (path, pb::DisableSyncRequest { copied_data: pb::CopiedData::Keep.into(), ..disable }.encode_to_vec())
    };
    requests.into_iter().map(keep).collect()
}

/// The test is worth something only if many calls were cut off and many were not, and no method did
/// wrong.
fn assert_was_a_fair_mix(told: &[Told]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, told) in told {
        let outcome = match told {
            None => "hung up".to_owned(),
            Some(Ok(_)) => "answered".to_owned(),
            Some(Err(status)) => format!("{:?}", status.code()),
        };
        *counts.entry(outcome).or_default() += 1;
    }
    println!("{counts:?}");
    // tonic's client watches its deadline too, and calls it CANCELLED.
    for outcome in ["hung up", "answered", "Cancelled"] {
        assert!(counts.get(outcome).copied().unwrap_or(0) > told.len() / 50, "too few {outcome}: {counts:?}");
    }
    for wrong in ["Internal", "DataLoss"] {
        assert_eq!(counts.get(wrong), None, "{counts:?}");
    }
}

async fn assert_nobody_is_left_in_a_transaction(test: &TestApp) {
    // What was under way ends by itself; what is stuck in a transaction would be ended by Postgres
    // after ten seconds only.
    let open = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name like 'contact-sync %' and state like 'idle in transaction%'";
    let busy = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name like 'contact-sync %' and state <> 'idle'";
    eventually("the end of what was under way", async || test.db.number(busy).await == test.db.number(open).await)
        .await;
    let started = Instant::now();
    eventually("the end of every transaction", async || test.db.number(open).await == 0).await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "a connection was left in a transaction until Postgres ended it"
    );
}

/// Every connection of every pool still works, and what it writes is there for others to see.
async fn assert_writes_last(test: &TestApp, things: &Things, salesforce: &str) {
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let writes: Vec<Write> = (CALLS * 2..CALLS * 2 + 120).map(|n| write(n, things, salesforce)).collect();
    // More at once than there are connections, and no more than an account's share of the room.
    let told = stream::iter(&writes).map(|write| test.invoke(&token, write.path, &write.request)).buffered(AT_ONCE);
    let told: Vec<_> = told.collect().await;
    for (write, told) in writes.iter().zip(told) {
        assert!(told.is_ok(), "{}: {told:?}", write.path);
        assert_eq!(test.db.number(&write.proof).await, 1, "acknowledged and lost: {} {}", write.path, write.proof);
    }
}

/// A client's deadline is kept, and its connection comes back.
#[tokio::test]
async fn clients_deadline_is_kept_and_connection_returns() {
    let test = TestApp::start_with(|config| config.pools.api.connections = 1).await;
    let account = test.account().await;
    let mut blocking = test.db.pool.begin().await.unwrap();
    let lock = format!("select 1 from accounts where account_id = '{account}' for update");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();
    let rename = pb::UpdateAccountRequest {
        account_id: account.clone(),
        account: Some(pb::Account { display_name: "Too late".into(), ..Default::default() }),
        update_mask: None,
    };

    let started = Instant::now();
    let mut request = Request::new(rename);
    request.set_timeout(Duration::from_millis(300));
    let late = test.accounts().update_account(request).await.unwrap_err();
    let took = started.elapsed();
    blocking.rollback().await.unwrap();
    let after = test.accounts().get_account(pb::GetAccountRequest { account_id: account }).await;

    // tonic's client also watches its deadline, and may be the first to say so.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{late:?}");
    assert!(took >= Duration::from_millis(290) && took < Duration::from_millis(1_500), "{took:?}");
    assert!(after.is_ok(), "{after:?}");
}

/// A deadline that has passed already is told, and one that cannot be read is refused.
#[tokio::test]
async fn passed_deadline_is_told_unreadable_is_refused() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let ask = async |timeout: &'static str| {
        let mut request = Request::new(call_with_id(&account, "+13105550100", ""));
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        test.callers().match_caller(request).await
    };

    let passed = ask("0m").await.unwrap_err();
    let unreadable = ask("soon").await.unwrap_err();
    let ample = ask("5S").await.unwrap().into_inner();

    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&passed.code()), "{passed:?}");
    assert_eq!(refusal(&unreadable), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(ample.outcome(), MatchOutcome::Created);
}

/// Calls survive the death of every connection at once.
#[tokio::test]
async fn calls_survive_death_of_every_connection() {
    let test = TestApp::start().await;
    let number = "+13108675309";
    test.user("Bryce Love", number);
    let (account, integration) = test.synced().await;
    let ask = async |n: usize, number: &str| {
        // What a router's gRPC client does by itself: UNAVAILABLE is tried once more.
        let request = call_with_id(&account, number, &format!("call-{n}-{number}"));
        match test.callers().match_caller(request.clone()).await {
            Err(status) if status.code() == Code::Unavailable => {}
            answered => return answered,
        }
        test.callers().match_caller(request).await
    };
    // All connections of the pool are open.
    join_all((0..40).map(|n| ask(n, number))).await;

    for round in 1..=3 {
        let killed = test
            .db
            .number(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and application_name like 'contact-sync %'",
            )
            .await;
        assert!(killed > 1, "there were connections to kill");
        let known = ask(round * 100, number).await;
        let stranger = ask(round * 100, &format!("+1310555010{round}")).await;
        let chosen =
            test.try_select(&account, "call-0-+13108675309", &known.as_ref().unwrap().get_ref().candidates[0].id).await;
        let requester = test.resolve_call(&account, &integration, "call-0-+13108675309").await;

        assert_eq!(known.unwrap().into_inner().outcome(), MatchOutcome::Matched);
        assert_eq!(stranger.unwrap().into_inner().outcome(), MatchOutcome::Created);
        assert!(chosen.is_ok(), "{chosen:?}");
        assert_eq!(requester.outcome(), pb::RequesterOutcome::Resolved);
    }
}
