//! The demo as a newcomer meets it: the real binary, a private PostgreSQL of its own, the commands
//! that it proposes.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// The private cluster's making included, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(50);

/// A data directory that the server's user can enter, removed with whatever server still runs in
/// it.
struct DataDir(PathBuf);

impl DataDir {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("cs-demo-{}", std::process::id())))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for major in std::fs::read_dir(self.0.join("demo/pg")).into_iter().flatten().flatten() {
            let pid_file = std::fs::read_to_string(major.path().join("postmaster.pid")).unwrap_or_default();
            if let Some(pid) = pid_file.lines().next().and_then(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
    command.args(args).kill_on_drop(true).stdin(Stdio::null());
    for variable in ["DATABASE_URL", "MIGRATE_DATABASE_URL", "TEST_DATABASE_URL"] {
        command.env_remove(variable);
    }
    command
}

fn demo(dir: &Path, args: &[&str]) -> Command {
    let mut command = command(&["demo", "--listen", "127.0.0.1:0", "--contacts", "40"]);
    command.args(args).arg("--data-dir").arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads the story until its last line; all of it.
async fn listen(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut story = String::new();
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap_or_else(|_| panic!("no more lines: {story}"));
        let Some(line) = line.unwrap() else { panic!("the demo has ended: {story}") };
        story.push_str(&line);
        story.push('\n');
        if line.contains("Ctrl-C stops everything") {
            return story;
        }
    }
}

/// What `export NAME=value` in the story says.
fn exported(story: &str, name: &str) -> String {
    let line = story.lines().find_map(|line| line.trim().strip_prefix(&format!("export {name}=")));
    line.unwrap_or_else(|| panic!("no {name}: {story}")).trim_matches('"').to_owned()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The demo tells its story, serves on, and can be told again.
#[tokio::test]
async fn demo_tells_story_serves_on_and_repeats() {
    let dir = DataDir::new();
    let mut child = demo(&dir.0, &[]).spawn().unwrap();

    let story = listen(&mut child).await;

    assert!(story.contains("answers are what they should be") && !story.contains("WRONG"), "{story}");
    for line in [
        "< MATCHED             Bryce Love, Zendesk user ",
        "< AMBIGUOUS ",
        "< CREATED             +16175550173, no record yet",
        "< WITHHELD ",
        "< MATCHED             Priya Raman, Zendesk user ",
        "< MATCHED             Hana Sato, Salesforce Contact 003",
        "ok                  the browser says that it is connected",
        "ok                  all 40 Contacts and 4 Leads are here",
        "< AMBIGUOUS           Bryce Love, Zendesk user ",
        "< MATCHED             Rosa Diaz, Salesforce Lead 00Q",
        "< MATCHED             Rosa Diaz, Salesforce Contact 003",
        "< merged              it lives on as ..",
        "< MATCHED             Lena Vogt, Pipedrive person ",
        "ok                  no run was needed for it",
        "< MATCHED             Ivo Marek, Salesforce Contact 003",
        "< MATCHED             Nora Quist, Salesforce Contact 003",
        "ok                  the answer says who was asked",
        "< MATCHED             Nils Berg, Pipedrive person ",
        "> TriggerSync         Pipedrive, a sweep",
        "< SYNC_OFF ",
    ] {
        assert!(story.contains(line), "{line}: {story}");
    }
    assert!(!story.contains('\u{1b}'), "no colours outside of a terminal");
    let place = dir.0.display().to_string();
    let is_free = |line: &&str| !line.contains(&place) && !line.contains("export PATH");
    assert_eq!(story.lines().filter(is_free).find(|line| line.chars().count() > 80), None);

    // What it proposes works as it stands, with the key that it has made.
    let answer = command(&["match", "+1 310 867 5309", "--call-id", "my-call"])
        .env("CONTACT_SYNC_DATA_DIR", exported(&story, "CONTACT_SYNC_DATA_DIR"))
        .env("CONTACT_SYNC_ACCOUNT", exported(&story, "CONTACT_SYNC_ACCOUNT"))
        .env("CONTACT_SYNC_SERVER", exported(&story, "CONTACT_SYNC_SERVER"))
        .output();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert!(answer.status.success() && text(&answer).contains("Bryce Love"), "{}", text(&answer));

    // Two at once would stop each other's runs.
    let second = timeout(PATIENCE, demo(&dir.0, &["--once"]).output()).await.unwrap().unwrap();
    assert!(!second.status.success() && text(&second).contains("another demo runs"), "{}", text(&second));

    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");

    let again = timeout(PATIENCE, demo(&dir.0, &["--once"]).output()).await.unwrap().unwrap();
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("answers are what they should be"), "{}", text(&again));
    let log = std::fs::read_to_string(dir.0.join("demo/service.log")).unwrap();
    assert!(log.contains("sync run is complete") && !log.contains("Bryce") && !log.contains("8675309"), "{log}");
}
