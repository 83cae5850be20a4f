//! What one server and one connection may take. Every limit is set on purpose, because tonic's
//! defaults are none.

use std::time::Duration;

use super::methods::WATCH;

/// What one server and one connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Calls that handlers work on at once, over all connections; further ones are refused with
    /// `OVERLOADED`. As many more may be sending their message.
    pub calls_max: usize,
    /// Of them, those that need the call path's connections to the database; a queue longer than
    /// that would be waited out by nobody.
    pub queued_calls_max: usize,
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Open streams of one connection; the client waits with further ones.
    pub streams_per_connection_max: u32,
    /// Largest request message, in bytes.
    pub request_bytes_max: usize,
    /// Largest answer message, in bytes.
    pub response_bytes_max: usize,
    /// Largest sum of a request's headers, in bytes as HTTP/2 counts them.
    pub header_bytes_max: u32,
    /// A silent connection is pinged after this.
    pub keepalive_interval: Duration,
    /// A ping without an answer closes the connection after this.
    pub keepalive_timeout: Duration,
    /// A connection is told to go after this (up to a tenth sooner, by chance), so that clients
    /// spread over new servers.
    pub connection_age_max: Duration,
    /// From its acceptance, a connection's HTTP/2 preface and settings must be here within this.
    pub handshake_timeout: Duration,
    /// From its headers, a request's message must be here within this.
    pub message_timeout: Duration,
    /// A connection without calls is closed after this.
    pub idle_max: Duration,
    /// The same for a connection that has never shown a token.
    pub stranger_idle_max: Duration,
    /// Frames that a connection may send each second besides those of its calls; ten times as many
    /// at once.
    pub frames_per_second: u32,
}

impl ServerLimits {
    /// When a connection that was told to go is closed, whatever it does: no call lasts longer.
    pub(super) fn connection_life_max(&self) -> Duration {
        self.connection_age_max + WATCH + self.keepalive_timeout
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            calls_max: 1024,
            queued_calls_max: 192,
            connections_max: 4096,
            streams_per_connection_max: 256,
            request_bytes_max: 64 * 1024,
            response_bytes_max: 4 * 1024 * 1024,
            header_bytes_max: 16 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            connection_age_max: Duration::from_mins(10),
            handshake_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(5),
            idle_max: Duration::from_mins(5),
            stranger_idle_max: Duration::from_mins(1),
            frames_per_second: 1000,
        }
    }
}
