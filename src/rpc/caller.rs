//! `CallerService`: the call path.

use tonic::{Request, Response, Status};

use super::{
    auth::caller,
    convert,
    health::CallTally,
    parse,
    pb::{self, caller_service_server::CallerService},
    status,
};
use crate::{
    click_to_call::{Click, ClickToCall},
    domain::{
        call::{Direction, Hints, Match, OnNoMatch},
        ids::{ContactId, IntegrationId},
        requester::Evidence,
    },
    identity::requester::Requester,
    matching::{About, MatchError, Matching, Question, Resolution, Subject},
    store::StoreError,
};

/// Serves calls.
pub struct CallerRpc {
    /// Who is calling, and whom it belongs to.
    pub matching: Matching,
    /// Clicks and reports.
    pub click_to_call: ClickToCall,
    /// How calls end, for what health says of them.
    pub tally: CallTally,
}

#[tonic::async_trait]
impl CallerService for CallerRpc {
    async fn match_caller(
        &self,
        request: Request<pb::MatchCallerRequest>,
    ) -> Result<Response<pb::MatchCallerResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let question = question(request.get_ref())?;

        let answer = self.matching.match_caller(account_id, &question).await;

        match &answer {
            // Known callers may be answered all the same.
            Err(MatchError::Store(StoreError::ReadOnly(_) | StoreError::Conflict)) => {}
            Err(MatchError::Store(_)) => self.tally.note(false),
            Ok(_) | Err(_) => self.tally.note(true),
        }
        let answer = answer?;
        Ok(Response::new(self.match_response(answer)))
    }

    async fn select_match(
        &self,
        request: Request<pb::SelectMatchRequest>,
    ) -> Result<Response<pb::SelectMatchResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let call_id = parse::call_id(&request.call_id)?;
        let contact_id: ContactId = parse::id("contact_id", &request.contact_id)?;
        let agent_id = parse::short_text("agent_id", &request.agent_id)?;

        let selection = self.matching.select(account_id, &call_id, contact_id, &agent_id).await?;

        Ok(Response::new(pb::SelectMatchResponse { selection: Some(convert::contact(selection)) }))
    }

    async fn pre_register_contact(
        &self,
        request: Request<pb::PreRegisterContactRequest>,
    ) -> Result<Response<pb::PreRegisterContactResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let integration_id: IntegrationId = parse::id("integration_id", &request.integration_id)?;
        let click = click(request)?;

        let registered = self.click_to_call.pre_register(account_id, integration_id, click).await?;

        Ok(Response::new(pb::PreRegisterContactResponse {
            contact: Some(convert::contact(registered.contact)),
            expected_until: registered.expected_until.map(convert::timestamp),
        }))
    }

    async fn resolve_requester(
        &self,
        request: Request<pb::ResolveRequesterRequest>,
    ) -> Result<Response<pb::ResolveRequesterResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let integration_id: IntegrationId = parse::id("integration_id", &request.integration_id)?;
        let subject = subject(request.subject)?;

        let resolution = self.matching.resolve_requester(account_id, integration_id, &subject).await?;

        Ok(Response::new(requester_response(resolution)))
    }

    async fn explain_match(
        &self,
        request: Request<pb::ExplainMatchRequest>,
    ) -> Result<Response<pb::ExplainMatchResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let about = About {
            phone_number: parse::phone_number(&request.phone_number)?,
            region: parse::optional_region("default_region", &request.default_region)?,
            contact_id: parse::optional_id("contact_id", &request.contact_id)?,
        };

        let explained = self.matching.explain(account_id, &about).await?;

        Ok(Response::new(pb::ExplainMatchResponse {
            answer: Some(self.match_response(explained.answer)),
            steps: explained.steps,
            about_contact: explained.about_contact,
        }))
    }
}

impl CallerRpc {
    fn match_response(&self, answer: Match) -> pb::MatchCallerResponse {
        let now = self.matching.clock.now();
        pb::MatchCallerResponse {
            outcome: convert::outcome(answer.outcome).into(),
            selected: answer.selected.map(convert::contact),
            candidates: answer.candidates.into_iter().map(convert::contact).collect(),
            total: i32::try_from(answer.total).unwrap_or(i32::MAX),
            total_is_capped: answer.total_is_capped,
            selection: answer.selection.map(convert::contact),
            tier: convert::tier(answer.tier).into(),
            rule: answer.rule.to_owned(),
            sources: answer.sources.iter().map(|source| convert::source(source, now)).collect(),
            complete: answer.complete,
            e164: convert::e164(answer.key),
            possible: answer.possible.into_iter().map(convert::possible).collect(),
        }
    }
}

fn question(request: &pb::MatchCallerRequest) -> Result<Question, Status> {
    let direction = match pb::Direction::try_from(request.direction) {
        Ok(pb::Direction::Unspecified | pb::Direction::Inbound) => Direction::Inbound,
        Ok(pb::Direction::Outbound) => Direction::Outbound,
        Err(_) => return Err(status::invalid("direction", "must be DIRECTION_INBOUND or DIRECTION_OUTBOUND")),
    };
    let on_no_match = match pb::OnNoMatch::try_from(request.on_no_match) {
        Ok(pb::OnNoMatch::Unspecified | pb::OnNoMatch::Create) => OnNoMatch::Create,
        Ok(pb::OnNoMatch::LookupOnly) => OnNoMatch::LookupOnly,
        Err(_) => return Err(status::invalid("on_no_match", "must be ON_NO_MATCH_CREATE or ON_NO_MATCH_LOOKUP_ONLY")),
    };
    Ok(Question {
        phone_number: parse::phone_number(&request.phone_number)?,
        region: parse::optional_region("default_region", &request.default_region)?,
        call_id: parse::optional_call_id(&request.call_id)?,
        direction,
        agent_id: parse::short_text("agent_id", &request.agent_id)?,
        caller_id_withheld: request.caller_id_withheld,
        on_no_match,
        hints: Hints { suffix: request.with_suffix, organization: request.with_organization },
    })
}

fn click(request: pb::PreRegisterContactRequest) -> Result<Click, Status> {
    Ok(Click {
        object_type: request.object_type,
        record_id: request.record_id,
        phone_number: parse::phone_number(&request.phone_number)?,
        display_name: parse::shown_text("display_name", &request.display_name)?,
        email: parse::shown_text("email", &request.email)?,
        agent_id: parse::short_text("agent_id", &request.agent_id)?,
        call_id: parse::optional_call_id(&request.call_id)?,
        contact_id: parse::optional_id("contact_id", &request.contact_id)?,
        region: parse::optional_region("default_region", &request.default_region)?,
    })
}

fn subject(subject: Option<pb::resolve_requester_request::Subject>) -> Result<Subject, Status> {
    use pb::resolve_requester_request::Subject as Given;
    match subject {
        Some(Given::CallId(text)) => Ok(Subject::Call(parse::call_id(&text)?)),
        Some(Given::ContactId(text)) => Ok(Subject::Contact(parse::id("contact_id", &text)?)),
        Some(Given::PhoneNumber(text)) => Ok(Subject::PhoneNumber(parse::phone_number(&text)?)),
        None => Err(status::invalid("subject", "one of call_id, contact_id and phone_number is required")),
    }
}

fn requester_response(resolution: Resolution) -> pb::ResolveRequesterResponse {
    let note = resolution.freshness.note(resolution.asked_at);
    let mut response = pb::ResolveRequesterResponse {
        known_through: resolution.freshness.known_through.map(convert::timestamp),
        contact_id: resolution.contact_id.map(|id| id.to_string()).unwrap_or_default(),
        ..Default::default()
    };
    let outcome = match resolution.requester {
        Requester::Resolved(record, evidence) => {
            response.record = Some(convert::record(record));
            response.set_evidence(match evidence {
                Evidence::SelectedContact => pb::RequesterEvidence::SelectedContact,
                Evidence::OnlyRecordWithNumber => pb::RequesterEvidence::OnlyRecordWithNumber,
            });
            pb::RequesterOutcome::Resolved
        }
        Requester::Ambiguous(records) => {
            response.candidates = records.into_iter().map(convert::record).collect();
            "several live records have this number; let the agent choose with SelectMatch"
                .clone_into(&mut response.note);
            pb::RequesterOutcome::Ambiguous
        }
        Requester::NotFound => {
            "no live record in this CRM has this number; create one, and report it with PreRegisterContact"
                .clone_into(&mut response.note);
            pb::RequesterOutcome::NotFound
        }
        Requester::NotKnownYet => {
            note.clone_into(&mut response.note);
            pb::RequesterOutcome::NotKnownYet
        }
        Requester::SyncOff => {
            note.clone_into(&mut response.note);
            pb::RequesterOutcome::SyncOff
        }
    };
    response.set_outcome(outcome);
    response
}
