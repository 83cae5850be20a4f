//! One new number and up to a thousand calls at once over three replicas, while a page brings that
//! very person and an agent clicks on her. Whatever the order: one contact, and every id that
//! anybody was ever told leads to it in one step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, MatchOutcome, caller_service_client::CallerServiceClient};
use crm_simulator::gate::GateAt;
use futures_util::future::{join_all, join3};
use rand::RngExt;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::{
    calls::strangers::{NEW, assert_all_lead_to_one},
    histories::integrity,
    support::calls::{call_with_id, click_on, dice, id_of, outbound, seeds},
    support::sync::{Beside, EXPORT, arrived, soon},
    support::{Client, TestApp},
};

/// A router asks again when there was no room or no time; nobody here is refused so often.
const TRIES_MAX: usize = 50;
const CLICKS: usize = 3;

/// Three processes on one database and one clock.
struct Replicas {
    apps: [TestApp; 3],
    routers: Vec<CallerServiceClient<Client>>,
}

impl Replicas {
    async fn start() -> Self {
        let test = TestApp::start().await;
        let others = [test.replica(|_| {}).await, test.replica(|_| {}).await];
        let [one, two] = others;
        let apps = [test, one, two];
        let routers = apps.iter().map(TestApp::callers).collect();
        Self { apps, routers }
    }

    fn test(&self) -> &TestApp {
        &self.apps[0]
    }

    /// A router of one of the replicas.
    fn router(&self, n: usize) -> CallerServiceClient<Client> {
        self.routers[n % self.routers.len()].clone()
    }

    /// Asks until there is an answer. What was given up may have been done: to ask again must be
    /// safe.
    async fn ask(&self, n: usize, request: pb::MatchCallerRequest) -> pb::MatchCallerResponse {
        insist(async || self.router(n).match_caller(request.clone()).await).await
    }

    async fn click(&self, n: usize, request: pb::PreRegisterContactRequest) -> pb::PreRegisterContactResponse {
        insist(async || self.router(n).pre_register_contact(request.clone()).await).await
    }
}

async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, Status>) -> T {
    for _ in 0..TRIES_MAX {
        match ask().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted),
                "{status:?}"
            ),
        }
    }
    panic!("refused {TRIES_MAX} times");
}

/// Call number `n`: every other one has an id, and each of those ids is used by five calls.
fn call_id(n: usize) -> String {
    if n.is_multiple_of(2) { String::new() } else { format!("call-{}", n / 10) }
}

/// Whom everybody was told, and in which order.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note<'c>(&self, contacts: impl IntoIterator<Item = &'c pb::Contact>) {
        self.0.lock().unwrap().extend(contacts.into_iter().map(|contact| contact.id.clone()));
    }

    fn first(&self) -> String {
        self.0.lock().unwrap()[0].clone()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

/// A rush of calls from the new number, with a page and clicks let in after so many answers.
struct Rush<'r> {
    replicas: &'r Replicas,
    account: String,
    integration: String,
    user: String,
    told: Told,
    answered: watch::Sender<usize>,
}

impl Rush<'_> {
    async fn calls(&self, count: usize) {
        let calls = (0..count).map(async |n| {
            let request = call_with_id(&self.account, NEW, &call_id(n));
            let answer = self.replicas.ask(n, request).await;
            // Until page and placeholder have been brought together, both may show; never more.
            assert!((1..=2).contains(&answer.total), "{} contacts have the number", answer.total);
            self.told.note(answer.selected.iter().chain(&answer.candidates));
            self.answered.send_modify(|answered| *answered += 1);
        });
        join_all(calls).await;
    }

    async fn wait_for_answers(&self, count: usize) {
        let mut answered = self.answered.subscribe();
        soon("answers", answered.wait_for(|answered| *answered >= count)).await.unwrap();
        // What comes now is younger than what was there.
        self.replicas.test().pass(TimeDelta::milliseconds(1));
    }

    /// The page that brings the caller is made, and comes in after so many answers.
    async fn page(&self, after: usize) {
        let test = self.replicas.test();
        let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
        let run = Beside::start(&test.app);
        arrived(&gate, 1).await;
        self.wait_for_answers(after).await;
        gate.open();
        assert_eq!(run.ended().await, 1);
    }

    /// An agent clicks on the record, impatiently, and the call that she makes goes out.
    async fn clicks(&self, after: usize) {
        self.wait_for_answers(after).await;
        let click = pb::PreRegisterContactRequest {
            agent_id: "anna".into(),
            ..click_on(&self.account, &self.integration, "user", &self.user, NEW)
        };
        let clicked = join_all((0..CLICKS).map(|n| self.replicas.click(n, click.clone()))).await;
        self.told.note(clicked.iter().filter_map(|answer| answer.contact.as_ref()));
        let request = outbound(&self.account, NEW, "outbound", "anna");
        let answer = self.replicas.ask(1, request).await;
        assert_eq!(answer.outcome(), MatchOutcome::Matched);
        self.told.note(answer.selected.iter().chain(&answer.candidates).chain(&answer.selection));
    }

    async fn assert_one_contact_is_left(&self, is_first_id_kept: bool) {
        let (test, account) = (self.replicas.test(), &self.account);
        // Also those that nobody was told of.
        let mut ids = self.told.ids();
        let made: Vec<String> = sqlx::query_scalar(
            "select contact_id::text from contacts where account_id = $1::text::uuid order by created_at, contact_id",
        )
        .bind(account)
        .fetch_all(&test.db.pool)
        .await
        .unwrap();
        ids.extend(made.iter().cloned());

        let living = assert_all_lead_to_one(test, account, &ids).await;

        assert_eq!(living, made[0], "the oldest of all that were made goes on");
        assert!(!is_first_id_kept || living == self.told.first(), "the id that was told first is valid for ever");
        let contact = test.contact(account, &living).await;
        assert_eq!((contact.display_name.as_str(), contact.is_placeholder), ("New Customer", false));
        let records: Vec<&str> = contact.records.iter().map(|record| record.record_id.as_str()).collect();
        assert_eq!(records, [self.user.as_str()]);
        assert_eq!(test.rows(account, "external_refs").await, 1);
        let strayed = format!(
            "select count(*) from calls k join contacts c using (account_id, contact_id)
            where k.account_id = '{account}' and coalesce(c.survivor_id, c.contact_id) <> '{living}'"
        );
        assert_eq!(test.db.number(&strayed).await, 0, "a call is attributed to somebody else");
        for call_id in ["call-0", "outbound"] {
            let resolved = test.resolve_call(account, &self.integration, call_id).await;
            assert_eq!(resolved.record.unwrap().record_id, self.user, "{call_id}");
        }
    }
}

async fn rush(replicas: &Replicas, user: &str, seed: u64, calls: usize) {
    let mut dice = dice(seed);
    let test = replicas.test();
    let account = test.account().await;
    let integration = test.enable(&account, &format!("acme-{seed}")).await;
    let rush = Rush {
        replicas,
        account,
        integration,
        user: user.to_owned(),
        told: Told::default(),
        answered: watch::Sender::new(0),
    };
    // Nought: page and clicks race with the first calls themselves.
    let mut any_moment = || if dice.random_bool(0.3) { 0 } else { dice.random_range(1..calls) };
    let (page_after, clicks_after) = (any_moment(), any_moment());

    join3(rush.calls(calls), rush.page(page_after), rush.clicks(clicks_after)).await;

    println!("page after {page_after} answers, clicks after {clicks_after}, ids told: {}", rush.told.ids().len());
    rush.assert_one_contact_is_left(page_after > 0 && clicks_after > 0).await;
}

/// Calls from one new number that race with its page and a click leave one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_racing_page_and_click_leave_one_contact() {
    let replicas = Replicas::start().await;
    let user = replicas.test().user("New Customer", "310 555 0100");
    for seed in seeds(5) {
        rush(&replicas, &user, seed, 200).await;
    }
}

/// A thousand calls that race with their page and a click leave one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_racing_calls_leave_one_contact() {
    let replicas = Replicas::start().await;
    let user = replicas.test().user("New Customer", "310 555 0100");
    rush(&replicas, &user, seeds(1)[0], 1_000).await;
}

/// A thousand calls of a stranger make one contact, and each call id hears one answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_stranger_calls_make_one_contact() {
    let replicas = Replicas::start().await;
    let (account, _) = replicas.test().synced().await;

    let answers = join_all((0..1_000).map(|n| replicas.ask(n, call_with_id(&account, NEW, &call_id(n))))).await;

    let test = replicas.test();
    let living = id_of(answers[0].selected.as_ref());
    let mut heard: BTreeMap<String, BTreeSet<MatchOutcome>> = BTreeMap::new();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!((id_of(answer.selected.as_ref()), answer.total), (living.clone(), 1));
        heard.entry(call_id(n)).or_default().insert(answer.outcome());
    }
    let without_id = heard.remove("").unwrap();
    let created = heard.values().filter(|outcomes| outcomes.contains(&MatchOutcome::Created)).count();
    assert!(created + usize::from(without_id.contains(&MatchOutcome::Created)) <= 1, "one call has made it");
    assert!(heard.values().all(|outcomes| outcomes.len() == 1), "one call hears two answers");
    assert_eq!(heard.len(), 100);
    assert_eq!(test.rows(&account, "calls").await, 100);
    assert_eq!(test.rows(&account, "contacts").await, 1);
    assert_eq!(test.rows(&account, "phone_numbers").await, 1);
    integrity::assert_holds(test).await;
}
