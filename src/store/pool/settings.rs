//! What a pool is given: how large it is, how patient, and what its sessions are told at their
//! beginning.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

/// How the server plans a statement that it has seen before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanMode {
    /// Once, for all parameters. With custom plans an account that the statistics have not seen
    /// gets the wrong index (27 ms instead of 0.04).
    #[default]
    Generic,
    /// Each time anew: a distributed database must see the account to know where its rows are.
    Custom,
}

impl PlanMode {
    /// The value of `plan_cache_mode`.
    const fn setting(self) -> &'static str {
        match self {
            Self::Generic => "force_generic_plan",
            Self::Custom => "force_custom_plan",
        }
    }
}

/// Size and patience of one pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Most connections.
    pub connections_max: u32,
    /// As many are made at once and kept.
    pub connections_min: u32,
    /// How long to wait for a free one.
    pub acquire_timeout: Duration,
    /// How long a new one may take; never in the time of whoever waits for one.
    pub connect_timeout: Duration,
    /// How long one statement may take. Its connection is closed a little later if the server has
    /// not said so itself.
    pub statement_timeout: Duration,
    /// How long to wait for a lock.
    pub lock_timeout: Duration,
    /// How statements are planned.
    pub plan_mode: PlanMode,
    /// Ask each connection whether it is there before it is used: one round trip, for work that
    /// cannot simply be done again.
    pub asks_before_use: bool,
}

/// What each session of a pool is told at its beginning.
pub(super) fn connect_options(url: &str, name: &str, settings: PoolSettings) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name(&format!("contact-sync {name}"))
        .statement_cache_capacity(200)
        .options([
            ("plan_cache_mode", settings.plan_mode.setting().to_owned()),
            // Plans made while the tables were empty are kept, and nothing here ever wants a whole
            // table.
            ("enable_seqscan", "off".to_owned()),
            // Compiling a statement that is thought to be costly took 0.7 s of the 0.8 that it ran.
            ("jit", "off".to_owned()),
            ("statement_timeout", millis(settings.statement_timeout)),
            ("lock_timeout", millis(settings.lock_timeout)),
            ("idle_in_transaction_session_timeout", "10000".to_owned()),
            // A session whose client has vanished gives its locks back within a minute; the
            // system's default is two hours.
            ("tcp_keepalives_idle", "30".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("timezone", "UTC".to_owned()),
        ]))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_plan_as_the_setting_says() {
        for (plan_mode, expected) in [
            (PlanMode::Generic, "plan_cache_mode=force_generic_plan"),
            (PlanMode::Custom, "plan_cache_mode=force_custom_plan"),
        ] {
            let second = Duration::from_secs(1);
            let settings = PoolSettings {
                connections_max: 1,
                connections_min: 0,
                acquire_timeout: second,
                connect_timeout: second,
                statement_timeout: second,
                lock_timeout: second,
                plan_mode,
                asks_before_use: false,
            };
            let options = connect_options("postgres://localhost/db", "calls", settings).unwrap();
            assert!(options.get_options().unwrap().contains(expected), "{plan_mode:?}");
        }
    }
}
