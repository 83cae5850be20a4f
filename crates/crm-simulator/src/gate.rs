//! Holds requests until a test lets them go: races without sleeps. Owns: the count of requests held
//! and the permits to go on. Invariant: dropping the [`RequestGate`] opens it, so that a failing
//! test does not leave a server waiting.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// Where in a request's life a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateAt {
    /// Before the vendor looks at its data: what changes while the gate is shut is in the answer.
    Request,
    /// After the answer is made: what changes while the gate is shut is *not* in the answer.
    Response,
}

/// How many requests have come to the gate, and how many stand there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateCount {
    /// Requests that have ever come.
    pub arrived: u64,
    /// Requests that wait now: neither released nor given up by their client.
    pub held: u64,
}

/// The shared part: requests wait in here.
pub(crate) struct GatePost {
    pub(crate) at: GateAt,
    count: watch::Sender<GateCount>,
    permits: Semaphore,
}

impl GatePost {
    /// Waits until a permit comes or the gate opens for good.
    pub(crate) async fn wait(&self) {
        self.count.send_modify(|count| {
            count.arrived += 1;
            count.held += 1;
        });
        // Also runs when the client gives up and this future is dropped.
        let _leaving = Leaving(&self.count);
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }
}

struct Leaving<'a>(&'a watch::Sender<GateCount>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.held -= 1);
    }
}

/// A test's hand on a gate. Dropping it opens the gate for good.
pub struct RequestGate {
    post: Arc<GatePost>,
}

impl RequestGate {
    pub(crate) fn new(at: GateAt) -> Self {
        Self {
            post: Arc::new(GatePost {
                at,
                count: watch::Sender::new(GateCount::default()),
                permits: Semaphore::new(0),
            }),
        }
    }

    pub(crate) fn post(&self) -> Arc<GatePost> {
        Arc::clone(&self.post)
    }

    /// The counts now.
    pub fn count(&self) -> GateCount {
        *self.post.count.borrow()
    }

    /// Waits until at least `arrived` requests have come (in all, released ones included). Waits
    /// for ever if they do not: bound it by the test's own limit.
    pub async fn arrived(&self, arrived: u64) {
        self.wait_for(|count| count.arrived >= arrived).await;
    }

    /// Waits until no request stands at the gate: all released, or given up by their clients.
    pub async fn deserted(&self) {
        self.wait_for(|count| count.held == 0).await;
    }

    /// Lets one request through, the one that waits longest or the next to come.
    pub fn release_one(&self) {
        self.post.permits.add_permits(1);
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.post.permits.close();
    }

    async fn wait_for(&self, condition: impl FnMut(&GateCount) -> bool) {
        let mut count = self.post.count.subscribe();
        count.wait_for(condition).await.expect("the sender lives as long as the gate");
    }
}

impl Drop for RequestGate {
    fn drop(&mut self) {
        self.open();
    }
}
