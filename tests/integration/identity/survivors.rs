//! Dead ids: random histories of merges, conversions, deletions and restores, whose pages come
//! late, twice and out of order. After every page each id that there ever was leads in one step to
//! the contact of the record that lives in its place, and nobody's requester is a record that is
//! gone. Pages go straight to `identity`: no provider's client needs to name the winner.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId},
        options::Options,
        record::{NormalNumber, NormalRecord, ObjectType, RecordKey},
        suppression::{KEY_LENGTH, SuppressionKey},
    },
    identity::{
        adoption,
        records::{self, RecordBatch},
    },
    rpc::pb::{self, Provider, RequesterOutcome},
    store::{StoreError, Transaction, Tx},
};
use futures_util::future::join_all;
use phone_key::{PhoneKey, Region};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use crate::{
    histories::integrity::assert_holds,
    support::calls::{ORG, dice, id_of, seeds},
    support::{Subject, TestApp, statements::Statements},
};

const STEPS: u32 = 30;
const PAGE_MAX: usize = 5;
const NUMBERS: [&str; 5] = ["+13105550101", "+13105550102", "+13105550103", "+13105550104", "+13105550105"];

/// A CRM whose pages the test writes itself: what its records are now, and every copy of them that
/// was ever made.
struct Crm {
    kinds: &'static [ObjectType],
    now: BTreeMap<RecordKey, NormalRecord>,
    copies: Vec<NormalRecord>,
    /// Copies that no page has brought yet.
    fresh: Vec<NormalRecord>,
    seconds: i64,
}

fn key_of(number: &str) -> PhoneKey {
    phone_key::read(number, Some(Region::parse("US").unwrap())).first().unwrap().key
}

fn record(key: RecordKey, number: &str) -> NormalRecord {
    let number = NormalNumber {
        raw: number.to_owned(),
        label: "phone".to_owned(),
        region: None,
        key: Some(key_of(number)),
        extension: String::new(),
        local_digits: None,
    };
    NormalRecord {
        display_name: format!("Person {}", key.record_id),
        key,
        updated_at: None,
        answered_at: None,
        is_gone: false,
        successor: None,
        organization: String::new(),
        emails: Vec::new(),
        numbers: vec![number],
        role: String::new(),
        url: String::new(),
        region: None,
        fingerprint: None,
    }
}

fn is_gone(record: &NormalRecord) -> bool {
    record.is_gone
}

impl Crm {
    fn of(kinds: &'static [ObjectType]) -> Self {
        Self { kinds, now: BTreeMap::new(), copies: Vec::new(), fresh: Vec::new(), seconds: 0 }
    }

    /// What a record has become, with the CRM's time of it.
    fn write(&mut self, mut record: NormalRecord) {
        self.seconds += 1;
        record.updated_at = DateTime::from_timestamp(1_795_000_000 + self.seconds, 0);
        record.fingerprint = Some(self.seconds);
        self.now.insert(record.key.clone(), record.clone());
        self.copies.push(record.clone());
        self.fresh.push(record);
    }

    fn create(&mut self, kind: ObjectType, number: &str) -> RecordKey {
        let key = RecordKey { object_type: kind, record_id: (100 + self.now.len()).to_string() };
        self.write(record(key.clone(), number));
        key
    }

    fn change(&mut self, key: &RecordKey, change: impl FnOnce(&mut NormalRecord)) {
        let mut record = self.now[key].clone();
        change(&mut record);
        self.write(record);
    }

    fn end(&mut self, key: &RecordKey, successor: Option<RecordKey>) {
        self.change(key, |record| (record.is_gone, record.successor) = (true, successor));
    }

    fn restore(&mut self, key: &RecordKey) {
        self.change(key, |record| (record.is_gone, record.successor) = (false, None));
    }

    fn any(&self, dice: &mut StdRng, is_wanted: impl Fn(&NormalRecord) -> bool) -> Option<RecordKey> {
        let wanted: Vec<&RecordKey> =
            self.now.values().filter(|record| is_wanted(record)).map(|record| &record.key).collect();
        wanted.choose(dice).map(|key| (*key).clone())
    }

    /// Something happens to somebody.
    fn happen(&mut self, dice: &mut StdRng) {
        let number = *NUMBERS.choose(dice).unwrap();
        let Some(one) = self.any(dice, |record| !is_gone(record)) else {
            self.create(self.kinds[0], number);
            return;
        };
        match dice.random_range(0..20) {
            0..4 => {
                let kind = *self.kinds.choose(dice).unwrap();
                self.create(kind, number);
            }
            4..6 => self.change(&one, |record| record.numbers = self::record(record.key.clone(), number).numbers),
            6..8 => self.end(&one, None),
            8..12 => {
                let is_undone = |record: &NormalRecord| {
                    let is_converted =
                        record.successor.as_ref().is_some_and(|next| next.object_type != record.key.object_type);
                    is_gone(record) && !is_converted
                };
                if let Some(gone) = self.any(dice, is_undone) {
                    self.restore(&gone);
                }
            }
            12..14 if one.object_type == ObjectType::Lead => {
                let known = self.any(dice, |record| !is_gone(record) && record.key.object_type == ObjectType::Contact);
                let contact = known.unwrap_or_else(|| self.create(ObjectType::Contact, number));
                self.end(&one, Some(contact));
            }
            _ => {
                let is_mate = |record: &NormalRecord| {
                    !is_gone(record) && record.key != one && record.key.object_type == one.object_type
                };
                if let Some(winner) = self.any(dice, is_mate) {
                    self.end(&one, Some(winner));
                }
            }
        }
    }

    /// A page of what is new and what was told long ago, in no order.
    fn page(&mut self, dice: &mut StdRng) -> Vec<NormalRecord> {
        let mut page: BTreeMap<RecordKey, NormalRecord> = BTreeMap::new();
        for _ in 0..dice.random_range(1..=PAGE_MAX) {
            let is_fresh = dice.random_bool(0.7) && !self.fresh.is_empty();
            let copy = if is_fresh {
                self.fresh.swap_remove(dice.random_range(0..self.fresh.len()))
            } else if let Some(copy) = self.copies.choose(dice) {
                copy.clone()
            } else {
                continue;
            };
            let is_newer = page.get(&copy.key).is_none_or(|known| known.updated_at < copy.updated_at);
            if is_newer {
                page.insert(copy.key.clone(), copy);
            }
        }
        page.into_values().collect()
    }
}

/// Takes a page in, as a sync does.
struct TakePage {
    integration_id: IntegrationId,
    page: Vec<NormalRecord>,
    ids: Arc<IdSource>,
    now: DateTime<Utc>,
}

impl Transaction for TakePage {
    const NAME: &'static str = "take_page";
    type Output = ();
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let Self { integration_id, page, ids, now } = self;
        let account_id = tx.account_id();
        let suppression = SuppressionKey::new([7; KEY_LENGTH]);
        let batch = RecordBatch { records: page, gone: &[], options: Options::default(), suppression: &suppression };
        let applied = records::apply(tx, account_id, *integration_id, &batch, *now, ids).await?;
        adoption::adopt(tx, account_id, &applied.gained, *now).await?;
        Ok(())
    }
}

/// A service that is told of such a CRM.
struct History {
    test: TestApp,
    account: String,
    integration: String,
    ids: Arc<IdSource>,
    /// The newest copy of each record that a page has brought.
    told: BTreeMap<RecordKey, NormalRecord>,
    /// Records that were told to be merged and then, without having been seen alive, to be deleted:
    /// whoever was merged into them stays where he was led to.
    unmade: BTreeSet<RecordKey>,
    /// Whose contact an id was when it was made, or came to a record.
    origins: BTreeMap<Uuid, RecordKey>,
    /// The numbers and the contacts of calls, by call id.
    calls: BTreeMap<String, &'static str>,
    /// Ids that were dead, and led to somebody, or to nobody.
    led: u32,
    lost: u32,
}

#[derive(sqlx::FromRow)]
struct Row {
    contact_id: Uuid,
    is_live: bool,
    survivor_id: Option<Uuid>,
}

impl History {
    async fn begin(provider: Provider, seed: u64) -> Self {
        let test = TestApp::start().await;
        let account = test.account().await;
        let organization = if provider == Provider::Salesforce { ORG } else { "acme" };
        let integration = test.enable_off(&account, provider, organization).await;
        Self {
            test,
            account,
            integration,
            ids: Arc::new(IdSource::seeded(1_000 + seed)),
            told: BTreeMap::new(),
            unmade: BTreeSet::new(),
            origins: BTreeMap::new(),
            calls: BTreeMap::new(),
            led: 0,
            lost: 0,
        }
    }

    /// Takes a page in, as a sync does.
    async fn take(&mut self, page: Vec<NormalRecord>) {
        self.test.pass(TimeDelta::seconds(1));
        for copy in &page {
            let known = self.told.get(&copy.key);
            if known.is_some_and(|known| known.updated_at > copy.updated_at) {
                continue;
            }
            let was_merged = known.is_some_and(|known| known.is_gone && known.successor.is_some());
            if !copy.is_gone || copy.successor.is_some() {
                self.unmade.remove(&copy.key);
            } else if was_merged {
                self.unmade.insert(copy.key.clone());
            }
            self.told.insert(copy.key.clone(), copy.clone());
        }
        let account_id: AccountId = self.account.parse().unwrap();
        let integration_id: IntegrationId = self.integration.parse().unwrap();
        let page = TakePage { integration_id, page, ids: Arc::clone(&self.ids), now: self.test.clock.now() };
        self.test.app.api_db.of(account_id).run(page).await.unwrap();
    }

    async fn call(&mut self, number: &'static str) {
        let call_id = format!("call-{}", self.calls.len());
        self.test.pass(TimeDelta::seconds(1));
        self.test.ask(&self.account, number, &call_id).await;
        self.calls.insert(call_id, number);
    }

    /// Where the chain of merges that begins here ends, as far as pages have told: in a live record
    /// if there is one.
    fn end<'h>(&'h self, mut key: &'h RecordKey) -> (&'h RecordKey, Option<&'h RecordKey>) {
        for _ in 0..=self.told.len() {
            match self.told.get(key) {
                Some(record) if !record.is_gone => return (key, Some(key)),
                Some(NormalRecord { successor: Some(next), .. }) => key = next,
                _ => break,
            }
        }
        (key, None)
    }

    /// The live record in whose place this one stands.
    fn heir<'h>(&'h self, key: &'h RecordKey) -> Option<&'h RecordKey> {
        self.end(key).1
    }

    fn is_unmade(&self, key: &RecordKey) -> bool {
        self.unmade.contains(self.end(key).0)
    }

    fn live_with(&self, key: PhoneKey) -> BTreeSet<String> {
        let live = self.told.values().filter(|record| !record.is_gone);
        let with_number = live.filter(|record| record.numbers.iter().any(|number| number.key == Some(key)));
        with_number.map(|record| record.key.record_id.clone()).collect()
    }

    async fn contacts(&self) -> Vec<Row> {
        sqlx::query_as(
            "select contact_id, deleted_at is null as is_live, survivor_id from contacts where account_id = $1::text::uuid",
        )
        .bind(&self.account)
        .fetch_all(&self.test.db.pool)
        .await
        .unwrap()
    }

    /// The contact of each record.
    async fn owners(&self) -> BTreeMap<String, Uuid> {
        let rows: Vec<(String, Uuid)> = sqlx::query_as(
            "select record_id, contact_id from external_refs where account_id = $1::text::uuid and contact_id is not null",
        )
        .bind(&self.account)
        .fetch_all(&self.test.db.pool)
        .await
        .unwrap();
        rows.into_iter().collect()
    }

    /// Remembers whose contact each id is that was not anybody's before.
    fn remember(&mut self, contacts: &[Row], owners: &BTreeMap<String, Uuid>) {
        // A living one's own first: a converted Lead is shown with the contact that it leads to.
        for is_gone in [false, true] {
            for key in self.told.values().filter(|record| record.is_gone == is_gone).map(|record| &record.key) {
                if let Some(contact_id) = owners.get(&key.record_id) {
                    self.origins.entry(*contact_id).or_insert_with(|| key.clone());
                }
            }
        }
        // A stranger who turned out to be somebody.
        for row in contacts {
            let found = row.survivor_id.and_then(|survivor_id| self.origins.get(&survivor_id).cloned());
            if let Some(key) = found {
                self.origins.entry(row.contact_id).or_insert(key);
            }
        }
    }

    /// Every id leads to the contact of its heir, in one step.
    async fn assert_ids_lead_to_the_living(&mut self) {
        let (contacts, owners) = (self.contacts().await, self.owners().await);
        self.remember(&contacts, &owners);
        let live: BTreeSet<Uuid> = contacts.iter().filter(|row| row.is_live).map(|row| row.contact_id).collect();
        for row in &contacts {
            let leads_to = row.survivor_id.unwrap_or(row.contact_id);
            let Some(origin) = self.origins.get(&row.contact_id) else {
                assert!(row.is_live, "a stranger has died without a record");
                continue;
            };
            let heir = self.heir(origin);
            let those: Vec<&String> =
                owners.iter().filter(|(_, id)| **id == leads_to).map(|(record, _)| record).collect();
            let shown = format!(
                "the contact of {}, whose heir is {heir:?}, leads to that of {those:?}; told: {:?}",
                origin.record_id,
                self.told
                    .values()
                    .map(|record| (&record.key.record_id, record.is_gone, &record.successor))
                    .collect::<Vec<_>>()
            );
            if let Some(heir) = heir {
                assert_eq!(leads_to, owners[&heir.record_id], "{shown}");
                assert!(live.contains(&leads_to), "{shown} leads to a dead contact");
                self.led += u32::from(row.survivor_id.is_some());
            } else if !self.is_unmade(origin) {
                assert!(!live.contains(&leads_to), "{shown} leads to somebody else");
                self.lost += 1;
            }
        }
    }

    /// The requester of every id, number and call is the record that lives in its place.
    async fn assert_requesters_live(&self) {
        let mut subjects: Vec<(Subject, Option<&RecordKey>, BTreeSet<String>)> = Vec::new();
        for (contact_id, origin) in &self.origins {
            subjects.push((Subject::ContactId(contact_id.to_string()), Some(origin), BTreeSet::new()));
        }
        for number in NUMBERS {
            subjects.push((Subject::PhoneNumber(number.into()), None, self.live_with(key_of(number))));
        }
        let attributed: Vec<(String, Uuid)> =
            sqlx::query_as("select call_id, contact_id from calls where account_id = $1::text::uuid")
                .bind(&self.account)
                .fetch_all(&self.test.db.pool)
                .await
                .unwrap();
        for (call_id, contact_id) in attributed {
            let by_number = self.live_with(key_of(self.calls[&call_id]));
            subjects.push((Subject::CallId(call_id), self.origins.get(&contact_id), by_number));
        }
        let callers = self.test.callers();
        let ask = subjects.into_iter().map(async |(subject, origin, by_number)| {
            let heir = origin.and_then(|origin| self.heir(origin));
            let shown = format!("{subject:?}, whose heir is {heir:?}");
            let request = pb::ResolveRequesterRequest {
                default_region: String::new(),
                account_id: self.account.clone(),
                integration_id: self.integration.clone(),
                subject: Some(subject),
            };
            let resolved = callers.clone().resolve_requester(request).await.unwrap().into_inner();
            let expected = heir.map_or(by_number, |heir| BTreeSet::from([heir.record_id.clone()]));
            let named: BTreeSet<String> =
                resolved.record.iter().chain(&resolved.candidates).map(|record| record.record_id.clone()).collect();
            let living = |record_id: &String| {
                self.told.values().any(|record| !record.is_gone && record.key.record_id == *record_id)
            };
            assert!(named.iter().all(living), "{shown}: {named:?} is gone");
            if origin.is_some_and(|origin| self.is_unmade(origin)) {
                return;
            }
            assert_eq!(named, expected, "{shown}");
            let outcome = match expected.len() {
                0 => RequesterOutcome::SyncOff,
                1 => RequesterOutcome::Resolved,
                _ => RequesterOutcome::Ambiguous,
            };
            assert_eq!(resolved.outcome(), outcome, "{shown}");
        });
        join_all(ask).await;
    }

    async fn assert_is_right(&mut self) {
        self.assert_ids_lead_to_the_living().await;
        self.assert_requesters_live().await;
    }
}

/// Random histories of these kinds of records; how many ids led to a survivor, and to nobody.
async fn live_through(provider: Provider, kinds: &'static [ObjectType], histories: u64) {
    let (mut led, mut lost) = (0, 0);
    for seed in seeds(histories) {
        let mut dice = dice(seed);
        let (mut crm, mut history) = (Crm::of(kinds), History::begin(provider, seed).await);
        // Each provider has histories of its own.
        for _ in 0..i32::from(provider) {
            let _: u64 = dice.random();
        }
        for _ in 0..STEPS {
            for _ in 0..dice.random_range(0..4) {
                crm.happen(&mut dice);
            }
            if dice.random_bool(0.2) {
                history.call(NUMBERS.choose(&mut dice).unwrap()).await;
            }
            history.take(crm.page(&mut dice)).await;
            history.assert_is_right().await;
        }
        let rest: BTreeMap<RecordKey, NormalRecord> = crm.now.clone();
        history.take(rest.into_values().collect()).await;
        history.assert_is_right().await;
        assert_holds(&history.test).await;
        (led, lost) = (led + history.led, lost + history.lost);
    }
    println!("{led} dead ids led to a survivor, {lost} to nobody");
    // Histories without merges, or without deaths, prove nothing.
    assert!(led > 100 && lost > 100, "{led} {lost}");
}

/// Any history of Salesforce's Contacts leaves no requester that is gone.
#[tokio::test]
async fn contact_histories_leave_no_dead_requester() {
    live_through(Provider::Salesforce, &[ObjectType::Contact], 4).await;
}

/// Any history of Salesforce's Contacts and converted Leads leaves no requester that is gone.
#[tokio::test]
async fn contact_and_lead_histories_leave_no_dead_requester() {
    live_through(Provider::Salesforce, &[ObjectType::Contact, ObjectType::Lead], 4).await;
}

/// Any history of Zendesk users leaves, if something names its merges, as an export never does, no
/// requester that is gone.
#[tokio::test]
async fn invented_user_merge_histories_leave_no_dead_requester() {
    live_through(Provider::Zendesk, &[ObjectType::User], 2).await;
}

/// Any history of Pipedrive persons leaves, if something names its merges, as a list never does, no
/// requester that is gone.
#[tokio::test]
async fn invented_person_merge_histories_leave_no_dead_requester() {
    live_through(Provider::Pipedrive, &[ObjectType::Person], 2).await;
}

/// In which order the copies of a chain's records come.
#[derive(Clone, Copy, Debug)]
enum Order {
    OneByOne,
    AllAtOnce,
    NewestFirst,
    OldestFirst,
}

/// A chain of so many merges of people with one call each, told in this order.
async fn chain(length: usize, order: Order) -> (History, RecordKey) {
    let (mut crm, mut history) = (Crm::of(&[ObjectType::Contact]), History::begin(Provider::Salesforce, 0).await);
    let numbers: Vec<&'static str> =
        (0..=length).map(|n| &*Box::leak(format!("+1310555{:04}", 200 + n).into_boxed_str())).collect();
    let keys: Vec<RecordKey> = numbers.iter().map(|number| crm.create(ObjectType::Contact, number)).collect();
    history.take(std::mem::take(&mut crm.fresh)).await;
    for number in numbers {
        history.call(number).await;
    }
    history.assert_ids_lead_to_the_living().await;
    for pair in keys.windows(2) {
        crm.end(&pair[0], Some(pair[1].clone()));
        if let Order::OneByOne = order {
            history.take(std::mem::take(&mut crm.fresh)).await;
        }
    }
    let mut ended = std::mem::take(&mut crm.fresh);
    match order {
        Order::OneByOne => {}
        Order::AllAtOnce => history.take(ended).await,
        Order::NewestFirst | Order::OldestFirst => {
            if let Order::NewestFirst = order {
                ended.reverse();
            }
            for copy in ended {
                history.take(vec![copy]).await;
            }
        }
    }
    (history, keys[length].clone())
}

/// A chain of thirty merges leads to its end, in whatever order it is told.
#[tokio::test]
async fn thirty_merges_lead_to_end_in_any_order() {
    for order in [Order::OneByOne, Order::AllAtOnce, Order::NewestFirst, Order::OldestFirst] {
        println!("{order:?}");
        let (mut history, last) = chain(30, order).await;

        history.assert_ids_lead_to_the_living().await;

        let (test, account) = (&history.test, &history.account);
        let end = history.owners().await[&last.record_id].to_string();
        for row in history.contacts().await {
            assert_eq!(test.living(account, &row.contact_id.to_string()).await, end, "{order:?}");
        }
        assert_holds(test).await;
    }
}

#[tokio::test]
async fn a_chains_length_costs_no_statement_more() {
    let mut costs = Vec::new();
    for length in [1, 30] {
        let (history, last) = chain(length, Order::OneByOne).await;
        let (test, account, integration) = (&history.test, &history.account, &history.integration);
        let first = id_of(test.ask(account, history.calls["call-0"], "call-0").await.selected.as_ref());
        assert_eq!(first, history.owners().await[&last.record_id].to_string());
        let oldest = history.contacts().await.into_iter().min_by_key(|row| row.contact_id).unwrap();
        assert!(!oldest.is_live);
        let statements = Statements::record();
        let ours = || statements.take();

        let by_call = test.resolve_call(account, integration, "call-0").await;
        let of_call = ours();
        let by_contact = test.resolve(account, integration, Subject::ContactId(oldest.contact_id.to_string())).await;
        let of_contact = ours();
        let repeated = test.ask(account, history.calls["call-0"], "call-0").await;
        let of_repeat = ours();
        let read = test.contact(account, &oldest.contact_id.to_string()).await;
        let of_reading = ours();

        for resolved in [by_call, by_contact] {
            assert_eq!(resolved.record.unwrap().record_id, last.record_id);
        }
        assert_eq!((repeated.selected.unwrap().id, read.survivor_id), (first.clone(), first));
        assert!(!of_call.is_empty());
        costs.push([of_call, of_contact, of_repeat, of_reading]);
    }
    assert_eq!(costs[0], costs[1]);
}
