//! `--json`: what every command prints is the answer of its method, which its descriptor reads
//! back; errors are `google.rpc.Status`.

use std::collections::BTreeSet;

use contact_sync::rpc::pb;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};

use crate::{
    api::command_line::{Desk, Ended},
    support::{TestApp, with_address},
};

/// Reads lines back, and knows which methods have been asked.
struct Reader {
    pool: DescriptorPool,
    asked: BTreeSet<String>,
}

impl Reader {
    fn new() -> Self {
        let mut pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap();
        Self { pool, asked: BTreeSet::new() }
    }

    fn methods(&self) -> impl Iterator<Item = MethodDescriptor> {
        let ours = self.pool.services().filter(|service| service.package_name() == "contactsync.v1");
        ours.flat_map(|service| service.methods().collect::<Vec<_>>())
    }

    fn read(&self, message: &str, line: &str, is_whole: bool) {
        let descriptor = self.pool.get_message_by_name(message).unwrap();
        let options = DeserializeOptions::new().deny_unknown_fields(is_whole);
        let mut json = serde_json::Deserializer::from_str(line);
        let read = DynamicMessage::deserialize_with_options(descriptor, &mut json, &options);
        read.unwrap_or_else(|error| panic!("{message}: {error}: {line}"));
        json.end().unwrap_or_else(|error| panic!("{message}: {error}: {line}"));
    }

    /// Every line is an answer of this one method, or one object of the answers of two; the last
    /// line.
    fn answers(&mut self, methods: &[&str], ended: &Ended) -> Value {
        let out = ended.ok();
        for method in methods {
            let found = self.methods().find(|of| of.name() == *method).unwrap_or_else(|| panic!("no method {method}"));
            self.asked.insert(found.name().to_owned());
            for line in out.lines() {
                self.read(found.output().full_name(), line, methods.len() == 1);
            }
        }
        serde_json::from_str(out.lines().last().unwrap()).unwrap()
    }

    /// Standard error is one line, a `google.rpc.Status`, and standard output is empty.
    fn error(&self, ended: &Ended) -> Value {
        assert_eq!((ended.out.as_str(), ended.err.lines().count()), ("", 1), "{}{}", ended.out, ended.err);
        self.read("google.rpc.Status", &ended.err, true);
        serde_json::from_str(&ended.err).unwrap()
    }
}

/// Every answer is read back by the descriptor of its message.
#[tokio::test]
async fn every_answer_reads_back_by_its_descriptor() {
    let test = TestApp::start_with(with_address).await;
    let record = test.user("Bryce \u{1b}\u{2028}\"Love\"", "+13108675309");
    let mut reader = Reader::new();
    let mut desk = Desk::new(&test).with("ZENDESK_BEARER_TOKEN", "zendesk-token");
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();

    let made = desk.run(&["account", "create", "--name", "Acme", "--region", "US", "--json"]).await;
    desk.account = id(&reader.answers(&["CreateAccount"], &made)["account"]);
    let account = desk.account.clone();
    let updated = desk.run(&["account", "update", &account, "--policy", "last-selected", "--json"]).await;
    let policy = reader.answers(&["UpdateAccount"], &updated)["account"]["matchPolicy"].clone();
    reader.answers(&["ListAccounts"], &desk.run(&["account", "list", "--json"]).await);

    let tested = desk.run(&["sync", "test", "--zendesk", "acme", "--json"]).await;
    let tested = reader.answers(&["TestConnection"], &tested);
    let enabled = desk.run(&["sync", "enable", "--zendesk", "acme", "--json"]).await;
    let enabled = reader.answers(&["EnableSync"], &enabled)["integration"].clone();
    let integration = id(&enabled);
    let of = ["--integration", &integration, "--json"];
    let first = enabled["currentSyncRunId"].as_str().unwrap();
    let cancelled = desk.run(&["sync", "cancel", "--run", first, "--json"]).await;
    let cancelled = reader.answers(&["CancelSyncRun"], &cancelled)["syncRun"].clone();
    let started = desk.run(&[&["sync", "trigger"], &of[..]].concat()).await;
    let run = id(&reader.answers(&["TriggerSync"], &started)["syncRun"]);
    assert_eq!(test.sync_due().await, 1);
    let seen = desk.run(&["sync", "watch", "--run", &run, "--json"]).await;
    let seen = reader.answers(&["WatchSyncRun"], &seen)["syncRun"].clone();
    let on = desk.run(&[&["sync", "on", "--period", "90m"], &of[..]].concat()).await;
    let on = reader.answers(&["UpdateSync"], &on)["integration"].clone();
    reader.answers(&["ListIntegrations"], &desk.run(&["sync", "status", "--json"]).await);
    let status = desk.run(&[&["sync", "status"], &of[..]].concat()).await;
    let status = reader.answers(&["GetIntegration", "ListSyncRuns"], &status);
    let authorize = ["sync", "authorize", "--zendesk", "globex", "--json"];
    reader.answers(&["StartAuthorization"], &desk.run(&authorize).await);

    let rejected = desk.run(&[&["sync", "rejected", "list"], &of[..]].concat()).await;
    let rejected = reader.answers(&["ListRejectedRecords"], &rejected);
    let retried = desk.run(&[&["sync", "rejected", "retry"], &of[..]].concat()).await;
    let retried = reader.answers(&["RetryRejectedRecords"], &retried);
    let traced = desk.run(&[&["sync", "trace", "--record", &format!("user/{record}")], &of[..]].concat()).await;
    let traced = reader.answers(&["TraceRecord"], &traced);
    // A sweep that would delete so many has no other way to be told here than by hundreds of
    // records.
    let hold = format!("update integrations set held_deletions = 412 where integration_id = '{integration}'");
    test.db.execute(&hold).await;
    let confirmed = desk.run(&[&["sync", "confirm-deletions", "--held", "412"], &of[..]].concat()).await;
    reader.answers(&["ConfirmDeletions"], &confirmed);

    let called = desk.run(&["match", "+13108675309", "--call-id", "c-1", "--json"]).await;
    let called = reader.answers(&["MatchCaller"], &called);
    let contact = id(&called["selected"]);
    let chosen = desk.run(&["select", "--call-id", "c-1", "--contact", &contact, "--json"]).await;
    reader.answers(&["SelectMatch"], &chosen);
    let owner = desk.run(&[&["requester", "--call-id", "c-1"], &of[..]].concat()).await;
    reader.answers(&["ResolveRequester"], &owner);
    let clicked = ["register", "--type", "user", "--record", "77", "--number", "+13105550100"];
    reader.answers(&["PreRegisterContact"], &desk.run(&[&clicked[..], &of].concat()).await);
    reader.answers(&["ExplainMatch"], &desk.run(&["explain", "+13108675309", "--json"]).await);
    reader.answers(&["GetContact"], &desk.run(&["contact", &contact, "--json"]).await);
    reader.answers(&["ListContacts"], &desk.run(&["contact", "--number", "+13108675309", "--json"]).await);
    let changes = reader.answers(&["ListChanges"], &desk.run(&["changes", "--json"]).await);
    reader.answers(&["EraseContact"], &desk.run(&["erase", &contact, "--yes", "--json"]).await);
    reader.answers(&["DisableSync"], &desk.run(&[&["sync", "disable"], &of[..]].concat()).await);
    let audited = reader.answers(&["ListAuditEvents"], &desk.run(&["audit", "--json"]).await);

    assert_eq!(policy, "MATCH_POLICY_LAST_SELECTED");
    assert_eq!((&tested["ok"], &tested["reason"]), (&json!(true), &json!("")));
    assert_eq!(cancelled["state"], "SYNC_RUN_STATE_CANCELLED");
    assert_eq!((&seen["state"], &seen["counts"]["created"]), (&json!("SYNC_RUN_STATE_SUCCEEDED"), &json!("1")));
    assert_eq!(on["options"]["period"], "5400s");
    assert_eq!(status["integration"]["id"], integration.as_str());
    assert_eq!(status["syncRuns"].as_array().unwrap().len(), 2);
    assert_eq!((&rejected["rejectedRecords"], &rejected["leftOut"]), (&json!([]), &json!("0")));
    assert_eq!((&retried["retried"], retried.get("syncRun")), (&json!("0"), None), "no run is no field");
    assert_eq!(traced["fate"], "RECORD_FATE_APPLIED");
    assert_eq!((&called["outcome"], &called["complete"]), (&json!("MATCH_OUTCOME_MATCHED"), &json!(true)));
    assert_eq!(changes["changes"][0]["kind"], "CHANGE_KIND_CREATED");
    assert!(!changes["epoch"].as_str().unwrap().is_empty() && changes["nextAfter"] != "0", "{changes}");
    let newest = &audited["auditEvents"][0];
    assert_eq!((&newest["method"], &newest["result"]), (&json!("DisableSync"), &json!("AUDIT_RESULT_DONE")));
    // What the command line has no command for.
    let unasked = BTreeSet::from(["GetAccount", "GetSyncRun"].map(str::to_owned));
    let all: BTreeSet<String> = reader.methods().map(|method| method.name().to_owned()).collect();
    assert_eq!(&all - &reader.asked, unasked);
}

#[tokio::test]
async fn a_watch_tells_one_change_a_line() {
    let test = TestApp::start_with(|config| config.worker.concurrency = 1).await;
    test.user("Bryce Love", "+13108675309");
    let desk = Desk::new(&test).with_account().await.with("ZENDESK_BEARER_TOKEN", "zendesk-token");

    let watched = desk.run(&["sync", "enable", "--zendesk", "acme", "--watch", "--json"]).await;

    let last = Reader::new().answers(&["WatchSyncRun"], &watched);
    assert_eq!(last["syncRun"]["state"], "SYNC_RUN_STATE_SUCCEEDED");
    assert_eq!(watched.err, "{\"credentials\":\"ZENDESK_BEARER_TOKEN (environment)\",\"notUsed\":[]}\n");
}

/// An error is one line of status, and the answer stays empty.
#[tokio::test]
async fn error_is_one_line_and_answer_empty() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let reader = Reader::new();
    desk.run(&["match", "+13108675309", "--call-id", "c-1"]).await.ok();
    let ask = async |args: &[&str]| desk.run(&[args, &["--json"]].concat()).await;
    let detail = |error: &Value, name: &str| {
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        let found = error["details"].as_array().unwrap().iter().find(|detail| detail["@type"] == kind);
        found.unwrap_or_else(|| panic!("no {name} in {error}")).clone()
    };

    let reused = ask(&["match", "+13105550100", "--call-id", "c-1"]).await;
    let field = ask(&["contact", "--number", "0100"]).await;
    let nobody = ask(&["contact", "0199a1b2-0000-7000-8000-000000000000"]).await;
    let bare = ask(&["sync", "enable", "--zendesk", "acme"]).await;
    let elsewhere = ask(&["account", "list", "--server", "127.0.0.1:1"]).await;
    let misspelt = ask(&["match", "+13105550100", "--colour", "red"]).await;
    let help = ask(&["match", "--help"]).await;

    let error = reader.error(&reused);
    assert_eq!((reused.code, &error["code"]), (Some(1), &json!(9)));
    assert_eq!(detail(&error, "ErrorInfo")["reason"], "CALL_ID_REUSED");
    assert!(!reused.err.contains("5550100"), "{}", reused.err);
    let error = reader.error(&field);
    assert_eq!(detail(&error, "BadRequest")["fieldViolations"][0]["field"], "phone_number");
    assert_eq!(detail(&reader.error(&nobody), "ErrorInfo")["domain"], "contactsync");
    let error = reader.error(&bare);
    assert_eq!((bare.code, &error["code"], &error["details"]), (Some(1), &json!(9), &json!([])));
    assert!(error["message"].as_str().unwrap().contains("ZENDESK_API_TOKEN"), "{error}");
    let error = reader.error(&elsewhere);
    assert_eq!(error["code"], 14, "UNAVAILABLE: a script may try again");
    assert!(error["message"].as_str().unwrap().starts_with("no server answers"), "{error}");
    let error = reader.error(&misspelt);
    assert_eq!((misspelt.code, &error["code"]), (Some(2), &json!(3)));
    assert!(error["message"].as_str().unwrap().contains("--colour"), "{error}");
    assert!(help.ok().contains("Usage:"), "{}", help.out);
}
