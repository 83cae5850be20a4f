//! The three CRMs as the behaviour suite sees them: one person in and out, and what the CRM truly
//! holds. What differs between vendors is said here, so that no behaviour has to know.

mod pipedrive;
mod salesforce;
mod zendesk;

use std::collections::{BTreeMap, BTreeSet};

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, Faults};
use phone_key::Region;
use rand::rngs::StdRng;
use serde_json::Value;

pub use self::{pipedrive::PipedriveCrm, salesforce::SalesforceCrm, zendesk::ZendeskCrm};
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
        let readings = numbers.map(|raw| phone_key::read(raw, Some(region)));
        let keys = readings.flat_map(|reading| reading.numbers().map(|number| number.key.as_i64()).collect::<Vec<_>>());
        Self { name: name.trim().to_owned(), keys: keys.collect() }
    }
}

/// A CRM and the simulator behind it.
pub trait Crm {
    const PROVIDER: pb::Provider;
    /// Of the records that behaviours make.
    const OBJECT_TYPE: &'static str;
    /// A part of the path of every page that a run reads, and of no other request.
    const PAGES: &'static str;
    /// A part of the path of every look-up by ids.
    const LOOK_UPS: &'static str;
    /// Records of a page.
    const PAGE_SIZE: usize;
    /// The field that says when a record was changed.
    const CHANGED_AT: &'static str;
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

    /// A record that the run of this very moment does not see yet.
    fn create_unseen(test: &TestApp, name: &str, phone: &str) -> String;
    /// From now on runs see it.
    fn let_see(test: &TestApp, id: &str);
    /// Ways of this CRM that its vendor does not document, or leaves to the customer; the likeliest
    /// first.
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

fn refresh_token(token: &str) -> pb::Credentials {
    let token = pb::RefreshToken { token: token.into(), client_id: "client".into(), client_secret: "secret".into() };
    pb::Credentials { kind: Some(pb::credentials::Kind::RefreshToken(token)) }
}

fn number(id: &str) -> i64 {
    id.parse().unwrap()
}
