//! What the server survives from clients that mean no good, and from those that are merely broken.
//! Time is virtual.

use tokio::time::Instant;

use super::{raw::*, *};
use crate::rpc::claims::TokenAccounts;

const ENHANCE_YOUR_CALM: u32 = 0xb;
const NO_ERROR: u32 = 0;
const OTHER_ACCOUNT: &str = "11111111-2222-4333-8444-555555555555";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const GET_CONTACT: &str = "/contactsync.v1.ContactService/GetContact";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Small enough to be reached.
fn small() -> ServerLimits {
    ServerLimits { calls_max: 4, frames_per_second: 100, ..ServerLimits::default() }
}

fn noisy_token(server: &Piped) -> String {
    token_of(&server.keys, &[TokenScope::ContactsRead], "noisy", &TokenAccounts::All)
}

async fn assert_served(server: &Piped, subject: &str, account_id: &str) {
    let request = server.get_contact("answer", subject, account_id);
    server.client().await.get_contact(request).await.unwrap();
}

/// A connection that does not begin is closed after ten seconds.
#[tokio::test(start_paused = true)]
async fn connection_not_beginning_closes_after_ten_seconds() {
    let server = start_piped(small());
    let settings = frame(SETTINGS, 0, 0, &[0; 6]);

    for said in [&b""[..], &PREFACE[..12], PREFACE, &[PREFACE, &settings[..11]].concat()] {
        let mut raw = server.pipe();
        raw.send(said).await.unwrap();

        let closed = raw.closed().await;
        assert!(closed.after >= seconds(10) && closed.after < seconds(11), "{} bytes: {closed:?}", said.len());
    }
}

/// A byte now and then does not put off the end of the handshake.
#[tokio::test(start_paused = true)]
async fn dripped_bytes_never_postpone_handshake_end() {
    let server = start_piped(small());
    let mut raw = server.pipe();
    for byte in PREFACE.chunks(1).take(4) {
        raw.send(byte).await.unwrap();
        sleep(seconds(2)).await;
    }

    let closed = raw.closed().await;

    assert!(closed.after < seconds(11), "{closed:?}");
}

/// A connection without calls is told to go, and closed.
#[tokio::test(start_paused = true)]
async fn callless_connection_is_told_to_go() {
    let server = start_piped(small());

    let stranger = server.begin().await.closed().await;
    assert!(stranger.after >= seconds(60) && stranger.after <= seconds(70), "{stranger:?}");
    assert_eq!(stranger.goaway, Some(NO_ERROR));

    let mut known = server.begin().await;
    known.open(1, &noisy_token(&server), GET_CONTACT).await;
    known.send(&frame(DATA, END_STREAM, 1, &[0; 5])).await.unwrap();
    let known = known.closed().await;
    assert!(known.after >= seconds(300) && known.after <= seconds(310), "{known:?}");
}

/// HTTP/1 and other rubbish end their connection at once.
#[tokio::test(start_paused = true)]
async fn http_1_and_rubbish_end_connection_at_once() {
    let server = start_piped(small());

    for rubbish in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 100], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        let mut raw = server.pipe();
        raw.send(&rubbish.repeat(3)).await.unwrap();

        let closed = raw.closed().await;
        assert!(closed.after < seconds(1), "{closed:?}");
    }
    assert_served(&server, "quiet", ACCOUNT).await;
}

/// A flood of any frame closes its connection, and no other.
#[tokio::test(start_paused = true)]
async fn frame_flood_closes_only_its_connection() {
    let server = start_piped(small());
    let mut other = server.client().await;

    for (kind, payload) in [
        (PING, &[0; 8][..]),
        (SETTINGS, &[]),
        (SETTINGS, &[0, 4, 0, 1, 0, 0]),
        (PRIORITY, &[0, 0, 0, 0, 1]),
        (WINDOW_UPDATE, &[0, 0, 0, 1]),
        (0xff, &[7; 64]),
        (0x0a, &[]),
    ] {
        let stream = if kind == PRIORITY { 3 } else { 0 };
        let (sent, closed) = server.begin().await.flood(&frame(kind, 0, stream, payload)).await;

        // The budget is 1,000 frames; what is in the pipe when it ends was sent, too.
        assert!(sent < 20_000, "kind {kind}: {sent} frames, {closed:?}");
        assert!(closed.after < seconds(5), "kind {kind}: {closed:?}");
    }
    other.get_contact(server.get_contact("answer", "quiet", ACCOUNT)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_floods_is_told_to_calm_down() {
    let server = start_piped(small());

    let (_, closed) = server.begin().await.flood(&frame(0xff, 0, 0, &[0; 8])).await;

    assert_eq!(closed.goaway, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn headers_that_never_end_close_their_connection() {
    let server = start_piped(small());

    for continuation in [&[][..], &[0; 64]] {
        let mut raw = server.begin().await;
        raw.send(&frame(HEADERS, 0, 1, &header_block(&[(":method", "POST")]))).await.unwrap();
        let (sent, closed) = raw.flood(&frame(CONTINUATION, 0, 1, continuation)).await;

        assert!(sent < 20_000, "{sent} frames, {closed:?}");
    }
    // Begun, and nothing more.
    let mut raw = server.begin().await;
    raw.send(&frame(HEADERS, 0, 1, &header_block(&[(":method", "POST")]))).await.unwrap();
    let closed = raw.closed().await;
    assert!(closed.after <= seconds(70), "{closed:?}");
}

/// Calls without an accepted token are a flood at last.
#[tokio::test(start_paused = true)]
async fn unaccepted_calls_are_flood_at_last() {
    let server = start_piped(small());
    let headers = Raw::headers_of("no.good.token", GET_CONTACT);
    let mut raw = server.begin().await;
    let mut sent = 0;
    while raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * sent + 1, &headers)).await.is_ok() {
        sent += 1;
        assert!(sent < 5_000, "the connection is still open");
        // The answers are read as they come.
        while let Ok(Some(_)) = timeout(Duration::from_millis(1), raw.frame()).await {}
    }
}

/// Calls that are opened and reset are a flood, even with a token.
#[tokio::test(start_paused = true)]
async fn calls_opened_and_reset_are_always_flood() {
    let server = start_piped(small());
    let headers = Raw::headers_of(&noisy_token(&server), GET_CONTACT);
    let mut raw = server.begin().await;
    let mut sent = 0;
    loop {
        let stream = 2 * sent + 1;
        let pair =
            [frame(HEADERS, END_HEADERS, stream, &headers), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
        if raw.send(&pair).await.is_err() {
            break;
        }
        sent += 1;
        assert!(sent < 5_000, "the connection is still open");
        while let Ok(Some(_)) = timeout(Duration::from_millis(1), raw.frame()).await {}
    }
    assert_served(&server, "noisy", ACCOUNT).await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_ends_its_connection() {
    let server = start_piped(small());
    let mut raw = server.begin().await;
    raw.send(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]).await.unwrap();

    let closed = raw.closed().await;

    assert!(closed.after < seconds(1) && closed.goaway.is_some(), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_client_is_never_cut_off() {
    let server = start_piped(small());
    let mut client = server.client().await;

    // Time stands still: each call must pay for its own frames.
    for call in 0..800 {
        let contact_id = if call % 100 == 0 { "large" } else { "answer" };
        client.get_contact(server.get_contact(contact_id, "busy", ACCOUNT)).await.unwrap();
    }
}

/// Calls whose message does not come leave others their room, and end.
#[tokio::test(start_paused = true)]
async fn calls_without_message_leave_room_and_end() {
    let server = start_piped(small());
    let mut raw = server.begin().await;
    for call in 0..100 {
        raw.open(2 * call + 1, &noisy_token(&server), GET_CONTACT).await;
    }
    // Answers of those that were refused at once: the token has its share of messages on their way.
    let mut ended = HashSet::new();
    while let Ok(Some((kind, flags, stream, _))) = timeout(Duration::from_millis(1), raw.frame()).await {
        if kind == HEADERS && flags & END_STREAM != 0 {
            ended.insert(stream);
        }
    }
    assert_eq!(ended.len(), 97);

    assert_served(&server, "quiet", ACCOUNT).await;

    let began = Instant::now();
    while ended.len() < 100 {
        let (kind, flags, stream, _) = raw.frame().await.unwrap();
        if kind == HEADERS && flags & END_STREAM != 0 {
            ended.insert(stream);
        }
    }
    assert!(began.elapsed() <= seconds(5), "{:?}", began.elapsed());
    assert_served(&server, "noisy", ACCOUNT).await;
}

/// A message that comes byte by byte has five seconds.
#[tokio::test(start_paused = true)]
async fn dripped_message_has_five_seconds() {
    let server = start_piped(small());
    let mut raw = server.begin().await;
    raw.open(1, &noisy_token(&server), GET_CONTACT).await;
    let began = Instant::now();
    let mut bytes_sent = 0;
    let answer = loop {
        tokio::select! {
            frame = raw.frame() => match frame.unwrap() {
                (HEADERS, _, 1, payload) => break payload,
                _ => continue,
            },
            () = sleep(seconds(1)) => {}
        }
        raw.send(&frame(DATA, 0, 1, &[0])).await.unwrap();
        bytes_sent += 1;
        assert!(bytes_sent < 60);
    };

    assert!(began.elapsed() <= seconds(6), "{:?}", began.elapsed());
    assert!(!answer.is_empty());
}

/// A message that announces two gigabytes is refused at once.
#[tokio::test(start_paused = true)]
async fn announced_two_gigabytes_are_refused_at_once() {
    let server = start_piped(small());
    let mut raw = server.begin().await;
    raw.open(1, &noisy_token(&server), GET_CONTACT).await;
    raw.send(&frame(DATA, 0, 1, &[0, 0x7f, 0xff, 0xff, 0xff])).await.unwrap();
    let began = Instant::now();
    while !matches!(raw.frame().await.unwrap(), (HEADERS, flags, 1, _) if flags & END_STREAM != 0) {}

    assert!(began.elapsed() < seconds(1));
}

/// Health calls whose message does not come keep nobody from asking.
#[tokio::test(start_paused = true)]
async fn stalled_health_calls_keep_nobody_from_asking() {
    let server = start_piped(small());
    let mut raw = server.begin().await;
    for call in 0..100 {
        raw.open(2 * call + 1, "none", "/grpc.health.v1.Health/Check").await;
    }

    assert_served(&server, "quiet", ACCOUNT).await;
    let mut health = server.begin().await;
    health.open(1, "none", "/grpc.health.v1.Health/Check").await;
    health.send(&frame(DATA, END_STREAM, 1, &[0; 5])).await.unwrap();
    while !matches!(health.frame().await.unwrap(), (DATA, _, 1, _)) {}
}

/// One account leaves room for others, even behind a token that it shares with them.
#[tokio::test(start_paused = true)]
async fn account_leaves_room_even_behind_shared_token() {
    let mut server = start_piped(small());
    let tasks = TaskTracker::new();
    let mut client = server.client().await;
    for _ in 0..3 {
        let (mut client, request) = (client.clone(), server.get_contact("hold", "router", ACCOUNT));
        tasks.spawn(async move { client.get_contact(request).await });
        assert!(matches!(server.events.recv().await, Some(Event::Begun(_))));
    }

    let refused = client.get_contact(server.get_contact("answer", "router", ACCOUNT)).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "OVERLOADED".into()));
    assert!(refused.message().contains("this account"), "{refused}");
    client.get_contact(server.get_contact("answer", "router", OTHER_ACCOUNT)).await.unwrap();

    server.release.notify_waiters();
    tasks.close();
    tasks.wait().await;
    client.get_contact(server.get_contact("answer", "router", ACCOUNT)).await.unwrap();
}

/// Above the limit, the oldest connection without a token makes room.
#[tokio::test(start_paused = true)]
async fn oldest_tokenless_connection_makes_room() {
    let server = start_piped(ServerLimits { connections_max: 3, ..small() });
    let mut client = server.client().await;
    client.get_contact(server.get_contact("answer", "quiet", ACCOUNT)).await.unwrap();
    let silent = server.pipe();
    // Health may be watched without a token, and for ever.
    let mut watching = server.begin().await;
    watching.open(1, "none", HEALTH_WATCH).await;
    watching.send(&frame(DATA, END_STREAM, 1, &[0; 5])).await.unwrap();

    let began = Instant::now();
    for _ in 0..10 {
        assert_served(&server, "quiet", ACCOUNT).await;
    }
    assert!(began.elapsed() < seconds(1), "{:?}", began.elapsed());
    silent.closed().await;
    let mut strangers = Vec::new();
    for _ in 0..10 {
        strangers.push(server.begin().await);
    }

    watching.closed().await;
    strangers.remove(0).closed().await;
    assert!(began.elapsed() < seconds(1), "{:?}", began.elapsed());
    // One that has shown a token stays.
    client.get_contact(server.get_contact("answer", "quiet", ACCOUNT)).await.unwrap();
}

/// Connections above the limit wait for those that have shown a token.
#[tokio::test(start_paused = true)]
async fn excess_connections_wait_for_those_with_tokens() {
    let server = start_piped(ServerLimits { connections_max: 2, ..small() });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await;
        client.get_contact(server.get_contact("answer", "quiet", ACCOUNT)).await.unwrap();
        clients.push(client);
    }

    let began = Instant::now();
    assert_served(&server, "quiet", ACCOUNT).await;

    // Until one of them has been idle for too long.
    assert!(began.elapsed() >= seconds(299), "{:?}", began.elapsed());
}

/// An accept that fails is tried again after a pause.
#[tokio::test(start_paused = true)]
async fn failed_accept_is_retried_after_pause() {
    let server = start_piped(small());
    for _ in 0..5 {
        server.fail_accept();
    }
    let began = Instant::now();

    assert_served(&server, "quiet", ACCOUNT).await;

    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_never_taken_end_their_connection() {
    let server = start_piped(small());
    let mut raw = server.pipe();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: no answer may be sent.
    raw.begin(&[0, 4, 0, 0, 0, 0]).await;
    for call in 0..10 {
        raw.open(2 * call + 1, &noisy_token(&server), GET_CONTACT).await;
        let message = server.get_contact("large", "noisy", ACCOUNT).into_inner();
        let message = prost::Message::encode_to_vec(&message);
        let data = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
        raw.send(&frame(DATA, END_STREAM, 2 * call + 1, &data)).await.unwrap();
    }

    // Its untaken answers hold no room meanwhile.
    assert_served(&server, "noisy", ACCOUNT).await;
    let closed = raw.closed().await;

    // The calls' deadline is ten seconds after their beginning.
    assert!(closed.after >= seconds(20) && closed.after <= seconds(40), "{closed:?}");
}

/// A client that closes its side in the middle of a call leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn client_closing_mid_call_leaves_nothing() {
    let server = start_piped(small());
    for _ in 0..20 {
        let mut raw = server.begin().await;
        raw.open(1, &noisy_token(&server), GET_CONTACT).await;
        drop(raw);
    }

    assert_served(&server, "noisy", ACCOUNT).await;
}
