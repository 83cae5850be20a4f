//! What the tests of the call path do again and again: people in the CRM, calls with an id, clicks,
//! choices, and what is refused.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{Subject, TestApp, call, reason};

/// A Salesforce organisation, and ids of it in both lengths.
pub const ORG: &str = "00Dx0000000BV7z";
pub const CONTACT_15: &str = "003D000000QV9n2";
pub const CONTACT_18: &str = "003D000000QV9n2IAD";
pub const LEAD_15: &str = "00QD000000abcde";

impl TestApp {
    /// A user in the simulated Zendesk, unknown here until a run has run; the record id.
    pub fn user(&self, name: &str, phone: &str) -> String {
        self.zendesk.create_user(&json!({"name": name, "phone": phone})).unwrap().to_string()
    }

    /// An inbound call with an id; nobody there makes a placeholder.
    pub async fn ask(&self, account_id: &str, number: &str, call_id: &str) -> pb::MatchCallerResponse {
        self.match_caller(call_with_id(account_id, number, call_id)).await
    }

    /// An outbound call of an agent.
    pub async fn dial(&self, account_id: &str, number: &str, call_id: &str, agent_id: &str) -> pb::MatchCallerResponse {
        self.match_caller(outbound(account_id, number, call_id, agent_id)).await
    }

    pub async fn match_refused(&self, request: pb::MatchCallerRequest) -> Status {
        self.callers().match_caller(request).await.unwrap_err()
    }

    pub async fn click(&self, request: pb::PreRegisterContactRequest) -> pb::PreRegisterContactResponse {
        self.callers().pre_register_contact(request).await.unwrap().into_inner()
    }

    /// The contact of a click.
    pub async fn clicked(&self, request: pb::PreRegisterContactRequest) -> pb::Contact {
        self.click(request).await.contact.unwrap()
    }

    pub async fn click_refused(&self, request: pb::PreRegisterContactRequest) -> Status {
        self.callers().pre_register_contact(request).await.unwrap_err()
    }

    pub async fn try_select(&self, account_id: &str, call_id: &str, contact_id: &str) -> Result<pb::Contact, Status> {
        let request = pb::SelectMatchRequest {
            account_id: account_id.into(),
            call_id: call_id.into(),
            contact_id: contact_id.into(),
            agent_id: String::new(),
        };
        Ok(self.callers().select_match(request).await?.into_inner().selection.unwrap())
    }

    pub async fn select(&self, account_id: &str, call_id: &str, contact_id: &str) -> pb::Contact {
        self.try_select(account_id, call_id, contact_id).await.unwrap()
    }

    pub async fn resolve_call(
        &self,
        account_id: &str,
        integration_id: &str,
        call_id: &str,
    ) -> pb::ResolveRequesterResponse {
        self.resolve(account_id, integration_id, Subject::CallId(call_id.into())).await
    }

    pub async fn resolve_refused(&self, account_id: &str, integration_id: &str, subject: Subject) -> Status {
        let request = pb::ResolveRequesterRequest {
            default_region: String::new(),
            account_id: account_id.into(),
            integration_id: integration_id.into(),
            subject: Some(subject),
        };
        self.callers().resolve_requester(request).await.unwrap_err()
    }

    pub async fn list_contacts(&self, account_id: &str, number: &str) -> Vec<pb::Contact> {
        let request = pb::ListContactsRequest {
            account_id: account_id.into(),
            phone_number: number.into(),
            page_size: 200,
            ..Default::default()
        };
        self.contacts().list_contacts(request).await.unwrap().into_inner().contacts
    }

    /// The live contact that an id leads to.
    pub async fn living(&self, account_id: &str, contact_id: &str) -> String {
        let contact = self.contact(account_id, contact_id).await;
        if contact.survivor_id.is_empty() { contact.id } else { contact.survivor_id }
    }

    pub fn minutes(&self, minutes: i64) {
        self.pass(TimeDelta::minutes(minutes));
    }

    /// Rows of a table in this account.
    pub async fn rows(&self, account_id: &str, table: &str) -> i64 {
        self.db.number(&format!("select count(*) from {table} where account_id = '{account_id}'")).await
    }
}

pub fn call_with_id(account_id: &str, number: &str, call_id: &str) -> pb::MatchCallerRequest {
    pb::MatchCallerRequest { call_id: call_id.into(), ..call(account_id, number) }
}

pub fn outbound(account_id: &str, number: &str, call_id: &str, agent_id: &str) -> pb::MatchCallerRequest {
    pb::MatchCallerRequest {
        direction: pb::Direction::Outbound.into(),
        agent_id: agent_id.into(),
        ..call_with_id(account_id, number, call_id)
    }
}

pub fn look_only(mut request: pb::MatchCallerRequest) -> pb::MatchCallerRequest {
    request.set_on_no_match(pb::OnNoMatch::LookupOnly);
    request
}

pub fn withheld(mut request: pb::MatchCallerRequest) -> pb::MatchCallerRequest {
    request.caller_id_withheld = true;
    request
}

/// A click on a record's number, with defaults for the rest.
pub fn click_on(
    account_id: &str,
    integration_id: &str,
    object_type: &str,
    record_id: &str,
    number: &str,
) -> pb::PreRegisterContactRequest {
    pb::PreRegisterContactRequest {
        account_id: account_id.into(),
        integration_id: integration_id.into(),
        object_type: object_type.into(),
        record_id: record_id.into(),
        phone_number: number.into(),
        ..Default::default()
    }
}

/// What a client decides by: the code and the reason.
pub fn refusal(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

pub fn id_of(contact: Option<&pb::Contact>) -> String {
    contact.expect("a contact is named").id.clone()
}

pub fn ids_of(contacts: &[pb::Contact]) -> Vec<&str> {
    contacts.iter().map(|contact| contact.id.as_str()).collect()
}

/// Seeds of random tests: these, or the one of `SEED` to replay a failure. The seed is printed, and
/// shown if the test fails.
pub fn seeds(count: u64) -> Vec<u64> {
    #[expect(clippy::disallowed_methods, reason = "tests have no Config")]
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    given.map_or_else(|| (1..=count).collect(), |seed| vec![seed])
}

pub fn dice(seed: u64) -> StdRng {
    println!("seed {seed} (replay it with SEED={seed})");
    StdRng::seed_from_u64(seed)
}

/// Lets the others go first, a random number of times: an interleaving that the seed decides.
pub async fn dawdle(dice: &mut StdRng, most: u32) {
    for _ in 0..dice.random_range(0..=most) {
        tokio::task::yield_now().await;
    }
}

/// Dice of its own for one of several who race.
pub fn dice_of(dice: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(dice.random())
}

impl TestApp {
    /// Every live contact.
    pub async fn list_all(&self, account_id: &str) -> Vec<pb::Contact> {
        let (mut contacts, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListContactsRequest {
                account_id: account_id.into(),
                page_size: 200,
                page_token,
                ..Default::default()
            };
            let page = self.contacts().list_contacts(request).await.unwrap().into_inner();
            contacts.extend(page.contacts);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return contacts;
            }
        }
    }
}
