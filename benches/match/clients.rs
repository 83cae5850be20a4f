//! The load: callers that wait for their answer (closed loop), or come when they come (open loop).
//! Every answer is checked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use contact_sync::rpc::pb::{self, caller_service_client::CallerServiceClient};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{figures::Figures, service::Server};

/// Connections to a server.
pub(crate) const CONNECTIONS: usize = 4;
/// Of the calls' order.
pub(crate) const SEED: u64 = 1;

/// Makes the next call.
type Make = dyn Fn(&mut StdRng) -> pb::MatchCallerRequest + Send + Sync;

/// A kind of calls, and what each must be answered.
#[derive(Clone)]
pub(crate) struct Calls {
    make: Arc<Make>,
    expected: pb::MatchOutcome,
}

impl Calls {
    pub(crate) fn new(
        expected: pb::MatchOutcome,
        make: impl Fn(&mut StdRng) -> pb::MatchCallerRequest + Send + Sync + 'static,
    ) -> Self {
        Self { make: Arc::new(make), expected }
    }
}

/// Connections to a server, and what to show there.
#[derive(Clone)]
pub(crate) struct Target {
    channels: Vec<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Target {
    pub(crate) async fn connect(server: &Server) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address))?.tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(endpoint.connect().await.context("a server cannot be reached")?);
        }
        Ok(Self { channels, authorization: format!("Bearer {}", server.token).parse()? })
    }

    fn client(&self, index: usize) -> Client {
        Client {
            stub: CallerServiceClient::new(self.channels[index % self.channels.len()].clone()),
            authorization: self.authorization.clone(),
        }
    }

    /// One call, outside of every measurement.
    pub(crate) async fn ask(&self, calls: &Calls) -> anyhow::Result<pb::MatchCallerResponse> {
        let call = (calls.make)(&mut StdRng::seed_from_u64(SEED));
        self.client(0).ask(call, calls.expected).await
    }

    /// So many clients, each with its next call as soon as it has its answer.
    pub(crate) async fn saturate(&self, calls: &Calls, clients: usize, span: Duration) -> anyhow::Result<Figures> {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for index in 0..clients {
            let (mut client, calls) = (self.client(index), calls.clone());
            running.spawn(async move {
                let mut rng = StdRng::seed_from_u64(SEED + index as u64);
                let mut latencies = Vec::new();
                while started.elapsed() < span {
                    let call = (calls.make)(&mut rng);
                    let asked = Instant::now();
                    client.ask(call, calls.expected).await?;
                    latencies.push(asked.elapsed());
                }
                anyhow::Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(done) = running.join_next().await {
            latencies.append(&mut done??);
        }
        Figures::of(latencies, started.elapsed())
    }

    /// So many calls a second, evenly spaced, however long the answers take. A latency counts from
    /// the moment at which the call was meant to be made, so that what waits behind a slow answer
    /// is not left out; a refusal's, from when it was made.
    pub(crate) async fn offer(&self, calls: &Calls, rate: f64, span: Duration) -> anyhow::Result<Offered> {
        let (answered, mut answers) = mpsc::unbounded_channel();
        let (target, calls, runtime) = (self.clone(), calls.clone(), Handle::current());
        let started = Instant::now();
        // A thread of its own: the runtime's timer is too coarse.
        let pacing = tokio::task::spawn_blocking(move || {
            let mut rng = StdRng::seed_from_u64(SEED);
            for index in 0_usize.. {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let offset = Duration::from_secs_f64(index as f64 / rate);
                if offset >= span {
                    break;
                }
                let due = started + offset;
                #[expect(clippy::disallowed_methods, reason = "on a thread for blocking work")]
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let (mut client, answered) = (target.client(index), answered.clone());
                let (call, expected) = ((calls.make)(&mut rng), calls.expected);
                runtime.spawn(async move {
                    let made = Instant::now();
                    let answer = client.ask(call, expected).await;
                    let _ = answered.send((answer, due.elapsed(), made.elapsed()));
                });
            }
        });
        pacing.await?;
        let (mut latencies, mut refusals) = (Vec::new(), Vec::new());
        while let Some((answer, since_due, since_made)) = answers.recv().await {
            match answer {
                Ok(_) => latencies.push(since_due),
                Err(error) if is_refusal(&error) => refusals.push(since_made),
                Err(error) => return Err(error),
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let refused_share = refusals.len() as f64 / (refusals.len() + latencies.len()) as f64;
        let refused = if refusals.is_empty() { None } else { Some(Figures::of(refusals, started.elapsed())?) };
        Ok(Offered { answered: Figures::of(latencies, started.elapsed())?, refused, refused_share })
    }
}

/// What became of calls that came when they came.
pub(crate) struct Offered {
    pub(crate) answered: Figures,
    /// Those that the server had no room for, if any.
    pub(crate) refused: Option<Figures>,
    /// Of all, 0 to 1.
    pub(crate) refused_share: f64,
}

/// The server has no room for the call at the moment.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| status.code() == Code::ResourceExhausted)
}

struct Client {
    stub: CallerServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Client {
    async fn ask(
        &mut self,
        call: pb::MatchCallerRequest,
        expected: pb::MatchOutcome,
    ) -> anyhow::Result<pb::MatchCallerResponse> {
        let mut request = Request::new(call);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let answer = self.stub.match_caller(request).await?.into_inner();
        ensure!(answer.outcome() == expected, "answered {:?} instead of {expected:?}", answer.outcome());
        Ok(answer)
    }
}
