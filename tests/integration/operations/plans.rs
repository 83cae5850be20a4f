//! The plans of the call path, for accounts that the statistics have never seen: index scans, and
//! work that does not grow with the account, its neighbours or (beyond its limit) a shared line.
//! Planned and run as the service's sessions do.

use std::fs;

use contact_sync::rpc::pb::Provider;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::{
    support::calls::click_on,
    support::sync::eventually,
    support::{Subject, TestApp, db::TestDb},
};

pub const ACCOUNT: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
const NEIGHBOUR: &str = "8b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
const INTEGRATION: &str = "01a2027b-c0e0-7232-914e-d878c8e1d9fd";
/// One contact has it.
pub const QUIET: i64 = 13_105_555_001;
/// Ten thousand contacts share it.
pub const HOT: i64 = 13_108_675_309;
const CONTACTS: i64 = 20_000;
pub const SHARING: i64 = 10_000;

/// Contacts of one account, each with a ref and a number; the first ones share one number. Columns
/// of the baseline alone: a test fills a database of it.
pub fn load(account: &str, contacts: i64, sharing: i64) -> String {
    let id = |n: &str| format!("(lpad(to_hex({n}), 8, '0') || '-0000-7000-8000-' || right('{account}', 12))::uuid");
    let (contact, n) = (id("n"), "n");
    format!(
        "insert into accounts (account_id, display_name, default_region, further_regions, created_at, updated_at)
        values ('{account}', 'Test', 'US', '{{}}', now(), now());
        insert into integrations (account_id, integration_id, provider, organization, is_enabled, is_sync_on, period_seconds,
            last_completed_at, known_through, created_at, updated_at)
        values ('{account}', '{INTEGRATION}', 'ZENDESK', 'acme', true, true, 1800, now(), now(), now(), now());
        insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        select '{account}', {contact}, 'Person ' || {n}, '', '{{}}', false, now() + {n} * interval '1 second', now()
        from generate_series(1, {contacts}) n;
        insert into external_refs (account_id, integration_id, object_type, record_id, contact_id, is_live, is_synced, record_updated_at,
            role, url, fingerprint, created_at, updated_at)
        select '{account}', '{INTEGRATION}', 'user', {n}::text, {contact}, true, true, now(), 'end-user', '', {n}, now(), now()
        from generate_series(1, {contacts}) n;
        insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164, key_version,
            extension, label, is_placeholder, contact_created_at)
        select '{account}', {contact}, '{INTEGRATION}', 'user', {n}::text, 0, 'raw', 'US',
            case when {n} <= {sharing} then {HOT} else 13105540000 + {n} end, 1, '', 'phone', false, now() + {n} * interval '1 second'
        from generate_series(1, {contacts}) n;
        insert into calls (account_id, call_id, e164, direction, outcome, created_at, updated_at)
        select '{account}', 'call-' || n, {QUIET}, 'INBOUND', 'NOT_FOUND', now(), now() from generate_series(1, {contacts}) n;
        insert into expected_calls (account_id, expected_call_id, e164, contact_id, agent_id, created_at, consumed_at)
        select '{account}', {contact}, {QUIET}, {contact}, 'anna', now() - interval '1 day', now() from generate_series(1, {contacts}) n;"
    )
}

/// Many customers with one CRM each.
fn load_customers(count: i64) -> String {
    format!(
        "insert into accounts (account_id, display_name, default_region, further_regions, created_at, updated_at)
        select ('a' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid, 'Test', 'US', '{{}}', now(), now()
        from generate_series(1, {count}) n;
        insert into integrations (account_id, integration_id, provider, organization, is_enabled, is_sync_on, period_seconds, created_at, updated_at)
        select ('a' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid, '{INTEGRATION}', 'ZENDESK', 'acme', true, true, 1800, now(), now()
        from generate_series(1, {count}) n;"
    )
}

/// A database with a small account that the statistics know, and large ones loaded since.
async fn database() -> TestDb {
    let db = TestDb::create().await;
    for table in ["accounts", "integrations", "contacts", "external_refs", "phone_numbers", "calls", "expected_calls"] {
        db.execute(&format!("alter table {table} set (autovacuum_enabled = false)")).await;
    }
    db.execute(&load_customers(2_000)).await;
    db.execute(&load("9b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f", 1_000, 10)).await;
    db.execute("analyze accounts, integrations, contacts, external_refs, phone_numbers, calls, expected_calls").await;
    db.execute(&load(NEIGHBOUR, CONTACTS, SHARING)).await;
    db.execute(&load(ACCOUNT, CONTACTS, SHARING)).await;
    db
}

/// A session with the settings of the service's own.
pub async fn session(db: &TestDb) -> PgConnection {
    let mut session = PgConnection::connect(db.url()).await.unwrap();
    session.execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    session
}

/// The statement of this name, as it was compiled.
fn statement(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");
    fs::read_dir(folder)
        .unwrap()
        .map(|file| serde_json::from_str::<Value>(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap())
        .map(|json| json["query"].as_str().unwrap().to_owned())
        .find(|query| query.lines().next() == Some(&format!("-- {name}")))
        .unwrap_or_else(|| panic!("no statement is called {name}"))
}

/// What running a statement took.
pub struct Plan {
    /// Each node: type, relation or index.
    pub nodes: Vec<(String, String)>,
    /// 8 KiB pages that were looked at.
    pub buffers: i64,
}

pub async fn explain(session: &mut PgConnection, name: &str, types: &str, values: &str) -> Plan {
    session.execute("deallocate all").await.unwrap();
    prepare(session, "p", name, types).await;
    explain_prepared(session, "p", values).await
}

async fn prepare(session: &mut PgConnection, prepared: &str, name: &str, types: &str) {
    let prepare = format!("prepare {prepared} ({types}) as\n{}", statement(name));
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *session).await.unwrap();
}

async fn explain_prepared(session: &mut PgConnection, prepared: &str, values: &str) -> Plan {
    let mut tx = session.begin().await.unwrap();
    let explain = format!("explain (analyze, buffers, verbose, format json) execute {prepared} ({values})");
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_one(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let json: Value = row.get(0);
    let root = &json[0]["Plan"];
    let mut nodes = Vec::new();
    walk(root, &mut nodes);
    let buffers = ["Shared Hit Blocks", "Shared Read Blocks"].iter().map(|key| root[key].as_i64().unwrap()).sum();
    Plan { nodes, buffers }
}

fn walk(node: &Value, nodes: &mut Vec<(String, String)>) {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let place = [text("Index Name"), text("Relation Name")].into_iter().find(|place| !place.is_empty());
    nodes.push((text("Node Type"), place.unwrap_or_default()));
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, nodes);
    }
}

impl Plan {
    fn assert_is_bounded(&self, what: &str, buffers_max: i64) {
        for (node, place) in &self.nodes {
            assert!(node != "Seq Scan", "{what} reads all of {place}: {:?}", self.nodes);
        }
        assert!(
            self.buffers <= buffers_max,
            "{what} looks at {} pages, at most {buffers_max} were expected: {:?}",
            self.buffers,
            self.nodes
        );
    }

    fn uses(&self, index: &str) -> bool {
        self.nodes.iter().any(|(_, place)| place == index)
    }
}

/// So many numbers of contacts, from this one on.
fn array_of(first: i64, count: i64) -> String {
    let keys: Vec<String> = (first..first + count).map(|n| (13_105_540_000 + n).to_string()).collect();
    format!("'{{{}}}'", keys.join(","))
}

/// The look-up of nearly every call, and its arguments.
pub const LEAN: (&str, &str) = ("store::caller_lookup::read_lean", "uuid, bigint, text");
/// The look-up of the others.
const FULL: (&str, &str) = ("store::caller_lookup::read_full", "uuid, bigint, text, text, uuid, boolean, timestamptz");

/// A look-up reads the numbers' index only, and of a shared line no more than its limit.
#[tokio::test]
async fn look_up_reads_numbers_index_within_limit() {
    let db = database().await;
    let mut session = session(&db).await;

    for (what, account, number, call_id, buffers_max) in [
        ("a known caller", ACCOUNT, QUIET, "'call-1'", 60),
        ("a caller without a call id", ACCOUNT, QUIET, "null", 60),
        ("a stranger", ACCOUNT, 19_995_550_100, "'call-2'", 40),
        // 20 contacts are shown in full, of 201 that are ranked.
        ("a line shared by ten thousand", ACCOUNT, HOT, "'call-3'", 800),
        ("the neighbour's shared line", NEIGHBOUR, HOT, "'call-3'", 800),
    ] {
        let lean = format!("'{account}', {number}, {call_id}");
        let full = |is_outbound| {
            format!(
                "'{account}', {number}, {call_id}, 'FIRST_CREATED', null, {is_outbound}, now() - interval '5 minutes'"
            )
        };
        for ((name, types), values) in [(LEAN, lean), (FULL, full(false)), (FULL, full(true))] {
            let plan = explain(&mut session, name, types, &values).await;
            plan.assert_is_bounded(what, buffers_max);
            assert!(plan.uses("phone_numbers_lookup_idx"), "{what}: {:?}", plan.nodes);
        }
    }
}

/// A policy ranks two hundred of a shared line by index, and no more.
#[tokio::test]
async fn policy_ranks_two_hundred_by_index() {
    let db = database().await;
    let mut session = session(&db).await;

    for (policy, preferred) in [
        ("LAST_SELECTED", "null".to_owned()),
        ("LAST_UPDATED", "null".to_owned()),
        ("PREFERRED_INTEGRATION", format!("'{INTEGRATION}'")),
    ] {
        let values = format!("'{ACCOUNT}', {HOT}, 'call-3', '{policy}', {preferred}, false, now()");
        let plan = explain(&mut session, FULL.0, FULL.1, &values).await;
        plan.assert_is_bounded(policy, 2_500);
        let values = format!("'{ACCOUNT}', {HOT}, 200, '{policy}', {preferred}");
        let types = "uuid, bigint, bigint, text, uuid";
        let plan = explain(&mut session, "store::ranked_contacts::rank_by_number", types, &values).await;
        plan.assert_is_bounded(policy, 2_500);
    }
}

/// The requester rule reads indexes only, and of a shared line no more than its limit.
#[tokio::test]
async fn requester_rule_reads_indexes_within_limit() {
    let db = database().await;
    let mut session = session(&db).await;
    let contact = format!("'{:08x}-0000-7000-8000-{}'", 5, &ACCOUNT[24..]);
    let types = "uuid, uuid, uuid, bigint[], bigint";

    for (what, contact, keys, buffers_max) in [
        ("a contact", contact.as_str(), format!("'{{{QUIET}}}'"), 60),
        ("a bare number", "null", format!("'{{{QUIET}}}'"), 60),
        ("nobody's number", "null", "'{19995550100}'".to_owned(), 40),
        ("a contact with many numbers", contact.as_str(), array_of(10_001, 64), 1_000),
    ] {
        let values = format!("'{ACCOUNT}', '{INTEGRATION}', {contact}, {keys}, 21");
        let plan = explain(&mut session, "store::requester::select_candidates", types, &values).await;
        plan.assert_is_bounded(what, buffers_max);
    }
    // Ten thousand records share the number: 21 of them are enough to say so.
    let values = format!("'{ACCOUNT}', '{INTEGRATION}', null, '{{{HOT}}}', 21");
    let plan = explain(&mut session, "store::requester::select_candidates", types, &values).await;
    plan.assert_is_bounded("a line shared by ten thousand", 2_000);
    let plan =
        explain(&mut session, "store::requester::select_contact", "uuid, uuid", &format!("'{ACCOUNT}', {contact}"))
            .await;
    plan.assert_is_bounded("the contact and its numbers", 60);
}

/// What else the call path runs reads indexes only.
#[tokio::test]
async fn rest_of_call_path_reads_indexes_only() {
    let db = database().await;
    let mut session = session(&db).await;
    let contact = format!("'{:08x}-0000-7000-8000-{}'", 5, &ACCOUNT[24..]);

    for (name, types, values) in [
        ("store::sources::list", "uuid", format!("'{ACCOUNT}'")),
        ("store::contacts::find_all", "uuid, uuid[]", format!("'{ACCOUNT}', array[{contact}::uuid]")),
        (
            "store::calls::insert_answer",
            "uuid, text, bigint, text, text, text, uuid, text, timestamptz, text",
            format!("'{ACCOUNT}', 'call-new', {QUIET}, null, 'INBOUND', 'MATCHED', {contact}, 'EXACT', now(), 'anna'"),
        ),
        ("store::calls::set_agent", "uuid, text, text, timestamptz", format!("'{ACCOUNT}', 'call-7', 'anna', now()")),
        ("store::calls::select_call", "uuid, text", format!("'{ACCOUNT}', 'call-7'")),
        (
            "store::calls::select",
            "uuid, text, uuid, text, timestamptz, boolean",
            format!("'{ACCOUNT}', 'call-7', {contact}, 'anna', now(), true"),
        ),
        ("store::contacts::find_live", "uuid, uuid[]", format!("'{ACCOUNT}', array[{contact}::uuid]")),
        ("store::contacts::find", "uuid, uuid", format!("'{ACCOUNT}', {contact}")),
        ("store::contacts::list", "uuid, uuid, bigint", format!("'{ACCOUNT}', {contact}, 51")),
        (
            "store::contacts::list_by_number",
            "uuid, bigint, boolean, timestamptz, uuid, bigint",
            format!("'{ACCOUNT}', {HOT}, false, now() + interval '50 seconds', {contact}, 51"),
        ),
        ("store::adoption_pairs::has_pair", "uuid, bigint", format!("'{ACCOUNT}', {HOT}")),
        (
            "store::phone_numbers::find_hits",
            "uuid, bigint[], bigint[]",
            format!("'{ACCOUNT}', '{{{HOT},{QUIET},1}}', '{{3108675309,8675309}}'"),
        ),
        (
            "store::requester_decisions::try_record",
            "uuid, text, uuid, uuid, text, text, text, text, uuid, bigint, timestamptz, jsonb",
            format!(
                "'{ACCOUNT}', 'call-7', '{INTEGRATION}', {contact}, 'NONE', null, null, null, {contact}, {QUIET}, now(), '{{}}'"
            ),
        ),
        ("store::changes::list", "uuid, bigint, bigint", format!("'{ACCOUNT}', 5, 51")),
        (
            "store::expected_calls::consume",
            "uuid, text, bigint, timestamptz, text, timestamptz",
            format!("'{ACCOUNT}', 'call-new', {QUIET}, now() - interval '2 days', 'anna', now()"),
        ),
    ] {
        let plan = explain(&mut session, name, types, &values).await;
        // A page of 51 contacts, each with its numbers and records.
        plan.assert_is_bounded(name, 1_500);
    }
}

/// A look-up that is planned on empty tables reads indexes only, when they have filled.
#[tokio::test]
async fn look_up_planned_on_empty_tables_stays_indexed() {
    let db = TestDb::create().await;
    for table in ["integrations", "contacts", "external_refs", "phone_numbers", "calls", "expected_calls"] {
        db.execute(&format!("alter table {table} set (autovacuum_enabled = false)")).await;
    }
    let mut session = session(&db).await;
    session.execute("set enable_seqscan = off").await.unwrap();
    let lean = |number| format!("'{ACCOUNT}', {number}, 'call-7'");
    let full = |number, policy| format!("{}, '{policy}', null, true, now() - interval '5 minutes'", lean(number));
    prepare(&mut session, "lean", LEAN.0, LEAN.1).await;
    prepare(&mut session, "whole", FULL.0, FULL.1).await;
    explain_prepared(&mut session, "lean", &lean(QUIET)).await;
    explain_prepared(&mut session, "whole", &full(QUIET, "LAST_SELECTED")).await;

    db.execute(&load_customers(2_000)).await;
    db.execute(&load(NEIGHBOUR, CONTACTS, SHARING)).await;
    db.execute(&load(ACCOUNT, CONTACTS, SHARING)).await;
    db.execute(&format!(
        "insert into selections (account_id, e164, contact_id, selected_at)
        select '{ACCOUNT}', e164, contact_id, now() from phone_numbers where account_id = '{ACCOUNT}' and record_id in ('5', '15001')"
    ))
    .await;

    for (what, number, lean_max, full_max) in
        [("a known caller", QUIET, 60, 60), ("nobody", 19_995_550_100, 40, 40), ("a shared line", HOT, 500, 2_500)]
    {
        explain_prepared(&mut session, "lean", &lean(number)).await.assert_is_bounded(what, lean_max);
        for policy in ["LAST_SELECTED", "LAST_UPDATED"] {
            let plan = explain_prepared(&mut session, "whole", &full(number, policy)).await;
            plan.assert_is_bounded(&format!("{what}, {policy}"), full_max);
        }
    }
}

#[tokio::test]
async fn adopting_strangers_among_many_numbers_reads_indexes_only() {
    let db = database().await;
    db.execute(&format!(
        "insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        select '{ACCOUNT}', ('f' || lpad(to_hex(n), 7, '0') || '-0000-7000-8000-000000000000')::uuid, '', '', '{{}}', true, now(), now()
        from generate_series(1, 20000) n;
        insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164, key_version,
            extension, label, is_placeholder, contact_created_at)
        select '{ACCOUNT}', ('f' || lpad(to_hex(n), 7, '0') || '-0000-7000-8000-000000000000')::uuid,
            '00000000-0000-0000-0000-000000000000', '', '', 0, '', '', 14105550000 + n, 1, '', '', true, now()
        from generate_series(1, 20000) n;"
    ))
    .await;
    let mut session = session(&db).await;

    // A page of a thousand records, none of whose numbers belongs to a stranger.
    let keys = array_of(10_001, 1_000);
    let plan =
        explain(&mut session, "store::adoption_pairs::find_pairs", "uuid, bigint[]", &format!("'{ACCOUNT}', {keys}"))
            .await;

    plan.assert_is_bounded("the strangers of a page", 6_000);
}

/// Plans that are made while the database was empty serve when it has filled.
#[tokio::test]
async fn plans_of_empty_database_serve_when_filled() {
    let test = TestApp::start_with(|config| {
        config.pools.call.connections = 1;
        config.pools.api.connections = 1;
    })
    .await;
    for table in ["accounts", "integrations", "contacts", "external_refs", "phone_numbers", "calls", "expected_calls"] {
        test.db.execute(&format!("alter table {table} set (autovacuum_enabled = false)")).await;
    }
    // The first customer's first calls: every statement is planned, and a session keeps its plans.
    let account = test.account().await;
    let integration = test.enable_off(&account, Provider::Zendesk, "acme").await;
    let exercise = async |account: &str, integration: &str, round: usize| {
        for (n, number) in [format!("+{QUIET}"), format!("+{HOT}"), format!("+1999555{round:04}")].iter().enumerate() {
            let call_id = format!("round-{round}-{n}");
            let record = format!("9{round:03}{n:03}");
            test.click(click_on(account, integration, "user", &record, number)).await;
            test.ask(account, number, &format!("inbound-{round}-{n}")).await;
            let known = test.dial(account, number, &call_id, "anna").await;
            test.select(account, &call_id, &known.selected.unwrap().id).await;
            test.resolve_call(account, integration, &call_id).await;
            test.resolve(account, integration, Subject::PhoneNumber(number.clone())).await;
        }
    };
    for round in 0..3 {
        exercise(&account, &integration, round).await;
    }
    test.db.execute(&load_customers(2_000)).await;
    test.db.execute(&load(NEIGHBOUR, CONTACTS, SHARING)).await;
    test.db.execute(&load(ACCOUNT, CONTACTS, SHARING)).await;
    let before = scanned(&test).await;

    for round in 3..13 {
        exercise(ACCOUNT, INTEGRATION, round).await;
    }
    test.app.close().await;

    eventually("the end of the service's sessions", async || {
        let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'contact-sync %'";
        test.db.number(sessions).await == 0
    })
    .await;
    let after = scanned(&test).await;
    for ((table, before), (_, after)) in before.iter().zip(&after) {
        // 150 calls: a scan of one of these tables would read 20,000 rows or more each time.
        assert!(after - before < 20_000, "calls have read {} rows of {table} by scanning it", after - before);
    }
}

/// Rows that scans have read, by table; sessions report them when they end.
async fn scanned(test: &TestApp) -> Vec<(String, i64)> {
    sqlx::query_as("select relname::text, seq_tup_read from pg_stat_user_tables where relname <> 'accounts' order by 1")
        .fetch_all(&test.db.pool)
        .await
        .unwrap()
}
