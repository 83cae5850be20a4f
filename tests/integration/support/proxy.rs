//! The way to the database as a network in trouble makes it: what is established goes silent or is cut, what is new comes late, never,
//! or is turned away. The server itself is never touched.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::sleep,
};

trait Way: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Way for T {}

/// What becomes of connections, each by its number.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// Those before say nothing any more, and stay open.
    frozen_before: u64,
    /// Those before are closed.
    cut_before: u64,
    /// New ones come so much later.
    delay: Duration,
    /// New ones are accepted, and nothing ever comes.
    is_silent: bool,
    /// New ones are closed at once.
    refuses: bool,
    /// How many there were.
    count: u64,
}

/// A TCP proxy in front of a database, until it is dropped.
pub struct Proxy {
    url: String,
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
                        spawn(lead(client, number, upstream.clone(), shared.subscribe()));
                    }
                    // Cut for ever: the test has ended.
                    _ = ended.wait_for(|weather| weather.cut_before == u64::MAX) => return,
                }
            }
        });
        Self { url, weather }
    }

    /// The way through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections there were.
    pub fn count(&self) -> u64 {
        self.weather.borrow().count
    }

    /// What is established goes silent; what is new is in order.
    pub fn freeze(&self) {
        self.weather.send_modify(|weather| weather.frozen_before = weather.count);
    }

    /// What is established is closed.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cut_before = weather.count);
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

async fn lead(mut client: TcpStream, number: u64, upstream: PgConnectOptions, mut weather: watch::Receiver<Weather>) {
    let now = *weather.borrow();
    if now.refuses {
        return;
    }
    if now.is_silent {
        let _ = weather.wait_for(|weather| number < weather.cut_before).await;
        return;
    }
    // The network's time, not the test's.
    sleep(now.delay).await;
    let Some(mut server) = reach(&upstream).await else { return };
    let is_cut = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => true,
        weather = weather.wait_for(|weather| number < weather.frozen_before.max(weather.cut_before)) => {
            weather.map_or(true, |weather| number < weather.cut_before)
        }
    };
    if !is_cut {
        let _ = weather.wait_for(|weather| number < weather.cut_before).await;
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
