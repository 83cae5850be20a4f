//! A look at keys before its time: somebody has named one that is not known. It is had for all who
//! ask together, and not again for a while, so that whoever sends tokens does not decide how often
//! an issuer is asked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

/// From one early look to the next.
pub(super) const EARLY_EVERY: Duration = Duration::from_secs(30);
/// How long one waits for it.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How many wait at once; further ones do not.
const WAITING_MAX: usize = 1_000;

/// Has keys read before their time; clones share it. Without a [`KeyWatch`](super::KeyWatch) that
/// runs, nobody reads them.
#[derive(Clone)]
pub struct EarlyLook(Arc<LookRequests>);

struct LookRequests {
    asked: Notify,
    state: Mutex<LookState>,
    finished: watch::Sender<()>,
}

#[derive(Default)]
struct LookState {
    last: Option<Instant>,
    is_under_way: bool,
}

impl Default for EarlyLook {
    fn default() -> Self {
        let requests = LookRequests { asked: Notify::new(), state: Mutex::default(), finished: watch::Sender::new(()) };
        Self(Arc::new(requests))
    }
}

impl EarlyLook {
    /// Has the keys read now, and waits for that, a second at most. False: they were not read: the
    /// last early look was less than 30 seconds ago, or this one takes longer.
    pub async fn look(&self) -> bool {
        let mut finished = self.0.finished.subscribe();
        if self.0.finished.receiver_count() > WAITING_MAX || !self.begin(Instant::now()) {
            return false;
        }
        timeout(WAIT_MAX, finished.changed()).await.is_ok_and(|read| read.is_ok())
    }

    /// Whether one is under way, or begins.
    fn begin(&self, now: Instant) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_under_way {
            return true;
        }
        if state.last.is_some_and(|last| now - last < EARLY_EVERY) {
            return false;
        }
        *state = LookState { last: Some(now), is_under_way: true };
        self.0.asked.notify_one();
        true
    }

    /// Waits until somebody asks.
    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// The keys were read, or could not be: whoever waits goes on.
    pub(super) fn finish(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_under_way = false;
        self.0.finished.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    /// Any number who ask at once have one look, and for half a minute there is no other.
    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_share_one_look() {
        let (early, looks) = (EarlyLook::default(), AtomicUsize::new(0));
        let watch = async {
            loop {
                early.asked().await;
                looks.fetch_add(1, Ordering::Relaxed);
                early.finish();
            }
        };
        let story = async {
            let asked = futures_util::future::join_all((0..100).map(|_| early.look())).await;
            assert!(asked.into_iter().all(|read| read));
            assert!(!early.look().await);
            advance(EARLY_EVERY).await;
            assert!(early.look().await);
        };
        tokio::select! {
            () = watch => {}
            () = story => {}
        }
        assert_eq!(looks.into_inner(), 2);
    }

    /// Nobody waits longer than a second, and no more than a thousand do.
    #[tokio::test(start_paused = true)]
    async fn waiting_has_limits() {
        let early = EarlyLook::default();
        let began = Instant::now();

        let asked = futures_util::future::join_all((0..WAITING_MAX + 5).map(|_| early.look())).await;

        assert!(asked.into_iter().all(|read| !read));
        assert_eq!(began.elapsed(), WAIT_MAX);
    }
}
