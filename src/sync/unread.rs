//! What a run could not read, for its notices. Pure.

use std::collections::BTreeSet;

use crate::domain::{notice::Notice, rejected::PageRejects};

/// Kinds of trouble that one notice names.
const KINDS_MAX: usize = 12;

/// What the pages of a run could not give, so far.
#[derive(Default)]
pub(super) struct UnreadSummary {
    records: usize,
    values: usize,
    characters: usize,
    rejected: BTreeSet<String>,
    lost: BTreeSet<String>,
}

impl UnreadSummary {
    /// Adds a page's.
    pub(super) fn add(&mut self, rejects: &PageRejects) {
        self.records += rejects.records;
        self.values += rejects.values;
        self.characters += rejects.characters;
        for kept in &rejects.kept {
            let kinds = if kept.is_copied { &mut self.lost } else { &mut self.rejected };
            if kinds.len() < KINDS_MAX {
                kinds.insert(format!("{} {} {}", kept.object_type.as_str(), kept.reason.as_str(), kept.fields));
            }
        }
    }

    /// How many there were and of what kind, in words and without any content.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let list = |kinds: &BTreeSet<String>| kinds.iter().map(|kind| kind.trim()).collect::<Vec<_>>().join("; ");
        if self.records > 0 {
            notices.push(Notice::new("RECORDS_REJECTED", format!(
                "{} records could not be read and were not copied ({}): whoever calls from their numbers may be unknown here; see `sync rejected list`, mend them in the CRM, then `sync rejected retry`",
                self.records,
                list(&self.rejected)
            )));
        }
        if self.values > 0 {
            notices.push(Notice::new("VALUES_UNREADABLE", format!(
                "{} values of records that were copied could not be read ({}): numbers may be among them; see `sync rejected list`, mend them in the CRM, then `sync rejected retry`",
                self.values,
                list(&self.lost)
            )));
        }
        if self.characters > 0 {
            notices.push(Notice::new(
                "CHARACTERS_REPLACED",
                format!(
                    "{} characters in the CRM's answers were none, and stand as U+FFFD in what was copied",
                    self.characters
                ),
            ));
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        record::ObjectType,
        rejected::{RejectReason, ValueLosses},
    };

    /// A run tells how much of what could not be read, and no content.
    #[test]
    fn run_tells_counts_of_what_no_content() {
        let mut page = PageRejects { characters: 2, ..PageRejects::default() };
        page.reject(ObjectType::User, None, RejectReason::NotAnObject, "", "4711");
        page.reject(ObjectType::User, Some("4711".to_owned()), RejectReason::TimeUnreadable, "updated_at", "4711");
        let mut losses = ValueLosses::default();
        losses.number("phone");
        page.lose(ObjectType::User, Some("4711".to_owned()), &losses, "4711");
        let mut unread = UnreadSummary::default();
        unread.add(&page);
        unread.add(&page);

        let notices: Vec<String> = unread.notices().iter().map(Notice::to_string).collect();

        assert!(notices[0].starts_with("RECORDS_REJECTED: 4 records "), "{}", notices[0]);
        assert!(notices[0].contains("(user NOT_AN_OBJECT; user TIME_UNREADABLE updated_at)"), "{}", notices[0]);
        assert!(notices[1].starts_with("VALUES_UNREADABLE: 2 values "), "{}", notices[1]);
        assert!(notices[1].contains("(user VALUE_UNREADABLE phone)"), "{}", notices[1]);
        assert!(notices[2].starts_with("CHARACTERS_REPLACED: 4 "), "{}", notices[2]);
        assert!(notices.iter().all(|notice| !notice.contains("4711")));
        assert!(UnreadSummary::default().notices().is_empty());
    }
}
