//! What the server may take, as far as it follows from other settings and from the system: the
//! queue for the database, and descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{config::Config, listeners, rpc::limits::ServerLimits};

/// Calls for each connection of the call path's pool, at work or waiting. The last of the queue
/// waits less than the pool allows (200 ms) while a statement takes less than 8 ms, which it does
/// until the database is far above its capacity.
const CALLS_PER_CONNECTION: usize = 24;
/// Calls that may wait at once while CRMs are asked; with few connections a third of the queue, so
/// that strangers never take a token's whole share of it.
const CALLS_ASIDE_MAX: usize = 64;
const CALLS_ASIDE_SHARE: usize = 3;
/// Connections that are accepted however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;
/// Descriptors of one run and of calls that ask a CRM: its kept connections and name look-ups.
const DESCRIPTORS_PER_RUN: u64 = 8;
/// Listeners, the log, the runtime, files that are read, the private PostgreSQL's pipes.
const DESCRIPTORS_OF_PROCESS: u64 = 64;
/// More descriptors than this are not asked for: the largest `server.connections_max` and what is
/// kept back.
const DESCRIPTORS_MAX: u64 = 102_400;

/// Connections of an organisation whose stream of changes is held: one for each kind of object.
const DESCRIPTORS_PER_STREAM: u64 = 2;
/// Of all descriptors at most one of so many is for streams.
const STREAMS_SHARE: u64 = 20;

/// Raises the soft limit of open files as far as the system lets this process, and says what it is
/// then.
pub(super) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return DESCRIPTORS_MAX };
    let wanted = hard.min(DESCRIPTORS_MAX);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// The settings, and what follows from others: the queue for the call path's connections, and
/// descriptors that are kept back.
pub(super) fn server_limits(config: &Config, descriptors: u64) -> ServerLimits {
    let limits = ServerLimits::from(&config.server);
    let left = descriptors.saturating_sub(descriptors_kept(config, descriptors));
    let connections_max = limits.connections_max.min(usize::try_from(left).unwrap_or(usize::MAX)).max(CONNECTIONS_MIN);
    if connections_max < limits.connections_max {
        tracing::warn!(
            connections_max,
            descriptors,
            "fewer connections than server.connections_max are accepted: raise the limit of open files (LimitNOFILE, ulimit -n)"
        );
    }
    let streams_max = streams_held_max(config, descriptors);
    if config.worker.concurrency > 0 && (streams_max as u64) < u64::from(config.worker.streams_max) {
        tracing::warn!(
            streams_max,
            descriptors,
            "fewer streams of changes than worker.streams_max are held: raise the limit of open files (LimitNOFILE, ulimit -n)"
        );
    }
    ServerLimits { connections_max, queued_calls_max: queued_calls_max(config), ..limits }
}

/// The queue for the call path's connections.
fn queued_calls_max(config: &Config) -> usize {
    let call_connections = usize::try_from(config.pools.call.connections).unwrap_or(usize::MAX);
    call_connections.saturating_mul(CALLS_PER_CONNECTION)
}

/// Calls of them that may wait at once while CRMs are asked.
pub(super) fn calls_aside_max(config: &Config) -> usize {
    (queued_calls_max(config) / CALLS_ASIDE_SHARE).min(CALLS_ASIDE_MAX)
}

/// Organisations whose stream of changes may be held: the setting, as far as there are descriptors.
pub(super) fn streams_held_max(config: &Config, descriptors: u64) -> usize {
    if config.worker.concurrency == 0 {
        return 0;
    }
    let wished = u64::from(config.worker.streams_max);
    let held = wished.min(descriptors / STREAMS_SHARE / DESCRIPTORS_PER_STREAM);
    usize::try_from(held).unwrap_or(usize::MAX)
}

/// Descriptors that connections of clients never take: for the database, the CRMs and their
/// streams, HTTP, and the process itself.
fn descriptors_kept(config: &Config, descriptors: u64) -> u64 {
    let pools = &config.pools;
    let database: u64 = [&pools.call, &pools.api, &pools.sync].map(|pool| u64::from(pool.connections)).iter().sum();
    // While one connection closes, the next is opened.
    let (database, crms) = (2 * database, u64::from(config.worker.concurrency) * DESCRIPTORS_PER_RUN);
    let streams = streams_held_max(config, descriptors) as u64 * DESCRIPTORS_PER_STREAM;
    database + crms + streams + listeners::CONNECTIONS_MAX as u64 + DESCRIPTORS_OF_PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::with_defaults("data".into())
    }

    /// Descriptors are kept back for the database and the CRMs.
    #[test]
    fn database_and_crms_keep_their_descriptors() {
        // 36 for the pools, 32 for four runs, 50 for 25 streams, 256 for HTTP, 64 for the process.
        assert_eq!(server_limits(&config(), 1024).connections_max, 1024 - 438);
        assert_eq!(server_limits(&config(), 65_536).connections_max, 4096);
        assert_eq!(server_limits(&config(), 64).connections_max, CONNECTIONS_MIN);
    }

    #[test]
    fn streams_have_a_share_of_the_descriptors() {
        let mut config = config();
        assert_eq!(streams_held_max(&config, 1_024), 25);
        assert_eq!(streams_held_max(&config, 10_240), 256);
        assert_eq!(streams_held_max(&config, 102_400), 256);

        config.worker.concurrency = 0;
        assert_eq!(streams_held_max(&config, 102_400), 0);
    }

    /// The queue of the call path grows with its connections.
    #[test]
    fn call_queue_grows_with_its_connections() {
        let mut config = config();
        assert_eq!(server_limits(&config, 65_536).queued_calls_max, 192);
        assert_eq!(calls_aside_max(&config), 64);

        config.pools.call.connections = 1;
        assert_eq!(server_limits(&config, 65_536).queued_calls_max, 24);
        assert_eq!(calls_aside_max(&config), 8);
        config.pools.call.connections = 100;
        assert_eq!(calls_aside_max(&config), 64);
    }

    #[test]
    fn the_soft_limit_is_raised() {
        let limit = raise_descriptor_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();

        assert_eq!(limit, soft);
        assert!(soft >= hard.min(DESCRIPTORS_MAX));
    }
}
