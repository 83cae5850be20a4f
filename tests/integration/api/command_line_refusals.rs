//! What the command line says of what is refused: in its own words and flags, with the next
//! command; and which credentials it used.

use std::process::Stdio;

use contact_sync::domain::provider;
use crm_simulator::{
    faults::{Fault, FaultRule},
    salesforce,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    api::command_line::{Desk, SecretFile, syncing},
    support::TestApp,
};

const KEY: &str = include_str!("../../fixtures/oauth-test-key.pem");
const MY_DOMAIN: [&str; 2] = ["--salesforce-host", "acme.my.salesforce.com"];
const NOBODY: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";

/// The text on one line, as if the terminal were wide.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    let flat = flat(text);
    for word in words {
        assert!(flat.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn every_dead_end_names_the_next_command() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let enabled = desk.run(&["sync", "enable", "--zendesk", "acme", "--off", "--json"]).await.json();
    let id = enabled["integration"]["id"].as_str().unwrap();
    let of = ["--integration", id];
    let sync = |command: &'static str| [&["sync", command][..], &of].concat();

    let on = desk.run(&sync("on")).await;
    let off = desk.run(&sync("trigger")).await;
    let unknown = desk.run(&["explain", "+13108675309", "--contact", NOBODY]).await;
    let stranger = desk.run(&["requester", "--integration", NOBODY, "--number", "+13108675309"]).await;
    let again = desk.run(&["sync", "enable", "--zendesk", "acme", "--off"]).await;
    let held = desk.run(&[&sync("confirm-deletions")[..], &["--held", "0"]].concat()).await;
    let kind = ["register", "--integration", id, "--type", "Account", "--record", "1", "--number", "+13108675309"];
    let kind = desk.run(&kind).await;
    let long = desk.run(&["account", "create", "--name", &"x".repeat(300), "--region", "US"]).await;
    desk.run(&sync("disable")).await.ok();
    let disabled = desk.run(&sync("trigger")).await;
    let clicked = ["register", "--integration", id, "--type", "user", "--record", "1", "--number", "+13108675309"];
    let clicked = desk.run(&clicked).await;

    assert_says(
        on.refused(),
        &["the credentials: ", "`contact-sync sync credentials --integration ID`", "`contact-sync sync on"],
    );
    assert_says(off.refused(), &["SYNC_OFF", "`contact-sync sync on` switches it on"]);
    assert_says(unknown.refused(), &["CONTACT_NOT_FOUND", "`contact-sync contact --number NUMBER`"]);
    assert_says(stranger.refused(), &["INTEGRATION_NOT_FOUND", "`contact-sync sync status`"]);
    assert_says(again.refused(), &["linked to the account already", &format!("sync credentials --integration {id}`")]);
    assert_says(held.refused(), &["--held: must be the number that `sync status --integration ID` shows"]);
    assert_says(kind.refused(), &["message --type: "]);
    assert_says(long.refused(), &["message --name: "]);
    for refused in [disabled, clicked] {
        assert_says(refused.refused(), &["INTEGRATION_DISABLED", "`contact-sync sync enable` takes it up again"]);
    }
    for text in [&on.err, &off.err, &again.err] {
        for of_api in ["UpdateSync", "EnableSync", "GetIntegration", "integration_id:"] {
            assert!(!text.contains(of_api), "{text}");
        }
    }
}

/// The credentials that are used are told by name, and apart from the answer.
#[tokio::test]
async fn used_credentials_are_named_beside_answer() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let desk = desk.with("ZENDESK_BEARER_TOKEN", "zendesk-token\n").with("ZENDESK_API_TOKEN", "secret");
    let file = SecretFile::new("told-token", "secret");

    let tried = desk.run(&["sync", "test", "--zendesk", "acme"]).await;
    let by_email = ["sync", "test", "--zendesk", "acme", "--email", "admin@example.com"];
    let named = desk.run(&by_email).await;
    let of_file = desk.run(&[&by_email[..], &["--api-token-file", file.path(), "--json"]].concat()).await;
    let enabled = desk.run(&["sync", "enable", "--zendesk", "acme", "--json"]).await;

    assert_says(&tried.err, &["credentials ZENDESK_BEARER_TOKEN (environment)", "not used ZENDESK_API_TOKEN"]);
    assert_says(
        &named.err,
        &["credentials ZENDESK_API_TOKEN, with --email (environment)", "not used ZENDESK_BEARER_TOKEN"],
    );
    assert_says(&of_file.err, &[&format!("\"credentials\":\"--api-token-file {}, with --email\"", file.path())]);
    assert_says(&enabled.err, &["\"credentials\":\"ZENDESK_BEARER_TOKEN (environment)\""]);
    assert!(
        of_file.json()["ok"] == true && enabled.json()["integration"]["provider"] == "PROVIDER_ZENDESK",
        "{}",
        enabled.out
    );
    for ended in [tried, named, of_file, enabled] {
        assert!(!ended.err.contains("zendesk-token") && !ended.err.contains("secret"), "{}", ended.err);
    }
}

/// A client id without its secret, and a token without its address, are told before anybody is
/// asked.
#[tokio::test]
async fn half_credentials_are_told_before_asking() {
    let test = TestApp::start().await;
    for (variable, crm, words) in [
        ("ZENDESK_CLIENT_ID", ["--zendesk", "acme"], ["ZENDESK_CLIENT_SECRET is not", "set ZENDESK_CLIENT_SECRET"]),
        (
            "SALESFORCE_CLIENT_ID",
            ["--salesforce", "00D5g0000000001EAA"],
            ["SALESFORCE_CLIENT_SECRET is not", "--jwt-key-file"],
        ),
        ("PIPEDRIVE_CLIENT_SECRET", ["--pipedrive", "acme"], ["PIPEDRIVE_CLIENT_ID is not", "set PIPEDRIVE_CLIENT_ID"]),
        ("ZENDESK_API_TOKEN", ["--zendesk", "acme"], ["no e-mail address", "give --email"]),
    ] {
        let desk = Desk::new(&test).with_account().await.with(variable, "half");
        for command in ["test", "enable"] {
            let refused = desk.run(&[&["sync", command][..], &crm].concat()).await;
            assert_says(refused.refused(), &words);
        }
    }
}

/// Flags of another CRM are refused before anything is done.
#[tokio::test]
async fn other_crms_flags_are_refused_before_acting() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await.with("ZENDESK_BEARER_TOKEN", "zendesk-token");
    let enabled = desk.run(&["sync", "enable", "--zendesk", "acme", "--off", "--json"]).await.json();
    let of = ["--integration", enabled["integration"]["id"].as_str().unwrap()];
    let zendesk = ["--zendesk", "other"];
    let pipedrive = ["--pipedrive", "other", "--off"];
    for (command, crm, flag, value, whose) in [
        ("enable", &zendesk[..], "--leads", "off", "Salesforce"),
        ("enable", &zendesk, "--mirror-persons", "off", "Pipedrive"),
        ("enable", &zendesk, "--salesforce-host", "acme.my.salesforce.com", "Salesforce"),
        ("test", &zendesk, "--username", "user@example.com", "Salesforce"),
        ("enable", &pipedrive, "--users", "all", "Zendesk"),
        ("enable", &pipedrive, "--email", "admin@example.com", "Zendesk"),
        ("authorize", &pipedrive[..2], "--salesforce-host", "acme.my.salesforce.com", "Salesforce"),
        ("options", &of, "--leads", "off", "Salesforce"),
        ("credentials", &of, "--jwt-key-file", "/nonexistent", "Salesforce"),
    ] {
        let refused = desk.run(&[&["sync", command][..], crm, &[flag, value]].concat()).await;
        assert_says(refused.refused(), &[&format!("{flag} is for {whose} only"), &format!("leave {flag} out")]);
    }
    assert_eq!(test.db.number("select count(*) from integrations").await, 1);
}

/// What Salesforce refuses is told with what to click or to type.
#[tokio::test]
async fn salesforce_refusals_tell_what_to_do() {
    let test = TestApp::start().await;
    let organization = salesforce::organization_id();
    let key = SecretFile::new("refusals-key", KEY);
    let desk = Desk::new(&test).with_account().await.with("SALESFORCE_CLIENT_ID", "client");
    let by_key = ["--jwt-key-file", key.path(), "--username"];
    let to = |organization: &'static str| [&["--salesforce", organization][..], &MY_DOMAIN].concat();
    let ours = [&["--salesforce", organization.as_str()][..], &MY_DOMAIN].concat();

    let unknown = desk.run(&[&["sync", "enable"], &ours[..], &by_key, &["nobody@example.com"]].concat()).await;
    let tried = desk.run(&[&["sync", "test"], &ours[..], &by_key, &["nobody@example.com"]].concat()).await;
    let other = to("00D000000000xyzEAA");
    let other = desk.run(&[&["sync", "enable"], &other[..], &by_key, &[salesforce::DEFAULT_USERNAME]].concat()).await;
    let wrong_key = json!({"error": "invalid_grant", "error_description": "invalid assertion"});
    test.salesforce.faults().add(FaultRule::always("/oauth2/token", Fault::json(400, &wrong_key))).unwrap();
    let wrong_key =
        desk.run(&[&["sync", "enable"], &ours[..], &by_key, &[salesforce::DEFAULT_USERNAME]].concat()).await;

    let approve = ["cause USER_NOT_APPROVED", "compare --username", "External Client App Manager", "pre-authorized"];
    assert_says(unknown.refused(), &[&["GRANT_REFUSED"], &approve[..]].concat());
    assert_says(&tried.out, &[&["connection does not work", "reason GRANT_REFUSED"], &approve[..]].concat());
    assert!(!unknown.err.contains("nobody@"), "{}", unknown.err);
    let opened = format!("organization {organization}");
    assert_says(other.refused(), &["OTHER_ORGANIZATION", &opened, &format!("that they open, {organization}")]);
    assert_says(wrong_key.refused(), &["ASSERTION_INVALID", "the key of --jwt-key-file"]);
}

/// A CRM that is not reached is told with its host.
#[tokio::test]
async fn unreached_crm_is_told_with_host() {
    let test = TestApp::start_with(|config| {
        config.providers.each[provider::Provider::Zendesk].base_url = Some("http://no-such-host.invalid".to_owned());
        config.providers.each[provider::Provider::Pipedrive].base_url = Some("http://127.0.0.1:1".to_owned());
    })
    .await;
    let desk = Desk::new(&test).with_account().await;
    let desk = desk.with("ZENDESK_BEARER_TOKEN", "t").with("PIPEDRIVE_API_TOKEN", "t");

    let unknown = desk.run(&["sync", "enable", "--zendesk", "acme"]).await;
    let closed = desk.run(&["sync", "test", "--pipedrive", "acme"]).await;

    assert_says(
        unknown.refused(),
        &["CRM_UNREACHABLE", "cause DNS", "`getent hosts no-such-host.invalid`", "--zendesk"],
    );
    assert_says(&closed.out, &["cause TCP", "host 127.0.0.1", "reach 127.0.0.1"]);
}

/// Standard input that holds this.
fn stdin(text: &str) -> Stdio {
    let file = SecretFile::new(&format!("stdin-{}", text.len()), text);
    std::fs::File::open(file.path()).unwrap().into()
}

/// Every flag that takes a secret takes a real file and standard input.
#[tokio::test]
async fn secret_flags_take_real_file_and_stdin() {
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await.with("SALESFORCE_CLIENT_ID", "client");
    let organization = salesforce::organization_id();
    let zendesk = ["sync", "test", "--zendesk", "acme", "--email", "admin@example.com", "--api-token-file"];
    let salesforce = ["sync", "test", "--salesforce", &organization, "--username", salesforce::DEFAULT_USERNAME];
    let salesforce = [&salesforce[..], &MY_DOMAIN, &["--jwt-key-file"]].concat();
    let list = ["account", "list", "--token-file"];
    let (unix, windows, marked) = ("secret\n", "secret\r\n", "\u{feff}secret\r\n");
    let (pem, pem_windows) = (KEY.to_owned(), KEY.replace('\n', "\r\n"));
    let token = format!("{}\n", desk.token);
    let token_windows = format!("\u{feff}{}\r\n", desk.token);
    for (args, texts) in [
        (&zendesk[..], [unix, windows].as_slice()),
        (&zendesk, &[marked]),
        (&salesforce, &[&pem, &pem_windows]),
        (&list, &[&token, &token_windows]),
    ] {
        for text in texts {
            let file = SecretFile::new(&format!("real-{}-{}", args.len(), text.len()), text);
            let of_file = desk.run(&[args, &[file.path()]].concat()).await;
            let of_stdin = desk.run_with(&[args, &["-"]].concat(), stdin(text)).await;
            for ended in [of_file, of_stdin] {
                assert!(!ended.ok().is_empty(), "{args:?}");
            }
        }
        let flag = args.last().unwrap();
        let folder = std::env::temp_dir();
        let binary = SecretFile::new(&format!("binary-{}", args.len()), "x");
        std::fs::write(binary.path(), [0xff, 0xfe, b's', 0]).unwrap();
        for (path, word) in
            [("/nonexistent", "cannot read"), (folder.to_str().unwrap(), "cannot read"), (binary.path(), "plain text")]
        {
            let refused = desk.run(&[args, &[path]].concat()).await;
            assert_says(refused.refused(), &[&format!("error {flag}: "), path, word]);
        }
        let empty = desk.run_with(&[args, &["-"]].concat(), stdin("")).await;
        assert_says(empty.refused(), &[&format!("error {flag}: ")]);
    }
}

/// The key file and its user may come from the environment, and are in nobody's way.
#[tokio::test]
async fn key_file_from_environment_disturbs_no_others() {
    let test = syncing().await;
    let key = SecretFile::new("environment-key", KEY);
    let organization = salesforce::organization_id();
    let desk = Desk::new(&test).with_account().await.with("SALESFORCE_CLIENT_ID", "client");
    let desk =
        desk.with("SALESFORCE_JWT_KEY_FILE", key.path()).with("SALESFORCE_USERNAME", salesforce::DEFAULT_USERNAME);
    let desk = desk.with("ZENDESK_BEARER_TOKEN", "zendesk-token");

    let salesforce = [&["sync", "test", "--salesforce", &organization][..], &MY_DOMAIN].concat();
    let salesforce = desk.run(&salesforce).await;
    let zendesk = desk.run(&["sync", "test", "--zendesk", "acme"]).await;

    salesforce.ok();
    assert_says(
        &salesforce.err,
        &["credentials SALESFORCE_JWT_KEY_FILE", "with SALESFORCE_CLIENT_ID and SALESFORCE_USERNAME"],
    );
    zendesk.ok();
}

/// A token that is refused is told by where it came from.
#[tokio::test]
async fn refused_token_is_told_by_source() {
    let test = TestApp::start().await;
    let file = SecretFile::new("strange-token", "not.a.token");
    let stranger = Desk { token: "not.a.token".into(), ..Desk::new(&test) };

    let of_environment = stranger.run(&["account", "list"]).await;
    let of_file = stranger.run(&["account", "list", "--token-file", file.path()]).await;

    assert_says(of_environment.refused(), &["token of CONTACT_SYNC_TOKEN (environment)"]);
    assert_says(of_file.refused(), &["token of --token-file"]);
}

/// Whom an erasure means is shown before anything is done.
#[tokio::test]
async fn person_to_erase_is_shown_before_erasing() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", "(310)-867-5309");
    let (account, _) = test.synced().await;
    let contact = test.look_up(&account, "+13108675309").await.selected.unwrap().id;
    let desk = Desk { account, ..Desk::new(&test) };

    let asked = desk.run(&["erase", &contact]).await;
    let still = desk.run(&["contact", &contact]).await;
    let unknown = desk.run(&["erase", NOBODY, "--yes"]).await;
    let done = desk.run(&["erase", &contact, "--yes"]).await;

    let person = ["to erase Bryce Love", "number +13108675309", &format!("record Zendesk user {user}"), "records 1"];
    assert_says(asked.refused(), &person);
    assert_says(&asked.err, &["nothing was erased", "repeat with --yes"]);
    assert!(still.ok().contains("Bryce Love"), "{}", still.out);
    assert_says(unknown.refused(), &["CONTACT_NOT_FOUND"]);
    assert!(!done.ok().is_empty(), "{}", done.out);
    assert_says(&done.err, &person);
}

/// Status shows the last failure with what to do, until a run has succeeded.
#[tokio::test]
async fn status_shows_last_failure_until_run_succeeds() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let desk = Desk { account: account.clone(), ..Desk::new(&test) };
    let one = ["sync", "status", "--integration", &integration];
    test.zendesk.faults().add(FaultRule::always("/api/v2", Fault::ForbiddenRole)).unwrap();
    test.trigger(&account, &integration).await;

    let failed = [desk.run(&["sync", "status"]).await, desk.run(&one).await];
    test.zendesk.faults().clear();
    test.trigger(&account, &integration).await;
    let over = [desk.run(&["sync", "status"]).await, desk.run(&one).await];

    for status in failed {
        assert_says(status.ok(), &["last failure 2026-11-22", "PERMISSION_MISSING", "next give the CRM's user what"]);
    }
    for status in over {
        assert_says(status.ok(), &["last failure 2026-11-22", "a run has succeeded since"]);
    }
}

/// Who stops watching is told that the copy goes on.
#[tokio::test]
async fn interrupted_watcher_hears_copy_goes_on() {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    // Nobody works: the run waits in the queue for as long as it is watched.
    let test = TestApp::start().await;
    let desk = Desk::new(&test).with_account().await;
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_contact-sync"))
        .args(["sync", "enable", "--zendesk", "acme", "--watch"])
        .env_clear()
        .env("CONTACT_SYNC_DATA_DIR", "/nonexistent")
        .env("CONTACT_SYNC_SERVER", format!("http://{}", test.address))
        .env("CONTACT_SYNC_TOKEN", &desk.token)
        .env("CONTACT_SYNC_ACCOUNT", &desk.account)
        .env("ZENDESK_BEARER_TOKEN", "zendesk-token")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut told = BufReader::new(watch.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waits for a worker's place") {
        line.clear();
        assert!(told.read_line(&mut line).await.unwrap() > 0, "it ended");
    }

    let id = i32::try_from(watch.id().unwrap()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    told.read_to_string(&mut rest).await.unwrap();

    assert_eq!(watch.wait().await.unwrap().code(), Some(130));
    assert_says(&rest, &["the copy goes on", "`contact-sync sync watch --run", "`contact-sync sync cancel --run"]);
    assert_eq!(test.sync_due().await, 1);
}
