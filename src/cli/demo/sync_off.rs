//! The chapter about sync turned off: what is lost, who says so, and how it comes back.

use super::{
    people::{self, JONATHAN, NOAH},
    story::{DemoStory, name},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, resolve_requester_request::Subject},
};

impl DemoStory<'_> {
    pub(super) async fn sync_off(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Sync of Zendesk is turned off: answers say what is lost");
        self.switch(Provider::Zendesk, pb::SyncMode::Off).await?;
        self.narrator.ask("GetIntegration", "Zendesk");
        let integration = self.integration(Provider::Zendesk).await?;
        self.narrator.answer(show::integration_state(integration.state()), &integration.state_detail);
        self.narrator.check("the integration says that it is off", "OFF", show::integration_state(integration.state()));
        self.narrator.check("and what that means", false, integration.state_detail.is_empty());

        let answer = self.look_up(JONATHAN.dialled).await?;
        self.narrator.check("who was copied is still named", JONATHAN.name, name(answer.selected.as_ref()));
        let note = answer.sources.iter().find(|source| source.provider() == Provider::Zendesk);
        self.narrator.check(
            "the answer says it, too",
            integration.state_detail,
            note.map_or("", |source| &source.note),
        );

        let user = people::user(&self.stage.crms.zendesk, NOAH)?;
        self.narrator.crm("in Zendesk", &format!("new user {user}: {}, \"{}\"", NOAH.name, NOAH.typed));
        let number = Subject::PhoneNumber(NOAH.dialled.to_owned());
        let requester = self.resolve(Provider::Zendesk, number).await?;
        let outcome = show::requester_outcome(requester.outcome());
        self.narrator.check("the engine hears why nobody is found", "SYNC_OFF", outcome);

        self.narrator.say("And on again: what happened meanwhile is fetched.");
        let integration = self.switch(Provider::Zendesk, pb::SyncMode::On).await?;
        self.follow(&integration.current_sync_run_id).await?;
        let answer = self.look_up(NOAH.dialled).await?;
        self.narrator.check("the newcomer is named", NOAH.name, name(answer.selected.as_ref()));
        Ok(())
    }
}
