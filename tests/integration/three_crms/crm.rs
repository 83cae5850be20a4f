//! The three CRMs as the behaviour suite sees them: one person in and out, and what the CRM truly holds. What differs between vendors
//! is said here, so that no behaviour has to know.

use std::collections::{BTreeMap, BTreeSet};

use contact_sync::{
    domain::phone::{self, Region},
    rpc::pb,
    simulator::faults::{Fault, Faults},
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::support::{TestApp, Worlds};

/// What a live record truly is, as far as a copy shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    pub name: String,
    pub keys: BTreeSet<i64>,
}

impl Truth {
    fn new<'t>(name: &str, numbers: impl Iterator<Item = &'t str>) -> Self {
        let region = Region::parse("US").unwrap();
        let readings = numbers.map(|raw| phone::read(raw, Some(region)));
        let keys = readings.flat_map(|reading| reading.numbers().map(|number| number.key.as_i64()).collect::<Vec<_>>());
        Self { name: name.trim().to_owned(), keys: keys.collect() }
    }
}

/// A CRM and the simulator behind it.
pub trait Crm {
    const PROVIDER: pb::Provider;
    /// Of the records that behaviours make.
    const OBJECT_TYPE: &'static str;
    /// A part of the path of every page that a pass reads, and of no other request.
    const PAGES: &'static str;
    /// Records of a page.
    const PAGE_SIZE: usize;
    /// A deletion shows in the next increment; else in a sweep only.
    const LISTS_DELETIONS: bool;
    /// Polling names the winner of a merge.
    const NAMES_WINNERS: bool;
    /// Requests of an increment that brings nothing.
    const REQUESTS_OF_AN_EMPTY_INCREMENT: u64;

    fn connection() -> pb::Connection;
    fn token() -> pb::Credentials;
    fn refresh_token() -> pb::Credentials;
    fn faults(test: &TestApp) -> &Faults;
    fn requests(test: &TestApp) -> u64;
    fn forget_requests(test: &TestApp);
    fn create(test: &TestApp, name: &str, phone: &str) -> String;
    fn rename(test: &TestApp, id: &str, name: &str);
    fn set_phone(test: &TestApp, id: &str, phone: &str);
    fn delete(test: &TestApp, id: &str);
    /// False: the CRM does not take this one back.
    fn can_restore(test: &TestApp, id: &str) -> bool;
    /// False: the CRM does not merge these two.
    fn can_merge(test: &TestApp, loser: &str, winner: &str) -> bool;

    fn restore(test: &TestApp, id: &str) {
        assert!(Self::can_restore(test, id), "{id} was not restored");
    }

    fn merge(test: &TestApp, loser: &str, winner: &str) {
        assert!(Self::can_merge(test, loser, winner), "{loser} was not merged into {winner}");
    }

    /// A record that the pass of this very moment does not see yet.
    fn create_unseen(test: &TestApp, name: &str, phone: &str) -> String;
    /// From now on passes see it.
    fn let_see(test: &TestApp, id: &str);
    /// Ways of this CRM that its vendor does not document, or leaves to the customer; the likeliest first.
    fn worlds() -> Vec<Worlds>;

    /// One whose pages show records that are gone.
    fn world_that_lists_the_gone() -> Worlds {
        Worlds::default()
    }

    /// What only this CRM can do to its records, to any of them. What it refuses changes nothing.
    fn do_something_odd(test: &TestApp, dice: &mut StdRng, records: &[String], phone: &str);
    fn generate(test: &TestApp, count: usize, seed: u64);
    fn end_access_tokens(test: &TestApp);
    fn revoke(test: &TestApp);
    fn token_requests(test: &TestApp) -> u64;
    /// Every live record, by its id.
    fn truth(test: &TestApp) -> BTreeMap<String, Truth>;
    /// The fault that says "no more today", if the vendor has one.
    fn daily_limit() -> Fault;
    fn call_to_rename(id: &str, name: &str) -> (&'static str, String, Value);
}

pub struct ZendeskCrm;
pub struct SalesforceCrm;
pub struct PipedriveCrm;

fn refresh_token(token: &str) -> pb::Credentials {
    let token = pb::RefreshToken { token: token.into(), client_id: "client".into(), client_secret: "secret".into() };
    pb::Credentials { kind: Some(pb::credentials::Kind::RefreshToken(token)) }
}

/// Of a record of Salesforce.
fn object_of(id: &str) -> &'static str {
    if id.starts_with("00Q") { "Lead" } else { "Contact" }
}

fn number(id: &str) -> i64 {
    id.parse().unwrap()
}

impl Crm for ZendeskCrm {
    const PROVIDER: pb::Provider = pb::Provider::Zendesk;
    const OBJECT_TYPE: &'static str = "user";
    const PAGES: &'static str = "/incremental/users/cursor";
    const PAGE_SIZE: usize = 1_000;
    const LISTS_DELETIONS: bool = true;
    const NAMES_WINNERS: bool = false;
    const REQUESTS_OF_AN_EMPTY_INCREMENT: u64 = 1;

    fn connection() -> pb::Connection {
        crate::support::zendesk_connection("acme")
    }

    fn token() -> pb::Credentials {
        crate::support::bearer("zendesk-token")
    }

    fn refresh_token() -> pb::Credentials {
        refresh_token("zendesk-refresh")
    }

    fn faults(test: &TestApp) -> &Faults {
        test.zendesk.faults()
    }

    fn requests(test: &TestApp) -> u64 {
        test.zendesk.requests().total
    }

    fn forget_requests(test: &TestApp) {
        test.zendesk.clear_requests();
    }

    fn create(test: &TestApp, name: &str, phone: &str) -> String {
        let email = format!("{}@example.com", name.replace(' ', "."));
        test.zendesk.create_user(&json!({"name": name, "phone": phone, "email": email})).unwrap().to_string()
    }

    fn rename(test: &TestApp, id: &str, name: &str) {
        test.zendesk.update_user(number(id), &json!({"name": name})).unwrap();
    }

    fn set_phone(test: &TestApp, id: &str, phone: &str) {
        test.zendesk.update_user(number(id), &json!({"phone": phone})).unwrap();
        // The number of a direct line stays as an identity until that is deleted.
        let old = test.zendesk.oracle().into_iter().find(|user| user.id == number(id)).unwrap();
        for identity in
            old.identities.iter().filter(|identity| identity.kind == "phone_number" && identity.value != phone)
        {
            test.zendesk.delete_identity(number(id), identity.id).unwrap();
        }
    }

    fn delete(test: &TestApp, id: &str) {
        test.zendesk.delete_user(number(id)).unwrap();
    }

    fn can_restore(test: &TestApp, id: &str) -> bool {
        test.zendesk.restore_user(number(id)).is_ok()
    }

    fn can_merge(test: &TestApp, loser: &str, winner: &str) -> bool {
        test.zendesk.merge_users(number(loser), number(winner)).is_ok()
    }

    /// The export keeps back what is younger than a minute.
    fn create_unseen(test: &TestApp, name: &str, phone: &str) -> String {
        Self::create(test, name, phone)
    }

    fn let_see(_: &TestApp, _: &str) {}

    fn worlds() -> Vec<Worlds> {
        let of = |zendesk| Worlds { zendesk: Some(zendesk), ..Worlds::default() };
        vec![
            of(|config| config.freshness_lag_seconds = 60),
            of(|config| config.quirks.merge_moves_phones = true),
            of(|config| config.quirks.merge_touches_winner = false),
        ]
    }

    fn do_something_odd(test: &TestApp, dice: &mut StdRng, records: &[String], phone: &str) {
        let Some(id) = records.choose(dice).map(|id| number(id)) else { return };
        // Refusals change nothing.
        match dice.random_range(0..4) {
            0 => drop(test.zendesk.purge_user(id)),
            1 => drop(test.zendesk.update_user(id, &json!({"suspended": true}))),
            2 => drop(test.zendesk.update_user(id, &json!({"phone": null}))),
            _ => drop(test.zendesk.add_identity(id, &json!({"type": "phone_number", "value": phone}))),
        }
    }

    fn generate(test: &TestApp, count: usize, seed: u64) {
        test.zendesk.generate_people(count, seed).unwrap();
    }

    fn end_access_tokens(test: &TestApp) {
        test.zendesk.expire_access_tokens();
    }

    fn revoke(test: &TestApp) {
        test.zendesk.revoke_all_tokens();
    }

    fn token_requests(test: &TestApp) -> u64 {
        test.zendesk.token_requests().refresh_token
    }

    fn truth(test: &TestApp) -> BTreeMap<String, Truth> {
        let users = test.zendesk.oracle().into_iter().filter(|user| user.active);
        users.map(|user| (user.id.to_string(), Truth::new(&user.name, user.numbers().into_iter()))).collect()
    }

    fn daily_limit() -> Fault {
        Fault::RateLimited { retry_after_seconds: Some(1_800) }
    }

    fn call_to_rename(id: &str, name: &str) -> (&'static str, String, Value) {
        ("PUT", format!("/api/v2/users/{id}"), json!({"user": {"name": name}}))
    }
}

impl Crm for SalesforceCrm {
    const PROVIDER: pb::Provider = pb::Provider::Salesforce;
    const OBJECT_TYPE: &'static str = "Contact";
    const PAGES: &'static str = "ORDER+BY+SystemModstamp";
    const PAGE_SIZE: usize = 2_000;
    const LISTS_DELETIONS: bool = true;
    const NAMES_WINNERS: bool = true;
    // Contacts and Leads: the rows, and the deletions.
    const REQUESTS_OF_AN_EMPTY_INCREMENT: u64 = 4;

    fn connection() -> pb::Connection {
        crate::support::salesforce_connection()
    }

    fn token() -> pb::Credentials {
        crate::support::bearer("salesforce-token")
    }

    fn refresh_token() -> pb::Credentials {
        refresh_token("salesforce-refresh")
    }

    fn faults(test: &TestApp) -> &Faults {
        test.salesforce.faults()
    }

    fn requests(test: &TestApp) -> u64 {
        test.salesforce.requests().total
    }

    fn forget_requests(test: &TestApp) {
        test.salesforce.clear_requests();
    }

    fn create(test: &TestApp, name: &str, phone: &str) -> String {
        test.salesforce.create("Contact", &json!({"LastName": name, "Phone": phone})).unwrap()
    }

    fn rename(test: &TestApp, id: &str, name: &str) {
        test.salesforce.update(object_of(id), id, &json!({"LastName": name})).unwrap();
    }

    fn set_phone(test: &TestApp, id: &str, phone: &str) {
        test.salesforce.update(object_of(id), id, &json!({"Phone": phone})).unwrap();
    }

    fn delete(test: &TestApp, id: &str) {
        test.salesforce.delete(object_of(id), id).unwrap();
    }

    fn can_restore(test: &TestApp, id: &str) -> bool {
        test.salesforce.undelete(id).is_ok()
    }

    fn can_merge(test: &TestApp, loser: &str, winner: &str) -> bool {
        test.salesforce.merge(object_of(winner), winner, &[loser]).is_ok()
    }

    /// As in a transaction that is not committed.
    fn create_unseen(test: &TestApp, name: &str, phone: &str) -> String {
        let id = Self::create(test, name, phone);
        test.salesforce.hide(&id).unwrap();
        id
    }

    fn let_see(test: &TestApp, id: &str) {
        test.salesforce.reveal(id).unwrap();
    }

    fn worlds() -> Vec<Worlds> {
        let of = |salesforce| Worlds { salesforce: Some(salesforce), ..Worlds::default() };
        vec![
            // Losers and winners come on different pages.
            of(|config| config.page_rows_max = 2),
            of(|config| config.visibility_lag_seconds = 5),
            of(|config| config.has_person_accounts = true),
        ]
    }

    fn do_something_odd(test: &TestApp, dice: &mut StdRng, records: &[String], phone: &str) {
        let salesforce = &test.salesforce;
        let lead =
            json!({"LastName": format!("Lead {}", dice.random_range(0..100)), "Company": "Acme", "Phone": phone});
        let (Some(id), Some(other), Some(third)) = (records.choose(dice), records.choose(dice), records.choose(dice))
        else {
            return;
        };
        // Refusals change nothing.
        match dice.random_range(0..7) {
            0 | 1 => drop(salesforce.create("Lead", &lead)),
            2 => drop(salesforce.convert_lead(id, None)),
            3 => drop(salesforce.convert_lead(id, Some(other))),
            4 => drop(salesforce.merge(object_of(id), id, &[other, third])),
            5 => drop(salesforce.hard_delete(object_of(id), id)),
            _ => drop(salesforce.touch_system(object_of(id), id)),
        }
    }

    fn generate(test: &TestApp, count: usize, seed: u64) {
        test.salesforce.generate_people(count, 0, seed).unwrap();
    }

    fn end_access_tokens(test: &TestApp) {
        test.salesforce.expire_sessions();
    }

    fn revoke(test: &TestApp) {
        test.salesforce.revoke_refresh_tokens();
        test.salesforce.expire_sessions();
    }

    fn token_requests(test: &TestApp) -> u64 {
        test.salesforce.token_requests().refresh_token
    }

    fn truth(test: &TestApp) -> BTreeMap<String, Truth> {
        const PHONES: [&str; 5] = ["Phone", "MobilePhone", "HomePhone", "OtherPhone", "Fax"];
        let live = ["Contact", "Lead"].into_iter().flat_map(|object| test.salesforce.records(object));
        let live = live.filter(|record| !record.is_deleted && record.fields.get("IsConverted") != Some(&json!(true)));
        let truth = live.map(|record| {
            let numbers = PHONES.iter().filter_map(|field| record.text(field));
            (record.id.clone(), Truth::new(record.text("Name").unwrap_or_default(), numbers))
        });
        truth.collect()
    }

    fn daily_limit() -> Fault {
        Fault::DailyLimit
    }

    fn call_to_rename(id: &str, name: &str) -> (&'static str, String, Value) {
        ("PATCH", format!("/services/data/v60.0/sobjects/Contact/{id}"), json!({"LastName": name}))
    }
}

impl Crm for PipedriveCrm {
    const PROVIDER: pb::Provider = pb::Provider::Pipedrive;
    const OBJECT_TYPE: &'static str = "person";
    const PAGES: &'static str = "/api/v2/persons?limit=500";
    const PAGE_SIZE: usize = 500;
    const LISTS_DELETIONS: bool = false;
    const NAMES_WINNERS: bool = false;
    const REQUESTS_OF_AN_EMPTY_INCREMENT: u64 = 2;

    fn connection() -> pb::Connection {
        crate::support::pipedrive_connection("acme")
    }

    fn token() -> pb::Credentials {
        pb::Credentials { kind: Some(pb::credentials::Kind::PipedriveApiToken("pipedrive-token".into())) }
    }

    fn refresh_token() -> pb::Credentials {
        refresh_token("pipedrive-refresh")
    }

    fn faults(test: &TestApp) -> &Faults {
        test.pipedrive.faults()
    }

    fn requests(test: &TestApp) -> u64 {
        test.pipedrive.requests().total
    }

    fn forget_requests(test: &TestApp) {
        test.pipedrive.clear_requests();
    }

    fn create(test: &TestApp, name: &str, phone: &str) -> String {
        let phones = json!([{"value": phone, "primary": true, "label": "work"}]);
        test.pipedrive.create_person(&json!({"name": name, "phones": phones})).unwrap().to_string()
    }

    fn rename(test: &TestApp, id: &str, name: &str) {
        test.pipedrive.update_person(number(id), &json!({"name": name})).unwrap();
    }

    fn set_phone(test: &TestApp, id: &str, phone: &str) {
        let phones = json!([{"value": phone, "primary": true, "label": "work"}]);
        test.pipedrive.update_person(number(id), &json!({"phones": phones})).unwrap();
    }

    fn delete(test: &TestApp, id: &str) {
        test.pipedrive.delete_person(number(id)).unwrap();
    }

    fn can_restore(test: &TestApp, id: &str) -> bool {
        test.pipedrive.restore_person(number(id)).is_ok()
    }

    fn can_merge(test: &TestApp, loser: &str, winner: &str) -> bool {
        test.pipedrive.merge_persons(number(loser), number(winner)).is_ok()
    }

    /// Pipedrive promises nothing about when a change shows.
    fn create_unseen(test: &TestApp, name: &str, phone: &str) -> String {
        let id = Self::create(test, name, phone);
        test.pipedrive.hide_from_token(number(&id)).unwrap();
        id
    }

    fn let_see(test: &TestApp, id: &str) {
        test.pipedrive.show_to_token(number(id)).unwrap();
    }

    fn worlds() -> Vec<Worlds> {
        let of = |pipedrive| Worlds { pipedrive: Some(pipedrive), ..Worlds::default() };
        vec![
            Worlds::default(),
            of(|config| {
                config.lists_deleted = true;
                config.deletes_touch_update_time = true;
                config.empty_phone_entries = true;
            }),
            of(|config| {
                config.deleted_answers_not_found = true;
                config.restores_touch_update_time = false;
                config.merges_touch_winner = false;
            }),
        ]
    }

    fn world_that_lists_the_gone() -> Worlds {
        Self::worlds().swap_remove(1)
    }

    fn do_something_odd(test: &TestApp, dice: &mut StdRng, records: &[String], phone: &str) {
        let Some(id) = records.choose(dice).map(|id| number(id)) else { return };
        let two = json!([{"value": phone, "primary": true, "label": "work"},
            {"value": "310 555 0199", "primary": false, "label": "mobile"}]);
        // Refusals change nothing.
        match dice.random_range(0..3) {
            0 => drop(test.pipedrive.purge_person(id)),
            1 => drop(test.pipedrive.update_person(id, &json!({"phones": []}))),
            _ => drop(test.pipedrive.update_person(id, &json!({"phones": two}))),
        }
    }

    fn generate(test: &TestApp, count: usize, seed: u64) {
        test.pipedrive.generate_people(count, seed).unwrap();
    }

    fn end_access_tokens(test: &TestApp) {
        test.pipedrive.expire_access_tokens();
    }

    fn revoke(test: &TestApp) {
        test.pipedrive.revoke_all_tokens();
    }

    fn token_requests(test: &TestApp) -> u64 {
        test.pipedrive.token_requests().refresh_token
    }

    fn truth(test: &TestApp) -> BTreeMap<String, Truth> {
        let persons = test.pipedrive.persons().into_iter().filter(|person| !person.is_deleted);
        persons
            .map(|person| (person.id.to_string(), Truth::new(&person.name, person.phones.iter().map(String::as_str))))
            .collect()
    }

    fn daily_limit() -> Fault {
        Fault::DailyLimit
    }

    fn call_to_rename(id: &str, name: &str) -> (&'static str, String, Value) {
        ("PATCH", format!("/api/v2/persons/{id}"), json!({"name": name}))
    }
}
