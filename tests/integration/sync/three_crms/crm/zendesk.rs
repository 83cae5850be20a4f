//! Zendesk as the behaviour suite sees it.

use std::collections::BTreeMap;

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, Faults};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{Crm, Truth, number, refresh_token};
use crate::support::{TestApp, Worlds};

/// The simulated one.
pub struct ZendeskCrm;

impl Crm for ZendeskCrm {
    const PROVIDER: pb::Provider = pb::Provider::Zendesk;
    const OBJECT_TYPE: &'static str = "user";
    const PAGES: &'static str = "/incremental/users/cursor";
    const LOOK_UPS: &'static str = "/show_many";
    const PAGE_SIZE: usize = 1_000;
    const CHANGED_AT: &'static str = "updated_at";
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
            Worlds { lag: true, ..Worlds::default() },
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
