//! A supervisor such as systemd is told by `sd_notify(3)`, here over a real socket: when calls are
//! served, that the process is alive, and when it ends.

use std::{fs, path::Path};

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
