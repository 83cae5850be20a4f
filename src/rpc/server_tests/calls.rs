//! What one call meets on its way in and out.

use super::*;

/// Every method is closed without a token, and with any other scope.
#[tokio::test]
async fn methods_need_token_with_their_own_scope() {
    let server = start_default().await;
    let channel = server.connect().await;

    for method in METHODS {
        let MethodAccess::AnyOf(needed) = method.access else { continue };

        let refused = call_path(&channel, method.path, Request::new(())).await.unwrap_err();
        assert_eq!(code_and_reason(&refused), (Code::Unauthenticated, "TOKEN_MISSING".into()), "{}", method.path);

        let others: Vec<TokenScope> = TokenScope::ALL.into_iter().filter(|scope| !needed.contains(scope)).collect();
        let refused = call_path(&channel, method.path, server.with_scopes(&others, ())).await.unwrap_err();
        assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "SCOPE_MISSING".into()), "{}", method.path);

        // Each of the right ones reaches a handler, which here knows nothing.
        for &scope in needed {
            match call_path(&channel, method.path, server.with_scopes(&[scope], ())).await {
                Ok(()) => assert!(method.path.ends_with("/WatchSyncRun")),
                Err(status) => {
                    assert!([Code::Unimplemented, Code::InvalidArgument].contains(&status.code()), "{status:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_belongs_to_another_account_is_not_found() {
    let server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let mut request = server.get_contact("any");
    request.get_mut().account_id = "11111111-2222-4333-8444-555555555555".to_owned();

    let refused = client.get_contact(request).await.unwrap_err();

    assert_eq!(code_and_reason(&refused), (Code::NotFound, "ACCOUNT_NOT_FOUND".into()));
}

/// A client that compresses is told what is read instead (gRPC's compression protocol).
#[tokio::test]
async fn compressed_message_is_refused_with_what_is_read() {
    let server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let mut request = server.get_contact("any");
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());

    let refused = client.get_contact(request).await.unwrap_err();

    assert_eq!(code_and_reason(&refused), (Code::Unimplemented, "UNIMPLEMENTED".into()));
    assert_eq!(refused.metadata().get("grpc-accept-encoding").unwrap(), "identity");
    assert!(refused.message().contains("compressed"), "{refused:?}");
}

/// A handler learns the client's deadline, and is dropped when it passes.
#[tokio::test]
async fn handler_knows_deadline_and_is_dropped_then() {
    let mut server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let mut request = server.get_contact("hang");
    request.set_timeout(Duration::from_millis(50));

    client.get_contact(request).await.unwrap_err();

    let Some(Event::Begun(left)) = server.events.recv().await else { panic!("the handler never began") };
    assert!(left <= Duration::from_millis(50), "{left:?}");
    assert_eq!(server.events.recv().await, Some(Event::Dropped));
}

/// A handler is dropped when its client hangs up.
#[tokio::test]
async fn handler_is_dropped_when_client_hangs_up() {
    let mut server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let call = TaskTracker::new().spawn({
        let request = server.get_contact("hang");
        async move { client.get_contact(request).await }
    });
    let Some(Event::Begun(left)) = server.events.recv().await else { panic!("the handler never began") };
    assert!(left > Duration::from_secs(9) && left <= Duration::from_secs(10), "the method's own limit: {left:?}");

    call.abort();

    assert_eq!(server.events.recv().await, Some(Event::Dropped));
}

/// What the server makes of one call without a client in between, whose own timer would answer
/// first.
async fn through_gate(path: &str, timeout: &str, keys: &KeyPair, contact_id: &str) -> Answer {
    let limits = ServerLimits::default();
    let server = server(limits, DrainTimes { wait: LONG, timeout: LONG }, keys);
    let (dummy, _events) = dummy();
    let gate = CallGate {
        routes: dummy_routes(&limits, &dummy),
        shared: Arc::new(GateState {
            rooms: CallRooms::new(&ServerLimits { calls_max: 1, ..limits }),
            refusals: server.refusals,
            request_bytes_max: limits.request_bytes_max,
            header_bytes_max: limits.header_bytes_max,
            message_timeout: limits.message_timeout,
            cut: CancellationToken::new(),
            verifier: server.verifier,
            ids: server.ids,
            clock: server.clock,
            call_namer: server.call_namer,
            reflection: false,
        }),
    };
    let token = token(keys, &TokenScope::ALL);
    let message = prost::Message::encode_to_vec(&pb::GetContactRequest {
        account_id: ACCOUNT.to_owned(),
        contact_id: contact_id.to_owned(),
    });
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    frame.extend(message);
    let request = HttpRequest::post(path)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::new(String::from_utf8(frame).unwrap()))
        .unwrap();
    let started = tokio::time::Instant::now();
    let response = gate.oneshot(request).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let mut headers = parts.headers;
    let mut messages = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.unwrap().into_trailers() {
            Ok(trailers) => headers.extend(trailers),
            Err(_) => messages += 1,
        }
    }
    Answer { status: Status::from_header_map(&headers).unwrap(), messages, took: started.elapsed() }
}

/// One whole answer.
struct Answer {
    status: Status,
    messages: usize,
    took: Duration,
}

const GET_CONTACT: &str = "/contactsync.v1.ContactService/GetContact";
const WATCH_SYNC_RUN: &str = "/contactsync.v1.SyncService/WatchSyncRun";

/// A call is answered `DEADLINE_EXCEEDED` at the sooner of both limits.
#[tokio::test(start_paused = true)]
async fn sooner_limit_answers_deadline_exceeded() {
    let keys = generate(&[1; 32]);

    for (timeout, expected) in [("300m", Duration::from_millis(300)), ("99999999H", Duration::from_secs(10))] {
        let answer = through_gate(GET_CONTACT, timeout, &keys, "hang").await;

        assert_eq!(code_and_reason(&answer.status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
        assert!(answer.took >= expected && answer.took < expected + Duration::from_millis(5), "{:?}", answer.took);
    }
    let late = through_gate(GET_CONTACT, "0m", &keys, "hang").await;
    assert_eq!(late.status.code(), Code::DeadlineExceeded);
}

/// A stream ends with `DEADLINE_EXCEEDED` after its messages.
#[tokio::test(start_paused = true)]
async fn stream_ends_deadline_exceeded_after_messages() {
    let keys = generate(&[1; 32]);

    for (timeout, expected) in [("2S", Duration::from_secs(2)), ("99999999H", LONG)] {
        let answer = through_gate(WATCH_SYNC_RUN, timeout, &keys, "").await;

        assert_eq!(code_and_reason(&answer.status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
        assert_eq!(answer.messages, 1);
        assert!(answer.took >= expected && answer.took < expected + Duration::from_millis(5), "{:?}", answer.took);
    }
}

/// A timeout that cannot be read is an `INVALID_ARGUMENT`.
#[tokio::test]
async fn unreadable_timeout_is_invalid_argument() {
    let answer = through_gate(GET_CONTACT, "soon", &generate(&[1; 32]), "any").await;

    assert_eq!(answer.status.code(), Code::InvalidArgument);
    assert!(answer.status.message().starts_with("grpc-timeout: "));
}

/// A panic is an internal error with the request's id, and the connection lives on.
#[tokio::test]
async fn panic_is_internal_error_and_connection_lives() {
    let server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);

    let mut ids = HashSet::new();
    for contact_id in ["panic", "panic", "fail"] {
        let failed = client.get_contact(server.get_contact(contact_id)).await.unwrap_err();

        assert_eq!(code_and_reason(&failed), (Code::Internal, "INTERNAL".into()));
        assert_eq!(failed.message(), "internal error");
        assert!(!format!("{failed:?}").contains("secret detail"));
        ids.insert(failed.get_error_details().request_info().unwrap().request_id.clone());
    }

    assert_eq!(ids.len(), 3, "each request has its own id");
    client.get_contact(server.get_contact("answer")).await.unwrap();
}

/// A message above the limit is refused, and one at the limit is read.
#[tokio::test]
async fn message_above_limit_is_refused_at_limit_read() {
    let server = start_default().await;
    let mut client = ContactServiceClient::new(server.connect().await);
    let of_size = |bytes: usize| {
        let empty = server.get_contact("");
        let overhead = prost::Message::encoded_len(empty.get_ref()) + 4;
        server.get_contact(&"x".repeat(bytes - overhead))
    };
    let at_limit = of_size(64 * 1024);
    assert_eq!(prost::Message::encoded_len(at_limit.get_ref()), 64 * 1024);

    client.get_contact(at_limit).await.unwrap();
    let refused = client.get_contact(of_size(64 * 1024 + 1)).await.unwrap_err();

    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".into()));
    let huge = client.get_contact(of_size(8 * 1024 * 1024)).await.unwrap_err();
    assert_eq!(huge.code(), Code::ResourceExhausted);
}

/// An answer above the limit is refused with a reason.
#[tokio::test]
async fn answer_above_limit_is_refused_with_reason() {
    let limits = ServerLimits { response_bytes_max: 64 * 1024, ..ServerLimits::default() };
    let server = start(limits, DrainTimes { wait: Duration::ZERO, timeout: LONG }, |_| {}).await;
    let mut client = ContactServiceClient::new(server.connect().await);

    let refused = client.get_contact(server.get_contact("large")).await.unwrap_err();

    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "ANSWER_TOO_LARGE".into()));
    client.get_contact(server.get_contact("answer")).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_message_blame_the_client() {
    let server = start_default().await;
    let channel = server.connect().await;

    // Field 1 as a number, where the request has a string.
    let wrong = server.with_scopes(&[TokenScope::ContactsRead], Timestamp { seconds: 1, nanos: 0 });
    let refused = call_path(&channel, GET_CONTACT, wrong).await.unwrap_err();

    assert_eq!(code_and_reason(&refused), (Code::InvalidArgument, "MESSAGE_UNREADABLE".into()));
}

/// Headers above the limit are refused, and the server lives on.
#[tokio::test]
async fn headers_above_limit_are_refused_server_lives() {
    let server = start_default().await;
    for (bytes, name) in [(16 * 1024, "x-large"), (60 * 1024, "x-larger"), (20 * 1024, "authorization")] {
        let mut request = server.get_contact("answer");
        request.metadata_mut().insert(name, "x".repeat(bytes).parse().unwrap());
        let refused = ContactServiceClient::new(server.connect().await).get_contact(request).await.unwrap_err();
        assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "HEADERS_TOO_LARGE".into()), "{name}");
        assert!(refused.get_details_retry_info().is_none(), "time does not mend it");
    }
    // Beyond that the connection refuses, before there is a request.
    let mut request = server.get_contact("answer");
    request.metadata_mut().insert("x-largest", "x".repeat(200 * 1024).parse().unwrap());
    ContactServiceClient::new(server.connect().await).get_contact(request).await.unwrap_err();

    ContactServiceClient::new(server.connect().await).get_contact(server.get_contact("answer")).await.unwrap();
}

/// A full server sheds calls, answers health, and has room again.
#[tokio::test]
async fn full_server_sheds_calls_and_answers_health() {
    let limits = ServerLimits { calls_max: 1, ..ServerLimits::default() };
    let mut server = start(limits, DrainTimes { wait: Duration::ZERO, timeout: LONG }, |_| {}).await;
    // Idle connections take no room.
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(server.connect().await);
    }
    let tasks = TaskTracker::new();
    let mut held = Vec::new();
    for channel in &idle[..1] {
        let (mut client, request) = (ContactServiceClient::new(channel.clone()), server.get_contact("hold"));
        held.push(tasks.spawn(async move { client.get_contact(request).await }));
        assert!(matches!(server.events.recv().await, Some(Event::Begun(_))));
    }
    let mut client = ContactServiceClient::new(idle[2].clone());

    let shed = client.get_contact(server.get_contact("answer")).await.unwrap_err();
    assert_eq!(code_and_reason(&shed), (Code::ResourceExhausted, "OVERLOADED".into()));
    assert!(shed.get_error_details().retry_info().unwrap().retry_delay.is_some());
    let mut health = HealthClient::new(idle[3].clone());
    health.check(HealthCheckRequest::default()).await.unwrap();

    server.release.notify_one();
    for call in held {
        call.await.unwrap().unwrap();
    }
    client.get_contact(server.get_contact("answer")).await.unwrap();
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log has method, account and request id, and nothing of the request.
#[tokio::test]
async fn log_has_call_facts_and_no_request() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let keys = generate(&[1; 32]);
    {
        let _logging = tracing::subscriber::set_default(subscriber);
        // A place in the code that another test's thread reaches first is taken for unwanted by
        // all: reach each, then ask anew.
        through_gate(GET_CONTACT, "1S", &keys, "fail").await;
        tracing::callsite::rebuild_interest_cache();
        for contact_id in ["fail", "private-value"] {
            through_gate(GET_CONTACT, "1S", &keys, contact_id).await;
        }
        through_gate("/private-value/Method", "1S", &keys, "any").await;
    }

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let failure = text.lines().rfind(|line| line.contains("a request failed")).unwrap();
    for field in ["secret detail", GET_CONTACT, "request.id=", &format!("account.id={ACCOUNT}")] {
        assert!(failure.contains(field), "{field} is not in {failure}");
    }
    assert!(text.contains("access: call rpc.method="), "{text}");
    for private in ["private-value", "Bearer", &token(&keys, &TokenScope::ALL)] {
        assert!(!text.contains(private), "{private} is in {text}");
    }
}
