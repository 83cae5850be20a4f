//! The chapter about a caller whom nobody here knows, and a CRM does.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    people::{self, NORA},
    story::{DemoStory, name, record_id},
};
use crate::rpc::pb::{self, Provider, resolve_requester_request::Subject};

/// How long the call may wait, in milliseconds.
const BUDGET_MS: i32 = 1_500;
/// Answers go by the account's rules of up to five seconds ago.
const RULES_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl DemoStory<'_> {
    pub(super) async fn known_to_salesforce_alone(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Nobody here knows the caller, and Salesforce does: one call names her");
        self.set_look_aside(BUDGET_MS).await?;
        self.await_look_aside().await?;
        let eventbus = self.stage.crms.salesforce.eventbus();
        eventbus.change_plan(|plan| plan.loss = 1.0);
        let record = people::contact(&self.stage.crms.salesforce, NORA)?;
        eventbus.change_plan(|plan| plan.loss = 0.0);
        self.narrator.crm("in Salesforce", &format!("new Contact {record}, and the event is lost"));
        let runs = self.count_runs(Provider::Salesforce).await?;
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(NORA.dialled, &call_id)).await?;
        self.narrator.check("the caller is named at once", NORA.name, name(answer.selected.as_ref()));
        let of_salesforce = self.integration_id(Provider::Salesforce);
        let look = answer.look_asides.iter().find(|look| look.integration_id == of_salesforce);
        let outcome = look.map_or("", |look| look.outcome().as_str_name());
        self.narrator.check("the answer says who was asked", "LOOK_ASIDE_OUTCOME_FOUND", outcome);
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(call_id)).await?;
        self.narrator.check("and the call belongs to her record", record, record_id(&requester));
        self.check_no_run(Provider::Salesforce, runs).await?;
        self.set_look_aside(0).await
    }

    async fn set_look_aside(&mut self, budget_ms: i32) -> anyhow::Result<()> {
        let shown = if budget_ms == 0 { "off".to_owned() } else { format!("{budget_ms} ms") };
        self.narrator.ask("UpdateAccount", &format!("a call from an unknown number may look aside: {shown}"));
        let request = pb::UpdateAccountRequest {
            account_id: self.account_id.clone(),
            account: Some(pb::Account { look_aside_ms: budget_ms, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["look_aside_ms".to_owned()] }),
        };
        self.stage.client.accounts().update_account(request).await?;
        Ok(())
    }

    /// Until calls go by it.
    async fn await_look_aside(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let request = pb::ExplainMatchRequest {
                account_id: self.account_id.clone(),
                phone_number: NORA.dialled.to_owned(),
                ..Default::default()
            };
            let answer = self.stage.client.callers().explain_match(request).await?.into_inner();
            if answer.steps.iter().any(|step| step.contains("would wait")) || began.elapsed() > RULES_MAX {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
