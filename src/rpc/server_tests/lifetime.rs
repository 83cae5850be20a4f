//! How the server begins, how it is, and how it ends.

use super::*;

#[tokio::test]
async fn health_watchers_are_told_before_calls_are_refused() {
    let server = start(ServerLimits::default(), DrainTimes { wait: LONG, timeout: LONG }, |_| {}).await;
    let mut health = HealthClient::new(server.connect().await);
    let mut watches = Vec::new();
    for name in crate::rpc::health::NAMES {
        let mut watch = health.watch(HealthCheckRequest { service: name.to_owned() }).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::Serving, "{name:?}");
        watches.push(watch);
    }

    server.soft.cancel();

    for watch in &mut watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::NotServing);
    }
    // Load balancers have not noticed yet: new connections are still served.
    ContactServiceClient::new(server.connect().await).get_contact(server.get_contact("answer")).await.unwrap();
    server.hard.cancel();
    assert_eq!(server.ended().await, DrainOutcome::Cut);
}

/// Health lists every service, and a watch of an unknown one stays open.
#[tokio::test]
async fn health_lists_services_unknown_watch_stays_open() {
    let server = start_default().await;
    let mut health = HealthClient::new(server.connect().await);
    let unknown = HealthCheckRequest { service: "contactsync.v9.CallerService".to_owned() };

    let listed = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    let refused = health.check(unknown.clone()).await.unwrap_err();
    let mut watch = health.watch(unknown).await.unwrap().into_inner();

    let names: std::collections::BTreeSet<&str> = listed.keys().map(String::as_str).collect();
    assert_eq!(names, crate::rpc::health::NAMES.into());
    assert!(listed.values().all(|said| said.status() == Wire::Serving));
    assert_eq!(code_and_reason(&refused), (Code::NotFound, "SERVICE_NOT_FOUND".into()));
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::ServiceUnknown);
    server.soft.cancel();
    // Nothing more is said of it; the drain ends it.
    assert_eq!(watch.message().await.unwrap(), None);
}

/// Nothing is serving again once the drain has begun.
#[tokio::test]
async fn nothing_serves_again_once_drain_began() {
    let health = ServingHealth::new(true);
    let mut watch =
        HealthClient::new(health.service(1024)).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::Serving);

    health.report(&[""], false);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::NotServing);
    health.report(&[""], true);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::Serving);
    health.drain();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Wire::NotServing);
    health.report(&[""], true);
    health.end();

    assert_eq!(watch.message().await.unwrap(), None);
}

/// A drain finishes open calls, refuses new ones, and waits for no watcher.
#[tokio::test]
async fn drain_finishes_open_calls_not_watchers() {
    let mut server = start_default().await;
    let mut watch =
        HealthClient::new(server.connect().await).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut client = ContactServiceClient::new(server.connect().await);
    let call = TaskTracker::new().spawn({
        let request = server.get_contact("hold");
        async move { client.get_contact(request).await }
    });
    assert!(matches!(server.events.recv().await, Some(Event::Begun(_))));

    server.soft.cancel();
    while watch.message().await.is_ok_and(|message| message.is_some()) {}
    // The watchers' end is the end of accepting; the listener closes right after.
    while server.try_connect().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.ended.is_finished(), "the open call is waited for");
    server.release.notify_one();

    call.await.unwrap().unwrap();
    assert_eq!(server.ended().await, DrainOutcome::Clean);
}

/// A drain that takes too long cuts calls and streams off with UNAVAILABLE.
#[tokio::test]
async fn overlong_drain_cuts_calls_and_streams_off() {
    let drain = DrainTimes { wait: Duration::ZERO, timeout: Duration::from_millis(20) };
    let mut server = start(ServerLimits::default(), drain, |_| {}).await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let call = TaskTracker::new().spawn({
        let request = server.get_contact("hang");
        async move { client.get_contact(request).await }
    });
    assert!(matches!(server.events.recv().await, Some(Event::Begun(_))));
    let request = server.with_scopes(&[TokenScope::Sync], pb::WatchSyncRunRequest::default());
    let mut stream = SyncServiceClient::new(server.connect().await).watch_sync_run(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());

    server.soft.cancel();

    let cut = call.await.unwrap().unwrap_err();
    assert_eq!(code_and_reason(&cut), (Code::Unavailable, "SHUTTING_DOWN".into()));
    let cut = stream.message().await.unwrap_err();
    assert_eq!(code_and_reason(&cut), (Code::Unavailable, "SHUTTING_DOWN".into()));
    assert_eq!(server.ended().await, DrainOutcome::Cut);
}

#[tokio::test]
async fn reflection_is_served_only_when_switched_on() {
    let drain = DrainTimes { wait: Duration::ZERO, timeout: LONG };
    let off = start_default().await;
    let on = start(ServerLimits::default(), drain, |server| server.reflection = true).await;
    let list = |server: &Running| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        server.with_scopes(&TokenScope::ALL, tokio_stream::once(request))
    };

    let refused =
        ServerReflectionClient::new(off.connect().await).server_reflection_info(list(&off)).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), (Code::Unimplemented, "METHOD_NOT_SERVED".into()));

    let mut answers =
        ServerReflectionClient::new(on.connect().await).server_reflection_info(list(&on)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(listed)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("another answer")
    };
    let set: FileDescriptorSet = prost::Message::decode(FILE_DESCRIPTOR_SET).unwrap();
    let listed: HashSet<String> = listed.service.into_iter().map(|service| service.name).collect();
    for service in set.file.iter().flat_map(|file| &file.service) {
        assert!(listed.iter().any(|listed| listed.ends_with(&format!(".{}", service.name()))), "{}", service.name());
    }
    assert!(listed.contains("contactsync.v1.CallerService") && listed.contains("grpc.health.v1.Health"));
}

#[tokio::test]
async fn a_pipe_serves_as_well_as_a_port() {
    let keys = generate(&[1; 32]);
    let limits = ServerLimits::default();
    let (dummy, _events) = dummy();
    let (client_side, server_side) = tokio::io::duplex(64 * 1024);
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let server = server(limits, DrainTimes { wait: Duration::ZERO, timeout: LONG }, &keys);
    let pipe = tokio_stream::once(Ok::<_, io::Error>(server_side)).chain(tokio_stream::pending());
    let ended = TaskTracker::new().spawn(server.serve(dummy_routes(&limits, &dummy), pipe, soft.clone(), hard));

    let mut client_side = Some(client_side);
    let connect = tower::service_fn(move |_: http::Uri| {
        let io = client_side.take().map(hyper_util::rt::TokioIo::new);
        async { io.ok_or_else(|| io::Error::other("one connection only")) }
    });
    let channel = Endpoint::from_static("http://pipe").connect_with_connector(connect).await.unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();

    soft.cancel();
    assert_eq!(ended.await.unwrap().unwrap(), DrainOutcome::Clean);
}

/// A listener that ends by itself is an error.
#[tokio::test]
async fn listener_ending_by_itself_is_error() {
    let keys = generate(&[1; 32]);
    let limits = ServerLimits::default();
    let server = server(limits, DrainTimes { wait: LONG, timeout: LONG }, &keys);
    let nothing = tokio_stream::empty::<Result<tokio::io::DuplexStream, io::Error>>();
    let (never, hard) = (CancellationToken::new(), CancellationToken::new());

    let ended = server.serve(dummy_routes(&limits, &dummy().0), nothing, never, hard).await;

    assert!(matches!(ended, Err(ServerError::ListenerEnded)));
}

/// Connections live up to a tenth less than their age.
#[tokio::test]
async fn connection_ages_vary_by_tenth_below() {
    let mut server = server(ServerLimits::default(), DrainTimes { wait: LONG, timeout: LONG }, &generate(&[1; 32]));
    let mut ages = HashSet::new();

    for seed in 0..50 {
        server.ids = Arc::new(IdSource::seeded(seed));
        let age = server.jittered_age();
        assert!((Duration::from_mins(9)..=Duration::from_mins(10)).contains(&age), "seed {seed}: {age:?}");
        ages.insert(age);
    }

    assert!(ages.len() > 10);
}
