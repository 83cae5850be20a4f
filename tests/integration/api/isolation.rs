//! Nothing of one account is ever told to, or changed by, another: every method, with every kind of
//! foreign id, with one number in both accounts. What belongs to another account answers exactly
//! like what does not exist.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{self, MatchOutcome, Provider},
};
use crm_simulator::faults::{Fault, FaultRule};
use futures_util::{StreamExt, stream};
use prost::Message;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use tonic::{Code, Status};
use uuid::Builder;

use crate::{
    api::methods::{Things, described, requests},
    support::calls::{ORG, call_with_id, click_on, dice, id_of, look_only, refusal, seeds},
    support::sync::EXPORT,
    support::{TestApp, only, with_address},
};

const NUMBER: &str = "+13108675309";
const TABLES: [&str; 16] = [
    "accounts",
    "audit_events",
    "integrations",
    "sync_runs",
    "rejected_records",
    "contacts",
    "external_refs",
    "phone_numbers",
    "calls",
    "expected_calls",
    "changes",
    "feeds",
    "selections",
    "requester_decisions",
    "requester_evidence",
    "suppression_keys",
];

/// Two accounts with one number, and things of each.
struct Neighbours {
    test: TestApp,
    victim: Things,
    own: Things,
    /// What of the victim must never be seen elsewhere.
    secrets: Vec<String>,
}

async fn move_in(test: &TestApp, name: &str, record_id: &str) -> Things {
    let account = test.account().await;
    let subdomain = format!("{name}-zendesk");
    let integration = test.enable(&account, &subdomain).await;
    // Somebody who cannot be read.
    test.user("Somebody", "+13105550199");
    let replace = vec![("\"updated_at\":\"".to_owned(), b"\"updated_at\":\"x".to_vec())];
    let broken = test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::Bytes { replace })).unwrap();
    assert_eq!(test.sync_due().await, 1);
    test.zendesk.faults().remove(broken);
    let click = pb::PreRegisterContactRequest {
        display_name: format!("Person of {name}"),
        email: format!("person@{name}.example"),
        ..click_on(&account, &integration, "user", record_id, NUMBER)
    };
    let contact = test.clicked(click).await.id;
    let call_id = format!("{name}-call");
    assert_eq!(id_of(test.ask(&account, NUMBER, &call_id).await.selected.as_ref()), contact);
    // Something in every table: a choice, what was told, the feed, and a click that waits.
    test.select(&account, &call_id, &contact).await;
    test.resolve_call(&account, &integration, &call_id).await;
    test.changes(&account, 0).await;
    test.clicked(click_on(&account, &integration, "user", record_id, NUMBER)).await;
    let run = test.last_run(&account, &integration).await.id;
    Things {
        account,
        integration,
        run,
        contact,
        call_id,
        number: NUMBER.into(),
        subdomain,
        record_id: record_id.into(),
    }
}

impl Neighbours {
    async fn move_in() -> Self {
        let test = TestApp::start_with(with_address).await;
        let victim = move_in(&test, "victim", "4711").await;
        let own = move_in(&test, "own", "4712").await;
        let secrets = vec![
            victim.integration.clone(),
            victim.run.clone(),
            victim.contact.clone(),
            victim.subdomain.clone(),
            "Person of victim".into(),
            "person@victim.example".into(),
            "4711".into(),
        ];
        Self { test, victim, own, secrets }
    }

    /// Every row of the victim, as text.
    async fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for table in TABLES {
            let account = &self.victim.account;
            let sql = format!("select t::text from {table} t where account_id = '{account}' order by 1");
            let found: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&self.test.db.pool).await.unwrap();
            assert!(!found.is_empty(), "{table}");
            rows.extend(found);
        }
        rows
    }

    fn assert_tells_nothing(&self, path: &str, told: &[u8]) {
        for secret in &self.secrets {
            assert!(!contains(told, secret.as_bytes()), "{path} tells {secret}");
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn told_by(status: &Status) -> Vec<u8> {
    [status.message().as_bytes(), status.details()].concat()
}

/// A token of one account cannot ask for another by any method.
#[tokio::test]
async fn token_of_account_reaches_no_other() {
    let neighbours = Neighbours::move_in().await;
    let token = neighbours.test.token(&only(&neighbours.own.account), &TokenScope::ALL);
    let before = neighbours.rows().await;

    for (path, request) in requests(&neighbours.victim) {
        match neighbours.test.invoke(&token, path, &request).await {
            Err(status) => {
                assert_eq!(refusal(&status), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()), "{path}");
                neighbours.assert_tells_nothing(path, &told_by(&status));
            }
            Ok(told) => {
                assert!(path.ends_with("/ListAccounts"), "{path} answers");
                assert!(!contains(&told, neighbours.victim.account.as_bytes()));
                neighbours.assert_tells_nothing(path, &told);
            }
        }
    }

    assert_eq!(neighbours.rows().await, before);
}

/// A foreign id answers like one that does not exist, also to a token of all accounts.
#[tokio::test]
async fn foreign_id_answers_like_nonexistent_one() {
    let neighbours = Neighbours::move_in().await;
    let Neighbours { test, victim, own, .. } = &neighbours;
    let tokens = [test.token(&only(&own.account), &TokenScope::ALL), test.token(&TokenAccounts::All, &TokenScope::ALL)];
    let before = neighbours.rows().await;
    let nowhere = "01234567-89ab-7def-8123-456789abcdef";
    let mut refused = 0;

    for (foreign, things) in [
        (&victim.integration, Things { integration: victim.integration.clone(), ..own.clone() }),
        (&victim.run, Things { run: victim.run.clone(), ..own.clone() }),
        (&victim.contact, Things { contact: victim.contact.clone(), ..own.clone() }),
    ] {
        for (path, request) in requests(&things) {
            // Only those that carry the foreign id: the others are the account's own business.
            let Some(at) = request.windows(foreign.len()).position(|window| window == foreign.as_bytes()) else {
                continue;
            };
            let mut unknown = request.clone();
            unknown[at..at + nowhere.len()].copy_from_slice(nowhere.as_bytes());
            for token in &tokens {
                let there = test.invoke(token, path, &request).await.unwrap_err();
                let nobody = test.invoke(token, path, &unknown).await.unwrap_err();
                assert_eq!(there.code(), Code::NotFound, "{path}: {there:?}");
                assert_eq!(told_by(&there), told_by(&nobody), "{path}");
                neighbours.assert_tells_nothing(path, &told_by(&there));
                refused += 1;
            }
        }
    }

    assert!(refused >= 2 * 14, "only {refused} requests carried a foreign id");
    assert_eq!(neighbours.rows().await, before);
}

/// An account's own business tells and changes nothing of its neighbour.
#[tokio::test]
async fn own_business_touches_nothing_of_neighbour() {
    let neighbours = Neighbours::move_in().await;
    let Neighbours { test, own, .. } = &neighbours;
    let token = test.token(&only(&own.account), &TokenScope::ALL);
    let before = neighbours.rows().await;

    for (path, request) in requests(own) {
        let told = test.invoke(&token, path, &request).await.unwrap_or_else(|status| told_by(&status));
        neighbours.assert_tells_nothing(path, &told);
    }
    // The purge that DisableSync has asked for.
    test.sync_due().await;

    assert_eq!(neighbours.rows().await, before);
}

/// One number and one call id mean different people in two accounts.
#[tokio::test]
async fn same_number_and_call_id_differ_between_accounts() {
    let neighbours = Neighbours::move_in().await;
    let Neighbours { test, victim, own, .. } = &neighbours;

    let answers = [test.ask(&victim.account, NUMBER, "shared").await, test.ask(&own.account, NUMBER, "shared").await];
    let crossed = test.match_caller(look_only(call_with_id(&own.account, "+13105550100", &victim.call_id))).await;
    let unknown = test.try_select(&own.account, "never", &own.contact).await.unwrap_err();
    let foreign =
        test.resolve_refused(&own.account, &own.integration, crate::support::Subject::CallId("victim-only".into()));
    test.ask(&victim.account, NUMBER, "victim-only").await;

    assert_eq!(answers.each_ref().map(|answer| answer.total), [1, 1]);
    assert_eq!(id_of(answers[0].selected.as_ref()), victim.contact);
    assert_eq!(id_of(answers[1].selected.as_ref()), own.contact);
    // Both have a record that could not be read.
    assert_eq!((crossed.outcome(), crossed.sources.len()), (MatchOutcome::NotKnownYet, 1));
    assert!(crossed.selected.is_none() && crossed.total == 0);
    assert_eq!(refusal(&unknown), refusal(&foreign.await));
    neighbours.assert_tells_nothing("MatchCaller", &answers[1].encode_to_vec());
}

/// A page token of one account opens no list of another.
#[tokio::test]
async fn page_token_opens_no_other_accounts_list() {
    let neighbours = Neighbours::move_in().await;
    let Neighbours { test, victim, own, .. } = &neighbours;
    test.enable_off(&victim.account, Provider::Salesforce, ORG).await;
    test.ask(&victim.account, "+13105550100", "").await;
    test.trigger(&victim.account, &victim.integration).await;
    let list = async |account: &str, token: &str| {
        let request = pb::ListContactsRequest {
            account_id: account.into(),
            page_size: 1,
            page_token: token.into(),
            ..Default::default()
        };
        test.contacts().list_contacts(request).await.map(|page| page.into_inner().next_page_token)
    };
    let integrations = async |account: &str, token: &str| {
        let request =
            pb::ListIntegrationsRequest { account_id: account.into(), page_size: 1, page_token: token.into() };
        test.syncs().list_integrations(request).await.map(|page| page.into_inner().next_page_token)
    };
    let runs = async |things: &Things, token: &str| {
        let request = pb::ListSyncRunsRequest {
            account_id: things.account.clone(),
            integration_id: things.integration.clone(),
            page_size: 1,
            page_token: token.into(),
        };
        test.syncs().list_sync_runs(request).await.map(|page| page.into_inner().next_page_token)
    };

    let tokens = [
        list(&victim.account, "").await.unwrap(),
        integrations(&victim.account, "").await.unwrap(),
        runs(victim, "").await.unwrap(),
    ];

    assert!(tokens.iter().all(|token| !token.is_empty()));
    assert_eq!(list(&own.account, &tokens[0]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(integrations(&own.account, &tokens[1]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(runs(own, &tokens[2]).await.unwrap_err().code(), Code::InvalidArgument);
}

/// Calls of the test with random ids; and how many of them are under way at once.
const RANDOM_CALLS: usize = 10_000;
const AT_ONCE: usize = 32;
/// People of the neighbour.
const PEOPLE: usize = 40;
/// Rounds of all methods between two syncs of the account's own, which also remove what it has
/// asked to be removed.
const ROUNDS_BETWEEN_SYNCS: usize = 10;

/// A neighbour with many rows, and ids to guess with.
struct Street {
    neighbours: Neighbours,
    /// Every id of the victim, as text.
    foreign_ids: BTreeSet<Vec<u8>>,
    contacts: Vec<String>,
    call_ids: Vec<String>,
    numbers: Vec<String>,
}

impl Street {
    async fn build() -> Self {
        let mut neighbours = Neighbours::move_in().await;
        let Neighbours { test, victim, .. } = &neighbours;
        let (mut contacts, mut call_ids, mut numbers) =
            (vec![victim.contact.clone()], vec![victim.call_id.clone()], vec![NUMBER.to_owned()]);
        for n in 0..PEOPLE {
            let (number, call_id) = (format!("+1310555{:04}", 100 + n), format!("victim-call-{n}"));
            let click = pb::PreRegisterContactRequest {
                display_name: format!("Person of victim {n}"),
                email: format!("person{n}@victim.example"),
                ..click_on(&victim.account, &victim.integration, "user", &format!("81047110{n:02}"), &number)
            };
            contacts.push(test.clicked(click).await.id);
            test.ask(&victim.account, &number, &call_id).await;
            let stranger = format!("+1310556{:04}", 100 + n);
            contacts.push(id_of(test.ask(&victim.account, &stranger, "").await.selected.as_ref()));
            call_ids.push(call_id);
            numbers.extend([number, stranger]);
        }
        let sql = format!(
            "select v.id::text from (
                select account_id, contact_id from contacts union all select account_id, integration_id from integrations
                union all select account_id, sync_run_id from sync_runs
                union all select account_id, expected_call_id from expected_calls) v (account_id, id)
            where v.account_id = '{0}' union all select '{0}'",
            victim.account
        );
        let ids: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&test.db.pool).await.unwrap();
        assert!(ids.len() > 3 * PEOPLE);
        neighbours.secrets =
            ["Person of victim", "victim.example", "victim-zendesk", "81047110"].map(Into::into).into();
        let foreign_ids = ids.into_iter().map(String::into_bytes).collect();
        Self { neighbours, foreign_ids, contacts, call_ids, numbers }
    }

    /// Things of the victim, of one's own, and of nobody, at random.
    fn any_things(&self, dice: &mut StdRng) -> Things {
        let Neighbours { victim, own, .. } = &self.neighbours;
        let any = |foreign: &str, own: &str, dice: &mut StdRng| match dice.random_range(0..3) {
            0 => foreign.to_owned(),
            1 => own.to_owned(),
            _ => Builder::from_random_bytes(dice.random()).into_uuid().to_string(),
        };
        let (contact, call_id) = (self.contacts.choose(dice).unwrap(), self.call_ids.choose(dice).unwrap());
        Things {
            account: if dice.random_bool(0.1) { victim.account.clone() } else { own.account.clone() },
            integration: any(&victim.integration, &own.integration, dice),
            run: any(&victim.run, &own.run, dice),
            contact: any(contact, &own.contact, dice),
            call_id: any(call_id, &own.call_id, dice),
            number: self.numbers.choose(dice).unwrap().clone(),
            // What is sent may be told back, so that of these the victim's would prove nothing.
            subdomain: own.subdomain.clone(),
            record_id: dice.random_range(5_000..6_000).to_string(),
        }
    }

    /// Fails if this tells an id or a text of the victim's.
    fn assert_tells_nothing(&self, path: &str, told: &[u8]) {
        const ID_LENGTH: usize = 36;
        // An audit tells back which ids its account's callers asked for, found or not.
        let told_back = path.ends_with("/ListAuditEvents");
        for text in told.windows(ID_LENGTH).filter(|text| text[8] == b'-' && text[23] == b'-') {
            assert!(told_back || !self.foreign_ids.contains(text), "{path} tells {}", String::from_utf8_lossy(text));
        }
        self.neighbours.assert_tells_nothing(path, told);
    }
}

/// Ten thousand calls of every method with any ids tell no row of a neighbour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_ids_tell_no_row_of_neighbour() {
    let mut dice = dice(seeds(1)[0]);
    let street = Box::pin(Street::build()).await;
    let Neighbours { test, own, .. } = &street.neighbours;
    let token = test.token(&only(&own.account), &TokenScope::ALL);
    let before = street.neighbours.rows().await;
    let (mut called, mut answered): (BTreeSet<String>, BTreeMap<&str, usize>) = (BTreeSet::new(), BTreeMap::new());

    let mut calls = 0;
    while calls < RANDOM_CALLS {
        let rounds: Vec<Things> = (0..ROUNDS_BETWEEN_SYNCS).map(|_| street.any_things(&mut dice)).collect();
        // Removed once in a while only: a link that is gone answers little.
        let last = ROUNDS_BETWEEN_SYNCS - 1;
        let is_asked = |round: usize, path: &str| round == last || !path.ends_with("/DisableSync");
        let requests = rounds
            .iter()
            .enumerate()
            .flat_map(|(round, things)| requests(things).into_iter().filter(move |(path, _)| is_asked(round, path)));
        let asked = stream::iter(requests).map(async |(path, request)| {
            let told = test.invoke(&token, path, &request).await;
            let is_answer = told.is_ok();
            street.assert_tells_nothing(path, &told.unwrap_or_else(|status| told_by(&status)));
            (path, is_answer)
        });
        for (path, is_answer) in asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
            calls += 1;
            called.insert(path.to_owned());
            *answered.entry(path).or_default() += usize::from(is_answer);
        }
        // In all less than the half hour after which the neighbour's own next run would be due.
        test.pass(TimeDelta::seconds(20));
        test.sync_due().await;
    }

    println!("{calls} calls, of which were answered: {answered:#?}");
    assert_eq!(called, described(), "a method was added: give it a request");
    // Refusals alone would prove nothing. The account is there already, its run has ended, and no
    // deletions are held.
    assert!(answered.values().filter(|count| **count > 0).count() + 3 >= called.len());
    assert!(answered.values().sum::<usize>() > RANDOM_CALLS / 5);
    assert_eq!(street.neighbours.rows().await, before);
}
