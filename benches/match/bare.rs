//! What `MatchCaller` is measured against: servers of the same interface that do nothing but
//! answer, or nothing but the look-up's statement. Each is this program again, in a process of its
//! own, on the same runtime as the service.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use contact_sync::{
    config::Config,
    domain::{
        call::{CLICK_TTL, CallDirection},
        clock::{Clock as _, SystemClock},
        match_policy::MatchPolicy,
    },
    rpc::{
        pb::{
            self,
            caller_service_server::{CallerService, CallerServiceServer},
        },
        server,
    },
    store::{
        CallDb, PlanMode, PoolSettings,
        caller_lookup::{self, LookupRequest},
    },
};
use phone_key::PhoneKey;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::service::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, STATEMENT_TIMEOUT};

/// Answers every question with the same reply; first looks the number up, if it has a database.
struct Bare {
    reply: pb::MatchCallerResponse,
    database: Option<CallDb>,
}

/// Reads the reply from standard input, prints the address, and serves until it is killed.
pub(crate) async fn serve(database_url: Option<&str>) -> anyhow::Result<()> {
    let mut reply = Vec::new();
    std::io::stdin().read_to_end(&mut reply)?;
    let reply = pb::MatchCallerResponse::decode(reply.as_slice()).context("the reply")?;
    let database = database_url.map(|url| CallDb::connect_lazy(url, pool_settings())).transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    tonic::transport::Server::builder()
        .add_service(CallerServiceServer::new(Bare { reply, database }))
        .serve_with_incoming(server::incoming(listener.into()))
        .await
        .context("the bare server")
}

/// Those of the service's call path.
fn pool_settings() -> PoolSettings {
    let pool = Config::with_defaults(PathBuf::new()).pools.call;
    PoolSettings {
        connections_max: pool.connections,
        connections_min: pool.connections,
        acquire_timeout: ACQUIRE_TIMEOUT,
        connect_timeout: std::time::Duration::from_secs(1),
        statement_timeout: STATEMENT_TIMEOUT,
        lock_timeout: LOCK_TIMEOUT,
        plan_mode: PlanMode::Generic,
        asks_before_use: false,
    }
}

impl Bare {
    async fn look_up(&self, database: &CallDb, request: &pb::MatchCallerRequest) -> anyhow::Result<()> {
        let account_id = request.account_id.parse()?;
        let key = PhoneKey::try_from_i64(request.phone_number.trim_start_matches('+').parse()?)?;
        let now = SystemClock::default().now();
        let request = LookupRequest {
            call_id: None,
            direction: CallDirection::Inbound,
            clicks_since: now - CLICK_TTL,
            policy: MatchPolicy::FirstCreated,
        };
        let found = caller_lookup::look_up(database, account_id, key, &request).await?;
        anyhow::ensure!(found.candidates.len() == 1, "{} contacts have the number", found.total);
        Ok(())
    }
}

#[tonic::async_trait]
impl CallerService for Bare {
    async fn match_caller(
        &self,
        request: Request<pb::MatchCallerRequest>,
    ) -> Result<Response<pb::MatchCallerResponse>, Status> {
        if let Some(database) = &self.database {
            let found = self.look_up(database, request.get_ref()).await;
            found.map_err(|error| Status::internal(format!("{error:#}")))?;
        }
        Ok(Response::new(self.reply.clone()))
    }

    async fn select_match(
        &self,
        _: Request<pb::SelectMatchRequest>,
    ) -> Result<Response<pb::SelectMatchResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn pre_register_contact(
        &self,
        _: Request<pb::PreRegisterContactRequest>,
    ) -> Result<Response<pb::PreRegisterContactResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn resolve_requester(
        &self,
        _: Request<pb::ResolveRequesterRequest>,
    ) -> Result<Response<pb::ResolveRequesterResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
    async fn explain_match(
        &self,
        _: Request<pb::ExplainMatchRequest>,
    ) -> Result<Response<pb::ExplainMatchResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
