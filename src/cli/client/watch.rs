//! Follows a sync run: a bar on a terminal, plain lines elsewhere, one JSON object a change for
//! programs. Invariant: ends when the run has ended; a stream that breaks off is taken up again a
//! few times. Writes progress to standard error, so that standard output holds the answer alone.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tonic::{Code, Status};

use super::{
    ServiceClient, json,
    show::{self, LabelledLines, count},
};
use crate::rpc::pb;

/// How often a stream that breaks off is taken up again, without a change between.
const BREAKS_MAX: u32 = 5;
/// Before it is taken up again.
const BREAK_PAUSE: Duration = Duration::from_secs(1);
/// How a command ends that Ctrl-C has ended, by the shells' custom: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
const GOES_ON: &str = "the copy goes on in the service, only the watching has ended";
/// Plain lines come no faster.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Calls `see` with the run now and after each change, and returns it as it ended.
pub(in crate::cli) async fn follow(
    client: &ServiceClient,
    account_id: &str,
    run_id: &str,
    mut see: impl FnMut(&pb::SyncRun),
) -> Result<pb::SyncRun, Status> {
    let mut breaks = 0;
    loop {
        let request = pb::WatchSyncRunRequest { account_id: account_id.to_owned(), sync_run_id: run_id.to_owned() };
        let ended = match client.syncs().watch_sync_run(request).await {
            Err(status) => status,
            Ok(response) => {
                let mut changes = response.into_inner();
                loop {
                    match changes.message().await {
                        Ok(Some(change)) => {
                            let run = change.sync_run.unwrap_or_default();
                            breaks = 0;
                            see(&run);
                            if is_finished(run.state()) {
                                return Ok(run);
                            }
                        }
                        Ok(None) => break Status::unavailable("the server ended the watch before the run has ended"),
                        Err(status) => break status,
                    }
                }
            }
        };
        let may_heal = matches!(
            ended.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled | Code::Unknown
        );
        breaks += 1;
        if !may_heal || breaks > BREAKS_MAX {
            return Err(ended);
        }
        tokio::time::sleep(BREAK_PAUSE).await;
    }
}

fn is_finished(state: pb::SyncRunState) -> bool {
    matches!(state, pb::SyncRunState::Succeeded | pb::SyncRunState::Failed | pb::SyncRunState::Cancelled)
}

/// Follows a run for a command, prints how it ended, and says by the exit code whether it
/// succeeded. Ctrl-C ends the watching and not the run, and says so.
pub(in crate::cli) async fn report(client: &ServiceClient, account_id: &str, run_id: &str) -> anyhow::Result<ExitCode> {
    let followed = if client.is_json() {
        // One object a line, so that a program can follow, too.
        let tell = |run: &pb::SyncRun| {
            let change = pb::WatchSyncRunResponse { sync_run: Some(run.clone()) };
            let _ = client.print(&json::of(&change), "");
        };
        unless_interrupted(follow(client, account_id, run_id, tell)).await
    } else {
        let mut progress = RunProgress::start("  ");
        let followed = unless_interrupted(follow(client, account_id, run_id, |run| progress.show(run))).await;
        progress.end();
        followed
    };
    let Some(run) = followed.transpose()? else {
        if client.is_json() {
            eprintln!("{}", serde_json::json!({ "note": GOES_ON, "syncRunId": run_id }));
        } else {
            eprint!("{}", left(run_id));
        }
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if !client.is_json() {
        let mut lines = LabelledLines::default();
        show::run(&mut lines, &run);
        if run.state() == pb::SyncRunState::Failed {
            show::after_failure(&mut lines, &integration_of(client, account_id, &run).await?);
        }
        client.print(&json::of(&run), lines)?;
    }
    Ok(if run.state() == pb::SyncRunState::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `None`: whoever watches has had enough.
async fn unless_interrupted<T>(following: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        followed = following => Some(followed),
        _ = tokio::signal::ctrl_c() => None,
    }
}

async fn integration_of(
    client: &ServiceClient,
    account_id: &str,
    run: &pb::SyncRun,
) -> Result<pb::Integration, Status> {
    let request =
        pb::GetIntegrationRequest { account_id: account_id.to_owned(), integration_id: run.integration_id.clone() };
    Ok(client.syncs().get_integration(request).await?.into_inner().integration.unwrap_or_default())
}

/// What is said when the watching ends before the run.
fn left(run_id: &str) -> LabelledLines {
    let mut lines = LabelledLines::default();
    lines.add("note", GOES_ON);
    lines.add("next", format!("`contact-sync sync watch --run {run_id}` follows it again"));
    lines.add(
        "next",
        format!("`contact-sync sync cancel --run {run_id}` stops it; `contact-sync sync status` shows what is copied"),
    );
    lines
}

/// Shows how far a run is.
pub(in crate::cli) struct RunProgress {
    bar: Option<ProgressBar>,
    indent: &'static str,
    started: Instant,
    /// What had been read when the watching began.
    read_before: Option<i64>,
    last_line: Option<(Instant, String)>,
}

impl RunProgress {
    /// A bar if standard error is a terminal, else lines.
    pub(in crate::cli) fn start(indent: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(&format!("{indent}{{spinner}} {{wide_msg}}")));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, indent, started: Instant::now(), read_before: None, last_line: None }
    }

    /// The run as it is now.
    pub(in crate::cli) fn show(&mut self, run: &pb::SyncRun) {
        // How it ended is said by whoever asked for the run.
        if is_finished(run.state()) {
            return;
        }
        let read = run.counts.unwrap_or_default().read;
        let before = *self.read_before.get_or_insert(read);
        let rate = per_second(read - before, self.started.elapsed());
        let text = describe(run, rate);
        let Some(bar) = &self.bar else { return self.show_line(text) };
        let total = u64::try_from(run.estimated_total.max(read)).unwrap_or(0);
        if run.estimated_total > 0 {
            bar.set_length(total);
            bar.set_style(style(&format!("{}{{bar:16}} {{percent:>3}}% {{wide_msg}}", self.indent)));
        }
        bar.set_position(u64::try_from(read).unwrap_or(0));
        bar.set_message(text);
    }

    fn show_line(&mut self, text: String) {
        let is_due = self.last_line.as_ref().is_none_or(|(at, last)| *last != text && at.elapsed() >= LINE_EVERY);
        if is_due {
            let _ = writeln!(io::stderr(), "{}{text}", self.indent);
            self.last_line = Some((Instant::now(), text));
        }
    }

    /// Takes the bar away: what comes next says how it ended.
    pub(in crate::cli) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> ")
}

fn per_second(records: i64, elapsed: Duration) -> Option<i64> {
    let ms = i64::try_from(elapsed.as_millis()).ok()?;
    (records > 0 && ms >= 200).then(|| records.saturating_mul(1_000) / ms)
}

/// `copying: 1,500 of about 2,013 read (created 1,498, updated 2, deleted 0), 812/s, 1 s left`, in
/// 80 columns beside a bar.
fn describe(run: &pb::SyncRun, rate: Option<i64>) -> String {
    let counts = run.counts.unwrap_or_default();
    let what = match run.state() {
        pb::SyncRunState::Running if !run.phase.is_empty() => show::clean(&run.phase),
        state => show::run_state(state).to_lowercase(),
    };
    if run.state() == pb::SyncRunState::Queued && counts.read == 0 {
        return format!("{what}: waits for a worker's place; a free one takes it up at once");
    }
    let mut text = format!("{what}: {}", count(counts.read));
    if run.estimated_total > 0 {
        text = format!("{text} of {}", count(run.estimated_total.max(counts.read)));
    }
    text.push_str(" read");
    for (number, name) in [(counts.created, "new"), (counts.updated, "updated"), (counts.deleted, "deleted")] {
        if number > 0 {
            text = format!("{text}, {} {name}", count(number));
        }
    }
    if let Some(rate) = rate {
        text = format!("{text}, {}/s", count(rate));
    }
    // A wait within a run is a minute at most; a longer one ends it, and the integration says until
    // when.
    if let Some(error) = &run.error {
        text = format!("{text}, after {}", show::clean(&error.reason));
    }
    if let Some(left) = run.estimated_time_left.filter(|left| left.seconds > 0) {
        text = format!("{text}, {} left", show::span(&left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> pb::SyncRun {
        pb::SyncRun {
            state: pb::SyncRunState::Running.into(),
            phase: "copying".into(),
            counts: Some(pb::SyncCounts { read: 1_500, created: 1_498, updated: 2, ..Default::default() }),
            estimated_total: 2_013,
            estimated_time_left: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn progress_tells_counts_rate_and_time_left() {
        assert_eq!(
            describe(&running(), Some(812)),
            "copying: 1,500 of 2,013 read, 1,498 new, 2 updated, 812/s, 1 min 30 s left"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let queued = pb::SyncRun { state: pb::SyncRunState::Queued.into(), ..Default::default() };

        assert!(describe(&queued, None).starts_with("queued: waits for a worker's place"));
    }

    /// A wait tells what it is for and what it follows.
    #[test]
    fn wait_tells_its_purpose_and_cause() {
        let error = Some(pb::Notice { reason: "RATE_LIMITED".into(), message: "words".into() });
        let run = pb::SyncRun { phase: "waiting for the CRM's rate limit".into(), error, ..running() };

        let text = describe(&run, None);

        assert!(text.starts_with("waiting for the CRM's rate limit: 1,500 of 2,013 read"), "{text}");
        assert!(text.contains("after RATE_LIMITED, 1 min 30 s left"), "{text}");
    }

    /// Who stops watching is told that the run goes on.
    #[test]
    fn interrupted_watcher_hears_run_goes_on() {
        let text = left("0199").to_string();

        assert!(text.contains("the copy goes on") && text.contains("sync watch --run 0199"), "{text}");
    }

    #[test]
    fn more_records_than_estimated_do_not_look_wrong() {
        let run = pb::SyncRun { estimated_total: 10, ..running() };

        assert!(describe(&run, None).contains("1,500 of 1,500 read"));
    }

    #[test]
    fn a_rate_needs_some_time_and_some_records() {
        assert_eq!(per_second(500, Duration::from_millis(500)), Some(1_000));
        assert_eq!(per_second(500, Duration::from_millis(100)), None);
        assert_eq!(per_second(0, Duration::from_secs(9)), None);
        assert_eq!(per_second(i64::MAX, Duration::from_secs(1)), Some(i64::MAX / 1_000));
    }
}
