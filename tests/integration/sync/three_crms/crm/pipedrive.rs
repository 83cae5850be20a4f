//! Pipedrive as the behaviour suite sees it.

use std::collections::BTreeMap;

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, Faults};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{Crm, Truth, number, refresh_token};
use crate::support::{TestApp, Worlds};

/// The simulated one.
pub struct PipedriveCrm;

impl Crm for PipedriveCrm {
    const PROVIDER: pb::Provider = pb::Provider::Pipedrive;
    const OBJECT_TYPE: &'static str = "person";
    const PAGES: &'static str = "sort_by=id";
    const LOOK_UPS: &'static str = "/persons?ids=";
    const PAGE_SIZE: usize = 500;
    const CHANGED_AT: &'static str = "update_time";
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
