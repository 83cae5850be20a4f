//! One subscription: asks for events, reads their headers, and says what they come to. It asks for
//! more only when it is polled, and is polled once what came before is stored: so whatever was not
//! stored is sent again.

use std::{collections::HashMap, sync::Arc};

use futures_util::{FutureExt as _, stream};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    avro::HeaderLayout,
    change::{ChangeBatch, ChangeReach, event_time, reach_of},
    channel::{CALL_TIMEOUT, EventBus, StreamEndpoint, StreamHeaders},
    pb::{ConsumerEvent, FetchRequest, FetchResponse, ReplayPreset, SchemaRequest},
    refusal::failure_of,
};
use crate::{
    crm::{ChangeStream, CrmError, StreamBatch, StreamFailure, StreamRequest, salesforce::fields::UntrackedFields},
    domain::{record::ObjectType, stream::StreamPlace},
};

/// Events of one batch, about.
const EVENTS_MAX: usize = 100;
/// Schemas that are remembered; an object has another one after each change of its fields.
const LAYOUTS_MAX: usize = 8;
/// Requests that wait to be sent: of a stream that is polled never more than one.
const ASKS_MAX: usize = 4;

/// What a subscription needs, by value: it outlives the client.
#[derive(Clone)]
pub(super) struct StreamSource {
    pub(super) endpoint: StreamEndpoint,
    pub(super) headers: StreamHeaders,
    pub(super) topic: String,
    pub(super) request: StreamRequest,
    pub(super) untracked: Arc<UntrackedFields>,
}

/// Where a stream stands between two polls.
enum StreamStage {
    New(Box<StreamSource>),
    Open(Box<Subscription>),
}

/// An open one.
struct Subscription {
    source: StreamSource,
    host: String,
    bus: EventBus,
    /// As long as it is held, the server knows that more may be asked for.
    asks: mpsc::Sender<FetchRequest>,
    answers: Streaming<FetchResponse>,
    /// Asked for, and not here yet.
    pending: i32,
    /// `None`: it cannot be used.
    layouts: HashMap<String, Option<Arc<HeaderLayout>>>,
    /// What came after the last batch.
    failed: Option<StreamFailure>,
}

impl StreamSource {
    pub(super) fn changes(self) -> ChangeStream {
        Box::pin(stream::try_unfold(StreamStage::New(Box::new(self)), |stage| async {
            let mut open = match stage {
                StreamStage::New(source) => Box::new(source.subscribe().await?),
                StreamStage::Open(open) => open,
            };
            let batch = open.next().await?;
            Ok(Some((batch, StreamStage::Open(open))))
        }))
    }

    /// May wait for the first event: a server may hold its headers back until then.
    async fn subscribe(self) -> Result<Subscription, StreamFailure> {
        let (host, object) = (self.endpoint.host(), self.request.object);
        let mut bus = self.endpoint.open(self.request.port_turn, self.headers.clone())?;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let after = self.request.after.as_ref();
        let preset = if after.is_some() { ReplayPreset::Custom } else { ReplayPreset::Latest };
        let first = FetchRequest {
            topic_name: self.topic.clone(),
            replay_preset: preset.into(),
            replay_id: after.map(|place| place.as_bytes().to_vec()).unwrap_or_default(),
            num_requested: self.request.events_max.into(),
            ..FetchRequest::default()
        };
        // There is room for four.
        let _ = asks.try_send(first);
        let answers = bus.subscribe(ReceiverStream::new(asked)).await;
        let answers = answers.map_err(|status| failure_of(&status, object, &host))?.into_inner();
        let pending = self.request.events_max.into();
        Ok(Subscription { source: self, host, bus, asks, answers, pending, layouts: HashMap::new(), failed: None })
    }
}

impl Subscription {
    const fn object(&self) -> ObjectType {
        self.source.request.object
    }

    /// What came since, up to about a hundred events; waits for the first.
    async fn next(&mut self) -> Result<StreamBatch, StreamFailure> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        self.ask_for_more();
        let answer = self.answers.message().await;
        let mut answer = self.answer(answer)?;
        let mut batch = ChangeBatch::default();
        loop {
            self.pending = answer.pending_num_requested;
            let place = self.take_in(answer, &mut batch).await?;
            let more = if batch.events >= EVENTS_MAX { None } else { self.answers.message().now_or_never() };
            match more.map(|more| self.answer(more)) {
                None => return Ok(batch.end(place)),
                Some(Ok(next)) => answer = next,
                Some(Err(failure)) => {
                    self.failed = Some(failure);
                    return Ok(batch.end(place));
                }
            }
        }
    }

    fn answer(&self, came: Result<Option<FetchResponse>, Status>) -> Result<FetchResponse, StreamFailure> {
        match came {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(StreamFailure::Broke(CrmError::ConnectionBroke { host: self.host.clone() })),
            Err(status) => Err(failure_of(&status, self.object(), &self.host)),
        }
    }

    /// Long before what was asked for is used up.
    fn ask_for_more(&self) {
        let wished = i32::from(self.source.request.events_max);
        let missing = wished - self.pending.clamp(0, wished);
        if missing > 0 && missing >= wished / 2 {
            let more = FetchRequest {
                topic_name: self.source.topic.clone(),
                num_requested: missing,
                ..FetchRequest::default()
            };
            // Full or closed: the stream has ended, as its answers say.
            let _ = self.asks.try_send(more);
        }
    }

    /// Reads an answer's events, and gives the place after them. One without events only says how
    /// far the stream is.
    async fn take_in(&mut self, answer: FetchResponse, batch: &mut ChangeBatch) -> Result<StreamPlace, StreamFailure> {
        let mut place = answer.latest_replay_id;
        for event in answer.events {
            place = event.replay_id.clone();
            self.read(event, batch).await?;
        }
        let without = CrmError::Unreadable("its stream of changes does not say how far it is");
        StreamPlace::new(place).ok_or(StreamFailure::Broke(without))
    }

    async fn read(&mut self, event: ConsumerEvent, batch: &mut ChangeBatch) -> Result<(), StreamFailure> {
        let event = event.event.unwrap_or_default();
        let layout = self.layout(&event.schema_id).await?;
        let header = layout.as_ref().and_then(|layout| layout.decode(&event.payload).ok());
        let (reach, event_at) = match layout.zip(header) {
            Some((layout, header)) => {
                let reach = reach_of(self.object(), &header, &layout, &self.source.untracked);
                (reach, event_time(header.commit_ms))
            }
            None => (ChangeReach::Unreadable, None),
        };
        batch.add(reach, event_at);
        Ok(())
    }

    /// How events of this schema are read; `None`: they are not.
    async fn layout(&mut self, schema_id: &str) -> Result<Option<Arc<HeaderLayout>>, StreamFailure> {
        if let Some(known) = self.layouts.get(schema_id) {
            return Ok(known.clone());
        }
        let asking = self.bus.get_schema(SchemaRequest { schema_id: schema_id.to_owned() });
        let layout = match timeout(CALL_TIMEOUT, asking).await {
            Err(_) => return Err(CrmError::TimedOut { host: self.host.clone() }.into()),
            Ok(Ok(schema)) => HeaderLayout::read(&schema.into_inner().schema_json).ok().map(Arc::new),
            Ok(Err(status)) => match failure_of(&status, self.object(), &self.host) {
                failure @ (StreamFailure::Broke(_) | StreamFailure::Credentials | StreamFailure::TooFast) => {
                    return Err(failure);
                }
                _ => None,
            },
        };
        if self.layouts.len() >= LAYOUTS_MAX {
            self.layouts.clear();
        }
        self.layouts.insert(schema_id.to_owned(), layout.clone());
        Ok(layout)
    }
}
