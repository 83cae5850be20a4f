//! The two statements that read who has a number: what the lean one answers, the full one answers
//! equally; and neither writes.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    domain::{
        call::CallDirection,
        contact::{CANDIDATES_MAX, NUMBERS_SHOWN_MAX, RECORDS_SHOWN_MAX, TOTAL_MAX},
        ids::AccountId,
        match_policy::MatchPolicy,
    },
    rpc::pb::{self, MatchOutcome},
    store::caller_lookup::{self, LookupRequest},
};
use phone_key::PhoneKey;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::{
    support::calls::{dice, id_of, look_only, seeds, withheld},
    support::{TestApp, call, db::TestDb, start_time},
};

const BRYCE: &str = "+13108675309";
const LINE: &str = "+13105550199";
const NEW: &str = "+13105550100";

/// Contacts of one number.
const SIZES: [usize; 11] = [0, 1, 1, 2, 5, 19, 20, 21, 60, 200, 201];
/// Text that an array or a record must quote, or that looks like something else.
const TEXTS: [&str; 10] =
    ["", "NULL", "null", "a, b", "{x}", "(y)", "say \"hi\"", "back\\slash", "Zoë 📞", "line\nbreak"];

/// What the lean statement answers, the full one answers equally.
#[tokio::test]
async fn lean_and_full_statement_answer_equally() {
    let test = TestApp::start().await;
    let call_db = &test.app.call_db;
    let (mut lean_answers, mut left_to_full) = (0, 0);
    for seed in seeds(3) {
        let mut dice = dice(seed);
        let mut account = RandomAccount::new(&mut dice);
        for (n, size) in SIZES.into_iter().enumerate() {
            account.fill(13_105_550_000 + i64::try_from(n).unwrap(), size);
        }
        account.insert(&test.db).await;

        for (n, size) in SIZES.into_iter().enumerate() {
            let key = PhoneKey::try_from_i64(13_105_550_000 + i64::try_from(n).unwrap()).unwrap();
            for call_id in [None, Some("known"), Some("clicked"), Some("unknown")] {
                let request = LookupRequest {
                    call_id,
                    direction: CallDirection::Inbound,
                    clicks_since: start_time(),
                    policy: MatchPolicy::FirstCreated,
                };
                let id = AccountId(account.id);
                let full = caller_lookup::read_full(call_db, id, key, &request).await.unwrap();
                let what = format!("seed {seed}, {size} contacts, call {call_id:?}");
                assert_eq!(full.total, size.min(TOTAL_MAX + 1), "{what}");
                assert_eq!(full.candidates.len(), size.min(CANDIDATES_MAX), "{what}");
                assert_eq!(full.call.is_some(), call_id.is_some_and(|id| id != "unknown"), "{what}");
                assert_eq!(full.sources.len(), account.integrations.len(), "{what}");
                for contact in &full.candidates {
                    assert!(contact.numbers.len() <= NUMBERS_SHOWN_MAX && contact.records.len() <= RECORDS_SHOWN_MAX);
                    assert!(contact.records.is_sorted_by_key(|record| !record.is_live), "{what}: live records first");
                }
                match caller_lookup::read_lean(call_db, id, key, call_id).await.unwrap() {
                    Some(lean) => {
                        assert!(lean == full, "{what}: {} and {}", lean.candidates.len(), full.candidates.len());
                        lean_answers += 1;
                    }
                    None => left_to_full += 1,
                }
                let chosen = caller_lookup::look_up(call_db, id, key, &request).await.unwrap();
                assert!(chosen == full, "{what}");
            }
        }
        assert!(account.has_long_contacts(), "seed {seed}: a contact beyond each bound");
    }
    assert!(lean_answers > 0 && left_to_full > 0, "{lean_answers} and {left_to_full}");
}

/// An account's rows, as they may lie in the tables, also where no road of the service leads.
struct RandomAccount<'a> {
    id: Uuid,
    dice: &'a mut StdRng,
    integrations: Vec<Value>,
    contacts: Vec<Value>,
    refs: Vec<Value>,
    numbers: Vec<Value>,
}

impl<'a> RandomAccount<'a> {
    fn new(dice: &'a mut StdRng) -> Self {
        let id = Uuid::from_u128(dice.random());
        let mut account =
            Self { id, dice, integrations: Vec::new(), contacts: Vec::new(), refs: Vec::new(), numbers: Vec::new() };
        for n in 0..account.dice.random_range(1..4) {
            let integration = account.integration(n);
            account.integrations.push(integration);
        }
        account
    }

    fn text(&mut self) -> String {
        let mut text = (*TEXTS.choose(self.dice).unwrap()).to_owned();
        write!(text, "{}", self.dice.random_range(0..100)).unwrap();
        if self.dice.random_bool(0.2) { String::new() } else { text }
    }

    fn moment(&mut self) -> DateTime<Utc> {
        // Few, so that many are equal.
        start_time() - TimeDelta::microseconds(self.dice.random_range(0..4))
    }

    fn maybe_moment(&mut self) -> Option<DateTime<Utc>> {
        let moment = self.moment();
        self.dice.random_bool(0.5).then_some(moment)
    }

    fn integration(&mut self, n: usize) -> Value {
        let provider = *["ZENDESK", "SALESFORCE", "PIPEDRIVE"].choose(self.dice).unwrap();
        let holds = [None, Some("PAUSED"), Some("QUOTA_PAUSED"), Some("AUTH_FAILED")];
        json!({
            "account_id": self.id,
            "integration_id": Uuid::from_u128(self.dice.random()),
            "provider": provider,
            "organization": format!("acme{n}"),
            "is_enabled": self.dice.random_bool(0.8),
            "is_sync_on": self.dice.random_bool(0.8),
            "period_seconds": self.dice.random_range(60..4_000),
            "hold": holds.choose(self.dice).unwrap(),
            "first_started_at": self.maybe_moment(),
            "last_completed_at": self.maybe_moment(),
            "known_through": self.maybe_moment(),
            "created_at": start_time(),
            "updated_at": start_time(),
        })
    }

    /// So many contacts with this number, one of them a stranger's placeholder now and then.
    fn fill(&mut self, e164: i64, size: usize) {
        let placeholder = if size > 0 && self.dice.random_bool(0.6) { self.dice.random_range(0..size) } else { size };
        // How often a contact has it in another record, too.
        let repeats = if self.dice.random_bool(0.5) { 0.0 } else { 0.3 };
        for n in 0..size {
            // Most are short, and some of the first have more than is shown.
            let is_long = self.dice.random_bool(0.06);
            self.contact(e164, repeats, n == placeholder, is_long);
        }
    }

    fn contact(&mut self, e164: i64, repeats: f64, is_placeholder: bool, is_long: bool) {
        let contact_id = Uuid::from_u128(self.dice.random());
        let created_at = self.moment();
        let is_merged = self.dice.random_bool(0.1);
        let survivor_id = is_merged.then(|| Uuid::from_u128(self.dice.random()));
        let deleted_at = if is_merged { Some(start_time()) } else { self.maybe_moment() };
        let emails: Vec<String> = (0..self.dice.random_range(0..4)).map(|_| self.text()).collect();
        let contact = json!({
            "account_id": self.id, "contact_id": contact_id, "display_name": self.text(), "organization": self.text(),
            "emails": emails, "is_placeholder": is_placeholder, "created_at": created_at, "updated_at": created_at,
            "deleted_at": deleted_at, "merged_into": survivor_id, "survivor_id": survivor_id,
        });
        self.contacts.push(contact);
        let number = |account: &mut Self,
                      integration_id: Value,
                      record: (&str, &str),
                      position: usize,
                      e164: Option<i64>| {
            let number = json!({
                "account_id": account.id, "contact_id": contact_id, "integration_id": integration_id, "object_type": record.0,
                "record_id": record.1, "position": position, "raw": account.text(), "region": "", "e164": e164, "key_version": 1,
                "extension": account.text(), "label": account.text(), "is_placeholder": is_placeholder,
                "contact_created_at": created_at,
            });
            account.numbers.push(number);
        };
        if is_placeholder {
            number(self, json!(Uuid::nil()), ("", ""), 0, Some(e164));
            return;
        }
        let refs = if is_long { RECORDS_SHOWN_MAX + 9 } else { self.dice.random_range(1..4) };
        for n in 0..refs {
            let integration_id = self.integrations.choose(self.dice).unwrap()["integration_id"].clone();
            let object_type = *["user", "Contact", "Lead", "person"].choose(self.dice).unwrap();
            let record_id = format!("{}{}", ["a", "B", "1", "_"].choose(self.dice).unwrap(), self.dice.random::<u32>());
            let external_ref = json!({
                "account_id": self.id, "integration_id": integration_id, "object_type": object_type, "record_id": record_id,
                "contact_id": contact_id, "is_live": self.dice.random_bool(0.7), "is_synced": true,
                "record_updated_at": self.maybe_moment(), "role": self.text(), "url": self.text(),
                "created_at": created_at, "updated_at": created_at,
            });
            self.refs.push(external_ref);
            let key = (object_type, record_id.as_str());
            // The first ref has the number; others may have it too, or one that nobody can call.
            if n == 0 || self.dice.random_bool(repeats) {
                number(self, integration_id.clone(), key, 0, Some(e164));
            }
            for position in 1..self.dice.random_range(1..if is_long { 9 } else { 3 }) {
                let other = self.dice.random_bool(0.7).then(|| 4_930_000_000 + self.dice.random_range(0..99));
                number(self, integration_id.clone(), key, position, other);
            }
        }
    }

    fn has_long_contacts(&self) -> bool {
        let most = |rows: &[Value], bound: usize| {
            let of = |id: &Value| rows.iter().filter(|row| &row["contact_id"] == id).count();
            self.contacts.iter().any(|contact| of(&contact["contact_id"]) > bound)
        };
        most(&self.refs, RECORDS_SHOWN_MAX) && most(&self.numbers, NUMBERS_SHOWN_MAX)
    }

    async fn insert(&self, db: &TestDb) {
        let account = self.id;
        db.execute(&format!(
            "insert into accounts (account_id, display_name, default_region, further_regions, created_at, updated_at)
            values ('{account}', 'Test', 'US', '{{}}', now(), now())"
        ))
        .await;
        for (table, rows) in [
            ("integrations", &self.integrations),
            ("contacts", &self.contacts),
            ("external_refs", &self.refs),
            ("phone_numbers", &self.numbers),
        ] {
            let Some(Value::Object(first)) = rows.first() else { continue };
            let columns = first.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "insert into {table} ({columns}) select {columns} from jsonb_populate_recordset(null::{table}, $1)"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(json!(rows)).execute(&db.pool).await.unwrap();
        }
        let contact = self.contacts[0]["contact_id"].as_str().unwrap();
        db.execute(&format!(
            "insert into calls (account_id, call_id, e164, raw, direction, outcome, contact_id, tier, selection_id, created_at, updated_at)
            values ('{account}', 'known', 13105550001, null, 'INBOUND', 'MATCHED', '{contact}', 'EXACT', null, now(), now()),
                ('{account}', 'clicked', null, 'hello', 'OUTBOUND', null, null, null, '{contact}', now(), now())"
        ))
        .await;
    }
}

/// Known callers are named on a database that only reads.
#[tokio::test]
async fn known_callers_are_named_on_read_only_database() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    for n in 0..25 {
        test.user(&format!("Desk {n}"), LINE);
    }
    let (account, _) = test.synced().await;
    test.ask(&account, BRYCE, "before").await;
    let switch = async |to: &str| {
        let name: String = sqlx::query_scalar("select current_database()").fetch_one(&test.db.pool).await.unwrap();
        let alter = format!("alter database {name} set default_transaction_read_only = {to}");
        test.db.execute(&format!("begin read write; {alter}; commit")).await;
    };
    switch("on").await;
    // Its sessions are new, and can only read.
    let standby = test.replica(|_| {}).await;

    let bryce = standby.match_caller(call(&account, BRYCE)).await;
    let line = standby.match_caller(call(&account, LINE)).await;
    let nobody = standby.match_caller(look_only(call(&account, NEW))).await;
    let hidden = standby.match_caller(withheld(call(&account, ""))).await;
    let dialled = pb::MatchCallerRequest { direction: pb::Direction::Outbound.into(), ..call(&account, BRYCE) };
    let dialled = standby.match_caller(dialled).await;
    let repeat = standby.ask(&account, BRYCE, "before").await;
    let fresh = standby.ask(&account, BRYCE, "fresh").await;
    let stranger = standby.match_refused(call(&account, NEW)).await;

    assert_eq!(
        (bryce.outcome(), bryce.selected.as_ref().unwrap().display_name.as_str()),
        (MatchOutcome::Matched, "Bryce Love")
    );
    assert_eq!((line.outcome(), line.total), (MatchOutcome::Ambiguous, 25));
    assert_eq!((nobody.outcome(), nobody.complete), (MatchOutcome::NotFound, true));
    assert_eq!(hidden.outcome(), MatchOutcome::Withheld);
    assert_eq!(id_of(dialled.selected.as_ref()), id_of(bryce.selected.as_ref()));
    assert_eq!(id_of(repeat.selected.as_ref()), id_of(bryce.selected.as_ref()));
    assert_eq!(id_of(fresh.selected.as_ref()), id_of(bryce.selected.as_ref()));
    assert_eq!(stranger.code(), Code::Unavailable, "nobody is created");
    switch("off").await;
    let primary = test.replica(|_| {}).await;
    assert_eq!(primary.ask(&account, BRYCE, "fresh").await.outcome(), MatchOutcome::Matched);
    assert_eq!(test.rows(&account, "calls").await, 2);
    assert_eq!(test.rows(&account, "contacts").await, 26);
}
