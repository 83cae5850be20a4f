//! Chapters about calls: known, shared, new and withheld numbers, and a caller in two CRMs.

use super::{
    cast::{BRYCE, DANIEL, MARIA, PRIYA},
    story::{Story, id, name, record_id, short},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, resolve_requester_request::Subject},
};

impl Story<'_> {
    pub(super) async fn known_caller(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Bryce Love calls, and is named while the phone rings");
        self.teller.fact("Zendesk has", &format!("{}, \"{}\"", BRYCE.name, BRYCE.typed));
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(BRYCE.dialled, &call_id)).await?;
        self.teller.check("one contact matches", "MATCHED", show::outcome(answer.outcome()));
        self.teller.check("the caller is named", BRYCE.name, name(answer.selected.as_ref()));
        self.teller.check("nobody else could be meant: every CRM is copied", true, answer.complete);

        self.teller.chapter("The automation engine creates a ticket: it belongs to him");
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id)).await?;
        self.teller.check("requester_id is Zendesk's own id", self.stage.cast.bryce, record_id(&requester));
        Ok(())
    }

    pub(super) async fn shared_number(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Two contacts share a number: the agent picks the second");
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(MARIA.dialled, &call_id)).await?;
        self.teller.check("both are offered", "AMBIGUOUS", show::outcome(answer.outcome()));
        let names: Vec<&str> = answer.candidates.iter().map(|contact| contact.display_name.as_str()).collect();
        self.teller.check("they are the two of Zendesk", format!("{}, {}", MARIA.name, DANIEL.name), names.join(", "));
        self.teller.check("the first created is the default", MARIA.name, name(answer.selected.as_ref()));

        let Some(second) = answer.candidates.get(1) else { return Ok(()) };
        self.teller.ask("SelectMatch", &format!("{call_id}: {}", second.display_name));
        let request = pb::SelectMatchRequest {
            account_id: self.account_id.clone(),
            call_id: call_id.clone(),
            contact_id: second.id.clone(),
            agent_id: "amy".to_owned(),
        };
        let chosen = self.stage.client.callers().select_match(request).await?.into_inner().selection;
        self.teller.answer("chosen", name(chosen.as_ref()));
        self.teller.check("the choice is stored", &second.id, id(chosen.as_ref()));
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id)).await?;
        self.teller.check("the ticket follows the choice", self.stage.cast.daniel, record_id(&requester));
        Ok(())
    }

    pub(super) async fn in_two_crms(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("Bryce Love is in two CRMs: each gets the record that is its own");
        let call_id = self.next_call_id();
        let answer = self.match_caller(self.call_from(BRYCE.dialled, &call_id)).await?;
        self.teller.check("there are two contacts now", "AMBIGUOUS", show::outcome(answer.outcome()));
        self.teller.check(
            "both carry his name",
            true,
            answer.candidates.iter().all(|of| of.display_name == BRYCE.name),
        );
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id.clone())).await?;
        self.teller.check("the ticket belongs to the user", self.stage.cast.bryce, record_id(&requester));
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(call_id)).await?;
        let contact = &self.stage.cast.bryce_in_salesforce;
        self.teller.check("and the case to the Contact", contact, record_id(&requester));
        Ok(())
    }

    /// The stranger's contact and first call.
    pub(super) async fn stranger(&mut self) -> anyhow::Result<(String, String)> {
        self.teller.chapter("Nobody knows this caller: one contact is made, and never a second");
        let (first_call, second_call) = (self.next_call_id(), self.next_call_id());
        let first = self.match_caller(self.call_from(PRIYA.dialled, &first_call)).await?;
        let second = self.match_caller(self.call_from(PRIYA.dialled, &second_call)).await?;
        let contact_id = id(first.selected.as_ref()).to_owned();
        self.teller.check("the first call makes a contact", "CREATED", show::outcome(first.outcome()));
        self.teller.check("the second finds it", "MATCHED", show::outcome(second.outcome()));
        let same = format!("it is the same, {}", short(&contact_id));
        self.teller.check(&same, &contact_id, id(second.selected.as_ref()));
        Ok((contact_id, first_call))
    }

    pub(super) async fn withheld(&mut self) -> anyhow::Result<()> {
        self.teller.chapter("A caller hides the number: nobody is named, nothing is made");
        let call_id = self.next_call_id();
        let request = pb::MatchCallerRequest { caller_id_withheld: true, ..self.call_from("", &call_id) };
        let answer = self.match_caller(request).await?;
        self.teller.check("the answer says so", "WITHHELD", show::outcome(answer.outcome()));
        self.teller.check("there is no contact", "", id(answer.selected.as_ref()));
        Ok(())
    }
}
