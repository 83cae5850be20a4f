//! The story's frame: its account and integrations, the calls that every chapter makes, and the
//! order of the chapters. Invariant: each telling has an account of its own, so that it can be told
//! again and again in one database.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, bail};

use super::{narrator::DemoNarrator, people::DemoPerson, stage::DemoStage};
use crate::{
    cli::client::{
        show::{self, person},
        watch::{RunProgress, follow},
    },
    rpc::pb::{self, Provider, connection::Organization, credentials::Kind, resolve_requester_request::Subject},
};

/// The name of every demo's account.
const ACCOUNT_NAME: &str = "Demo";
/// Entries asked for at once.
const PAGE_SIZE: i32 = 200;

/// What of a long answer is shown; three less than there is room for.
const BEGINNING_CHARS: usize = 53;

/// What the chapters share.
pub(super) struct DemoStory<'a> {
    pub(super) stage: &'a DemoStage,
    pub(super) narrator: &'a mut DemoNarrator,
    pub(super) account_id: String,
    integrations: BTreeMap<Provider, String>,
    calls: u32,
}

/// What is left when the story is told.
pub(super) struct DemoResult {
    /// Its account.
    pub(super) account_id: String,
    /// The account's link to Zendesk.
    pub(super) zendesk_id: String,
}

/// Tells all of it. An error is a call that was refused; wrong answers are with the teller.
pub(super) async fn tell(stage: &DemoStage, narrator: &mut DemoNarrator) -> anyhow::Result<DemoResult> {
    forget_earlier(stage).await?;
    let request = pb::CreateAccountRequest {
        display_name: ACCOUNT_NAME.to_owned(),
        default_region: "US".to_owned(),
        ..Default::default()
    };
    let account = stage.client.accounts().create_account(request).await?.into_inner().account.unwrap_or_default();
    let mut story = DemoStory { stage, narrator, account_id: account.id, integrations: BTreeMap::new(), calls: 0 };

    story.connect_zendesk().await?;
    story.known_caller().await?;
    story.shared_number().await?;
    let (stranger, first_call) = story.stranger().await?;
    story.withheld().await?;
    story.created_in_zendesk(&stranger, first_call).await?;
    story.merged_in_zendesk().await?;
    story.deleted_in_zendesk().await?;
    let clicked = story.click_before_any_sync().await?;
    story.authorized_in_the_browser(&clicked).await?;
    let ivo = story.created_in_salesforce().await?;
    story.in_two_crms().await?;
    let lead = story.lead_clicked().await?;
    story.lead_converted(lead).await?;
    story.merged_in_salesforce().await?;
    story.deleted_in_salesforce(&ivo).await?;
    story.known_to_salesforce_alone().await?;
    let person = story.connect_pipedrive().await?;
    let nils = story.created_in_pipedrive().await?;
    story.merged_in_pipedrive(nils).await?;
    story.deleted_in_pipedrive(nils).await?;
    story.missed_in_pipedrive(&person).await?;
    story.sync_off().await?;
    story.explained().await?;
    story.corrected().await?;
    story.erased().await?;
    Ok(DemoResult { zendesk_id: story.integration_id(Provider::Zendesk), account_id: story.account_id })
}

/// What earlier demos copied is removed, as an administrator would: otherwise their runs would run
/// here, too.
async fn forget_earlier(stage: &DemoStage) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = pb::ListAccountsRequest { page_size: PAGE_SIZE, page_token };
        let page = stage.client.accounts().list_accounts(request).await?.into_inner();
        for account in page.accounts.into_iter().filter(|account| account.display_name == ACCOUNT_NAME) {
            let request = pb::ListIntegrationsRequest { account_id: account.id.clone(), ..Default::default() };
            let integrations = stage.client.syncs().list_integrations(request).await?.into_inner().integrations;
            for integration in integrations.into_iter().filter(|integration| integration.enabled) {
                let mut request = pb::DisableSyncRequest {
                    account_id: account.id.clone(),
                    integration_id: integration.id,
                    ..Default::default()
                };
                request.set_copied_data(pb::CopiedData::Purge);
                stage.client.syncs().disable_sync(request).await?;
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

impl DemoStory<'_> {
    /// Links a CRM and copies it; the run that did so.
    pub(super) async fn connect(
        &mut self,
        provider: Provider,
        organization: Organization,
        credentials: Kind,
    ) -> anyhow::Result<pb::SyncRun> {
        let request = pb::EnableSyncRequest {
            provider: provider.into(),
            connection: Some(pb::Connection { organization: Some(organization), ..Default::default() }),
            credentials: Some(pb::Credentials { kind: Some(credentials) }),
            ..Default::default()
        };
        let integration = self.enable(request).await?;
        self.first_copy(&integration.current_sync_run_id).await
    }

    /// Enables an integration for the story's account, remembers it as the one of its CRM, and
    /// tells how it stands.
    pub(super) async fn enable(&mut self, request: pb::EnableSyncRequest) -> anyhow::Result<pb::Integration> {
        let request = pb::EnableSyncRequest { account_id: self.account_id.clone(), ..request };
        let answer = self.stage.client.syncs().enable_sync(request).await?.into_inner();
        let integration = answer.integration.context("EnableSync answered without an integration")?;
        self.integrations.insert(integration.provider(), integration.id.clone());
        self.tell_state(&integration);
        Ok(integration)
    }

    /// Switches sync of a CRM on or off.
    pub(super) async fn switch(&mut self, provider: Provider, mode: pb::SyncMode) -> anyhow::Result<pb::Integration> {
        let shown = if mode == pb::SyncMode::On { "ON" } else { "OFF" };
        self.narrator.ask("UpdateSync", &format!("{}, sync {shown}", show::provider(provider)));
        let request = pb::UpdateSyncRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(provider),
            options: Some(pb::IntegrationOptions { sync: mode.into(), period: None, ..Default::default() }),
            credentials: None,
            ..Default::default()
        };
        let integration = self.stage.client.syncs().update_sync(request).await?.into_inner().integration;
        let integration = integration.unwrap_or_default();
        self.tell_state(&integration);
        Ok(integration)
    }

    /// The id of a CRM's integration; empty before it is linked.
    pub(super) fn integration_id(&self, provider: Provider) -> String {
        self.integrations.get(&provider).cloned().unwrap_or_default()
    }

    /// An integration's state, and the beginning of what it means.
    pub(super) fn tell_state(&self, integration: &pb::Integration) {
        self.narrator.answer(show::integration_state(integration.state()), &beginning(&integration.state_detail));
    }

    /// A CRM's integration as it is now.
    pub(super) async fn integration(&self, provider: Provider) -> anyhow::Result<pb::Integration> {
        let request = pb::GetIntegrationRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(provider),
        };
        let answer = self.stage.client.syncs().get_integration(request).await?.into_inner();
        answer.integration.context("GetIntegration answered without an integration")
    }

    /// Checks that the copy of a CRM is complete and on time.
    pub(super) async fn check_fresh(&mut self, provider: Provider) -> anyhow::Result<()> {
        let integration = self.integration(provider).await?;
        self.narrator.check("the copy is fresh", "ACTIVE", show::integration_state(integration.state()));
        Ok(())
    }

    /// Starts a CRM's next run, and waits for its end.
    pub(super) async fn sync(&mut self, provider: Provider) -> anyhow::Result<()> {
        self.narrator.ask("TriggerSync", &show::provider(provider));
        self.trigger(provider, pb::SyncKind::Unspecified).await
    }

    /// Starts a run that reads everything of a CRM again, and waits for its end.
    pub(super) async fn sweep(&mut self, provider: Provider) -> anyhow::Result<()> {
        self.narrator.ask("TriggerSync", &format!("{}, a sweep", show::provider(provider)));
        self.trigger(provider, pb::SyncKind::Sweep).await
    }

    async fn trigger(&mut self, provider: Provider, kind: pb::SyncKind) -> anyhow::Result<()> {
        let request = pb::TriggerSyncRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(provider),
            kind: kind.into(),
            ..Default::default()
        };
        let answer = self.stage.client.syncs().trigger_sync(request).await?.into_inner();
        let run_id = answer.sync_run.unwrap_or_default().id;
        self.follow(&run_id).await.map(drop)
    }

    /// Shows the first copy while it is under way, and tells how it ended.
    pub(super) async fn first_copy(&mut self, run_id: &str) -> anyhow::Result<pb::SyncRun> {
        let started = Instant::now();
        let mut progress = RunProgress::start("    ");
        let followed = follow(&self.stage.client, &self.account_id, run_id, |run| {
            if run.state() == pb::SyncRunState::Running {
                progress.show(run);
            }
        })
        .await;
        progress.end();
        self.tell_run(followed?, started)
    }

    /// Waits for the end of a short run, and tells how it ended.
    pub(super) async fn follow(&mut self, run_id: &str) -> anyhow::Result<pb::SyncRun> {
        let started = Instant::now();
        let run = follow(&self.stage.client, &self.account_id, run_id, |_| {}).await?;
        self.tell_run(run, started)
    }

    fn tell_run(&mut self, run: pb::SyncRun, started: Instant) -> anyhow::Result<pb::SyncRun> {
        let seconds = started.elapsed().as_secs_f64();
        self.narrator.answer(show::run_state(run.state()), &format!("{} in {seconds:.1} s", brief_counts(&run)));
        if run.state() != pb::SyncRunState::Succeeded {
            bail!("the run ended {}: {}", show::run_state(run.state()), run.error.unwrap_or_default());
        }
        Ok(run)
    }

    /// An id for the next call.
    pub(super) fn next_call_id(&mut self) -> String {
        self.calls += 1;
        format!("call-{}", self.calls)
    }

    /// An inbound call from this number.
    pub(super) fn call_from(&self, number: &str, call_id: &str) -> pb::MatchCallerRequest {
        pb::MatchCallerRequest {
            account_id: self.account_id.clone(),
            phone_number: number.to_owned(),
            call_id: call_id.to_owned(),
            ..Default::default()
        }
    }

    /// Asks who it is, and tells the answer with the time it took.
    pub(super) async fn match_caller(
        &mut self,
        request: pb::MatchCallerRequest,
    ) -> anyhow::Result<pb::MatchCallerResponse> {
        self.narrator.ask("MatchCaller", &shown_call(&request));
        let started = Instant::now();
        let answer = self.stage.client.callers().match_caller(request).await?.into_inner();
        let ms = started.elapsed().as_secs_f64() * 1_000.0;
        let told = format!("{} ({ms:.0} ms)", shown_caller(&answer));
        self.narrator.answer(show::outcome(answer.outcome()), &told);
        Ok(answer)
    }

    /// Looks only: makes no contact, stores no call.
    pub(super) async fn look_up(&mut self, number: &str) -> anyhow::Result<pb::MatchCallerResponse> {
        let mut request = self.call_from(number, "");
        request.set_on_no_match(pb::OnNoMatch::LookupOnly);
        self.match_caller(request).await
    }

    /// The contact of somebody who is known by the number.
    pub(super) async fn named(&mut self, person: DemoPerson) -> anyhow::Result<pb::Contact> {
        let answer = self.look_up(person.dialled).await?;
        self.narrator.check("the caller is named", person.name, name(answer.selected.as_ref()));
        Ok(answer.selected.unwrap_or_default())
    }

    /// Asks whom a ticket, case or deal belongs to in a CRM, and tells the answer.
    pub(super) async fn resolve(
        &mut self,
        provider: Provider,
        subject: Subject,
    ) -> anyhow::Result<pb::ResolveRequesterResponse> {
        let of = match &subject {
            Subject::CallId(id) => format!("of {id}"),
            Subject::ContactId(id) => format!("of contact {}", short(id)),
            Subject::PhoneNumber(number) => format!("of {number}"),
        };
        self.narrator.ask("ResolveRequester", &format!("in {}, {of}", show::provider(provider)));
        let request = pb::ResolveRequesterRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id(provider),
            subject: Some(subject),
            default_region: String::new(),
        };
        let answer = self.stage.client.callers().resolve_requester(request).await?.into_inner();
        let text = answer.record.as_ref().map_or_else(|| beginning(&answer.note), show::record);
        self.narrator.answer(show::requester_outcome(answer.outcome()), &text);
        Ok(answer)
    }

    /// The contact as it is now, also if it is deleted; tells what became of it.
    pub(super) async fn look_again(&mut self, contact: &pb::Contact) -> anyhow::Result<pb::Contact> {
        self.narrator.ask("GetContact", &format!("{} of {}", short(&contact.id), contact.display_name));
        let request = pb::GetContactRequest { account_id: self.account_id.clone(), contact_id: contact.id.clone() };
        let answer = self.stage.client.contacts().get_contact(request).await?.into_inner();
        let now = answer.contact.context("GetContact answered without a contact")?;
        match (now.delete_time.as_ref(), now.survivor_id.as_str()) {
            (None, "") => self.narrator.answer("live", &show::person(&now)),
            (deleted_at, "") => self.narrator.answer("deleted", &show::time(deleted_at)),
            (_, survivor) => self.narrator.answer("merged", &format!("it lives on as {}", short(survivor))),
        }
        Ok(now)
    }

    /// Checks that a contact has ended, and lives on in no other.
    pub(super) async fn check_deleted(&mut self, contact: &pb::Contact) -> anyhow::Result<()> {
        let now = self.look_again(contact).await?;
        let state = if now.delete_time.is_some() && now.survivor_id.is_empty() { "deleted" } else { "live" };
        self.narrator.check("the contact is deleted", "deleted", state);
        Ok(())
    }
}

/// Who it may be.
pub(super) fn shown_caller(answer: &pb::MatchCallerResponse) -> String {
    match (&answer.selected, answer.outcome()) {
        (None, _) => "nobody is named".to_owned(),
        (Some(_), pb::MatchOutcome::Ambiguous) => answer.candidates.iter().map(person).collect::<Vec<_>>().join("; "),
        (Some(contact), _) => person(contact),
    }
}

/// What is asked of a call.
fn shown_call(request: &pb::MatchCallerRequest) -> String {
    let mut text = if request.caller_id_withheld { "number withheld".to_owned() } else { request.phone_number.clone() };
    if request.direction() == pb::Direction::Outbound {
        text = format!("{text}, OUTBOUND by {}", request.agent_id);
    }
    if request.on_no_match() == pb::OnNoMatch::LookupOnly {
        text.push_str(", LOOKUP_ONLY");
    }
    if !request.call_id.is_empty() {
        text = format!("{text}, {}", request.call_id);
    }
    text
}

/// Counts that are not zero.
fn brief_counts(run: &pb::SyncRun) -> String {
    let of = run.counts.unwrap_or_default();
    let mut text = format!("{} read", show::count(of.read));
    for (number, name) in
        [(of.created, "created"), (of.updated, "updated"), (of.deleted, "deleted"), (of.rejected, "rejected")]
    {
        if number > 0 {
            text = format!("{text}, {} {name}", show::count(number));
        }
    }
    text
}

/// As much of a text as fits into a line.
fn beginning(text: &str) -> String {
    match show::wrap(text, BEGINNING_CHARS).as_slice() {
        [whole] => whole.clone(),
        [first, ..] => format!("{first} .."),
        [] => String::new(),
    }
}

/// The end of an id, which differs most.
pub(super) fn short(id: &str) -> String {
    format!("..{}", id.get(id.len().saturating_sub(8)..).unwrap_or(id))
}

/// The contact's name; empty for nobody.
pub(super) fn name(contact: Option<&pb::Contact>) -> &str {
    contact.map_or("", |contact| contact.display_name.as_str())
}

/// The contact's id; empty for nobody.
pub(super) fn id(contact: Option<&pb::Contact>) -> &str {
    contact.map_or("", |contact| contact.id.as_str())
}

/// The record's id in its CRM; empty for none.
pub(super) fn record_id(answer: &pb::ResolveRequesterResponse) -> &str {
    answer.record.as_ref().map_or("", |record| record.record_id.as_str())
}
