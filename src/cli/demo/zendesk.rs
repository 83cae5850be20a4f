//! Chapters about Zendesk: it is connected, a user is created, two are merged, one is deleted.

use anyhow::Context as _;
use crm_simulator::zendesk;

use super::{
    people::{self, JON, JONATHAN, PRIYA, TESS},
    story::{DemoStory, id, record_id},
};
use crate::rpc::pb::{self, Provider, connection::Organization, credentials::Kind, resolve_requester_request::Subject};

impl DemoStory<'_> {
    pub(super) async fn connect_zendesk(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("The administrator connects Zendesk: every contact is copied");
        self.narrator
            .ask("EnableSync", &format!("Zendesk \"{}\", an API token, a run every 30 minutes", people::ZENDESK));
        let users = self.stage.crms.zendesk.user_count();
        let (email, token) = (zendesk::DEFAULT_EMAIL.to_owned(), zendesk::DEFAULT_API_TOKEN.to_owned());
        let token = Kind::ZendeskApiToken(pb::ZendeskApiToken { email, token });
        let organization = Organization::ZendeskSubdomain(people::ZENDESK.to_owned());
        let run = self.connect(Provider::Zendesk, organization, token).await?;
        self.narrator.check("every user of Zendesk is here", users, run.counts.unwrap_or_default().created);
        self.check_fresh(Provider::Zendesk).await
    }

    pub(super) async fn created_in_zendesk(&mut self, stranger: &str, first_call: String) -> anyhow::Result<()> {
        self.narrator.chapter("An agent adds the stranger to Zendesk: she is named within seconds");
        self.check_pushes(Provider::Zendesk).await?;
        let runs = self.count_runs(Provider::Zendesk).await?;
        let user = people::user(&self.stage.crms.zendesk, PRIYA)?;
        self.narrator.crm("in Zendesk", &format!("new user {user}: {}, \"{}\"", PRIYA.name, PRIYA.typed));
        let answer = self.soon_named(PRIYA.dialled, PRIYA.name).await?;
        self.check_no_run(Provider::Zendesk, runs).await?;
        self.narrator.check("the contact of her first call is hers now", stranger, id(answer.selected.as_ref()));
        self.narrator.check("there is no duplicate", 1, answer.total);
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(first_call)).await?;
        self.narrator.check("and her first call can have a ticket", user, record_id(&requester));
        Ok(())
    }

    pub(super) async fn merged_in_zendesk(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("Two users are merged in Zendesk: the loser's contact is an alias");
        let (loser, winner) = (self.named(JON).await?, self.named(JONATHAN).await?);
        let call_id = self.next_call_id();
        self.match_caller(self.call_from(JON.dialled, &call_id)).await?;
        let runs = self.count_runs(Provider::Zendesk).await?;
        let (loser_id, winner_id) = (self.stage.demo_people.jon, self.stage.demo_people.jonathan);
        self.stage.crms.zendesk.merge_users(loser_id, winner_id).context("Zendesk refuses a merge")?;
        self.narrator.crm("in Zendesk", &format!("{} is merged into {}", JON.name, JONATHAN.name));
        self.soon_nobody(JON.dialled).await?;
        let now = self.look_again(&loser).await?;
        self.narrator.check("the loser's contact leads to the winner's", &winner.id, now.survivor_id);
        let requester = self.resolve(Provider::Zendesk, Subject::CallId(call_id)).await?;
        self.narrator.check("the loser's earlier call belongs to the winner", winner_id, record_id(&requester));
        self.check_no_run(Provider::Zendesk, runs).await
    }

    pub(super) async fn deleted_in_zendesk(&mut self) -> anyhow::Result<()> {
        self.narrator.chapter("A user is deleted in Zendesk: so is the contact");
        let contact = self.named(TESS).await?;
        let runs = self.count_runs(Provider::Zendesk).await?;
        self.stage.crms.zendesk.delete_user(self.stage.demo_people.tess).context("Zendesk refuses a deletion")?;
        self.narrator.crm("in Zendesk", &format!("{} is deleted", TESS.name));
        self.soon_nobody(TESS.dialled).await?;
        self.check_deleted(&contact).await?;
        self.check_no_run(Provider::Zendesk, runs).await
    }
}
