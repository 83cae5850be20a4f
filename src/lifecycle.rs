//! How the process ends. The first SIGTERM or SIGINT is a soft stop: parts finish what they have
//! begun. A second one, or a soft stop that takes too long, is a hard stop: they drop it. A
//! critical task that ends by itself stops everything, because half a service answers wrongly.
//! Every task of the process is spawned on the tracker here, so that none outlives the end.
//!
//! running ──signal, or a critical task failed──▶ soft stop ──all tasks ended──▶ exit
//!                                     └──second signal, or `grace` over──▶ hard stop ──▶ exit

use std::{
    error::Error,
    future::Future,
    io,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::telemetry::chain;

/// How long tasks may take to end after the hard stop.
const HARD_STOP_GRACE: Duration = Duration::from_secs(2);

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// As asked, with nothing dropped: code 0.
    Clean,
    /// A critical task failed: code 1.
    Failed,
    /// As asked, but something was dropped: the drain or the hard stop cut it off. Code 3.
    Forced,
}

impl From<ShutdownOutcome> for ExitCode {
    fn from(ended: ShutdownOutcome) -> Self {
        match ended {
            ShutdownOutcome::Clean => Self::SUCCESS,
            ShutdownOutcome::Failed => Self::FAILURE,
            ShutdownOutcome::Forced => Self::from(3),
        }
    }
}

/// The handle that parts are started with; clones share it.
#[derive(Clone, Default)]
pub struct ProcessLifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    has_failed: Arc<AtomicBool>,
    has_dropped: Arc<AtomicBool>,
}

impl ProcessLifecycle {
    /// Running, with no tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when parts should finish what they have begun and end.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when parts must drop what they do.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Something that was begun has been dropped, though every task has ended.
    pub fn note_dropped(&self) {
        self.has_dropped.store(true, Ordering::Release);
    }

    /// Where tasks are spawned. One that fails here is not noticed: see `spawn_critical`.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Spawns a task without which the process makes no sense. If it ends before the soft stop,
    /// fails or panics, the whole process stops softly and ends with code 1. `name` is for the log.
    pub fn spawn_critical<E>(&self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Error + Send + 'static,
    {
        let running = self.tasks.spawn(task);
        let this = self.clone();
        self.tasks.spawn(async move {
            match running.await {
                Ok(Ok(())) if this.soft.is_cancelled() => return,
                Ok(Ok(())) => tracing::error!(task = name, "a critical task ended by itself, stopping"),
                Ok(Err(e)) => tracing::error!(task = name, error = %chain(&e), "a critical task failed, stopping"),
                Err(_) => tracing::error!(task = name, "a critical task panicked, stopping"),
            }
            this.has_failed.store(true, Ordering::Release);
            this.soft.cancel();
        });
    }

    /// Waits for the end: from the first signal, the tasks have `grace` to end by themselves.
    pub async fn run(self, mut next_signal: impl AsyncFnMut() -> &'static str, grace: Duration) -> ShutdownOutcome {
        tokio::select! {
            name = next_signal() => tracing::info!(signal = name, "stopping; a second signal stops at once"),
            () = self.soft.cancelled() => {}
        }
        self.soft.cancel();
        self.tasks.close();
        let is_forced = tokio::select! {
            biased;
            () = self.tasks.wait() => false,
            name = next_signal() => { tracing::warn!(signal = name, "stopping at once"); true }
            () = sleep(grace) => { tracing::warn!("the soft stop took too long, stopping at once"); true }
        };
        if is_forced {
            self.hard.cancel();
            if timeout(HARD_STOP_GRACE, self.tasks.wait()).await.is_err() {
                tracing::error!(tasks = self.tasks.len(), "tasks did not end and are dropped");
            }
        }
        match (self.has_failed.load(Ordering::Acquire), is_forced || self.has_dropped.load(Ordering::Acquire)) {
            (true, _) => ShutdownOutcome::Failed,
            (false, true) => ShutdownOutcome::Forced,
            (false, false) => ShutdownOutcome::Clean,
        }
    }
}

/// The signals that ask this process to end.
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl ShutdownSignals {
    /// From now on SIGTERM and SIGINT no longer end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and tells its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use nix::sys::signal::{Signal as NixSignal, raise};
    use tokio::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;

    /// Signals that the test sends.
    fn signals() -> (mpsc::UnboundedSender<&'static str>, impl AsyncFnMut() -> &'static str) {
        let (send, mut receive) = mpsc::unbounded_channel();
        let next = async move || match receive.recv().await {
            Some(name) => name,
            None => pending().await,
        };
        (send, next)
    }

    #[tokio::test]
    async fn sigterm_and_sigint_are_heard_by_name() {
        let mut signals = ShutdownSignals::listen().unwrap();

        for (signal, name) in [(NixSignal::SIGTERM, "SIGTERM"), (NixSignal::SIGINT, "SIGINT")] {
            raise(signal).unwrap();
            assert_eq!(signals.next().await, name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_lets_tasks_finish() {
        let life = ProcessLifecycle::new();
        let (send, next) = signals();
        let soft = life.soft();
        life.spawn_critical("worker", async move {
            soft.cancelled().await;
            Ok::<(), Broken>(())
        });
        send.send("SIGTERM").unwrap();

        assert_eq!(life.run(next, LONG).await, ShutdownOutcome::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_signal_stops_at_once() {
        let life = ProcessLifecycle::new();
        let (send, next) = signals();
        let hard = life.hard();
        life.spawn_critical("worker", async move {
            hard.cancelled().await;
            Ok::<(), Broken>(())
        });
        send.send("SIGTERM").unwrap();
        send.send("SIGINT").unwrap();

        assert_eq!(life.run(next, LONG).await, ShutdownOutcome::Forced);
    }

    /// A soft stop that takes too long becomes hard, and ends even if a task does not.
    #[tokio::test(start_paused = true)]
    async fn slow_soft_stop_turns_hard_and_ends() {
        let life = ProcessLifecycle::new();
        let hard = life.hard();
        let (send, next) = signals();
        life.tasks().spawn(pending::<()>());
        send.send("SIGTERM").unwrap();

        assert_eq!(life.run(next, Duration::from_secs(10)).await, ShutdownOutcome::Forced);
        assert!(hard.is_cancelled());
    }

    /// A critical task that fails, panics or ends stops the process.
    #[tokio::test(start_paused = true)]
    async fn failing_critical_task_stops_process() {
        let failing: [fn() -> Result<(), Broken>; 3] = [|| Err(Broken), || panic!("on purpose"), || Ok(())];
        for task in failing {
            let life = ProcessLifecycle::new();
            let (_send, next) = signals();
            let soft = life.soft();
            life.spawn_critical("other", async move {
                soft.cancelled().await;
                Ok::<(), Broken>(())
            });
            life.spawn_critical("worker", async move { task() });

            assert_eq!(life.run(next, LONG).await, ShutdownOutcome::Failed);
        }
    }
}
