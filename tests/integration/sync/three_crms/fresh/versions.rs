//! What each record truly was, in order, and how new the copy of it was that was seen here. A copy
//! that goes back would be healed by the next poll, and nobody would know.

use std::collections::{BTreeMap, BTreeSet};

use super::super::crm::Truth;

/// A record as it was; `None`: gone.
type Version = Option<Truth>;

/// One record's.
#[derive(Default)]
struct RecordVersions {
    all: Vec<Version>,
    /// The oldest of `all` that the copy here can be.
    seen: usize,
    /// It was here once: from then on "not here" means gone.
    was_here: bool,
}

/// Those of every record.
#[derive(Default)]
pub struct TrueVersions(BTreeMap<String, RecordVersions>);

impl TrueVersions {
    /// Remembers what is true now.
    pub fn remember(&mut self, truth: &BTreeMap<String, Truth>) {
        let ids: BTreeSet<String> = self.0.keys().chain(truth.keys()).cloned().collect();
        for id in ids {
            let now = truth.get(&id).cloned();
            let versions = &mut self.0.entry(id).or_default().all;
            if versions.last() != Some(&now) {
                versions.push(now);
            }
        }
    }

    /// Whoever was ever there.
    pub fn everybody(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// What is wrong with this copy: a record that is as it never was, or as it was before what was
    /// seen here already.
    pub fn find_wrong(&mut self, copied: &BTreeMap<String, Truth>) -> Option<String> {
        for (id, record) in &mut self.0 {
            let held: Version = copied.get(id).cloned();
            record.was_here |= held.is_some();
            if !record.was_here {
                continue;
            }
            let newer = record.all.iter().enumerate().skip(record.seen).find(|(_, version)| **version == held);
            let Some((index, _)) = newer else {
                return Some(format!("{id} is held as {held:?}, after {} of {:?}", record.seen, record.all));
            };
            record.seen = index;
        }
        let stranger = copied.keys().find(|id| !self.0.contains_key(*id));
        stranger.map(|id| format!("{id} was never there"))
    }
}
