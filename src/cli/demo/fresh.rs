//! What chapters about pushed changes share: the answer is looked for again and again, and no run
//! is started for it.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::story::{DemoStory, name, shown_caller};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider},
};

/// A change that is not known after so long is told as it stands then.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// From look to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Runs asked for: more than a story has of one CRM.
const RUNS_MAX: i32 = 200;

impl DemoStory<'_> {
    /// Checks that a CRM pushes its changes, or does so soon.
    pub(super) async fn check_pushes(&mut self, provider: Provider) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let push = self.integration(provider).await?.push.unwrap_or_default();
            if push.state() == pb::PushState::Active || began.elapsed() > WAIT_MAX {
                let state = push.state().as_str_name();
                self.narrator.check("the CRM says what changes, as it changes", "PUSH_STATE_ACTIVE", state);
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Looks until the answer to a number is so; the answer.
    pub(super) async fn soon(
        &mut self,
        number: &str,
        is_so: impl Fn(&pb::MatchCallerResponse) -> bool,
    ) -> anyhow::Result<pb::MatchCallerResponse> {
        self.narrator.ask("MatchCaller", &format!("{number}, LOOKUP_ONLY, until it is known"));
        let began = Instant::now();
        loop {
            let mut request = self.call_from(number, "");
            request.set_on_no_match(pb::OnNoMatch::LookupOnly);
            let answer = self.stage.client.callers().match_caller(request).await?.into_inner();
            if is_so(&answer) || began.elapsed() > WAIT_MAX {
                let seconds = began.elapsed().as_secs_f64();
                let told = format!("{}, after {seconds:.1} s", shown_caller(&answer));
                self.narrator.answer(show::outcome(answer.outcome()), &told);
                return Ok(answer);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The same until somebody of this name is named.
    pub(super) async fn soon_named(&mut self, number: &str, wanted: &str) -> anyhow::Result<pb::MatchCallerResponse> {
        let answer = self.soon(number, |answer| name(answer.selected.as_ref()) == wanted).await?;
        self.narrator.check("the caller is named", wanted, name(answer.selected.as_ref()));
        Ok(answer)
    }

    /// The same until nobody is named.
    pub(super) async fn soon_nobody(&mut self, number: &str) -> anyhow::Result<()> {
        let answer = self.soon(number, |answer| answer.selected.is_none()).await?;
        self.narrator.check("nobody is named any more", "NOT_FOUND", show::outcome(answer.outcome()));
        Ok(())
    }

    /// How many runs of a CRM there have been.
    pub(super) async fn count_runs(&mut self, provider: Provider) -> anyhow::Result<usize> {
        let request = pb::ListSyncRunsRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(provider),
            page_size: RUNS_MAX,
            ..Default::default()
        };
        Ok(self.stage.client.syncs().list_sync_runs(request).await?.into_inner().sync_runs.len())
    }

    /// Checks that nothing was polled since there were so many runs.
    pub(super) async fn check_no_run(&mut self, provider: Provider, before: usize) -> anyhow::Result<()> {
        let runs = self.count_runs(provider).await?;
        self.narrator.check("no run was needed for it", before, runs);
        Ok(())
    }
}
