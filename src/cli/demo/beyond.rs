//! Chapters about what is known without a copy: click-to-call before any sync, and sync turned off.

use super::{
    cast::{self, BRYCE, HANA, HANA_RECORD, NOAH, SALESFORCE_ORG},
    story::{Story, name, record_id},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, resolve_requester_request::Subject},
};

/// Who clicks and dials.
const AGENT: &str = "amy";

impl Story<'_> {
    pub(super) async fn click_to_call(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Click-to-call from a Salesforce Contact, before any sync");
        self.teller.ask("EnableSync", &format!("Salesforce {SALESFORCE_ORG}, sync OFF, no credentials"));
        let organization = pb::connection::Organization::SalesforceOrgId(SALESFORCE_ORG.to_owned());
        let request = pb::EnableSyncRequest {
            account_id: self.account_id.clone(),
            provider: pb::Provider::Salesforce.into(),
            connection: Some(pb::Connection { organization: Some(organization), ..Default::default() }),
            options: Some(pb::IntegrationOptions {
                sync: pb::SyncMode::Off.into(),
                period: None,
                ..Default::default()
            }),
            ..Default::default()
        };
        let salesforce = self.enable(request).await?;

        self.teller.ask("PreRegisterContact", &format!("Contact {HANA_RECORD}, {}, clicked by {AGENT}", HANA.typed));
        let request = pb::PreRegisterContactRequest {
            account_id: self.account_id.clone(),
            integration_id: salesforce.id.clone(),
            object_type: "Contact".to_owned(),
            record_id: HANA_RECORD.to_owned(),
            phone_number: HANA.typed.to_owned(),
            display_name: HANA.name.to_owned(),
            agent_id: AGENT.to_owned(),
            ..Default::default()
        };
        let clicked = self.stage.client.callers().pre_register_contact(request).await?.into_inner();
        let until = show::time(clicked.expected_until.as_ref());
        self.teller.answer("expected", &format!("{} until {until}", name(clicked.contact.as_ref())));

        let call_id = self.next_call_id();
        let mut request = self.call_from(HANA.dialled, &call_id);
        request.set_direction(pb::Direction::Outbound);
        AGENT.clone_into(&mut request.agent_id);
        let answer = self.match_caller(request).await?;
        self.teller.check("the person clicked is named", HANA.name, name(answer.selected.as_ref()));
        self.teller.check("because she was clicked", "CLICKED", show::tier(answer.tier()));
        let requester = self.resolve("Salesforce", &salesforce.id, Subject::CallId(call_id)).await?;
        self.teller.check("the case belongs to that very record", HANA_RECORD, record_id(&requester));
        Ok(())
    }

    pub(super) async fn sync_off(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Sync is turned off: answers say what is lost");
        self.switch(pb::SyncMode::Off).await?;
        self.teller.ask("GetIntegration", "Zendesk");
        let integration = self.integration().await?;
        self.teller.answer(show::integration_state(integration.state()), &integration.state_detail);
        self.teller.check("the integration says that it is off", "OFF", show::integration_state(integration.state()));
        self.teller.check("and what that means", false, integration.state_detail.is_empty());

        let answer = self.look_up(BRYCE.dialled).await?;
        self.teller.check("who was copied is still named", BRYCE.name, name(answer.selected.as_ref()));
        let note = answer.sources.iter().find(|source| source.integration_id == self.zendesk_id);
        self.teller.check("the answer says it, too", integration.state_detail, note.map_or("", |source| &source.note));

        let user = cast::create(&self.stage.zendesk, NOAH).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        self.teller.crm("in Zendesk", &format!("user {user} is created: {}, \"{}\"", NOAH.name, NOAH.typed));
        let number = Subject::PhoneNumber(NOAH.dialled.to_owned());
        let requester = self.resolve("Zendesk", &self.zendesk_id.clone(), number).await?;
        let outcome = show::requester_outcome(requester.outcome());
        self.teller.check("the engine hears why nobody is found", "SYNC_OFF", outcome);

        self.teller.say("And on again: what happened meanwhile is fetched.");
        let integration = self.switch(pb::SyncMode::On).await?;
        self.follow(&integration.current_sync_run_id).await?;
        let answer = self.look_up(NOAH.dialled).await?;
        self.teller.check("the newcomer is named", NOAH.name, name(answer.selected.as_ref()));
        Ok(())
    }

    async fn switch(&mut self, mode: pb::SyncMode) -> anyhow::Result<pb::Integration> {
        let shown = if mode == pb::SyncMode::On { "ON" } else { "OFF" };
        self.teller.ask("UpdateSync", &format!("Zendesk, sync {shown}"));
        let request = pb::UpdateSyncRequest {
            account_id: self.account_id.clone(),
            integration_id: self.zendesk_id.clone(),
            options: Some(pb::IntegrationOptions { sync: mode.into(), period: None, ..Default::default() }),
            credentials: None,
            ..Default::default()
        };
        let integration = self.stage.client.syncs().update_sync(request).await?.into_inner().integration;
        let integration = integration.unwrap_or_default();
        self.tell_state(&integration);
        Ok(integration)
    }
}
