//! The three CRMs as the behaviour suite sees them: one person in and out, and what the CRM truly holds. What differs between vendors
//! is said here, so that no behaviour has to know.

use std::collections::{BTreeMap, BTreeSet};

use contact_sync::{
    domain::phone::{self, Region},
    rpc::pb,
    simulator::faults::{Fault, Faults},
};
use serde_json::{Value, json};

use crate::support::TestApp;

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
    fn restore(test: &TestApp, id: &str);
    fn merge(test: &TestApp, loser: &str, winner: &str);
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

    fn restore(test: &TestApp, id: &str) {
        test.zendesk.restore_user(number(id)).unwrap();
    }

    fn merge(test: &TestApp, loser: &str, winner: &str) {
        test.zendesk.merge_users(number(loser), number(winner)).unwrap();
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
        test.salesforce.update("Contact", id, &json!({"LastName": name})).unwrap();
    }

    fn set_phone(test: &TestApp, id: &str, phone: &str) {
        test.salesforce.update("Contact", id, &json!({"Phone": phone})).unwrap();
    }

    fn delete(test: &TestApp, id: &str) {
        test.salesforce.delete("Contact", id).unwrap();
    }

    fn restore(test: &TestApp, id: &str) {
        test.salesforce.undelete(id).unwrap();
    }

    fn merge(test: &TestApp, loser: &str, winner: &str) {
        test.salesforce.merge("Contact", winner, &[loser]).unwrap();
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

    fn restore(test: &TestApp, id: &str) {
        test.pipedrive.restore_person(number(id)).unwrap();
    }

    fn merge(test: &TestApp, loser: &str, winner: &str) {
        test.pipedrive.merge_persons(number(loser), number(winner)).unwrap();
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
