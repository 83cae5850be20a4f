//! Chapters about calls: known, shared, new and withheld numbers, and a caller in two CRMs.

use super::{
    people::{BRYCE, DANIEL, MARIA, PRIYA},
    story::{DemoStory, id, name, record_id, short},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, resolve_requester_request::Subject},
};

impl DemoStory<'_> {
    pub(super) async fn known_caller(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Bryce Love calls, and is named while the phone rings");
        self.narrator.fact("Zendesk has", &format!("{}, \"{}\"", BRYCE.name, BRYCE.typed));
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(BRYCE.dialled, &call_id)).await?;
        self.narrator.check("one contact matches", "MATCHED", show::outcome(answer.outcome()));
        self.narrator.check("the caller is named", BRYCE.name, name(answer.selected.as_ref()));
        self.narrator.check("nobody else could be meant: every CRM is copied", true, answer.complete);

        self.narrator.chapter("The automation engine creates a ticket: it belongs to him");
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id)).await?;
        self.narrator.check("requester_id is Zendesk's own id", self.stage.demo_people.bryce, record_id(&requester));
        Ok(())
    }

    pub(super) async fn shared_number(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Two contacts share a number: the agent picks the second");
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(MARIA.dialled, &call_id)).await?;
        self.narrator.check("both are offered", "AMBIGUOUS", show::outcome(answer.outcome()));
        let names: Vec<&str> = answer.candidates.iter().map(|contact| contact.display_name.as_str()).collect();
        self.narrator.check(
            "they are the two of Zendesk",
            format!("{}, {}", MARIA.name, DANIEL.name),
            names.join(", "),
        );
        self.narrator.check("the first created is the default", MARIA.name, name(answer.selected.as_ref()));

        let Some(second) = answer.candidates.get(1) else { return Ok(()) };
        self.narrator.ask("SelectMatch", &format!("{call_id}: {}", second.display_name));
        let request = pb::SelectMatchRequest {
            account_id: self.account_id.clone(),
            call_id: call_id.clone(),
            contact_id: second.id.clone(),
            agent_id: "amy".to_owned(),
        };
        let chosen = self.stage.client.callers().select_match(request).await?.into_inner().selection;
        self.narrator.answer("chosen", name(chosen.as_ref()));
        self.narrator.check("the choice is stored", &second.id, id(chosen.as_ref()));
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id)).await?;
        self.narrator.check("the ticket follows the choice", self.stage.demo_people.daniel, record_id(&requester));
        Ok(())
    }

    pub(super) async fn in_two_crms(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Bryce Love is in two CRMs: each gets the record that is its own");
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(BRYCE.dialled, &call_id)).await?;
        self.narrator.check("there are two contacts now", "AMBIGUOUS", show::outcome(answer.outcome()));
        self.narrator.check(
            "both carry his name",
            true,
            answer.candidates.iter().all(|of| of.display_name == BRYCE.name),
        );
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id.clone())).await?;
        self.narrator.check("the ticket belongs to the user", self.stage.demo_people.bryce, record_id(&requester));
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(call_id)).await?;
        let contact = &self.stage.demo_people.bryce_in_salesforce;
        self.narrator.check("and the case to the Contact", contact, record_id(&requester));
        Ok(())
    }

    /// The stranger's contact and first call.
    pub(super) async fn stranger(&mut self) -> anyhow::Result<(String, String)> {
        self.narrator.chapter("Nobody knows this caller: one contact is made, and never a second");
        let (first_call, second_call) = (self.next_call_id(), self.next_call_id());
        let first = self.match_caller(self.call_from(PRIYA.dialled, &first_call)).await?;
        let second = self.match_caller(self.call_from(PRIYA.dialled, &second_call)).await?;
        let contact_id = id(first.selected.as_ref()).to_owned();
        self.narrator.check("the first call makes a contact", "CREATED", show::outcome(first.outcome()));
        self.narrator.check("the second finds it", "MATCHED", show::outcome(second.outcome()));
        let same = format!("it is the same, {}", short(&contact_id));
        self.narrator.check(&same, &contact_id, id(second.selected.as_ref()));
        Ok((contact_id, first_call))
    }

    pub(super) async fn withheld(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("A caller hides the number: nobody is named, nothing is made");
        let call_id = self.next_call_id();
        let request = pb::MatchCallerRequest { caller_id_withheld: true, ..self.call_from("", &call_id) };
        let answer = self.match_caller(request).await?;
        self.narrator.check("the answer says so", "WITHHELD", show::outcome(answer.outcome()));
        self.narrator.check("there is no contact", "", id(answer.selected.as_ref()));
        Ok(())
    }
}
