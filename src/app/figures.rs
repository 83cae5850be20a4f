//! What is looked at for metrics again and again, beside what moves them by itself: pools, quotas,
//! and the state of all integrations together.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    crm::CrmClients,
    domain::{clock::Clock, hook::PushState, provider::Provider},
    rpc::health::ServingHealth,
    store::{
        CallDb, Db,
        figures::{self, IntegrationFigures, seconds_since},
    },
    telemetry::{
        self,
        metrics::{self, MetricsPage, SyncArrears},
    },
};

/// Between two looks at what is in this process.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the integrations, which cost a statement across accounts.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// What is looked at.
#[derive(Clone)]
pub(super) struct ObservedParts {
    pub(super) page: MetricsPage,
    pub(super) call_db: CallDb,
    pub(super) api_db: Db,
    pub(super) sync_db: Db,
    pub(super) crms: CrmClients,
    pub(super) health: ServingHealth,
    pub(super) clock: Arc<dyn Clock>,
}

impl ObservedParts {
    /// Looks until the stop.
    pub(super) async fn observe_until(self, stop: CancellationToken) {
        let mut asked_at: Option<Instant> = None;
        for provider in Provider::ALL {
            metrics::begin_crm(provider.as_str());
        }
        loop {
            self.look();
            if asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY) && self.ask().await {
                asked_at = Some(Instant::now());
            }
            if let Some(at) = asked_at {
                metrics::statistics_age(at.elapsed());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Looks once, at everything.
    pub(super) async fn observe(&self) {
        self.look();
        self.ask().await;
    }

    fn look(&self) {
        self.page.tidy();
        metrics::pool("calls", self.call_db.figures());
        metrics::pool("api", self.api_db.figures());
        metrics::pool("sync", self.sync_db.figures());
        metrics::ready(self.health.is_ready());
        metrics::log_lines_lost(telemetry::lines_lost());
        self.crms.report_quotas();
    }

    /// Whether the database has answered: else what is said grows old, and says so.
    async fn ask(&self) -> bool {
        let now = self.clock.now();
        let Ok(found) = figures::read(&self.api_db, now).await else { return false };
        for &provider in Provider::ALL {
            let of_crm = || found.integrations.iter().filter(|figures| figures.provider == provider);
            for state in figures::STATES {
                let count = of_crm().filter(|figures| figures.state == state).map(|figures| figures.integrations);
                metrics::integrations(provider.as_str(), state, count.sum());
            }
            let sum = |of: fn(&IntegrationFigures) -> i64| of_crm().map(of).sum();
            let is_current = |state: &str| matches!(state, "ACTIVE" | "STALE");
            let behind =
                of_crm().filter(|figures| is_current(&figures.state)).filter_map(|figures| figures.known_through);
            metrics::sync_arrears(
                provider.as_str(),
                SyncArrears {
                    lag_seconds: seconds_since(behind.min(), now),
                    overdue: sum(|figures| figures.overdue),
                    with_unread: sum(|figures| figures.with_unread),
                },
            );
        }
        let Ok(channels) = figures::read_channels(&self.api_db).await else { return false };
        for &provider in Provider::ALL {
            for state in PushState::ALL {
                let found = channels.iter().find(|figures| (figures.provider, figures.state) == (provider, state));
                metrics::push_channels(provider.as_str(), state.into(), found.map_or(0, |figures| figures.channels));
            }
        }
        metrics::feed_backlog(seconds_since(found.unpublished_since, now));
        metrics::hints_waiting(found.hints_waiting, seconds_since(found.hinted_since, now));
        true
    }
}
