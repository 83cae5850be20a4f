//! SIGTERM while the database is closed, frozen or gone: the process ends all the same, by itself,
//! within what operating.md promises; a second signal ends it at once.

use std::{fs, process::ExitStatus, time::Duration};

use crm_simulator::faults::Fault;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    operations::crash::{Files, Process, stage},
    support::sync::{column, eventually, fail, soon},
    support::{TestApp, proxy::Proxy},
};

/// A process that serves, and the way to its database.
struct Served {
    files: Files,
    process: Process,
    proxy: Proxy,
    test: TestApp,
}

impl Served {
    async fn start() -> Self {
        let test = TestApp::start().await;
        let proxy = Proxy::start(test.db.url()).await;
        let files = Files::make(&test);
        let process = Process::start_on(&test, &files, proxy.url()).await;
        let served = Self { files, process, proxy, test };
        eventually("a process that serves", async || served.log().contains("serving gRPC")).await;
        served
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.0.join("log")).unwrap_or_default()
    }

    fn signal(&self) {
        kill(Pid::from_raw(self.process.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    }

    async fn end(&mut self) -> ExitStatus {
        let process = &mut self.process;
        let ending = async {
            loop {
                if let Some(status) = process.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the end of the process", ending).await
    }
}

/// A process whose database is cut off stops when it is asked to.
#[tokio::test]
async fn process_with_cut_database_stops_when_asked() {
    let mut served = Served::start().await;
    served.proxy.refuse(true);
    served.proxy.cut();

    served.signal();
    let status = served.end().await;

    assert!(matches!(status.code(), Some(0 | 3)), "{status}: {}", served.log());
    assert!(served.log().contains("stopped"), "{}", served.log());
}

/// A process whose database is frozen stops when it is asked to.
#[tokio::test]
async fn process_with_frozen_database_stops_when_asked() {
    let mut served = Served::start().await;
    served.proxy.silence(true);
    served.proxy.freeze();

    served.signal();
    let status = served.end().await;

    assert!(matches!(status.code(), Some(0 | 3)), "{status}: {}", served.log());
    assert!(served.log().contains("stopped"), "{}", served.log());
}

/// A process whose database never answers stops also while it starts.
#[tokio::test]
async fn process_with_silent_database_stops_while_starting() {
    let test = TestApp::start().await;
    let proxy = Proxy::start(test.db.url()).await;
    proxy.silence(true);
    let files = Files::make(&test);
    let process = Process::start_on(&test, &files, proxy.url()).await;
    let mut served = Served { files, process, proxy, test };
    eventually("its first connection", async || served.proxy.count() > 0).await;

    served.signal();
    let status = served.end().await;

    assert_eq!(status.code(), Some(1));
    assert!(served.log().contains("stopped by SIGTERM while starting"), "{}", served.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut served = Served::start().await;
    served.proxy.silence(true);
    served.proxy.freeze();

    served.signal();
    eventually("the first signal's word", async || {
        served.log().contains("a second signal stops at once") || served.process.child.try_wait().unwrap().is_some()
    })
    .await;
    if served.process.child.try_wait().unwrap().is_none() {
        served.signal();
    }
    let status = served.end().await;

    assert!(matches!(status.code(), Some(0 | 3)), "{status}: {}", served.log());
}

/// A process whose run waits for its CRM gives it back and ends.
#[tokio::test]
async fn process_returns_run_waiting_for_crm() {
    let (test, _, integration) = stage(10).await;
    fail(&test, 0, None, Fault::RateLimited { retry_after_seconds: Some(50) });
    let proxy = Proxy::start(test.db.url()).await;
    let files = Files::make(&test);
    let process = Process::start(&test, &files).await;
    let mut served = Served { files, process, proxy, test };
    eventually("a run that waits", async || served.log().contains("will try again")).await;

    served.signal();
    let status = served.end().await;

    assert!(status.success(), "{status}: {}", served.log());
    assert_eq!(column(&served.test, &integration, "lease_until").await, "");
}
