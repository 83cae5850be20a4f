//! Chapters about Pipedrive: it is connected, and a person is deleted, which no list of Pipedrive's
//! says for sure.

use anyhow::Context as _;
use crm_simulator::pipedrive;

use super::{
    people::LENA,
    story::{DemoStory, record_id},
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

    pub(super) async fn deleted_in_pipedrive(&mut self, person: &pb::Contact) -> anyhow::Result<()> {
        self.narrator.chapter("She is deleted in Pipedrive: a sweep reads everything, and misses her");
        self.stage.crms.pipedrive.delete_person(self.stage.demo_people.lena).context("Pipedrive refuses a deletion")?;
        self.narrator.crm("in Pipedrive", &format!("{} is deleted", LENA.name));
        self.sweep(Provider::Pipedrive).await?;
        self.check_deleted(person).await?;
        let answer = self.look_up(LENA.dialled).await?;
        self.narrator.check("nobody is named any more", "NOT_FOUND", show::outcome(answer.outcome()));
        Ok(())
    }
}
