//! One history: its steps, and what is looked at after each.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::{
    gate::{GateAt, RequestGate},
    push::DeliveryPlan,
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{PushingCrm, streams::FollowedStreams, versions::TrueVersions};
use crate::{
    support::hints::drain_beside,
    support::sync::{Beside, ask_trigger, column, eventually, expire_leases},
    support::{TestApp, call, error_of},
    sync::three_crms::behaviours::{assert_is_the_truth, copied_records, link, next_run, next_run_with_deletions},
};

/// Few, so that people share them, and strangers call from them.
const NUMBERS: [&str; 6] =
    ["+13105550101", "+13105550102", "+13105550103", "+13105550104", "+13105550105", "+13105550106"];
/// Rounds of deliveries and looks until everything pushed is known.
const ROUNDS_MAX: u32 = 12;

pub struct FreshHistory {
    test: TestApp,
    dice: StdRng,
    account: String,
    integration: String,
    /// What the CRM has answered, and what is not here yet: a list's pages, and records by id.
    pages: RequestGate,
    look_ups: RequestGate,
    /// Runs and looks under way; two if one has lost its lease.
    tasks: Vec<Beside>,
    /// One of these is a run, or was.
    has_run: bool,
    versions: TrueVersions,
    /// Of a CRM whose events come that way.
    streams: Option<FollowedStreams>,
    changes: u32,
    calls: u32,
    /// Changes that the CRM pushes nothing of happen, too.
    pub is_odd: bool,
}

impl FreshHistory {
    pub async fn begin<C: PushingCrm>(seed: u64, mut dice: StdRng, plan: DeliveryPlan) -> Self {
        let mut worlds = C::worlds();
        let mut world = worlds.swap_remove(usize::try_from(seed).unwrap() % worlds.len());
        world.lag = true;
        let test = C::start(world).await;
        for n in 0..4 {
            C::create(&test, &format!("Founder {n}"), NUMBERS.choose(&mut dice).unwrap());
        }
        test.pass(TimeDelta::minutes(5));
        let account = test.account().await;
        if dice.random_bool(0.33) {
            test.db.execute("update accounts set look_aside_ms = 200").await;
        }
        let integration = link::<C>(&test, &account, C::token()).await;
        assert_eq!(test.sync_due().await, 1);
        let streams = if C::STREAMS { Some(FollowedStreams::open(&test).await) } else { None };
        let shown = test.integration(&account, &integration).await.push.unwrap();
        assert_eq!(shown.state(), pb::PushState::Active, "{:?}", shown.notice);
        C::plan_deliveries(&test, plan);
        let gate = |path: &str| C::faults(&test).gate(path, 0, GateAt::Response).unwrap();
        let (pages, look_ups) = (gate(C::RUN_PAGES), gate(C::LOOK_UPS));
        let mut history = Self {
            test,
            dice,
            account,
            integration,
            pages,
            look_ups,
            tasks: Vec::new(),
            has_run: false,
            versions: TrueVersions::default(),
            streams,
            changes: 0,
            calls: 0,
            is_odd: false,
        };
        history.look::<C>("the beginning").await;
        history
    }

    pub async fn step<C: PushingCrm>(&mut self) {
        let (before, has_run) = (self.checkpoint().await, self.has_run);
        let step = self.dice.random_range(0..if C::STREAMS { 27 } else { 25 });
        let name = match step {
            0..9 => self.change::<C>(),
            9..11 => self.begin_run().await,
            11..15 => self.let_go().await,
            15..18 => {
                C::deliver(&self.test).await;
                "events arrive"
            }
            18..20 => self.begin_look(),
            20..22 => self.call().await,
            22 if self.dice.random_bool(0.5) => self.crash().await,
            22 => self.crash_at_write().await,
            23 => self.steal().await,
            24 => self.look_that_dies::<C>().await,
            25 => self.end_follower(FollowedStreams::crash_at_write).await,
            _ => self.end_follower(FollowedStreams::steal).await,
        };
        self.settle().await;
        self.look::<C>(name).await;
        // Lists alone move it, and runs alone read lists.
        if !has_run && !matches!(name, "a run begins" | "the lease is lost") {
            assert_eq!(self.checkpoint().await, before, "{name} moved the checkpoint");
        }
    }

    /// People change, often in one second, which is all that some CRMs tell of a time.
    fn change<C: PushingCrm>(&mut self) -> &'static str {
        let (test, dice) = (&self.test, &mut self.dice);
        test.pass(TimeDelta::milliseconds(*[0, 0, 500, 7_000].choose(dice).unwrap()));
        let live: Vec<String> = C::truth(test).into_keys().collect();
        let everybody = self.versions.everybody();
        let phone = *NUMBERS.choose(dice).unwrap();
        self.changes += 1;
        let name = format!("Version {}", self.changes);
        let (one, other) = (live.choose(dice), live.choose(dice));
        match dice.random_range(0..if self.is_odd { 15 } else { 13 }) {
            0..2 => drop(C::create(test, &name, phone)),
            2..5 => one.into_iter().for_each(|id| C::rename(test, id, &name)),
            5..7 => {
                let own = format!("+1310556{:04}", self.changes);
                let phone = if C::PUSHES_SHARED_NUMBERS || self.is_odd { phone } else { &own };
                if let Some(id) = one {
                    C::set_phone(test, id, phone);
                }
            }
            7..9 => one.into_iter().for_each(|id| C::delete(test, id)),
            // Perhaps one that is not gone, or two who are one: then nothing happens.
            9..11 => drop(everybody.choose(dice).is_some_and(|id| C::can_restore(test, id))),
            11 => C::do_something_pushed(test, dice, &everybody, phone),
            12 => drop(one.zip(other).is_some_and(|(loser, winner)| C::can_merge(test, loser, winner))),
            _ => C::do_something_odd(test, dice, &everybody, phone),
        }
        "a change"
    }

    /// One that stands at its first page; none beside another.
    async fn begin_run(&mut self) -> &'static str {
        if !self.tasks.is_empty() {
            return "nothing";
        }
        let kind = if self.dice.random_bool(0.5) { pb::SyncKind::Sweep } else { pb::SyncKind::Incremental };
        let wish = |request: &mut pb::TriggerSyncRequest| request.set_kind(kind);
        ask_trigger(&self.test, &self.account, &self.integration, wish).await.unwrap();
        self.tasks.push(Beside::start(&self.test.app));
        self.has_run = true;
        "a run begins"
    }

    /// Of hints that are due, where no run is under way.
    fn begin_look(&mut self) -> &'static str {
        if !self.tasks.is_empty() {
            return "nothing";
        }
        self.tasks.push(drain_beside(&self.test.app));
        "a look begins"
    }

    /// One of those who stand at a gate goes on, up to the next.
    async fn let_go(&mut self) -> &'static str {
        let (pages, look_ups) = (self.pages.count().held, self.look_ups.count().held);
        if pages + look_ups == 0 {
            return "nothing";
        }
        let is_page = self.dice.random_range(0..pages + look_ups) < pages;
        let gate = if is_page { &self.pages } else { &self.look_ups };
        let before = gate.count();
        gate.release_one();
        let has_left = || gate.count().held < before.held || gate.count().arrived > before.arrived;
        eventually("one to leave the gate", async || has_left()).await;
        if is_page { "a page arrives" } else { "an answer arrives" }
    }

    /// The process of a run or look ends between two instructions.
    async fn crash(&mut self) -> &'static str {
        if self.tasks.is_empty() {
            return "nothing";
        }
        for task in self.tasks.drain(..) {
            task.dies().await;
        }
        self.pages.deserted().await;
        self.look_ups.deserted().await;
        expire_leases(&self.test).await;
        "a crash"
    }

    /// The same while what came is written: no write of records can go on, and so the process
    /// stands within or before that transaction, which ends with its connection.
    async fn crash_at_write(&mut self) -> &'static str {
        if self.tasks.len() != 1 {
            return "nothing";
        }
        let mut lock = self.test.db.pool.begin().await.unwrap();
        sqlx::raw_sql("lock table external_refs in share mode").execute(&mut *lock).await.unwrap();
        self.let_go().await;
        let waiting = "select count(*) from pg_locks where not granted and relation = 'external_refs'::regclass
            and database = (select oid from pg_database where datname = current_database())";
        let (pages, look_ups, task, db) = (&self.pages, &self.look_ups, &self.tasks[0], &self.test.db);
        eventually("one to stand before its write", async || {
            task.has_ended() || pages.count().held + look_ups.count().held > 0 || db.number(waiting).await > 0
        })
        .await;
        let is_over = self.tasks[0].has_ended();
        if is_over {
            lock.rollback().await.unwrap();
            return "a crash at a write";
        }
        for task in self.tasks.drain(..) {
            task.dies().await;
        }
        // Of this database alone: all have tables of the same numbers.
        let end = waiting.replace("count(*)", "count(pg_terminate_backend(pid))");
        eventually("the end of its connection", async || db.number(&end).await == 0).await;
        lock.rollback().await.unwrap();
        self.pages.deserted().await;
        self.look_ups.deserted().await;
        expire_leases(&self.test).await;
        "a crash at a write"
    }

    /// A look at what has just arrived dies between the CRM's answer and its write.
    async fn look_that_dies<C: PushingCrm>(&mut self) -> &'static str {
        C::deliver(&self.test).await;
        self.begin_look();
        self.settle().await;
        self.crash_at_write().await;
        "a look that dies"
    }

    /// Another takes the lease of one that stands still.
    async fn steal(&mut self) -> &'static str {
        if self.tasks.len() != 1 {
            return "nothing";
        }
        expire_leases(&self.test).await;
        self.tasks.push(Beside::start(&self.test.app));
        self.has_run = true;
        "the lease is lost"
    }

    /// Whoever follows the CRM's stream does so no more, and another goes on.
    async fn end_follower(&mut self, how: impl AsyncFn(&mut FollowedStreams, &TestApp)) -> &'static str {
        if let Some(streams) = &mut self.streams {
            how(streams, &self.test).await;
        }
        "the end of a stream's follower"
    }

    /// In some accounts an unknown caller's call has the CRM asked.
    async fn call(&mut self) -> &'static str {
        self.calls += 1;
        let mut request = call(&self.account, NUMBERS.choose(&mut self.dice).unwrap());
        request.call_id = format!("call-{}", self.calls);
        self.test.match_caller(request).await;
        "a call"
    }

    /// Until each that is under way stands at a gate, or has ended.
    async fn settle(&mut self) {
        let (pages, look_ups, tasks) = (&self.pages, &self.look_ups, &self.tasks);
        let is_settled = || {
            let running = tasks.iter().filter(|task| !task.has_ended()).count();
            pages.count().held + look_ups.count().held >= running as u64
        };
        eventually("everybody to stand still", async || is_settled()).await;
        let (ended, running) = std::mem::take(&mut self.tasks).into_iter().partition(Beside::has_ended);
        self.tasks = running;
        self.has_run &= !self.tasks.is_empty();
        for task in ended {
            task.ended().await;
        }
    }

    async fn checkpoint(&self) -> String {
        column(&self.test, &self.integration, "concat(checkpoint, ' ', known_through)").await
    }

    /// Nobody is held as they never were, or as they were before.
    async fn look<C: PushingCrm>(&mut self, step: &str) {
        self.versions.remember(&C::truth(&self.test));
        let copied = copied_records(&self.test, &self.integration).await;
        if let Some(wrong) = self.versions.find_wrong(&copied) {
            panic!("after {step}: {wrong}");
        }
    }

    /// Everything arrives, and is looked at: no list is read but those that events ask for.
    pub async fn end_by_push<C: PushingCrm>(&mut self, is_all_pushed: bool) {
        self.pages.open();
        self.look_ups.open();
        for task in std::mem::take(&mut self.tasks) {
            task.ended().await;
        }
        let open = "select count(*) from look_asides where asked > answered";
        let held = "select count(*) from integrations where lease_until > clock_timestamp()";
        let db = &self.test.db;
        eventually("the end of looks aside", async || db.number(open).await + db.number(held).await == 0).await;
        C::plan_deliveries(&self.test, DeliveryPlan::default());
        self.test.pass(TimeDelta::milliseconds(C::SHOWS_LATE_MS.into()));
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "hints stay: {:?}", self.hints().await);
            C::deliver(&self.test).await;
            self.go_on_if_paused().await;
            self.test.app.sync_worker.drain_hints().await.unwrap();
            let queued = "select count(*) from sync_runs where state in ('QUEUED', 'RUNNING')";
            if self.test.db.number(queued).await > 0 {
                expire_leases(&self.test).await;
                self.test.sync_due().await;
            }
            if round > 2 && self.hints().await.is_empty() {
                break;
            }
            self.test.pass(TimeDelta::minutes(3));
        }
        self.look::<C>("all that was pushed").await;
        if is_all_pushed {
            assert_is_the_truth::<C>(&self.test, &self.integration).await;
        }
    }

    /// A run that died often enough is taken up no more until somebody says so.
    async fn go_on_if_paused(&self) {
        if column(&self.test, &self.integration, "hold").await == "PAUSED" {
            ask_trigger(&self.test, &self.account, &self.integration, |_| {}).await.unwrap();
        }
    }

    async fn hints(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', object_type, record_id, reason, attempts) from hints";
        sqlx::query_scalar(sql).fetch_all(&self.test.db.pool).await.unwrap()
    }

    /// Polls bring what no event told.
    pub async fn end_by_polls<C: PushingCrm>(mut self) {
        self.go_on_if_paused().await;
        next_run(&self.test).await;
        next_run_with_deletions::<C>(&self.test, &self.account, &self.integration).await;
        let run = self.test.last_run(&self.account, &self.integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
        self.look::<C>("polls").await;
        assert_is_the_truth::<C>(&self.test, &self.integration).await;
        assert!(self.hints().await.is_empty());
    }
}
