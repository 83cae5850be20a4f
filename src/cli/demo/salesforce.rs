//! Chapters about Salesforce: a click before any sync, access given in the browser, a Lead that is
//! clicked and converted, a merge.

use anyhow::Context as _;
use crm_simulator::salesforce;

use super::{
    browser,
    people::{self, AL, ALAN, DemoPerson, HANA, IVO, ROSA},
    story::{DemoStory, id, name, record_id},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, connection::Organization, resolve_requester_request::Subject},
};

/// Who clicks and dials.
const AGENT: &str = "amy";

/// A Lead that was clicked.
pub(super) struct ClickedLead {
    record_id: String,
    contact: pb::Contact,
    call_id: String,
}

impl DemoStory<'_> {
    /// The contact of who was clicked.
    pub(super) async fn click_before_any_sync(&mut self) -> anyhow::Result<pb::Contact> {
        self.narrator.chapter("Click-to-call from a Salesforce Contact, before any sync");
        let organization = salesforce::organization_id();
        self.narrator.ask("EnableSync", &format!("Salesforce {organization}, sync OFF, no credentials"));
        let organization = Organization::SalesforceOrgId(organization);
        let request = pb::EnableSyncRequest {
            provider: Provider::Salesforce.into(),
            connection: Some(pb::Connection { organization: Some(organization), ..Default::default() }),
            options: Some(pb::IntegrationOptions {
                sync: pb::SyncMode::Off.into(),
                period: None,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.enable(request).await?;
        let record = self.stage.demo_people.hana.clone();
        let contact = self.click("Contact", &record, HANA).await?;
        self.call_clicked(HANA, &record).await?;
        Ok(contact)
    }

    pub(super) async fn authorized_in_the_browser(&mut self, clicked: &pb::Contact) -> anyhow::Result<()> {
        self.narrator.chapter("The administrator connects Salesforce, and pastes no token");
        self.narrator.ask("StartAuthorization", "Salesforce");
        let request = pb::StartAuthorizationRequest {
            account_id: self.account_id.clone(),
            provider: Provider::Salesforce.into(),
            integration_id: self.integration_id(Provider::Salesforce),
            ..Default::default()
        };
        let begun = self.stage.client.syncs().start_authorization(request).await?.into_inner();
        self.narrator.answer("address", &browser::shown(&begun.authorize_url));
        self.narrator.crm("administrator", "opens it, logs in and consents; here the demo does");
        let consent = browser::open(&begun.authorize_url).await.context("Salesforce's page of consent")?;
        self.narrator.answer(consent.status.as_str(), &format!("back to {}", browser::shown(&consent.location)));
        let page = browser::open(&consent.location).await.context("the way back from Salesforce")?;
        self.narrator.answer(page.status.as_str(), page.paragraph());
        let connected = page.paragraph().split(". ").next().unwrap_or_default();
        let expected = format!("Salesforce {} is connected", salesforce::organization_id());
        self.narrator.check("the browser says that it is connected", expected, connected);

        let [contacts, leads] = ["Contact", "Lead"].map(|object| self.stage.crms.salesforce.record_count(object));
        let integration = self.switch(Provider::Salesforce, pb::SyncMode::On).await?;
        let counts = self.first_copy(&integration.current_sync_run_id).await?.counts.unwrap_or_default();
        let copied = counts.created + counts.updated;
        self.narrator.check(&format!("all {contacts} Contacts and {leads} Leads are here"), contacts + leads, copied);
        self.check_fresh(Provider::Salesforce).await?;
        let answer = self.look_up(HANA.dialled).await?;
        self.narrator.check(
            "the copy has landed on the contact clicked before",
            &clicked.id,
            id(answer.selected.as_ref()),
        );
        self.narrator.check("there is no duplicate", 1, answer.total);
        Ok(())
    }

    pub(super) async fn lead_clicked(&mut self) -> anyhow::Result<ClickedLead> {
        self.narrator.chapter("Click-to-call from a Salesforce Lead that no sync has brought yet");
        let record = people::lead(&self.stage.crms.salesforce, ROSA)?;
        self.narrator.crm("in Salesforce", &format!("new Lead {record}: {}, \"{}\"", ROSA.name, ROSA.typed));
        let contact = self.click("Lead", &record, ROSA).await?;
        let call_id = self.call_clicked(ROSA, &record).await?;
        self.sync(Provider::Salesforce).await?;
        let answer = self.look_up(ROSA.dialled).await?;
        self.narrator.check("the run has landed on the same contact", &contact.id, id(answer.selected.as_ref()));
        self.narrator.check("there is no duplicate", 1, answer.total);
        Ok(ClickedLead { record_id: record, contact, call_id })
    }

    pub(super) async fn lead_converted(&mut self, lead: ClickedLead) -> anyhow::Result<()> {
        self.narrator.chapter("The Lead is converted: its contact and its call lead to the new Contact");
        let converted = self.stage.crms.salesforce.convert_lead(&lead.record_id, None);
        let record = converted.context("Salesforce refuses a conversion")?;
        self.narrator.crm("in Salesforce", &format!("the Lead becomes Contact {record}"));
        self.sync(Provider::Salesforce).await?;
        let answer = self.look_up(ROSA.dialled).await?;
        self.narrator.check("she is named, once", 1, answer.total);
        let now = self.look_again(&lead.contact).await?;
        self.narrator.check("the Lead's contact is an alias of hers", id(answer.selected.as_ref()), now.survivor_id);
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(lead.call_id)).await?;
        self.narrator.check("her earlier call belongs to the Contact", record, record_id(&requester));
        Ok(())
    }

    /// A Contact that was not there at the first copy; its id.
    pub(super) async fn created_in_salesforce(&mut self) -> anyhow::Result<String> {
        self.narrator.chapter("A Contact is added to Salesforce, and named within seconds");
        self.check_pushes(Provider::Salesforce).await?;
        let runs = self.count_runs(Provider::Salesforce).await?;
        let record = people::contact(&self.stage.crms.salesforce, IVO)?;
        self.narrator.crm("in Salesforce", &format!("new Contact {record}: {}, \"{}\"", IVO.name, IVO.typed));
        self.soon_named(IVO.dialled, IVO.name).await?;
        let requester = self.resolve(Provider::Salesforce, Subject::PhoneNumber(IVO.dialled.to_owned())).await?;
        self.narrator.check("a case belongs to him", &record, record_id(&requester));
        self.check_no_run(Provider::Salesforce, runs).await?;
        Ok(record)
    }

    pub(super) async fn merged_in_salesforce(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Two Contacts are merged in Salesforce: the loser's is an alias");
        let (loser, winner) = (self.named(AL).await?, self.named(ALAN).await?);
        let call_id = self.next_call_id();
        self.match_caller(self.call_from(AL.dialled, &call_id)).await?;
        let runs = self.count_runs(Provider::Salesforce).await?;
        let (loser_id, winner_id) = (&self.stage.demo_people.al, &self.stage.demo_people.alan);
        let merged = self.stage.crms.salesforce.merge("Contact", winner_id, &[loser_id]);
        merged.context("Salesforce refuses a merge")?;
        self.narrator.crm("in Salesforce", &format!("{} is merged into {}", AL.name, ALAN.name));
        self.soon(AL.dialled, |answer| name(answer.selected.as_ref()) != AL.name).await?;
        let now = self.look_again(&loser).await?;
        self.narrator.check("the loser's contact leads to the winner's", &winner.id, now.survivor_id);
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(call_id)).await?;
        self.narrator.check("the loser's earlier call belongs to the winner", winner_id, record_id(&requester));
        self.check_no_run(Provider::Salesforce, runs).await
    }

    pub(super) async fn deleted_in_salesforce(&mut self, record: &str) -> anyhow::Result<()> {
        self.narrator.chapter("A Contact is deleted in Salesforce: so is the contact here");
        let contact = self.named(IVO).await?;
        let runs = self.count_runs(Provider::Salesforce).await?;
        self.stage.crms.salesforce.delete("Contact", record).context("Salesforce refuses a deletion")?;
        self.narrator.crm("in Salesforce", &format!("{} is deleted", IVO.name));
        self.soon_nobody(IVO.dialled).await?;
        self.check_deleted(&contact).await?;
        self.check_no_run(Provider::Salesforce, runs).await
    }

    /// An agent clicks a record's number; the record's contact.
    async fn click(&mut self, object_type: &str, record: &str, person: DemoPerson) -> anyhow::Result<pb::Contact> {
        self.narrator.ask("PreRegisterContact", &format!("{object_type} {record}, clicked by {AGENT}"));
        let request = pb::PreRegisterContactRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(Provider::Salesforce),
            object_type: object_type.to_owned(),
            record_id: record.to_owned(),
            phone_number: person.typed.to_owned(),
            display_name: person.name.to_owned(),
            agent_id: AGENT.to_owned(),
            ..Default::default()
        };
        let clicked = self.stage.client.callers().pre_register_contact(request).await?.into_inner();
        let until = show::time(clicked.expire_time.as_ref());
        self.narrator.answer("expected", &format!("{} until {until}", name(clicked.contact.as_ref())));
        clicked.contact.context("PreRegisterContact answered without a contact")
    }

    /// The agent's call to whom was clicked; its id.
    async fn call_clicked(&mut self, person: DemoPerson, record: &str) -> anyhow::Result<String> {
        let call_id = self.next_call_id();
        let mut request = self.call_from(person.dialled, &call_id);
        request.set_direction(pb::Direction::Outbound);
        AGENT.clone_into(&mut request.agent_id);
        let answer = self.match_caller(request).await?;
        self.narrator.check("the person clicked is named", person.name, name(answer.selected.as_ref()));
        self.narrator.check("because she was clicked", "CLICKED", show::tier(answer.tier()));
        let requester = self.resolve(Provider::Salesforce, Subject::CallId(call_id.clone())).await?;
        self.narrator.check("the call belongs to that very record", record, record_id(&requester));
        Ok(call_id)
    }
}
