//! Salesforce as the behaviour suite sees it.

use std::collections::BTreeMap;

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, Faults};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{Crm, Truth, refresh_token};
use crate::support::{TestApp, Worlds};

/// The simulated one.
pub struct SalesforceCrm;

/// Of a record of Salesforce.
fn object_of(id: &str) -> &'static str {
    if id.starts_with("00Q") { "Lead" } else { "Contact" }
}

impl Crm for SalesforceCrm {
    const PROVIDER: pb::Provider = pb::Provider::Salesforce;
    const OBJECT_TYPE: &'static str = "Contact";
    const PAGES: &'static str = "ORDER+BY+SystemModstamp";
    const LOOK_UPS: &'static str = "WHERE+Id+IN";
    const PAGE_SIZE: usize = 2_000;
    const CHANGED_AT: &'static str = "SystemModstamp";
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
