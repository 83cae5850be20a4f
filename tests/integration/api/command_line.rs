//! The gRPC clients of the command line, as processes against a running server.

use std::{path::PathBuf, process::Stdio};

use contact_sync::rpc::{claims::TokenAccounts, methods::TokenScope};
use crm_simulator::{
    faults::{Fault, FaultRule},
    salesforce,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    support::sync::EXPORT,
    support::{TestApp, only},
};

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Standard output of a command that went well.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out.trim_end()
    }

    /// Standard error of a command that did not.
    pub fn refused(&self) -> &str {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        &self.err
    }
}

/// A terminal beside the service.
pub struct Desk<'a> {
    pub test: &'a TestApp,
    pub token: String,
    pub account: String,
    pub variables: Vec<(&'static str, String)>,
}

impl<'a> Desk<'a> {
    pub fn new(test: &'a TestApp) -> Self {
        let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
        Self { test, token, account: String::new(), variables: Vec::new() }
    }

    pub async fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, Stdio::null()).await
    }

    /// With this standard input.
    pub async fn run_with(&self, args: &[&str], stdin: Stdio) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
        command
            .args(args)
            .env_clear()
            .env("CONTACT_SYNC_DATA_DIR", "/nonexistent")
            .env("CONTACT_SYNC_SERVER", format!("http://{}", self.test.address))
            .env("CONTACT_SYNC_TOKEN", &self.token)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .kill_on_drop(true);
        if !self.account.is_empty() {
            command.env("CONTACT_SYNC_ACCOUNT", &self.account);
        }
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// With an account, which later commands mean.
    pub async fn with_account(mut self) -> Self {
        let made = self.run(&["account", "create", "--name", "Acme", "--region", "US"]).await;
        made.ok().clone_into(&mut self.account);
        self
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }
}

/// A file that is removed at the end.
pub struct SecretFile(PathBuf);

impl SecretFile {
    pub fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cs-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub async fn syncing() -> TestApp {
    TestApp::start_with(|config| config.worker.concurrency = 1).await
}

/// An administrator connects Zendesk, and the caller gets the ticket.
#[tokio::test]
async fn administrator_connects_zendesk_and_caller_gets_ticket() {
    let test = syncing().await;
    let user = test.zendesk.create_user(&json!({"name": "Bryce Love", "phone": "(310)-867-5309"})).unwrap();
    let desk = Desk::new(&test).with_account().await;
    let file = SecretFile::new("zendesk-token", "secret\n");
    let zendesk = ["--zendesk", "acme", "--email", "admin@example.com", "--api-token-file", file.path()];

    let tried = desk.run(&[&["sync", "test"], &zendesk[..]].concat()).await;
    let enabled = desk.run(&[&["sync", "enable", "--watch", "--period", "1h"], &zendesk[..]].concat()).await;
    let called = desk.run(&["match", "+13108675309", "--call-id", "c-1"]).await;
    let status = desk.run(&["sync", "status", "--json"]).await.json();
    let integration = status["integrations"][0]["id"].as_str().unwrap();
    let owner = desk.run(&["requester", "--integration", integration, "--call-id", "c-1", "--json"]).await.json();

    assert!(tried.ok().contains("works"), "{}", tried.out);
    assert!(enabled.ok().contains("INITIAL SUCCEEDED"), "{}", enabled.out);
    assert!(enabled.out.contains("on, 1 h after each run"), "{}", enabled.out);
    assert!(called.ok().starts_with("outcome      MATCHED") && called.out.contains("Bryce Love"), "{}", called.out);
    assert_eq!(owner["outcome"], "REQUESTER_OUTCOME_RESOLVED");
    assert_eq!(owner["record"]["recordId"], user.to_string());
}

/// An agent sees everyone on a number, and chooses.
#[tokio::test]
async fn agent_sees_all_on_number_and_chooses() {
    let test = TestApp::start().await;
    for name in ["Maria Ortiz", "Daniel Ortiz"] {
        test.zendesk.create_user(&json!({"name": name, "phone": "415 555 0142"})).unwrap();
    }
    let (account, integration) = test.synced().await;
    let desk = Desk { account, ..Desk::new(&test) };

    let called = desk.run(&["match", "4155550142", "--call-id", "c-1", "--json"]).await.json();
    let second = called["candidates"][1]["id"].as_str().unwrap();
    let chosen = desk.run(&["select", "--call-id", "c-1", "--contact", second, "--agent", "amy"]).await;
    let owner = desk.run(&["requester", "--integration", &integration, "--call-id", "c-1"]).await;
    let line = desk.run(&["contact", "--number", "4155550142", "--json"]).await.json();
    let one = desk.run(&["contact", second]).await;

    assert_eq!((&called["outcome"], &called["total"]), (&json!("MATCH_OUTCOME_AMBIGUOUS"), &json!(2)));
    assert!(chosen.ok().contains(second), "{}", chosen.out);
    assert!(owner.ok().contains("RESOLVED") && owner.out.contains(second), "{}", owner.out);
    assert_eq!(line["contacts"].as_array().unwrap().len(), 2);
    assert!(one.ok().contains(second), "{}", one.out);
}

/// Salesforce is connected by a key file, as its page says.
#[tokio::test]
async fn salesforce_connects_by_key_file_as_documented() {
    let test = syncing().await;
    test.salesforce.create("Contact", &json!({"LastName": "Love", "Phone": "(310)-867-5309"})).unwrap();
    let organization = salesforce::organization_id();
    let key = SecretFile::new("salesforce-key", include_str!("../../fixtures/oauth-test-key.pem"));
    let wishes = ["--salesforce", &organization, "--salesforce-host", "acme.my.salesforce.com"];
    let by_key = ["--jwt-key-file", key.path(), "--username", salesforce::DEFAULT_USERNAME];
    let args = |command: &'static str| [&["sync", command][..], &wishes, &by_key].concat();
    let desk = Desk::new(&test).with_account().await;

    let without_client = desk.run(&args("test")).await;
    let desk = desk.with("SALESFORCE_CLIENT_ID", salesforce::DEFAULT_CLIENT_ID);
    let tested = desk.run(&args("test")).await;
    let enabled = desk.run(&[&args("enable")[..], &["--watch"]].concat()).await;
    let called = desk.run(&["match", "+13108675309"]).await;

    assert!(without_client.refused().contains("SALESFORCE_CLIENT_ID"), "{}", without_client.err);
    tested.ok();
    assert!(enabled.ok().contains("INITIAL SUCCEEDED"), "{}", enabled.out);
    assert!(called.ok().contains("Love"), "{}", called.out);
}

/// A clicked record is named on the outbound call without any sync.
#[tokio::test]
async fn clicked_record_names_outbound_call_without_sync() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let enabled = desk.run(&["sync", "enable", "--salesforce", "00D5g000004XyzA", "--off", "--json"]).await.json();
    let integration = enabled["integration"]["id"].as_str().unwrap();
    let number = ["--number", "(808) 555-0121", "--name", "Hana Sato", "--agent", "amy"];
    let record = ["register", "--integration", integration, "--type", "Contact", "--record", "0035g00000LxQ2a"];

    let clicked = desk.run(&[&record[..], &number[..]].concat()).await;
    let dialled = ["match", "+18085550121", "--outbound", "--agent", "amy", "--call-id", "c-1", "--json"];
    let called = desk.run(&dialled).await.json();

    assert_eq!(enabled["integration"]["state"], "INTEGRATION_STATE_OFF");
    assert!(clicked.ok().contains("expected"), "{}", clicked.out);
    assert_eq!(
        (&called["tier"], &called["selected"]["displayName"]),
        (&json!("MATCH_TIER_CLICKED"), &json!("Hana Sato"))
    );
}

#[tokio::test]
async fn runs_are_started_watched_stopped_and_switched() {
    let test = syncing().await;
    let desk = Desk::new(&test).with_account().await.with("ZENDESK_BEARER_TOKEN", "zendesk-token");
    let enabled = desk.run(&["sync", "enable", "--zendesk", "acme", "--watch", "--json"]).await;
    let run: Value = serde_json::from_str(enabled.ok().lines().last().unwrap()).unwrap();
    let run = &run["syncRun"];
    let (integration, run) = (run["integrationId"].as_str().unwrap(), run["id"].as_str().unwrap());
    let of = ["--integration", integration];

    let again = desk.run(&[&["sync", "trigger", "--full", "--watch"], &of[..]].concat()).await;
    let seen = desk.run(&["sync", "watch", "--run", run]).await;
    let too_late = desk.run(&["sync", "cancel", "--run", run]).await;
    let off = desk.run(&[&["sync", "off"], &of[..]].concat()).await;
    let refused = desk.run(&[&["sync", "trigger"], &of[..]].concat()).await;
    let on = desk.run(&[&["sync", "on", "--period", "2h"], &of[..]].concat()).await;
    let renewed = desk.run(&[&["sync", "credentials"], &of[..]].concat()).await;
    let status = desk.run(&[&["sync", "status"], &of[..]].concat()).await;
    let gone = desk.run(&[&["sync", "disable", "--purge"], &of[..]].concat()).await;

    assert!(again.ok().contains("INITIAL SUCCEEDED"), "{}", again.out);
    assert!(seen.ok().contains(run), "{}", seen.out);
    assert!(too_late.refused().contains("RUN_FINISHED"), "{}", too_late.err);
    assert!(off.ok().contains("sync is off"), "{}", off.out);
    assert!(refused.refused().contains("`contact-sync sync on`"), "{}", refused.err);
    assert!(on.ok().contains("on, 2 h after each run"), "{}", on.out);
    assert!(renewed.ok().contains("stored"), "{}", renewed.out);
    assert!(status.ok().matches("SUCCEEDED").count() >= 2, "{}", status.out);
    assert!(gone.ok().contains("disabled"), "{}", gone.out);
}

/// What could not be read is shown, asked for again and traced.
#[tokio::test]
async fn unread_is_shown_retried_and_traced() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", "+13108675309");
    let replace = vec![("\"updated_at\":\"".to_owned(), b"\"updated_at\":\"x".to_vec())];
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::Bytes { replace })).unwrap();
    let (account, integration) = test.synced().await;
    test.zendesk.faults().clear();
    let desk = Desk { account: account.clone(), ..Desk::new(&test) };
    let narrow = Desk { token: test.token(&only(&account), &[TokenScope::Sync]), account, ..Desk::new(&test) };
    let (of, named) = (["--integration", &integration], format!("user/{user}"));
    let (list, record) = ([&["sync", "rejected", "list"], &of[..]].concat(), ["--record", &named]);

    let listed = desk.run(&list).await;
    let without_content = narrow.run(&[&list[..], &["--json"]].concat()).await.json();
    let traced = desk.run(&[&["sync", "trace"], &of[..], &record].concat()).await;
    let looked = desk.run(&[&["sync", "trigger"], &of[..], &record].concat()).await;
    let retried = desk.run(&[&["sync", "rejected", "retry"], &of[..], &record].concat()).await;
    assert!(looked.ok().contains("a worker asks the CRM now"), "{}", looked.out);
    let wrong = desk.run(&[&["sync", "trace"], &of[..], &["--record", "user/x"]].concat()).await;
    let help = desk.run(&["sync", "rejected", "--help"]).await;
    assert_eq!(test.sync_due().await, 1);
    let none = desk.run(&list).await;
    let again = desk.run(&[&["sync", "rejected", "retry"], &of[..]].concat()).await;

    assert!(listed.ok().contains(&named) && listed.out.contains("TIME_UNREADABLE updated_at"), "{}", listed.out);
    assert!(listed.out.contains("content     {") && listed.out.contains(".."), "{}", listed.out);
    assert_eq!(without_content["rejectedRecords"][0]["recordId"], user);
    assert_eq!(without_content["rejectedRecords"][0]["raw"], "");
    assert!(traced.ok().contains("REJECTED") && traced.out.contains("+13108675309"), "{}", traced.out);
    assert!(retried.ok().contains("INCREMENTAL QUEUED"), "{}", retried.out);
    assert!(wrong.refused().contains("--record"), "{}", wrong.err);
    assert!(help.ok().contains("list") && help.out.contains("ask the CRM"), "{}", help.out);
    assert_eq!(none.ok(), "Nothing is rejected.");
    assert!(again.ok().contains("no run was started"), "{}", again.out);
}

/// Refusals name reason, field and what to do, and never the number.
#[tokio::test]
async fn refusals_name_reason_field_step_never_number() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    desk.run(&["match", "+13108675309", "--call-id", "c-1"]).await.ok();

    let reused = desk.run(&["match", "+13105550100", "--call-id", "c-1"]).await;
    let unreadable = desk.run(&["contact", "--number", "0100"]).await;
    let url = desk.run(&["sync", "enable", "--zendesk", "https://acme.zendesk.com", "--off"]).await;
    let bare = desk.run(&["sync", "enable", "--zendesk", "acme"]).await;
    let wrong = Desk { account: desk.account.clone(), ..Desk::new(&test) }.with("ZENDESK_API_TOKEN", "mistyped");
    let wrong = wrong.run(&["sync", "enable", "--zendesk", "acme", "--email", "admin@example.com"]).await;

    assert!(reused.refused().contains("FAILED_PRECONDITION, CALL_ID_REUSED"), "{}", reused.err);
    assert!(!reused.err.contains("5550100"), "{}", reused.err);
    assert!(unreadable.refused().contains("message  --number: is not a number"), "{}", unreadable.err);
    assert!(url.refused().contains("message  --zendesk: "), "{}", url.err);
    assert!(bare.refused().contains("next   give --email"), "{}", bare.err);
    assert!(wrong.refused().contains("CREDENTIALS_REFUSED") && !wrong.err.contains("mistyped"), "{}", wrong.err);
}

/// A wrong server or token is told with what helps.
#[tokio::test]
async fn wrong_server_or_token_is_told_remedy() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let list = ["account", "list"];

    let elsewhere = desk.run(&["account", "list", "--server", "127.0.0.1:1"]).await;
    let encrypted = desk.run(&["account", "list", "--server", "https://127.0.0.1:1"]).await;
    let stranger = Desk { token: "not.a.token".into(), ..Desk::new(&test) }.run(&list).await;
    let narrow =
        Desk { token: test.token(&TokenAccounts::All, &[TokenScope::Calls]), ..Desk::new(&test) }.run(&list).await;
    let keyless = Desk { token: String::new(), ..Desk::new(&test) }.run(&list).await;
    let other = Desk { token: test.token(&only(&test.account().await), &TokenScope::ALL), ..Desk::new(&test) };
    let other = Desk { account: desk.account.clone(), ..other }.run(&["match", "+13108675309"]).await;

    assert!(elsewhere.refused().contains("no server answers at http://127.0.0.1:1"), "{}", elsewhere.err);
    assert!(elsewhere.err.contains("`contact-sync serve`"), "{}", elsewhere.err);
    assert!(encrypted.refused().contains("no server answers at https://127.0.0.1:1"), "{}", encrypted.err);
    assert!(stranger.refused().contains("UNAUTHENTICATED, TOKEN_INVALID"), "{}", stranger.err);
    assert!(narrow.refused().contains("SCOPE_MISSING") && narrow.err.contains("admin"), "{}", narrow.err);
    assert!(keyless.refused().contains("/nonexistent") && keyless.err.contains("--data-dir"), "{}", keyless.err);
    assert!(other.refused().contains("NOT_FOUND, ACCOUNT_NOT_FOUND"), "{}", other.err);
}

/// A token may come from a file, and secrets have no flag.
#[tokio::test]
async fn token_file_works_and_secrets_have_no_flag() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let file = SecretFile::new("token", &format!("{}\n", desk.token));

    let listed = Desk { token: "not.a.token".into(), ..Desk::new(&test) };
    let listed = listed.run(&["account", "list", "--token-file", file.path(), "--json"]).await.json();
    let help = desk.run(&["sync", "enable", "--help"]).await;

    assert_eq!(listed["accounts"][0]["id"], desk.account);
    for flag in ["--token ", "--api-token ", "--bearer"] {
        assert!(!help.ok().contains(flag), "{flag}");
    }
    assert!(!help.out.contains(&desk.token), "the environment's values stay out of the help");
}
