//! Who has a call, and what a token with the scope `clicks` alone may do with it: one agent's
//! clicks, and choices in that agent's calls; any other call is as if it were not there.

use contact_sync::rpc::{
    methods::TokenScope,
    pb::{self, MatchOutcome, MatchTier, Provider, caller_service_client::CallerServiceClient},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    support::calls::{LEAD_15, ORG, call_with_id, click_on, id_of, look_only, outbound, refusal, withheld},
    support::db::TestDb,
    support::statements::Statements,
    support::{Client, TestApp, only},
};

const LINE: &str = "+13105550100";
const STRANGER: &str = "+13105550177";
const LOOK_UP: &str = "store::caller_lookup::read_lean";
const BASELINE: &str = include_str!("../../../migrations/20261129000000_baseline.sql");

/// A line of two, and a Salesforce that is only clicked.
struct Desk {
    test: TestApp,
    account: String,
    salesforce: String,
    /// The second of the line's.
    other: String,
}

impl Desk {
    async fn open() -> Self {
        let test = TestApp::start().await;
        test.user("Bryce Love", LINE);
        test.user("His Wife", LINE);
        let (account, _) = test.synced().await;
        let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
        let other = test.look_up(&account, LINE).await.candidates[1].id.clone();
        Self { test, account, salesforce, other }
    }

    /// An agent with a token of their own.
    fn agent_with(&self, agent_id: &str, scopes: &[TokenScope]) -> CallerServiceClient<Client> {
        let token = self.test.token_of(agent_id, &only(&self.account), scopes);
        CallerServiceClient::new(self.test.client_with(&token))
    }

    fn agent(&self, agent_id: &str) -> CallerServiceClient<Client> {
        self.agent_with(agent_id, &[TokenScope::Clicks])
    }

    fn choice(&self, call_id: &str) -> pb::SelectMatchRequest {
        pb::SelectMatchRequest {
            account_id: self.account.clone(),
            call_id: call_id.into(),
            contact_id: self.other.clone(),
            agent_id: String::new(),
        }
    }

    async fn choose(&self, agent_id: &str, call_id: &str) -> Result<pb::Contact, Status> {
        let answer = self.agent(agent_id).select_match(self.choice(call_id)).await?;
        Ok(answer.into_inner().selection.unwrap())
    }

    fn click(&self) -> pb::PreRegisterContactRequest {
        click_on(&self.account, &self.salesforce, "Lead", LEAD_15, LINE)
    }

    async fn dial(&self, call_id: &str, agent_id: &str) -> pb::MatchCallerResponse {
        self.test.dial(&self.account, LINE, call_id, agent_id).await
    }

    async fn ring(&self, number: &str, call_id: &str, agent_id: &str) -> pb::MatchCallerResponse {
        let request =
            pb::MatchCallerRequest { agent_id: agent_id.into(), ..call_with_id(&self.account, number, call_id) };
        self.test.match_caller(request).await
    }

    /// Whose call it is; empty: nobody knows.
    async fn agent_of(&self, call_id: &str) -> String {
        agent_of(&self.test, call_id).await
    }

    /// Exactly what is answered of a call that there is not.
    async fn assert_unknown_to(&self, agent_id: &str, call_id: &str) {
        let unknown = self.choose(agent_id, "never").await.unwrap_err();
        let refused = self.choose(agent_id, call_id).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::NotFound, "CALL_NOT_FOUND".to_owned()));
        assert_eq!((refused.message(), refused.details()), (unknown.message(), unknown.details()));
    }
}

async fn agent_of(test: &TestApp, call_id: &str) -> String {
    sqlx::query_scalar("select coalesce(agent_id, '') from calls where call_id = $1")
        .bind(call_id)
        .fetch_one(&test.db.pool)
        .await
        .unwrap()
}

fn field_of(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().metadata["field"].clone()
}

/// An agent chooses in a call that `MatchCaller` says is theirs, and in no other.
#[tokio::test]
async fn agent_chooses_in_own_calls_alone() {
    let desk = Desk::open().await;
    desk.ring(LINE, "annas", "anna").await;
    desk.ring(LINE, "bobs", "bob").await;
    desk.ring(LINE, "nobodys", "").await;

    let chosen = desk.choose("anna", "annas").await.unwrap();
    desk.assert_unknown_to("anna", "bobs").await;
    desk.assert_unknown_to("anna", "nobodys").await;

    assert_eq!(chosen.id, desk.other);
    assert_eq!(id_of(desk.ring(LINE, "annas", "").await.selection.as_ref()), desk.other);
    assert_eq!(desk.ring(LINE, "bobs", "").await.selection, None);
    assert_eq!(desk.ring(LINE, "nobodys", "").await.selection, None);
    let by: String = sqlx::query_scalar("select selected_by from calls where call_id = 'annas'")
        .fetch_one(&desk.test.db.pool)
        .await
        .unwrap();
    assert_eq!(by, "anna", "the subject stands for an agent that is not said");
    // Also not of another account, whatever the call.
    let elsewhere = desk.test.account().await;
    let request = pb::SelectMatchRequest { account_id: elsewhere, ..desk.choice("annas") };
    assert_eq!(refusal(&desk.agent("anna").select_match(request).await.unwrap_err()).1, "ACCOUNT_NOT_FOUND");
}

/// Agents are told apart byte for byte.
#[tokio::test]
async fn agents_are_told_apart_byte_for_byte() {
    let desk = Desk::open().await;
    for (call_id, agent_id) in [("1", "Zo\u{eb}"), ("2", "Zoe\u{308}"), ("3", "zo\u{eb}"), ("4", "Zo\u{eb} ")] {
        desk.ring(LINE, call_id, agent_id).await;
    }

    desk.choose("Zo\u{eb}", "1").await.unwrap();
    for call_id in ["2", "3", "4"] {
        desk.assert_unknown_to("Zo\u{eb}", call_id).await;
    }
}

/// A call is the agent's whom `MatchCaller` named last; a repeat without an agent takes it from
/// nobody.
#[tokio::test]
async fn call_handed_over_is_the_new_agents() {
    let desk = Desk::open().await;
    let rung = desk.ring(LINE, "call-1", "").await;
    assert_eq!(desk.agent_of("call-1").await, "");

    let answered = desk.ring(LINE, "call-1", "anna").await;
    desk.choose("anna", "call-1").await.unwrap();
    let handed_over = desk.ring(LINE, "call-1", "bob").await;
    let repeated = desk.ring(LINE, "call-1", "").await;

    desk.choose("bob", "call-1").await.unwrap();
    desk.assert_unknown_to("anna", "call-1").await;
    for again in [&answered, &handed_over, &repeated] {
        assert_eq!((again.outcome(), &again.selected), (rung.outcome(), &rung.selected), "the answer stands");
        assert!(!again.degraded);
    }
    // Another number under the id is refused, and hands nothing over.
    let reused = pb::MatchCallerRequest { agent_id: "carl".into(), ..call_with_id(&desk.account, STRANGER, "call-1") };
    desk.test.match_refused(reused).await;
    assert_eq!(desk.agent_of("call-1").await, "bob");
}

/// Whatever came out, the call has its agent.
#[tokio::test]
async fn every_outcome_is_stored_with_its_agent() {
    let desk = Desk::open().await;
    let asked = |number: &str, call_id: &str, agent_id: &str| pb::MatchCallerRequest {
        agent_id: agent_id.into(),
        ..call_with_id(&desk.account, number, call_id)
    };
    for (request, outcome) in [
        (asked(LINE, "shared", "anna"), MatchOutcome::Ambiguous),
        (asked(STRANGER, "new", "anna"), MatchOutcome::Created),
        (look_only(asked("+13105550178", "nobody", "anna")), MatchOutcome::NotFound),
        (withheld(asked("", "hidden", "anna")), MatchOutcome::Withheld),
        (asked("hello", "unread", "anna"), MatchOutcome::Unparseable),
    ] {
        let call_id = request.call_id.clone();
        assert_eq!(desk.test.match_caller(request.clone()).await.outcome(), outcome);
        assert_eq!(desk.agent_of(&call_id).await, "anna", "{call_id}");
        // Asked again, by whoever has it now.
        let again = pb::MatchCallerRequest { agent_id: "bob".into(), ..request.clone() };
        assert_eq!(desk.test.match_caller(again).await.outcome(), outcome);
        assert_eq!(desk.agent_of(&call_id).await, "bob", "{call_id}");
        let unsaid = pb::MatchCallerRequest { agent_id: String::new(), ..request };
        desk.test.match_caller(unsaid).await;
        assert_eq!(desk.agent_of(&call_id).await, "bob", "{call_id}");
    }
}

/// The agent goes along with the answer: no statement more, but for one that is new to a stored
/// call.
#[tokio::test]
async fn agent_costs_statement_only_when_news() {
    let desk = Desk::open().await;
    let statements = Statements::record();

    desk.ring(LINE, "call-1", "anna").await;
    assert_eq!(statements.take(), [LOOK_UP, "store::calls::insert_answer"]);
    desk.ring(LINE, "call-1", "anna").await;
    assert_eq!(statements.take(), [LOOK_UP]);
    desk.ring(LINE, "call-1", "").await;
    assert_eq!(statements.take(), [LOOK_UP]);
    desk.ring(LINE, "call-1", "bob").await;
    assert_eq!(statements.take(), [LOOK_UP, "store::calls::set_agent"]);
    let hidden = |agent_id: &str| {
        let request = call_with_id(&desk.account, "", "hidden");
        withheld(pb::MatchCallerRequest { agent_id: agent_id.into(), ..request })
    };
    for (agent_id, further) in [("anna", 0), ("anna", 0), ("bob", 1)] {
        desk.test.match_caller(hidden(agent_id)).await;
        assert_eq!(statements.take().len(), 2 + further, "{agent_id}");
    }
}

/// An agent's click waits in the agent's name, and the call that takes it is the agent's.
#[tokio::test]
async fn call_that_takes_click_is_clicking_agents() {
    let desk = Desk::open().await;
    let clicked = desk.agent("anna").pre_register_contact(desk.click()).await.unwrap().into_inner();
    let lead = clicked.contact.unwrap().id;
    assert!(clicked.expire_time.is_some());

    let dialled = desk.dial("call-1", "").await;

    assert_eq!((id_of(dialled.selected.as_ref()), dialled.tier()), (lead, MatchTier::Clicked));
    assert_eq!(desk.agent_of("call-1").await, "anna");
    assert_eq!(desk.choose("anna", "call-1").await.unwrap().id, desk.other);
    desk.assert_unknown_to("bob", "call-1").await;
}

/// The router's word counts more than the click; a click that no call took makes no call anybody's.
#[tokio::test]
async fn routers_agent_counts_before_the_clicks() {
    let desk = Desk::open().await;
    let click = async |agent_id: &str, lead: &str| {
        let click = pb::PreRegisterContactRequest { record_id: lead.into(), ..desk.click() };
        desk.agent(agent_id).pre_register_contact(click).await.unwrap();
    };
    click("bob", "00QD00000000001").await;

    let carls = desk.dial("carls", "carl").await;
    assert_eq!(carls.tier(), MatchTier::Clicked, "he takes the newest of any");
    assert_eq!(desk.agent_of("carls").await, "carl");

    click("anna", "00QD00000000002").await;
    click("bob", "00QD00000000003").await;
    let unsaid = desk.dial("unsaid", "").await;
    assert_eq!((unsaid.outcome(), unsaid.tier()), (MatchOutcome::Ambiguous, MatchTier::Clicked));
    assert_eq!(desk.agent_of("unsaid").await, "", "it took neither click");
    desk.assert_unknown_to("anna", "unsaid").await;

    // Clicks that have waited too long are nobody's call.
    desk.test.minutes(6);
    click("anna", "00QD00000000002").await;
    desk.test.minutes(5);
    desk.dial("late", "").await;
    assert_eq!(desk.agent_of("late").await, "");
}

/// Of another agent neither click nor choice is taken, and nothing is stored.
#[tokio::test]
async fn no_click_or_choice_in_another_agents_name() {
    let desk = Desk::open().await;
    desk.ring(LINE, "annas", "anna").await;
    let mut anna = desk.agent("anna");

    for other in ["bob", "Anna", "anna "] {
        let click = pb::PreRegisterContactRequest { agent_id: other.into(), ..desk.click() };
        let choice = pb::SelectMatchRequest { agent_id: other.into(), ..desk.choice("annas") };
        for refused in
            [anna.pre_register_contact(click).await.unwrap_err(), anna.select_match(choice).await.unwrap_err()]
        {
            assert_eq!(refusal(&refused), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));
            assert_eq!(field_of(&refused), "agent_id");
            assert!(!refused.message().contains("anna"), "{}", refused.message());
        }
    }
    assert_eq!(desk.test.rows(&desk.account, "expected_calls").await, 0);
    assert_eq!(desk.test.rows(&desk.account, "external_refs").await, 2);
    assert_eq!(desk.ring(LINE, "annas", "").await.selection, None);
    // In their own name, said or not.
    for own in ["", "anna"] {
        let click = pb::PreRegisterContactRequest { agent_id: own.into(), ..desk.click() };
        anna.pre_register_contact(click).await.unwrap();
        let choice = pb::SelectMatchRequest { agent_id: own.into(), ..desk.choice("annas") };
        anna.select_match(choice).await.unwrap();
    }
    let clicks = "select count(*) from expected_calls where agent_id = 'anna'";
    assert_eq!(desk.test.db.number(clicks).await, 2);
}

/// A report makes a placeholder the record's for good, so that an agent's token takes none.
#[tokio::test]
async fn no_report_with_clicks_alone() {
    let desk = Desk::open().await;
    let rung = desk.ring(STRANGER, "annas", "anna").await;
    let report = pb::PreRegisterContactRequest {
        contact_id: id_of(rung.selected.as_ref()),
        call_id: "annas".into(),
        phone_number: STRANGER.into(),
        ..desk.click()
    };

    let refused = desk.agent("anna").pre_register_contact(report.clone()).await.unwrap_err();

    assert_eq!(refusal(&refused), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));
    assert_eq!(field_of(&refused), "contact_id");
    assert_eq!(desk.test.rows(&desk.account, "external_refs").await, 2);
    // Whoever reports for the automation does.
    let mut automation = desk.agent_with("anna", &[TokenScope::Calls]);
    let reported = automation.pre_register_contact(report.clone()).await.unwrap().into_inner();
    assert_eq!(reported.contact.unwrap().id, report.contact_id);
}

/// A click that names a call binds it, so that it must be the agent's, too.
#[tokio::test]
async fn click_binds_own_calls_alone() {
    let desk = Desk::open().await;
    desk.ring(LINE, "annas", "anna").await;
    desk.ring(LINE, "bobs", "bob").await;
    let bound = |call_id: &str| pb::PreRegisterContactRequest { call_id: call_id.into(), ..desk.click() };
    let mut anna = desk.agent("anna");

    let unknown = anna.pre_register_contact(bound("never")).await.unwrap_err();
    let foreign = anna.pre_register_contact(bound("bobs")).await.unwrap_err();

    assert_eq!(refusal(&foreign), (Code::NotFound, "CALL_NOT_FOUND".to_owned()));
    assert_eq!((foreign.message(), foreign.details()), (unknown.message(), unknown.details()));
    assert_eq!(desk.test.rows(&desk.account, "external_refs").await, 2, "the record is not registered either");
    assert_eq!(desk.test.rows(&desk.account, "calls").await, 2);
    assert_eq!(desk.ring(LINE, "bobs", "").await.selection, None);
    let lead = anna.pre_register_contact(bound("annas")).await.unwrap().into_inner().contact.unwrap().id;
    assert_eq!(id_of(desk.ring(LINE, "annas", "").await.selection.as_ref()), lead);
}

/// A call that a click has made known by its id is whoever's clicked; one that was known is not.
#[tokio::test]
async fn click_with_call_id_makes_new_calls_agent_known() {
    let desk = Desk::open().await;
    desk.ring(LINE, "known", "").await;
    let clicked = |call_id: &str| pb::PreRegisterContactRequest {
        call_id: call_id.into(),
        agent_id: "anna".into(),
        ..desk.click()
    };

    desk.test.click(clicked("new")).await;
    desk.test.click(clicked("known")).await;

    assert_eq!(desk.agent_of("new").await, "anna");
    assert_eq!(desk.agent_of("known").await, "");
    desk.dial("new", "").await;
    assert_eq!(desk.agent_of("new").await, "anna");
    desk.dial("new", "bob").await;
    assert_eq!(desk.agent_of("new").await, "bob");
}

/// A token that has `calls`, too, is bound to nobody's calls.
#[tokio::test]
async fn calls_beside_clicks_is_bound_to_nobody() {
    let desk = Desk::open().await;
    desk.ring(LINE, "bobs", "bob").await;
    let mut both = desk.agent_with("anna", &[TokenScope::Clicks, TokenScope::Calls]);

    both.select_match(desk.choice("bobs")).await.unwrap();
    let click = pb::PreRegisterContactRequest { agent_id: "bob".into(), call_id: "never".into(), ..desk.click() };
    both.pre_register_contact(click).await.unwrap();

    assert_eq!(desk.agent_of("never").await, "bob");
}

/// On a database that can only be read a repeat is answered, and says that the new agent is not
/// stored.
#[tokio::test]
async fn read_only_repeat_is_answered_without_new_agent() {
    let desk = Desk::open().await;
    desk.ring(LINE, "call-1", "anna").await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&desk.test.db.pool).await.unwrap();
    desk.test.db.execute(&format!("alter database {name} set default_transaction_read_only = on")).await;
    // Its sessions are new, and can only read.
    let standby = desk.test.replica(|_| {}).await;
    let ask = async |agent_id: &str| {
        let request =
            pb::MatchCallerRequest { agent_id: agent_id.into(), ..call_with_id(&desk.account, LINE, "call-1") };
        standby.match_caller(request).await
    };

    let (same, other) = (ask("anna").await, ask("bob").await);

    assert!(!same.degraded && other.degraded);
    assert_eq!(other.selected, same.selected);
    assert_eq!(desk.agent_of("call-1").await, "anna");
}

/// Racing repeats of a call that agents hand over end with one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_hand_overs_end_with_one_agent() {
    let desk = Desk::open().await;
    let names: Vec<String> = (0..8).map(|n| format!("agent-{n}")).collect();
    let calls = names.iter().map(|name| {
        let request = outbound(&desk.account, LINE, "call-1", name);
        desk.test.match_caller(request)
    });

    let answers = futures_util::future::join_all(calls).await;

    assert!(answers.iter().all(|answer| answer.selected == answers[0].selected));
    let last = desk.agent_of("call-1").await;
    assert!(names.contains(&last), "{last}");
    desk.choose(&last, "call-1").await.unwrap();
    for other in names.iter().filter(|name| **name != last) {
        desk.assert_unknown_to(other, "call-1").await;
    }
}

/// An erased caller's calls go with their agents.
#[tokio::test]
async fn erasure_removes_calls_with_their_agents() {
    let desk = Desk::open().await;
    let stranger = id_of(desk.ring(STRANGER, "call-1", "anna").await.selected.as_ref());

    let erase = pb::EraseContactRequest { account_id: desk.account.clone(), contact_id: stranger };
    desk.test.contacts().erase_contact(erase).await.unwrap();

    assert_eq!(desk.test.rows(&desk.account, "calls").await, 0);
    desk.assert_unknown_to("anna", "call-1").await;
}

/// The database as the baseline made it, with what the migrator then kept of it.
async fn at_baseline() -> TestDb {
    let db = TestDb::create().await;
    db.execute("create schema aside; create table aside.applied as table _sqlx_migrations").await;
    db.execute("drop schema public cascade; create schema public").await;
    db.execute(BASELINE).await;
    db.execute(
        "create table _sqlx_migrations (version bigint primary key, description text not null,
            installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
            execution_time bigint not null);
        insert into _sqlx_migrations select * from aside.applied order by version limit 1;
        drop schema aside cascade",
    )
    .await;
    db
}

/// A call from before the column is nobody's, until `MatchCaller` names an agent.
#[tokio::test]
async fn migrated_calls_are_nobodys_until_named() {
    let db = at_baseline().await;
    let account = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
    let contact = "01a202d2-bde0-7000-8000-000000000001";
    db.execute(&format!(
        "insert into accounts (account_id, display_name, default_region, further_regions, match_policy, created_at, updated_at)
        values ('{account}', 'Test', 'US', '{{}}', 'FIRST_CREATED', now(), now());
        insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        values ('{account}', '{contact}', '{STRANGER}', '', '{{}}', true, now(), now());
        insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164,
            key_version, extension, label, is_placeholder, contact_created_at)
        select '{account}', '{contact}', '00000000-0000-0000-0000-000000000000', '', '', 0, '{STRANGER}', '', 13105550177,
            1, '', '', true, created_at
        from contacts;
        insert into calls (account_id, call_id, e164, direction, outcome, contact_id, tier, selected_by, created_at, updated_at)
        values ('{account}', 'old', 13105550177, 'INBOUND', 'MATCHED', '{contact}', 'EXACT', 'anna', now(), now())"
    ))
    .await;

    contact_sync::store::schema::ProgramSchema::own().migrate(db.url()).await.unwrap();
    let test = TestApp::start_on(db, |_| {}).await;
    let token = test.token_of("anna", &only(account), &[TokenScope::Clicks]);
    let mut anna = CallerServiceClient::new(test.client_with(&token));
    let choice = pb::SelectMatchRequest {
        account_id: account.into(),
        call_id: "old".into(),
        contact_id: contact.into(),
        ..Default::default()
    };

    assert_eq!(agent_of(&test, "old").await, "");
    assert_eq!(refusal(&anna.select_match(choice.clone()).await.unwrap_err()).1, "CALL_NOT_FOUND");
    let named = pb::MatchCallerRequest { agent_id: "anna".into(), ..call_with_id(account, STRANGER, "old") };
    assert_eq!(id_of(test.match_caller(named).await.selected.as_ref()), contact);
    anna.select_match(choice).await.unwrap();
}
