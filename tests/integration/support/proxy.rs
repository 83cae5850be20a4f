//! The way to the database as a network in trouble makes it: what is established goes silent, in
//! both directions or one, and comes back late, or is cut; what is new comes late, never, or is
//! turned away. The server itself is never touched.

use std::{
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::sleep,
};

trait Way: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Way for T {}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the service to the database.
    Questions,
    /// And back.
    Answers,
}

/// What becomes of connections, each by its number.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// What those before are asked does not arrive.
    questions_frozen_before: u64,
    /// What those before answer does not arrive.
    answers_frozen_before: u64,
    /// Those before are closed.
    cut_before: u64,
    /// And not in order, but by a reset.
    resets: bool,
    /// New ones come so much later.
    delay: Duration,
    /// Each question comes so much later.
    lag: Duration,
    /// A connection that says this goes silent before it has.
    held_at: Option<&'static [u8]>,
    /// The one that has.
    held: Option<u64>,
    /// New ones are accepted, and nothing ever comes.
    is_silent: bool,
    /// New ones are closed at once.
    refuses: bool,
    /// How many there were.
    count: u64,
}

impl Weather {
    fn lets(&self, number: u64, direction: Direction) -> bool {
        let frozen_before = match direction {
            Direction::Questions => self.questions_frozen_before,
            Direction::Answers => self.answers_frozen_before,
        };
        number >= frozen_before && !(self.held == Some(number) && direction == Direction::Questions)
    }
}

/// A TCP proxy in front of a database, until it is dropped.
pub struct Proxy {
    url: String,
    upstream: Arc<Mutex<PgConnectOptions>>,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// In front of the database with this URL.
    pub async fn start(url: &str) -> Self {
        let upstream = PgConnectOptions::from_str(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (user, database) = (upstream.get_username(), upstream.get_database().unwrap());
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let shared = Arc::clone(&weather);
        let upstream = Arc::new(Mutex::new(upstream));
        let leads_to = Arc::clone(&upstream);
        spawn(async move {
            let mut ended = shared.subscribe();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (client, _) = accepted.unwrap();
                        let mut number = 0;
                        shared.send_modify(|weather| {
                            number = weather.count;
                            weather.count += 1;
                        });
                        let upstream = leads_to.lock().unwrap().clone();
                        spawn(lead(client, number, upstream, Arc::clone(&shared)));
                    }
                    // Cut for ever: the test has ended.
                    _ = ended.wait_for(|weather| weather.cut_before == u64::MAX) => return,
                }
            }
        });
        Self { url, upstream, weather }
    }

    /// The way through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// New connections lead to this server from now on.
    pub fn lead_to(&self, url: &str) {
        *self.upstream.lock().unwrap() = PgConnectOptions::from_str(url).unwrap();
    }

    /// How many connections there were.
    pub fn count(&self) -> u64 {
        self.weather.borrow().count
    }

    /// The way through it as another role, which needs no password.
    pub fn url_as(&self, role: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("postgres://{role}@{rest}")
    }

    /// What is established goes silent; what is new is in order.
    pub fn freeze(&self) {
        self.freeze_questions();
        self.freeze_answers();
    }

    /// The database hears nothing more on what is established.
    pub fn freeze_questions(&self) {
        self.weather.send_modify(|weather| weather.questions_frozen_before = weather.count);
    }

    /// What the database says on what is established does not arrive.
    pub fn freeze_answers(&self) {
        self.weather.send_modify(|weather| weather.answers_frozen_before = weather.count);
    }

    /// What was frozen or held arrives now, in order.
    pub fn thaw(&self) {
        self.weather.send_modify(|weather| {
            (weather.questions_frozen_before, weather.answers_frozen_before, weather.held) = (0, 0, None);
        });
    }

    /// The next connection that says this goes silent before it has.
    pub fn hold_at(&self, words: &'static [u8]) {
        self.weather.send_modify(|weather| weather.held_at = Some(words));
    }

    /// What is established is closed.
    pub fn cut(&self) {
        self.cut_by(false);
    }

    /// What is established is reset, as by a firewall that has forgotten it.
    pub fn reset(&self) {
        self.cut_by(true);
    }

    fn cut_by(&self, resets: bool) {
        self.weather.send_modify(|weather| (weather.cut_before, weather.resets) = (weather.count, resets));
    }

    /// Each question comes so much later.
    pub fn lag(&self, lag: Duration) {
        self.weather.send_modify(|weather| weather.lag = lag);
    }

    /// New connections come so much later.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// New connections are accepted, and hear nothing.
    pub fn silence(&self, is_silent: bool) {
        self.weather.send_modify(|weather| weather.is_silent = is_silent);
    }

    /// New connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.weather.send_modify(|weather| weather.refuses = refuses);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.send_modify(|weather| weather.cut_before = u64::MAX);
    }
}

async fn lead(client: TcpStream, number: u64, upstream: PgConnectOptions, weather: Arc<watch::Sender<Weather>>) {
    let now = *weather.borrow();
    if now.refuses {
        return;
    }
    let is_cut = async || {
        let mut weather = weather.subscribe();
        let _ = weather.wait_for(|weather| number < weather.cut_before).await;
    };
    if now.is_silent {
        return is_cut().await;
    }
    // The network's time, not the test's.
    sleep(now.delay).await;
    let Some(server) = reach(&upstream).await else { return };
    let mut client = client;
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = tokio::io::split(server);
        tokio::select! {
            _ = pump(from_client, to_server, number, Direction::Questions, &weather) => {}
            _ = pump(from_server, to_client, number, Direction::Answers, &weather) => {}
            () = is_cut() => {}
        }
    }
    if weather.borrow().resets {
        client.set_zero_linger().unwrap();
    }
}

/// Carries bytes one way until somebody ends the connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    direction: Direction,
    weather: &watch::Sender<Weather>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut bytes).await?;
        let read = &bytes[..length];
        if direction == Direction::Questions {
            let now = *weather.borrow();
            if !now.lag.is_zero() {
                sleep(now.lag).await;
            }
            if now.held_at.is_some_and(|words| read.windows(words.len()).any(|part| part == words)) {
                weather.send_modify(|weather| (weather.held_at, weather.held) = (None, Some(number)));
            }
        }
        let _ = weather.subscribe().wait_for(|weather| weather.lets(number, direction)).await;
        to.write_all(read).await?;
        if length == 0 {
            return to.shutdown().await;
        }
    }
}

async fn reach(upstream: &PgConnectOptions) -> Option<Box<dyn Way>> {
    let port = upstream.get_port();
    let socket = upstream.get_socket().cloned().or_else(|| {
        let host = upstream.get_host();
        host.starts_with('/').then(|| host.into())
    });
    Some(match socket {
        Some(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.ok()?),
        None => Box::new(TcpStream::connect((upstream.get_host(), port)).await.ok()?),
    })
}

#[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
