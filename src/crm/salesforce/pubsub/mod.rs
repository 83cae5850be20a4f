//! Salesforce's Change Data Capture over its Pub/Sub API: changes of one kind of object come as a
//! stream of events, of which the header alone is read. The only place below `crm` that speaks
//! gRPC.
//!
//! Each file uses those above it, and none below: `pb` `words` `avro` · `change` `channel` ·
//! `refusal` · `subscription`.

mod avro;
mod change;
pub(super) mod channel;
mod pb;
mod refusal;
mod subscription;
mod words;

use std::sync::Arc;

use tokio::time::timeout;

use self::{
    channel::{CALL_TIMEOUT, StreamEndpoint, StreamHeaders},
    refusal::failure_of,
    subscription::StreamSource,
};
use super::client::SalesforceClient;
use crate::{
    crm::{ChangeStream, CrmError, StreamFailure, StreamRequest},
    domain::record::ObjectType,
};

fn topic(object: ObjectType) -> String {
    format!("/data/{}ChangeEvent", object.as_str())
}

impl SalesforceClient {
    /// Whether changes of a kind can be followed by this user, which sees all of its records: what
    /// is hidden is not sent, and nobody says so.
    pub(super) async fn may_follow(&self, request: &StreamRequest) -> Result<(), StreamFailure> {
        let object = request.object;
        if self.streams.endpoint == StreamEndpoint::Missing {
            return Err(StreamFailure::Closed(words::ADDRESS_MISSING));
        }
        let host = self.streams.endpoint.host();
        let mut bus = self.streams.endpoint.open(request.port_turn, self.stream_headers()?)?;
        let asked = timeout(CALL_TIMEOUT, bus.get_topic(pb::TopicRequest { topic_name: topic(object) })).await;
        let answer = asked.map_err(|_| CrmError::TimedOut { host: host.clone() })?;
        let topic = answer.map_err(|status| failure_of(&status, object, &host))?.into_inner();
        // Only once the bus answers: what it lets nobody reach costs none of the organisation's
        // requests.
        if !topic.can_subscribe || !self.sees_all(object).await? {
            return Err(StreamFailure::Closed(words::role_missing(object)));
        }
        self.learn_untracked(object).await
    }

    /// A kind's changes; connects when it is first polled.
    pub(super) fn changes(&self, request: StreamRequest) -> ChangeStream {
        let untracked = self.cache(request.object).untracked.get().cloned().unwrap_or_default();
        match self.stream_headers() {
            Err(error) => Box::pin(futures_util::stream::once(async { Err(error.into()) })),
            Ok(headers) => StreamSource {
                endpoint: self.streams.endpoint.clone(),
                headers,
                topic: topic(request.object),
                request,
                untracked,
            }
            .changes(),
        }
    }

    fn stream_headers(&self) -> Result<StreamHeaders, CrmError> {
        match &self.streams.headers {
            Ok(headers) => Ok(headers.clone()),
            Err(_) => Err(CrmError::CredentialsRefused),
        }
    }

    /// What changes without a trace here. Not knowing it costs look-ups, and no more.
    async fn learn_untracked(&self, object: ObjectType) -> Result<(), StreamFailure> {
        let known = &self.cache(object).untracked;
        let learned = known.get_or_try_init(|| async {
            match self.untracked(object).await.map_err(CrmError::from) {
                Err(error @ CrmError::CredentialsRefused) => Err(error),
                untracked => Ok(Arc::new(untracked.unwrap_or_default())),
            }
        });
        learned.await?;
        Ok(())
    }
}
