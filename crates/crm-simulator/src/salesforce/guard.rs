//! The way to an organisation's records, and what follows a change of them. Invariant: whoever
//! holds the guard makes one transaction, and the event bus is told of transactions in their order.

use std::{
    ops::{Deref, DerefMut},
    sync::{MutexGuard, PoisonError},
};

use super::{Salesforce, eventbus::EventBus, state::State};

/// The organisation while nobody else changes it. What changed is one transaction, of which the
/// event bus is told when it ends.
pub(super) struct StateGuard<'a> {
    state: MutexGuard<'a, State>,
    eventbus: &'a EventBus,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let notes = self.state.take_notes();
        if !notes.is_empty() {
            self.eventbus.publish(&notes, &self.state.schema);
        }
    }
}

impl Salesforce {
    pub(super) fn state(&self) -> StateGuard<'_> {
        StateGuard { state: self.state.lock().unwrap_or_else(PoisonError::into_inner), eventbus: &self.eventbus }
    }
}
