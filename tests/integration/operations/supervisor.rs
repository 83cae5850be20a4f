//! What a supervisor learns of the process. One such as systemd is told by `sd_notify(3)`, here
//! over a real socket: when calls are served, that the process is alive, and when it ends. One that
//! runs containers asks by `contact-sync health`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::UnixDatagram;

use super::crash::{Files, Process};
use crate::{
    support::TestApp,
    support::sync::{eventually, soon},
};

async fn next_of(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = soon("a datagram", socket.recv(&mut bytes)).await.unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

async fn start(test: &TestApp, files: &Files, socket: &Path) -> Process {
    let notifies = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    Process::start_with(test, files, test.db.url(), &notifies).await
}

fn terminate(process: &Process) {
    kill(Pid::from_raw(process.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
}

async fn end_of(mut process: Process) -> Option<i32> {
    eventually("its end", async || process.child.try_wait().unwrap().is_some()).await;
    process.child.wait().unwrap().code()
}

#[tokio::test]
async fn supervisor_is_told_of_ready_alive_and_stopping() {
    let test = TestApp::start().await;
    let files = Files::make(&test);
    let path = files.0.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();

    let process = start(&test, &files, &path).await;
    let ready = next_of(&socket).await;
    let alive = [next_of(&socket).await, next_of(&socket).await];
    terminate(&process);
    let mut stopping = next_of(&socket).await;
    while stopping == "WATCHDOG=1" {
        stopping = next_of(&socket).await;
    }
    let code = end_of(process).await;

    assert!(ready.starts_with("READY=1\nSTATUS=serving gRPC on 127.0.0.1:"), "{ready}");
    assert_eq!(alive, ["WATCHDOG=1", "WATCHDOG=1"]);
    assert!(stopping.starts_with("STOPPING=1\nSTATUS=stopping"), "{stopping}");
    assert_eq!(code, Some(0), "{}", fs::read_to_string(files.0.join("log")).unwrap());
}

/// One that is not there, or reads nothing, holds nothing up.
#[tokio::test]
async fn deaf_supervisor_stops_nothing() {
    let test = TestApp::start().await;
    for is_there in [false, true] {
        let files = Files::make(&test);
        let path = files.0.join("notify");
        let _never_read = is_there.then(|| UnixDatagram::bind(&path).unwrap());

        let process = start(&test, &files, &path).await;
        let log = files.0.join("log");
        eventually("serving", async || fs::read_to_string(&log).unwrap().contains("serving gRPC")).await;
        terminate(&process);
        let code = end_of(process).await;

        let log = fs::read_to_string(&log).unwrap();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.contains("NOTIFY_SOCKET"), !is_there, "{log}");
    }
}

/// Where the process serves operators, as its log says.
async fn admin_address(files: &Files) -> String {
    let mut address = None;
    eventually("the admin listener", async || {
        let log = fs::read_to_string(files.0.join("log")).unwrap();
        let line = log.lines().find(|line| line.contains("/livez"));
        address = line.and_then(|line| Some(line.split_once("listen=")?.1.split_whitespace().next()?.to_owned()));
        address.is_some()
    })
    .await;
    address.unwrap()
}

fn ask_health(admin: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
    command.arg("health").args(args).env_clear().env("CONTACT_SYNC_DATA_DIR", "/nonexistent");
    let Output { status, stdout, stderr } = command.env("CONTACT_SYNC_ADMIN__LISTEN", admin).output().unwrap();
    (status.code(), [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

#[tokio::test]
async fn health_command_says_whether_calls_are_answered() {
    let test = TestApp::start().await;
    let files = Files::make(&test);
    let process = start(&test, &files, &files.0.join("nobody")).await;
    let admin = admin_address(&files).await;

    eventually("healthy", async || ask_health(&admin, &[]) == (Some(0), "calls are answered\n".into())).await;
    let live = ask_health(&admin, &["--live"]);
    terminate(&process);
    let ended = end_of(process).await;
    let gone = ask_health(&admin, &[]);
    let nowhere = ask_health("", &[]);

    assert_eq!(live, (Some(0), "live\n".into()));
    assert_eq!(ended, Some(0));
    assert_eq!(gone.0, Some(1));
    assert!(gone.1.contains(&format!("no answer at {admin}")), "{}", gone.1);
    assert_eq!(nowhere.0, Some(1));
    assert!(nowhere.1.contains("admin.listen is empty"), "{}", nowhere.1);
}
