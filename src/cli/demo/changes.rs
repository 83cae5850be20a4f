//! Chapters about what changes in Zendesk: a user created, two merged, one deleted.

use super::{
    cast::{self, JON, JONATHAN, PRIYA, Person, TESS},
    story::{Story, id, name, record_id},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, resolve_requester_request::Subject},
    simulator::zendesk::Refusal,
};

impl Story<'_> {
    pub(super) async fn created_in_zendesk(&mut self, stranger: &str, first_call: String) -> anyhow::Result<()> {
        self.teller.chapter("An agent adds the stranger to Zendesk: the next pass names her");
        let user = in_zendesk(cast::create(&self.stage.zendesk, PRIYA))?;
        self.teller.crm("in Zendesk", &format!("user {user} is created: {}, \"{}\"", PRIYA.name, PRIYA.typed));
        self.sync().await?;
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(PRIYA.dialled, &call_id)).await?;
        self.teller.check("the caller is named", PRIYA.name, name(answer.selected.as_ref()));
        self.teller.check("the contact of her first call is hers now", stranger, id(answer.selected.as_ref()));
        self.teller.check("there is no duplicate", 1, answer.total);
        let requester = self.resolve("Zendesk", &self.zendesk_id.clone(), Subject::CallId(first_call)).await?;
        self.teller.check("and her first call can have a ticket", user, record_id(&requester));
        Ok(())
    }

    pub(super) async fn merged_in_zendesk(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Two users are merged in Zendesk: the loser's contact is deleted");
        let loser = self.named(JON).await?;
        in_zendesk(self.stage.zendesk.merge_users(self.stage.cast.jon, self.stage.cast.jonathan))?;
        self.teller.crm("in Zendesk", &format!("{} is merged into {}", JON.name, JONATHAN.name));
        self.sync().await?;
        self.check_deleted(&loser).await?;
        let answer = self.look_up(JON.dialled).await?;
        self.teller.check("the loser is in no answer", "NOT_FOUND", show::outcome(answer.outcome()));
        let answer = self.look_up(JONATHAN.dialled).await?;
        self.teller.check("the winner still is", JONATHAN.name, name(answer.selected.as_ref()));
        Ok(())
    }

    pub(super) async fn deleted_in_zendesk(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("A user is deleted in Zendesk: so is the contact");
        let contact = self.named(TESS).await?;
        in_zendesk(self.stage.zendesk.delete_user(self.stage.cast.tess))?;
        self.teller.crm("in Zendesk", &format!("{} is deleted", TESS.name));
        self.sync().await?;
        self.check_deleted(&contact).await?;
        let answer = self.look_up(TESS.dialled).await?;
        self.teller.check("nobody is named any more", "NOT_FOUND", show::outcome(answer.outcome()));
        Ok(())
    }

    /// The contact of somebody who is known by the number.
    async fn named(&mut self, person: Person) -> anyhow::Result<pb::Contact> {
        let answer = self.look_up(person.dialled).await?;
        self.teller.check("the caller is named", person.name, name(answer.selected.as_ref()));
        Ok(answer.selected.unwrap_or_default())
    }

    async fn check_deleted(&mut self, contact: &pb::Contact) -> anyhow::Result<()> {
        self.teller.ask("GetContact", &format!("the contact of {}", contact.display_name));
        let now = self.contact(&contact.id).await?;
        let state = if now.deleted_at.is_some() { "deleted" } else { "live" };
        self.teller.answer(state, &show::time(now.deleted_at.as_ref()));
        self.teller.check("the contact is deleted", "deleted", state);
        Ok(())
    }
}

/// The simulated Zendesk says why it does not do something.
fn in_zendesk<T>(done: Result<T, Refusal>) -> anyhow::Result<T> {
    done.map_err(|refusal| anyhow::anyhow!("Zendesk refuses: {refusal}"))
}
