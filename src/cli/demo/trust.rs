//! Chapters about answers that can be trusted: why a caller is named so, what holds after it was
//! told otherwise, and a person who is erased and stays so.

use anyhow::Context as _;

use super::{
    people::{self, BRYCE, NOAH, OMAR},
    story::{DemoStory, id, name, short},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, resolve_requester_request::Subject},
};

impl DemoStory<'_> {
    /// The words that a support agent reads.
    pub(super) async fn explained(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Why this contact? An agent asks, and reads it in words");
        self.narrator.ask("ExplainMatch", BRYCE.dialled);
        let request = pb::ExplainMatchRequest {
            account_id: self.account_id.clone(),
            phone_number: BRYCE.dialled.to_owned(),
            ..Default::default()
        };
        let explained = self.stage.client.callers().explain_match(request).await?.into_inner();
        for step in &explained.steps {
            self.narrator.say(step);
        }
        let answer = self.look_up(BRYCE.dialled).await?;
        let told = explained.answer.unwrap_or_default();
        self.narrator.check("it is what a call is answered", id(answer.selected.as_ref()), id(told.selected.as_ref()));
        Ok(())
    }

    /// A requester that is known too late is corrected once.
    pub(super) async fn corrected(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("The engine was told \"nobody\", and the record comes later: one correction");
        let call_id = self.next_call_id();
        self.match_caller(self.call_from(OMAR.dialled, &call_id)).await?;
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id.clone())).await?;
        self.narrator.check("nobody is known", "NOT_FOUND", show::requester_outcome(requester.outcome()));
        let user = people::user(&self.stage.crms.zendesk, OMAR)?;
        self.narrator.crm("in Zendesk", &format!("new user {user}: {}, \"{}\"", OMAR.name, OMAR.typed));
        self.sync(Provider::Zendesk).await?;
        let corrections: Vec<pb::Correction> = self
            .changes()
            .await?
            .into_iter()
            .filter_map(|change| change.correction)
            .filter(|correction| correction.call_id == call_id)
            .collect();
        self.narrator.check("the feed carries one correction of that call", 1, corrections.len());
        let after = corrections.first().and_then(|correction| correction.after.clone()).unwrap_or_default();
        self.narrator.check("the ticket belongs to the new user", user.to_string(), after.record_id);
        Ok(())
    }

    /// Erased, and not brought back by a run.
    pub(super) async fn erased(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("A person asks to be forgotten: erased here, and no run brings him back");
        let contact = self.named(NOAH).await?;
        self.narrator.ask("EraseContact", &format!("{} of {}", short(&contact.id), contact.display_name));
        let request = pb::EraseContactRequest { account_id: self.account_id.clone(), contact_id: contact.id.clone() };
        let erased = self.stage.client.contacts().erase_contact(request).await?.into_inner();
        self.narrator.answer("erased", &format!("{} record will not come back", erased.record_count));
        self.sweep(Provider::Zendesk).await?;
        let answer = self.look_up(NOAH.dialled).await?;
        self.narrator.check(
            "nobody is named, though Zendesk still has him",
            "NOT_FOUND",
            show::outcome(answer.outcome()),
        );
        let now = self.look_again(&contact).await?;
        self.narrator.check("his contact says nothing any more", "", name(Some(&now)));
        Ok(())
    }

    /// Everything that has happened, as a reader of the feed gets it.
    async fn changes(&mut self) -> anyhow::Result<Vec<pb::Change>> {
        self.narrator.ask("ListChanges", "from the beginning");
        let (mut changes, mut after) = (Vec::new(), 0);
        loop {
            let request = pb::ListChangesRequest {
                account_id: self.account_id.clone(),
                after,
                page_size: 1_000,
                ..Default::default()
            };
            let page = self.stage.client.contacts().list_changes(request).await?.into_inner();
            after = page.next_after;
            changes.extend(page.changes);
            if !page.has_more {
                break;
            }
        }
        let last = changes.last().context("the feed is empty")?;
        self.narrator.answer("changes", &format!("{} in order, without a gap", show::count(last.number)));
        Ok(changes)
    }
}
