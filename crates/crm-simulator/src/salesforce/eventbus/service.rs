//! The Pub/Sub API: topics, schemas and subscriptions. Owns: who is let in, the words and codes of
//! refusals, the life of a subscription. Publishing and managed subscriptions are not served.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{MetadataMap, MetadataValue},
};

use super::{
    api::{
        ConsumerEvent, FetchRequest, FetchResponse, ManagedFetchRequest, ManagedFetchResponse, ProducerEvent,
        PublishRequest, PublishResponse, ReplayPreset, SchemaInfo, SchemaRequest, TopicInfo, TopicRequest,
        pub_sub_server::PubSub,
    },
    bus::{OUTSTANDING_MAX, ReaderStep, StartPlace, TOPIC_NOT_FOUND, TopicReader},
    topic::{BusEvent, CAPTURABLE, topic_name},
};
use crate::salesforce::{Salesforce, objects::ObjectKind, organization_id};

/// What every word stands behind.
const WORDS: &str = "sfdc.platform.eventbus.grpc.";

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The API over an organisation.
pub(super) struct EventService {
    pub(super) salesforce: Arc<Salesforce>,
    /// Ends every subscription.
    pub(super) stop: CancellationToken,
}

#[tonic::async_trait]
impl PubSub for EventService {
    type SubscribeStream = ResponseStream<FetchResponse>;
    type PublishStreamStream = ResponseStream<PublishResponse>;
    type ManagedSubscribeStream = ResponseStream<ManagedFetchResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.admit(request.metadata())?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("no request"))?;
        let subscription = self.begin(&first, requests)?;
        let has_late_headers = self.salesforce.eventbus.lock().plan.late_headers;
        let mut rest = stream::unfold(subscription, |mut subscription| async {
            let next = subscription.next().await?;
            Some((next, subscription))
        })
        .boxed();
        if !has_late_headers {
            return Ok(Response::new(rest));
        }
        match rest.next().await {
            Some(Err(status)) => Err(status),
            first => Ok(Response::new(stream::iter(first).chain(rest).boxed())),
        }
    }

    async fn get_schema(&self, request: Request<SchemaRequest>) -> Result<Response<SchemaInfo>, Status> {
        self.admit(request.metadata())?;
        let schema = self.salesforce.eventbus.lock().find_schema(&request.get_ref().schema_id);
        let schema = schema.ok_or_else(|| self.refusal("schema.not.found"))?;
        Ok(Response::new(SchemaInfo {
            schema_json: schema.json.clone(),
            schema_id: schema.id.clone(),
            rpc_id: self.rpc_id(),
        }))
    }

    async fn get_topic(&self, request: Request<TopicRequest>) -> Result<Response<TopicInfo>, Status> {
        self.admit(request.metadata())?;
        let name = &request.get_ref().topic_name;
        let schema = kind_of(name).and_then(|kind| Some((kind, self.salesforce.eventbus.lock().newest_schema(kind)?)));
        let (kind, schema) = schema.ok_or_else(|| self.refusal(TOPIC_NOT_FOUND))?;
        Ok(Response::new(TopicInfo {
            topic_name: topic_name(kind),
            tenant_guid: format!("core/simulated/{}", organization_id()),
            can_publish: false,
            can_subscribe: self.salesforce.user_sees_all(kind),
            schema_id: schema.id.clone(),
            rpc_id: self.rpc_id(),
        }))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Err(Status::unimplemented("nothing is published here"))
    }

    async fn publish_stream(
        &self,
        _: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(Status::unimplemented("nothing is published here"))
    }

    async fn managed_subscribe(
        &self,
        _: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        Err(Status::unimplemented("no subscription is managed here"))
    }
}

impl EventService {
    /// A good token, an address and the organisation's long id go with each call.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has_address = text("instanceurl").starts_with("http");
        if !has_address || text("tenantid") != organization_id() {
            return Err(self.refusal("service.auth.headers.invalid"));
        }
        if !self.salesforce.oauth.admits(text("accesstoken"), self.salesforce.now()) {
            return Err(self.refusal("service.auth.error"));
        }
        Ok(())
    }

    fn begin(&self, first: &FetchRequest, requests: Streaming<FetchRequest>) -> Result<Subscription, Status> {
        let kind = kind_of(&first.topic_name).ok_or_else(|| self.refusal(TOPIC_NOT_FOUND))?;
        let asked = asked(first)?;
        if !self.salesforce.user_sees_all(kind) {
            return Err(self.refusal("topic.meta.permission"));
        }
        let start = match first.replay_preset() {
            ReplayPreset::Latest => StartPlace::Latest,
            ReplayPreset::Earliest => StartPlace::Earliest,
            ReplayPreset::Custom => StartPlace::After(&first.replay_id),
        };
        let bus = &self.salesforce.eventbus;
        let changed = bus.changed.subscribe();
        let reader = bus.subscribe(kind, &start, asked).map_err(|word| self.status_of(&word))?;
        let (salesforce, stop) = (Arc::clone(&self.salesforce), self.stop.clone());
        Ok(Subscription { service: Self { salesforce, stop }, requests, changed, reader })
    }

    /// Counts it, too.
    fn refusal(&self, word: &str) -> Status {
        self.salesforce.eventbus.update(|state| state.count_refusal(word));
        self.status_of(word)
    }

    /// An error as Salesforce sends it: its word in a trailer.
    fn status_of(&self, word: &str) -> Status {
        let mut status = Status::new(code_of(word), format!("the event bus says: {word}"));
        let metadata = status.metadata_mut();
        if !word.is_empty()
            && let Ok(value) = MetadataValue::try_from(format!("{WORDS}{word}"))
        {
            metadata.insert("error-code", value);
        }
        if let Ok(value) = MetadataValue::try_from(self.rpc_id()) {
            metadata.insert("rpc-id", value);
        }
        status
    }

    fn rpc_id(&self) -> String {
        self.salesforce.eventbus.lock().uuid()
    }
}

/// One open subscription.
struct Subscription {
    service: EventService,
    requests: Streaming<FetchRequest>,
    changed: watch::Receiver<()>,
    reader: TopicReader,
}

impl Subscription {
    /// The next response; `None`: it is over.
    async fn next(&mut self) -> Option<Result<FetchResponse, Status>> {
        loop {
            self.changed.borrow_and_update();
            let wait_until = match self.service.salesforce.eventbus.step(&mut self.reader) {
                ReaderStep::Send { events, latest } => return Some(Ok(self.response(events, latest))),
                ReaderStep::End(word) => return Some(Err(self.service.status_of(&word))),
                ReaderStep::Close => return None,
                ReaderStep::Wait(until) => until,
            };
            tokio::select! {
                () = self.service.stop.cancelled() => return Some(Err(self.service.status_of("service.unavailable"))),
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = self.ask(&request) {
                            return Some(Err(status));
                        }
                    }
                    // Whoever says no more, or is gone, hears no more.
                    Ok(None) | Err(_) => return None,
                },
                _ = self.changed.changed() => {}
                () = sleep_until(wait_until) => {}
            }
        }
    }

    /// Asks for more events; what else the request says counts in the first one alone.
    fn ask(&mut self, request: &FetchRequest) -> Result<(), Status> {
        if !request.topic_name.is_empty() && kind_of(&request.topic_name) != Some(self.reader.kind) {
            return Err(Status::invalid_argument("the topic of a subscription cannot change"));
        }
        self.reader.outstanding = self.reader.outstanding.saturating_add(asked(request)?).min(OUTSTANDING_MAX);
        Ok(())
    }

    fn response(&self, events: Vec<(Vec<u8>, Arc<BusEvent>)>, latest: Vec<u8>) -> FetchResponse {
        let event = |(replay_id, event): (Vec<u8>, Arc<BusEvent>)| ConsumerEvent {
            event: Some(ProducerEvent {
                id: event.id.clone(),
                schema_id: event.schema_id.clone(),
                payload: event.payload.clone(),
                headers: Vec::new(),
            }),
            replay_id,
        };
        FetchResponse {
            events: events.into_iter().map(event).collect(),
            latest_replay_id: latest,
            rpc_id: self.service.rpc_id(),
            pending_num_requested: i32::try_from(self.reader.outstanding).unwrap_or(i32::MAX),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let kind = self.reader.kind;
        self.service.salesforce.eventbus.update(|state| state.leave(kind));
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// More than 100 counts as 100.
fn asked(request: &FetchRequest) -> Result<u32, Status> {
    match u32::try_from(request.num_requested) {
        Ok(asked @ 1..) => Ok(asked.min(OUTSTANDING_MAX)),
        _ => Err(Status::invalid_argument("num_requested must be above 0")),
    }
}

fn kind_of(topic: &str) -> Option<ObjectKind> {
    CAPTURABLE.into_iter().find(|kind| topic_name(*kind) == topic)
}

fn code_of(word: &str) -> Code {
    match word {
        "" | "service.unavailable" | "topic.api.unavailable" => Code::Unavailable,
        "subscription.internal.error" => Code::Internal,
        "service.auth.error" | "service.auth.headers.invalid" => Code::Unauthenticated,
        "service.tenant.license" | "topic.meta.permission" | "subscription.topic.cannot.subscribe" => {
            Code::PermissionDenied
        }
        "subscription.limit.exceeded" | "subscription.fetch.overflow" => Code::ResourceExhausted,
        _ if word.starts_with("service.protection.") => Code::ResourceExhausted,
        _ if word.starts_with("subscription.fetch.") => Code::InvalidArgument,
        _ if word.ends_with(".not.found") => Code::NotFound,
        _ => Code::Unknown,
    }
}
