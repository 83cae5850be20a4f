//! How the changes of an integration arrive, of all its kinds together, as administrators see it:
//! one that streams is enough to be active, and the others are told.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::Mutex, time::Instant};
use tracing::warn;

use super::{next_step::ShownState, writes::SaveStanding};
use crate::{
    domain::{hook::PushState, record::ObjectType},
    store::push_streams::PushLease,
    sync::context::SyncContext,
    telemetry::chain,
};

/// What is shown is stored so often although it is the same, so that its age says that somebody
/// follows.
const SAVE_EVERY: Duration = Duration::from_hours(1);

/// What is shown of an integration's streams.
pub(super) struct StreamBoard {
    lease: PushLease,
    entries: Mutex<BoardEntries>,
}

#[derive(Default)]
struct BoardEntries {
    kinds: BTreeMap<ObjectType, ShownState>,
    saved: Option<(ShownState, Instant)>,
}

impl StreamBoard {
    pub(super) fn new(lease: PushLease) -> Self {
        Self { lease, entries: Mutex::default() }
    }

    /// Shows how a kind's changes arrive. What could not be stored is with the next word of it.
    pub(super) async fn show(&self, context: &SyncContext, object: ObjectType, state: ShownState) {
        let mut entries = self.entries.lock().await;
        entries.kinds.insert(object, state);
        let Some(shown) = together(&entries.kinds) else { return };
        let now = Instant::now();
        let is_news = |(saved, at): &(ShownState, Instant)| *saved != shown || now.duration_since(*at) >= SAVE_EVERY;
        if !entries.saved.as_ref().is_none_or(is_news) {
            return;
        }
        let work = SaveStanding { lease: self.lease, shown: shown.clone(), now: context.clock.now() };
        match context.db.of(self.lease.account_id).run(work).await {
            // One that is lost is noticed by its heartbeat.
            Ok(_) => entries.saved = Some((shown, now)),
            Err(error) => warn!(error = %chain(&error), "how changes arrive could not be stored"),
        }
    }
}

/// Of all kinds the best state, and the first notice of one that has any.
fn together(kinds: &BTreeMap<ObjectType, ShownState>) -> Option<ShownState> {
    let rank = |state: &PushState| match state {
        PushState::Active => 0,
        PushState::Degraded => 1,
        PushState::Unavailable => 2,
    };
    let state = kinds.values().map(|(state, _)| *state).min_by_key(rank)?;
    Some((state, kinds.values().find_map(|(_, notice)| notice.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::Notice;

    #[test]
    fn one_kind_that_streams_is_enough_and_the_other_is_told() {
        let off = || Some(Notice::fixed("PUSH_OBJECT_OFF", "words"));
        let of = |contact: ShownState, lead: ShownState| {
            together(&BTreeMap::from([(ObjectType::Contact, contact), (ObjectType::Lead, lead)])).unwrap()
        };
        let (active, closed) = ((PushState::Active, None), (PushState::Unavailable, off()));
        let degraded = (PushState::Degraded, None);

        assert_eq!(of(active.clone(), active.clone()), (PushState::Active, None));
        assert_eq!(of(active.clone(), closed.clone()), (PushState::Active, off()));
        assert_eq!(of(closed.clone(), active), (PushState::Active, off()));
        assert_eq!(of(closed.clone(), degraded), (PushState::Degraded, off()));
        assert_eq!(of(closed.clone(), closed), (PushState::Unavailable, off()));
        assert_eq!(together(&BTreeMap::new()), None);
    }
}
