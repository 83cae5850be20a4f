//! Chapters about Pipedrive: it is connected, a person is added, merged and deleted, and one is
//! deleted of whom no event came, and no list of Pipedrive's says it for sure.

use anyhow::Context as _;
use crm_simulator::{pipedrive, push::DeliveryPlan};

use super::{
    people::{self, LENA, NILS, NILS_AGAIN},
    story::{DemoStory, name, record_id},
};
use crate::{
    cli::client::show,
    rpc::pb::{self, Provider, connection::Organization, credentials::Kind, resolve_requester_request::Subject},
};

impl DemoStory<'_> {
    /// The contact of who is named.
    pub(super) async fn connect_pipedrive(&mut self) -> anyhow::Result<pb::Contact> {
        self.narrator.chapter("The administrator connects Pipedrive, and a person there is named");
        let company = pipedrive::COMPANY_DOMAIN;
        self.narrator.ask("EnableSync", &format!("Pipedrive \"{company}\", an API token"));
        let persons = self.stage.crms.pipedrive.person_count();
        let token = Kind::PipedriveApiToken(pipedrive::DEFAULT_API_TOKEN.to_owned());
        let organization = Organization::PipedriveCompany(company.to_owned());
        let run = self.connect(Provider::Pipedrive, organization, token).await?;
        self.narrator.check("every person of Pipedrive is here", persons, run.counts.unwrap_or_default().created);
        self.check_fresh(Provider::Pipedrive).await?;
        let contact = self.named(LENA).await?;
        let number = Subject::PhoneNumber(LENA.dialled.to_owned());
        let requester = self.resolve(Provider::Pipedrive, number).await?;
        self.narrator.check("a deal belongs to her", self.stage.demo_people.lena, record_id(&requester));
        Ok(contact)
    }

    /// A person that was not there at the first copy; the id.
    pub(super) async fn created_in_pipedrive(&mut self) -> anyhow::Result<i64> {
        self.narrator.chapter("A person is added to Pipedrive, and named within seconds");
        self.check_pushes(Provider::Pipedrive).await?;
        let runs = self.count_runs(Provider::Pipedrive).await?;
        let person = people::pipedrive_person(&self.stage.crms.pipedrive, NILS)?;
        self.narrator.crm("in Pipedrive", &format!("new person {person}: {}, \"{}\"", NILS.name, NILS.typed));
        self.soon_named(NILS.dialled, NILS.name).await?;
        self.check_no_run(Provider::Pipedrive, runs).await?;
        Ok(person)
    }

    pub(super) async fn merged_in_pipedrive(&mut self, winner_id: i64) -> anyhow::Result<()> {
        self.narrator.chapter("He is there twice, and merged: his other contact is an alias");
        let loser_id = people::pipedrive_person(&self.stage.crms.pipedrive, NILS_AGAIN)?;
        let new = format!("new person {loser_id}: {}, \"{}\"", NILS_AGAIN.name, NILS_AGAIN.typed);
        self.narrator.crm("in Pipedrive", &new);
        let loser = self.soon_named(NILS_AGAIN.dialled, NILS_AGAIN.name).await?.selected.unwrap_or_default();
        let winner = self.named(NILS).await?;
        let call_id = self.next_call_id();
        self.match_caller(self.call_from(NILS_AGAIN.dialled, &call_id)).await?;
        let runs = self.count_runs(Provider::Pipedrive).await?;
        self.stage.crms.pipedrive.merge_persons(loser_id, winner_id).context("Pipedrive refuses a merge")?;
        self.narrator.crm("in Pipedrive", &format!("{} is merged into {}", NILS_AGAIN.name, NILS.name));
        self.soon(NILS_AGAIN.dialled, |answer| name(answer.selected.as_ref()) != NILS_AGAIN.name).await?;
        let now = self.look_again(&loser).await?;
        self.narrator.check("the loser's contact leads to the winner's", &winner.id, now.survivor_id);
        let requester = self.resolve(Provider::Pipedrive, Subject::CallId(call_id)).await?;
        self.narrator.check("the loser's earlier call belongs to the winner", winner_id, record_id(&requester));
        self.check_no_run(Provider::Pipedrive, runs).await
    }

    pub(super) async fn deleted_in_pipedrive(&mut self, person: i64) -> anyhow::Result<()> {
        self.narrator.chapter("He is deleted in Pipedrive: so is the contact");
        let contact = self.named(NILS).await?;
        let runs = self.count_runs(Provider::Pipedrive).await?;
        self.stage.crms.pipedrive.delete_person(person).context("Pipedrive refuses a deletion")?;
        self.narrator.crm("in Pipedrive", &format!("{} is deleted", NILS.name));
        self.soon_nobody(NILS.dialled).await?;
        self.check_deleted(&contact).await?;
        self.check_no_run(Provider::Pipedrive, runs).await
    }

    pub(super) async fn missed_in_pipedrive(&mut self, person: &pb::Contact) -> anyhow::Result<()> {
        self.narrator.chapter("Another deletion is told to nobody: a sweep reads everything, and misses her");
        let lost = DeliveryPlan { loss: 1.0, ..DeliveryPlan::default() };
        self.stage.crms.pipedrive.plan_deliveries(lost);
        self.stage.crms.pipedrive.delete_person(self.stage.demo_people.lena).context("Pipedrive refuses a deletion")?;
        self.stage.crms.pipedrive.plan_deliveries(DeliveryPlan::default());
        self.narrator.crm("in Pipedrive", &format!("{} is deleted, and the event is lost", LENA.name));
        self.sweep(Provider::Pipedrive).await?;
        self.check_deleted(person).await?;
        let answer = self.look_up(LENA.dialled).await?;
        self.narrator.check("nobody is named any more", "NOT_FOUND", show::outcome(answer.outcome()));
        Ok(())
    }
}
