//! Fifty calls a second: known callers and strangers, new calls and repeated ones, with an id and
//! without.

use std::{collections::BTreeSet, time::Duration};

use contact_sync::rpc::pb::{self, MatchOutcome};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    operations::plans::ACCOUNT,
    support::{TestApp, call, calls::call_with_id},
};

/// From one call to the next.
const PACE: Duration = Duration::from_millis(20);
/// Contacts of `plans::load` whose numbers are theirs alone: from this one on, so many.
const KNOWN: (u64, u64) = (100, 400);

/// Who calls, until it is told to end.
pub struct CallLoad<'a> {
    test: &'a TestApp,
    /// How many calls have had an answer, good or bad.
    progress: watch::Sender<u64>,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub struct CallTally {
    pub calls: u64,
    /// What was said, or was wrong, of each call that failed.
    pub failed: Vec<String>,
}

impl<'a> CallLoad<'a> {
    pub fn new(test: &'a TestApp) -> Self {
        Self { test, progress: watch::Sender::new(0) }
    }

    /// Waits until so many more calls have had their answers.
    pub async fn pass(&self, calls: u64) {
        let mut progress = self.progress.subscribe();
        let until = *progress.borrow_and_update() + calls;
        progress.wait_for(|answered| *answered >= until).await.unwrap();
    }

    /// Calls while this work is done; what came of both.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (T, CallTally) {
        let mut tally = CallTally::default();
        let mut stored = BTreeSet::new();
        let mut open = FuturesUnordered::new();
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = 0;
        let mut done = None;
        tokio::pin!(work);
        while done.is_none() || !open.is_empty() {
            tokio::select! {
                ended = &mut work, if done.is_none() => done = Some(ended),
                _ = ticks.tick(), if done.is_none() => {
                    open.push(self.call(next));
                    next += 1;
                }
                Some((call_id, answer)) = open.next() => {
                    tally.calls += 1;
                    match answer {
                        Ok(()) => stored.extend(call_id),
                        Err(what) => tally.failed.push(what),
                    }
                    self.progress.send_modify(|answered| *answered += 1);
                }
            }
        }
        for call_id in stored {
            let rows = format!("select count(*) from calls where account_id = '{ACCOUNT}' and call_id = '{call_id}'");
            if self.test.db.number(&rows).await == 0 {
                tally.failed.push(format!("{call_id} was not stored"));
            }
        }
        (done.unwrap(), tally)
    }

    /// The call of this place in the row; its id, and whether the answer was right.
    async fn call(&self, at: u64) -> (Option<String>, Result<(), String>) {
        let (first, count) = KNOWN;
        let known = format!("+{}", 13_105_540_000 + first + at % count);
        let stranger = format!("+{}", 12_127_360_000 + at);
        let (number, call_id, expected) = match at % 5 {
            0 => (known, None, MatchOutcome::Matched),
            1 => (stranger, Some(at), MatchOutcome::Created),
            // The one before it again.
            2 => (format!("+{}", 12_127_360_000 + at - 1), Some(at - 1), MatchOutcome::Created),
            _ => (known, Some(at), MatchOutcome::Matched),
        };
        let call_id = call_id.map(|of| format!("load-{of}"));
        let request = match &call_id {
            Some(call_id) => call_with_id(ACCOUNT, &number, call_id),
            None => call(ACCOUNT, &number),
        };
        let answer = self.test.callers().match_caller(request).await;
        let judged =
            answer.map_err(|status| status.to_string()).and_then(|answer| judge(&answer.into_inner(), expected));
        (call_id, judged)
    }
}

fn judge(answer: &pb::MatchCallerResponse, expected: MatchOutcome) -> Result<(), String> {
    if answer.degraded {
        return Err("the answer is degraded".into());
    }
    // A repeat that overtakes its first is the first.
    let outcome = answer.outcome();
    if outcome == expected { Ok(()) } else { Err(format!("{outcome:?} instead of {expected:?}")) }
}
