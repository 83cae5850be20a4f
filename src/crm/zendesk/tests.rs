//! Users by their ids, against the simulated Zendesk over real HTTP, on a clock that tests move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use crm_simulator::{
    faults::{Fault, FaultRule},
    zendesk::{self as simulated, ZendeskConfig},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::client::ZendeskClient;
use crate::{
    crm::{
        ClientTarget, CrmClient, CrmError, PageEffort, RecordSightings, endpoint::ProviderEndpoint, http,
        quota::RequestQuota, vendor::ClientParts,
    },
    domain::{
        credentials::{AccessToken, CrmAccess},
        integration::Organization,
        options::Options,
        provider::Provider,
        record::{ObjectType, Record, RecordKey},
    },
};

const START: i64 = 1_790_000_000;
const SHOW_MANY: &str = "users/show_many";
const IDENTITIES: &str = "/identities";

/// An account, and where it is served; it stops when the test ends.
struct HelpDesk {
    zendesk: Arc<simulated::Zendesk>,
    endpoint: ProviderEndpoint,
    seconds: Arc<AtomicI64>,
    shutdown: CancellationToken,
}

impl Drop for HelpDesk {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl HelpDesk {
    async fn start_with(configure: impl FnOnce(&mut ZendeskConfig)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seconds = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&seconds);
        let mut config = ZendeskConfig::new(Arc::new(move || at(clock.load(Ordering::SeqCst))));
        config = config.without_lag();
        configure(&mut config);
        let zendesk = simulated::Zendesk::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = ProviderEndpoint::Operator(format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let router = simulated::router(Arc::clone(&zendesk));
        TaskTracker::new().spawn(crm_simulator::serve(listener, router, shutdown.clone()));
        Self { zendesk, endpoint, seconds, shutdown }
    }

    fn client(&self, share_percent: u32) -> ZendeskClient {
        let organization = Organization { provider: Provider::Zendesk, name: "acme".to_owned() };
        let token = AccessToken::bearer(Provider::Zendesk, simulated::DEFAULT_BEARER_TOKEN.into());
        let target = ClientTarget {
            is_trial: false,
            is_first_copy: false,
            is_beside: false,
            organization: &organization,
            options: Options::default(),
            access: CrmAccess::with(token),
        };
        let http = http::build(&self.endpoint, Duration::from_secs(10)).unwrap();
        let quota = RequestQuota::new(Arc::default(), share_percent);
        let streams = &crate::crm::StreamSettings::default();
        ZendeskClient::new(ClientParts { http, endpoint: &self.endpoint, target, quota, bulk_above: 0, streams })
            .unwrap()
    }

    /// A user with a number of its own, and a second one.
    fn user(&self, n: usize) -> i64 {
        let user =
            json!({"name": format!("U{n}"), "phone": format!("+1310555{n:04}"), "email": format!("u{n}@example.com")});
        let id = self.zendesk.create_user(&user).unwrap();
        let second = json!({"type": "phone_number", "value": format!("+1415555{n:04}")});
        self.zendesk.add_identity(id, &second).unwrap();
        id
    }

    async fn look_up(&self, ids: &[i64]) -> RecordSightings {
        self.client(100).look_up(&keys(ids)).await.unwrap()
    }

    fn asked(&self, part: &str) -> u64 {
        self.zendesk.requests().count_of(part)
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn keys(ids: &[i64]) -> Vec<RecordKey> {
    ids.iter().map(|id| RecordKey { object_type: ObjectType::User, record_id: id.to_string() }).collect()
}

fn has_both_numbers(record: &Record) -> bool {
    !record.is_gone && record.numbers.len() == 2
}

/// A hundred users and all their numbers cost one request.
#[tokio::test]
async fn hundred_users_with_identities_cost_one_request() {
    let desk = HelpDesk::start_with(|_| {}).await;
    let ids: Vec<i64> = (0..100).map(|n| desk.user(n)).collect();

    let sightings = desk.look_up(&ids).await;

    assert!(sightings.records.len() == 100 && sightings.records.iter().all(has_both_numbers));
    assert!(sightings.records.iter().all(|record| record.answered_at == Some(at(START))));
    assert_eq!(desk.zendesk.requests().total, 1);
}

/// Where an answer has no identities, each user is asked for its own; where some lack, those.
#[tokio::test]
async fn identities_missing_from_answer_are_asked_for_alone() {
    let desk = HelpDesk::start_with(|config| config.quirks.sideloads_of_many = false).await;
    let ids: Vec<i64> = (0..3).map(|n| desk.user(n)).collect();

    let sightings = desk.look_up(&ids).await;

    assert!(sightings.records.len() == 3 && sightings.records.iter().all(has_both_numbers));
    assert_eq!((desk.asked(SHOW_MANY), desk.asked(IDENTITIES)), (1, 3));

    let desk = HelpDesk::start_with(|_| {}).await;
    let ids: Vec<i64> = (0..3).map(|n| desk.user(n)).collect();
    // Three identities each, in the order of the users; the last user's are cut off.
    let cut = ["/identities/8", "/identities/7", "/identities/6"].map(str::to_owned).to_vec();
    let cut = Fault::Patch { set: [].into(), remove: cut };
    desk.zendesk.faults().add(FaultRule::once(SHOW_MANY, cut)).unwrap();

    let sightings = desk.look_up(&ids).await;

    assert!(sightings.records.len() == 3 && sightings.records.iter().all(has_both_numbers));
    assert_eq!((desk.asked(SHOW_MANY), desk.asked(IDENTITIES)), (1, 1));
}

/// A deleted user says since when; of one deleted for good the answer's time tells.
#[tokio::test]
async fn gone_users_come_with_when_zendesk_said_so() {
    let desk = HelpDesk::start_with(|_| {}).await;
    let ids = [desk.user(1), desk.user(2), desk.user(3)];
    desk.seconds.fetch_add(60, Ordering::SeqCst);
    desk.zendesk.delete_user(ids[0]).unwrap();
    desk.zendesk.delete_user(ids[1]).unwrap();
    desk.zendesk.purge_user(ids[1]).unwrap();
    desk.seconds.fetch_add(60, Ordering::SeqCst);

    let sightings = desk.look_up(&ids).await;

    let [deleted, live] = sightings.records.as_slice() else { panic!("{sightings:?}") };
    assert!(deleted.is_gone && has_both_numbers(live));
    assert_eq!((deleted.updated_at, deleted.answered_at), (at(START + 60), Some(at(START + 120))));
    let [absent] = sightings.gone.as_slice() else { panic!("{sightings:?}") };
    assert_eq!((&absent.key, absent.seen_at), (&keys(&ids)[1], Some(at(START + 120))));
}

/// One whom a list of several leaves out is taken in as it is when asked for alone.
#[tokio::test]
async fn user_left_out_of_list_is_seen_alone() {
    let desk = HelpDesk::start_with(|_| {}).await;
    let ids = [desk.user(1), desk.user(2)];
    desk.zendesk.delete_user(ids[1]).unwrap();
    let left_out = Fault::Patch { set: [].into(), remove: vec!["/users/1".to_owned(), "/users/0".to_owned()] };
    desk.zendesk.faults().add(FaultRule::once(SHOW_MANY, left_out)).unwrap();

    let sightings = desk.look_up(&ids).await;

    let [live, deleted] = sightings.records.as_slice() else { panic!("{sightings:?}") };
    assert!(has_both_numbers(live) && deleted.is_gone && sightings.gone.is_empty());
}

/// Look-ups keep to the share of the account's limit; exports have a limit of their own.
#[tokio::test]
async fn look_ups_keep_to_share_of_accounts_limit() {
    let desk = HelpDesk::start_with(|config| config.limits.account_per_minute = Some(10)).await;
    let (client, one) = (desk.client(50), keys(&[desk.user(1)]));

    for _ in 0..5 {
        client.look_up(&one).await.unwrap();
    }

    assert!(matches!(client.look_up(&one).await, Err(CrmError::Paced { .. })));
    assert_eq!(desk.zendesk.requests().total, 5);
    client.fetch_page(None, PageEffort::Whole).await.unwrap();
}

/// The end of a number is searched for, and who is deleted is not found.
#[tokio::test]
async fn search_finds_living_by_end_of_number() {
    let desk = HelpDesk::start_with(|_| {}).await;
    let (one, gone) = (desk.user(100), desk.user(1_100));
    desk.user(101);
    desk.zendesk.delete_user(gone).unwrap();
    let key = phone_key::PhoneKey::try_from_i64(13_105_550_100).unwrap();

    let found = desk.client(100).find_by_number(key).await.unwrap();

    assert_eq!(found.shown.iter().map(|user| &user.key).collect::<Vec<_>>(), keys(&[one]).iter().collect::<Vec<_>>());
    assert!(found.named.is_empty(), "{:?}", found.named);
    assert_eq!(desk.zendesk.requests().total, 1);
}

/// Whose identities a search does not show may have other numbers.
#[tokio::test]
async fn search_only_names_whom_it_shows_without_identities() {
    let desk = HelpDesk::start_with(|config| config.quirks.sideloads_of_search = false).await;
    let one = desk.user(100);
    let key = phone_key::PhoneKey::try_from_i64(13_105_550_100).unwrap();

    let found = desk.client(100).find_by_number(key).await.unwrap();

    assert_eq!((found.shown.len(), found.named), (0, keys(&[one])));
}

/// What answers about webhooks say of the account's limit holds for every request.
#[tokio::test]
async fn answers_about_webhooks_tell_the_limit() {
    let desk = HelpDesk::start_with(|config| config.limits.account_per_minute = Some(10)).await;
    let client = desk.client(50);

    let mut asked = 0;
    let paced = loop {
        match client.remove_hook("none", None).await {
            Ok(()) => asked += 1,
            Err(error) => break error,
        }
    };

    assert!(matches!(paced, CrmError::Paced { .. }), "{paced}");
    assert!((4..=6).contains(&asked), "half of ten, and not {asked}");
}
