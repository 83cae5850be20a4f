//! `CallerService`: the call path.

use tonic::{Request, Response, Status};

use super::{
    call_record::{AsideWait, CallOutcome},
    convert,
    deadline::deadline,
    health::CallTally,
    parse,
    pb::{self, caller_service_server::CallerService},
    request_caller::caller,
    status,
    together::ReadTogether,
};
use crate::{
    click_to_call::{ClickRequest, ClickToCall},
    domain::{
        call::{CallDirection, MatchAnswer, MatchHints, MatchRequest, OnNoMatch},
        ids::{ContactId, IntegrationId},
        requester::RequesterEvidence,
    },
    identity::requester::RequesterAnswer,
    matching::{self, CallChoice, ExplainRequest, MatchContext, MatchError, RequesterQuery, RequesterResolution},
    store::StoreError,
};

/// Serves calls.
pub struct CallerRpc {
    /// Who is calling, and whom it belongs to.
    pub matching: MatchContext,
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
        let caller = caller(&request)?;
        caller.note_call(&request.get_ref().call_id);
        let account_id = caller.authorize(&request.get_ref().account_id);
        let answer_by = deadline(&request).instant().into_std();
        let (account_id, request) = (account_id, match_request(request.get_ref())).together()?;

        let answer = matching::match_caller(&self.matching, account_id, &request, Some(answer_by)).await;

        match &answer {
            // Known callers may be answered all the same.
            Err(MatchError::Store(StoreError::ReadOnly(_) | StoreError::Conflict)) => {}
            Err(MatchError::Store(_)) => self.tally.note(false),
            Ok(_) | Err(_) => self.tally.note(true),
        }
        let answer = answer?;
        let waited = answer.look_aside_wait.map(AsideWait);
        let answer = self.match_response(answer);
        let outcome = CallOutcome(answer.outcome().as_str_name());
        let mut response = Response::new(answer);
        response.extensions_mut().insert(outcome);
        if let Some(waited) = waited {
            response.extensions_mut().insert(waited);
        }
        Ok(response)
    }

    async fn select_match(
        &self,
        request: Request<pb::SelectMatchRequest>,
    ) -> Result<Response<pb::SelectMatchResponse>, Status> {
        let caller = caller(&request)?;
        caller.note_call(&request.get_ref().call_id);
        let authorized = caller.authorize_reach(&request.get_ref().account_id);
        let request = request.into_inner();
        let contact_id: Result<ContactId, Status> = parse::id("contact_id", &request.contact_id);
        let agent_id = parse::short_text("agent_id", &request.agent_id);
        let ((account_id, reach), call_id, contact_id, agent_id) =
            (authorized, parse::call_id(&request.call_id), contact_id, agent_id).together()?;
        let only_own = reach.is_own();
        let choice = CallChoice { call_id, contact_id, agent_id: reach.agent(agent_id), only_own };

        let selection = matching::select_match(&self.matching, account_id, &choice).await?;

        Ok(Response::new(pb::SelectMatchResponse { selection: Some(convert::contact(selection)) }))
    }

    async fn pre_register_contact(
        &self,
        request: Request<pb::PreRegisterContactRequest>,
    ) -> Result<Response<pb::PreRegisterContactResponse>, Status> {
        let caller = caller(&request)?;
        caller.note_call(&request.get_ref().call_id);
        let authorized = caller.authorize_reach(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let ((account_id, reach), integration_id, mut click) =
            (authorized, integration_id, click(request)).together()?;
        click.only_own = reach.is_own();
        click.agent_id = reach.agent(click.agent_id);

        let registered = self.click_to_call.pre_register(account_id, integration_id, click).await?;

        Ok(Response::new(pb::PreRegisterContactResponse {
            contact: Some(convert::contact(registered.contact)),
            expire_time: registered.expected_until.map(convert::timestamp),
        }))
    }

    async fn resolve_requester(
        &self,
        request: Request<pb::ResolveRequesterRequest>,
    ) -> Result<Response<pb::ResolveRequesterResponse>, Status> {
        let caller = caller(&request)?;
        if let Some(pb::resolve_requester_request::Subject::CallId(call_id)) = &request.get_ref().subject {
            caller.note_call(call_id);
        }
        let account_id = caller.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let query = requester_query(request.subject, &request.default_region);
        let (account_id, integration_id, query) = (account_id, integration_id, query).together()?;

        let resolution = matching::resolve_requester(&self.matching, account_id, integration_id, &query).await?;

        let answer = requester_response(resolution);
        let outcome = CallOutcome(answer.outcome().as_str_name());
        let mut response = Response::new(answer);
        response.extensions_mut().insert(outcome);
        Ok(response)
    }

    async fn explain_match(
        &self,
        request: Request<pb::ExplainMatchRequest>,
    ) -> Result<Response<pb::ExplainMatchResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let (account_id, asked) = (account_id, explain_request(request.get_ref())).together()?;

        let explained = matching::explain_match(&self.matching, account_id, &asked).await?;

        Ok(Response::new(pb::ExplainMatchResponse {
            answer: Some(self.match_response(explained.answer)),
            steps: explained.steps,
            about_contact: explained.about_contact,
        }))
    }
}

impl CallerRpc {
    fn match_response(&self, answer: MatchAnswer) -> pb::MatchCallerResponse {
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
            as_of: Some(convert::timestamp(answer.as_of)),
            degraded: answer.is_degraded,
            look_asides: answer.look_asides.into_iter().map(convert::look_aside).collect(),
            look_aside_wait: answer.look_aside_wait.map(convert::wait),
        }
    }
}

fn match_request(request: &pb::MatchCallerRequest) -> Result<MatchRequest, Status> {
    let direction = match pb::Direction::try_from(request.direction) {
        Ok(pb::Direction::Unspecified | pb::Direction::Inbound) => Ok(CallDirection::Inbound),
        Ok(pb::Direction::Outbound) => Ok(CallDirection::Outbound),
        Err(_) => Err(status::invalid("direction", "must be DIRECTION_INBOUND or DIRECTION_OUTBOUND")),
    };
    let on_no_match = match pb::OnNoMatch::try_from(request.on_no_match) {
        Ok(pb::OnNoMatch::Unspecified | pb::OnNoMatch::Create) => Ok(OnNoMatch::Create),
        Ok(pb::OnNoMatch::LookupOnly) => Ok(OnNoMatch::LookupOnly),
        Err(_) => Err(status::invalid("on_no_match", "must be ON_NO_MATCH_CREATE or ON_NO_MATCH_LOOKUP_ONLY")),
    };
    let (phone_number, region, call_id, direction, agent_id, on_no_match) = (
        parse::phone_number(&request.phone_number),
        parse::optional_region("default_region", &request.default_region),
        parse::optional_call_id(&request.call_id),
        direction,
        parse::short_text("agent_id", &request.agent_id),
        on_no_match,
    )
        .together()?;
    Ok(MatchRequest {
        phone_number,
        region,
        call_id,
        direction,
        agent_id,
        caller_id_withheld: request.caller_id_withheld,
        on_no_match,
        hints: MatchHints { suffix: request.with_suffix, organization: request.with_organization },
    })
}

fn click(request: pb::PreRegisterContactRequest) -> Result<ClickRequest, Status> {
    let (phone_number, display_name, email, agent_id, call_id, contact_id, region) = (
        parse::phone_number(&request.phone_number),
        parse::shown_text("display_name", &request.display_name),
        parse::shown_text("email", &request.email),
        parse::short_text("agent_id", &request.agent_id),
        parse::optional_call_id(&request.call_id),
        parse::optional_id("contact_id", &request.contact_id),
        parse::optional_region("default_region", &request.default_region),
    )
        .together()?;
    Ok(ClickRequest {
        object_type: request.object_type,
        record_id: request.record_id,
        phone_number,
        display_name,
        email,
        agent_id,
        only_own: false,
        call_id,
        contact_id,
        region,
    })
}

fn explain_request(request: &pb::ExplainMatchRequest) -> Result<ExplainRequest, Status> {
    let (phone_number, region, contact_id) = (
        parse::phone_number(&request.phone_number),
        parse::optional_region("default_region", &request.default_region),
        parse::optional_id("contact_id", &request.contact_id),
    )
        .together()?;
    Ok(ExplainRequest { phone_number, region, contact_id })
}

fn requester_query(
    subject: Option<pb::resolve_requester_request::Subject>,
    region: &str,
) -> Result<RequesterQuery, Status> {
    use pb::resolve_requester_request::Subject;
    let no_region = || parse::only_with_number(region, false);
    match subject {
        Some(Subject::CallId(text)) => {
            (parse::call_id(&text), no_region()).together().map(|(id, ())| RequesterQuery::Call(id))
        }
        Some(Subject::ContactId(text)) => {
            (parse::id("contact_id", &text), no_region()).together().map(|(id, ())| RequesterQuery::Contact(id))
        }
        Some(Subject::PhoneNumber(text)) => {
            let (raw, region) =
                (parse::phone_number(&text), parse::optional_region("default_region", region)).together()?;
            Ok(RequesterQuery::PhoneNumber { raw, region })
        }
        None => Err(status::invalid("subject", "one of call_id, contact_id and phone_number is required")),
    }
}

fn requester_response(resolution: RequesterResolution) -> pb::ResolveRequesterResponse {
    let note = resolution.freshness.note(resolution.asked_at);
    let mut response = pb::ResolveRequesterResponse {
        known_through: resolution.freshness.known_through.map(convert::timestamp),
        contact_id: resolution.contact_id.map(|id| id.to_string()).unwrap_or_default(),
        as_of: Some(convert::timestamp(resolution.asked_at)),
        ..Default::default()
    };
    let outcome = match resolution.answer {
        RequesterAnswer::Resolved(record, evidence) => {
            response.record = Some(convert::record(record));
            response.set_evidence(match evidence {
                RequesterEvidence::SelectedContact => pb::RequesterEvidence::SelectedContact,
                RequesterEvidence::OnlyRecordWithNumber => pb::RequesterEvidence::OnlyRecordWithNumber,
            });
            pb::RequesterOutcome::Resolved
        }
        RequesterAnswer::Ambiguous(records) => {
            response.candidates = records.into_iter().map(convert::record).collect();
            "several live records have this number; let the agent choose with SelectMatch"
                .clone_into(&mut response.note);
            pb::RequesterOutcome::Ambiguous
        }
        RequesterAnswer::NotFound => {
            "no live record in this CRM has this number; create one, and report it with PreRegisterContact"
                .clone_into(&mut response.note);
            pb::RequesterOutcome::NotFound
        }
        RequesterAnswer::NotKnownYet => {
            note.clone_into(&mut response.note);
            pb::RequesterOutcome::NotKnownYet
        }
        RequesterAnswer::SyncOff => {
            note.clone_into(&mut response.note);
            pb::RequesterOutcome::SyncOff
        }
    };
    response.set_outcome(outcome);
    response
}
