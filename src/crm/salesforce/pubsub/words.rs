//! What is told of an organisation whose changes do not come as a stream, and what to click.

use crate::domain::{notice::Notice, record::ObjectType};

pub(super) const NOT_LICENSED: Notice = Notice::fixed(
    "PUSH_NOT_LICENSED",
    "this edition of Salesforce, or its Government Cloud, has no Pub/Sub API; changes are polled",
);
pub(super) const ADDRESS_MISSING: Notice = Notice::fixed(
    "PUSH_ADDRESS_MISSING",
    "this deployment reaches Salesforce by providers.salesforce.base_url, and nobody says where its streams are: its operator must set providers.salesforce_streams_url too; until then changes are polled",
);
pub(super) const QUOTA_SPENT: Notice = Notice::fixed(
    "PUSH_QUOTA_SPENT",
    "the organisation's event deliveries of 24 hours are used up (all subscribers together: 10,000 to 50,000 by edition), or too many subscribe; changes are polled, and it is tried again within the hour; Setup, Event Manager shows the usage, and a mass update is the usual cause",
);
pub(super) const REFUSED: Notice = Notice::fixed(
    "PUSH_REFUSED",
    "Salesforce refuses what this service sends for its stream of changes; they are polled; the log has its code: report it",
);

/// The kind of object is not among those whose changes are published.
pub(super) fn object_off(object: ObjectType) -> Notice {
    let name = object.as_str();
    Notice::new(
        "PUSH_OBJECT_OFF",
        format!(
            "Salesforce does not publish changes of {name}s, so they are polled; in Setup, Integrations, Change Data Capture, move {name} to Selected Entities and save (five are free)"
        ),
    )
}

/// The user does not see all records, and so is sent none of their changes.
pub(super) fn role_missing(object: ObjectType) -> Notice {
    let name = object.as_str();
    Notice::new(
        "PUSH_ROLE_MISSING",
        format!(
            "the integration's user may not see all {name}s, and is not sent their changes, so they are polled; give it \"View All Records\" on {name}s, or \"View All Data\", by a permission set"
        ),
    )
}
