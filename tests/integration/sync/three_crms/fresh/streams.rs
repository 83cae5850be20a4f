//! Salesforce's streams in a history: events are held until a step lets them go, and whoever
//! follows dies within a write or loses the lease.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crm_simulator::push::DeliveryPlan;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

use super::{super::crm::SalesforceCrm, PushingCrm};
use crate::support::{TestApp, Worlds, db::TestDb, streams::FollowingProcess, sync::eventually};

/// Of this database alone: all have tables of the same numbers.
const WAITING: &str = "select count(*) from pg_locks where not granted and relation = 'hints'::regclass
    and database = (select oid from pg_database where datname = current_database())";

/// Who follows: the last one, and those who were before.
pub struct FollowedStreams(Vec<FollowingProcess>);

impl FollowedStreams {
    /// Both kinds, with what that begins with out of the way.
    pub async fn open(test: &TestApp) -> Self {
        let process = FollowingProcess::new(test);
        process.open(test, 2).await;
        eventually("both streams to be shown", async || {
            let placed = "select count(*) from push_streams where places ? 'Contact' and places ? 'Lead'";
            let active = "select count(*) from push_channels where state = 'ACTIVE'";
            test.db.number(placed).await == 1 && test.db.number(active).await == 1
        })
        .await;
        test.db.execute("delete from hints").await;
        Self(vec![process])
    }

    /// The process of a follower ends while what came is written: no hint can be, and so it stands
    /// within or before that transaction, whose connection ends with it.
    pub async fn crash_at_write(&mut self, test: &TestApp) {
        let mut lock = test.db.pool.begin().await.unwrap();
        sqlx::raw_sql("lock table hints in share mode").execute(&mut *lock).await.unwrap();
        test.salesforce.eventbus().deliver_due();
        eventually("one to stand before its write", async || {
            test.db.number(WAITING).await > 0 || is_all_read(test).await
        })
        .await;
        for process in &self.0 {
            process.die();
        }
        let end = WAITING.replace("count(*)", "pg_terminate_backend(pid)");
        eventually("the end of its connections", async || {
            sqlx::raw_sql(sqlx::AssertSqlSafe(end.as_str())).execute(&test.db.pool).await.unwrap();
            test.db.number("select count(*) from push_streams where lease_until is null").await == 1
        })
        .await;
        lock.rollback().await.unwrap();
        self.0.clear();
        self.go_on(test).await;
    }

    /// Another takes the lease of one that goes on until it sees that.
    pub async fn steal(&mut self, test: &TestApp) {
        test.db.execute("update push_streams set lease_number = lease_number + 1, lease_until = null").await;
        self.go_on(test).await;
    }

    async fn go_on(&mut self, test: &TestApp) {
        let process = FollowingProcess::new(test);
        assert_eq!(process.take().await, 1);
        self.0.push(process);
        all_read(test).await;
    }
}

/// Whether all that was let go is stored.
async fn is_all_read(test: &TestApp) -> bool {
    let sql = "select coalesce(places->>'Contact', ''), coalesce(places->>'Lead', '') from push_streams";
    let (contact, lead): (String, String) = sqlx::query_as(sql).fetch_one(&test.db.pool).await.unwrap();
    [("Contact", contact), ("Lead", lead)]
        .into_iter()
        .all(|(object, place)| test.salesforce.eventbus().is_read(object, &STANDARD.decode(place).unwrap()).unwrap())
}

async fn all_read(test: &TestApp) {
    eventually("what was let go to be stored", async || is_all_read(test).await).await;
}

impl PushingCrm for SalesforceCrm {
    const PUSHES_SHARED_NUMBERS: bool = true;
    const RUN_PAGES: &'static str = "BY+SystemModstamp%2C";
    const STREAMS: bool = true;
    const SHOWS_LATE_MS: u32 = 5_000;

    async fn start(world: Worlds) -> TestApp {
        TestApp::with_streams_on(TestDb::create().await, world, |_| {}).await
    }

    fn plan_deliveries(test: &TestApp, plan: DeliveryPlan) {
        test.salesforce.eventbus().change_plan(|bus| {
            (bus.loss, bus.duplicates, bus.held_ms) = (plan.loss, plan.duplicates, Some(plan.delay_ms));
        });
    }

    async fn deliver(test: &TestApp) {
        test.salesforce.eventbus().deliver_due();
        all_read(test).await;
    }

    fn do_something_pushed(test: &TestApp, dice: &mut StdRng, records: &[String], phone: &str) {
        let salesforce = &test.salesforce;
        let name = format!("Lead {}", dice.random_range(0..100));
        let (id, other) = (records.choose(dice), records.choose(dice));
        match (dice.random_range(0..4), id, other) {
            (0, Some(lead), _) => drop(salesforce.convert_lead(lead, None)),
            (1, Some(lead), Some(contact)) => drop(salesforce.convert_lead(lead, Some(contact))),
            _ => drop(salesforce.create("Lead", &json!({"LastName": name, "Company": "Acme", "Phone": phone}))),
        }
    }
}
