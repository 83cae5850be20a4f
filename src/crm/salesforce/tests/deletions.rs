//! Records that no query shows any more.

use std::time::Duration;

use crm_simulator::faults::Fault;
use serde_json::json;

use super::support::{Org, contact_key, minutes, run};
use crate::{
    crm::{CrmClient, RecordSightings, salesforce::descriptor::DESCRIPTOR},
    domain::{
        options::Options,
        record::{ObjectType, RecordKey},
    },
};

fn without_mirroring() -> Options {
    let mut options = Options::default();
    options.objects[ObjectType::Contact].mirrors_deletions = false;
    options
}

#[tokio::test]
async fn a_record_deleted_for_good_is_gone() {
    let org = Org::start().await;
    let (id, other) = (org.contact(&json!({})), org.contact(&json!({})));
    let client = org.client();
    org.advance(minutes(30));
    let first = run(&client, None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(minutes(20));

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();
    org.advance(minutes(30));
    let third = run(&client, Some(&second.checkpoint)).await.unwrap();

    assert_eq!(second.gone, [contact_key(&id)]);
    assert!(third.gone.is_empty());
    assert!(!second.ids().contains(&other) && !second.needs_sweep);
}

/// A record that was deleted and taken back is not gone.
#[tokio::test]
async fn record_deleted_and_restored_is_not_gone() {
    let org = Org::start().await;
    let (back, deleted) = (org.contact(&json!({})), org.contact(&json!({})));
    let client = org.client();
    let first = run(&client, None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.delete("Contact", &back).unwrap();
    org.simulated.delete("Contact", &deleted).unwrap();
    org.advance(minutes(10));
    org.simulated.undelete(&back).unwrap();
    org.advance(minutes(10));

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    assert!(second.gone.is_empty());
    assert!(!second.newest()[&back].is_gone && second.newest()[&deleted].is_gone);
}

#[tokio::test]
async fn switched_on_later_mirroring_catches_up() {
    let org = Org::start().await;
    let id = org.contact(&json!({}));
    let first = run(&org.client_with(without_mirroring(), i64::MAX), None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(minutes(20));
    org.simulated.clear_requests();

    let second = run(&org.client_with(without_mirroring(), i64::MAX), Some(&first.checkpoint)).await.unwrap();
    let asked = org.simulated.requests().count_of("Contact/deleted");
    org.advance(minutes(30));
    let third = run(&org.client(), Some(&second.checkpoint)).await.unwrap();

    assert_eq!(asked, 0);
    assert!(second.gone.is_empty());
    assert_eq!(third.gone, [contact_key(&id)]);
}

/// What the log does not tell any more needs a sweep, once.
#[tokio::test]
async fn deletions_beyond_log_need_one_sweep() {
    let org = Org::start().await;
    let id = org.contact(&json!({}));
    let client = org.client();
    let first = run(&client, None).await.unwrap();
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(Duration::from_hours(24 * 16));

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();
    org.advance(minutes(30));
    let third = run(&client, Some(&second.checkpoint)).await.unwrap();

    assert!(second.needs_sweep && second.gone.is_empty());
    assert!(!third.needs_sweep);
}

/// More deletions than an answer holds are asked for in parts.
#[tokio::test]
async fn deletions_beyond_answers_size_come_in_parts() {
    let org = Org::start().await;
    let ids = [org.contact(&json!({})), org.contact(&json!({}))];
    let client = org.client();
    let first = run(&client, None).await.unwrap();
    for id in &ids {
        org.advance(minutes(10));
        org.simulated.hard_delete("Contact", id).unwrap();
    }
    org.advance(minutes(10));
    org.fault("Contact/deleted", Some(2), Fault::TooManyIds);

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    let mut gone = second.gone.clone();
    gone.sort_unstable();
    assert_eq!(gone, ids.map(|id| contact_key(&id)));
    assert!(!second.needs_sweep);
}

/// A Contact in the recycle bin, one deleted for good, and one that sharing hides, as a look-up
/// sees them.
async fn sightings_of_absent(org: &Org) -> ([RecordKey; 3], RecordSightings) {
    let ids = [org.contact(&json!({})), org.contact(&json!({})), org.contact(&json!({}))];
    org.simulated.delete("Contact", &ids[0]).unwrap();
    org.simulated.hard_delete("Contact", &ids[1]).unwrap();
    org.simulated.hide_from_user(&ids[2]).unwrap();
    let keys = ids.map(|id| contact_key(&id));
    let sightings = org.client().look_up(&keys).await.unwrap();
    (keys, sightings)
}

async fn org_of_a_user_who_does_not_see_all() -> Org {
    Org::start_with(|config| config.administrator_sees_all = false).await
}

/// Looked-up records are found also in the recycle bin.
#[tokio::test]
async fn look_up_finds_recycle_bin_too() {
    let org = Org::start().await;
    let (live, deleted) = (org.contact(&json!({"Phone": "1"})), org.contact(&json!({})));
    org.simulated.delete("Contact", &deleted).unwrap();
    let keys = [contact_key(&live), contact_key(&deleted)];

    let sightings = org.client().look_up(&keys).await.unwrap();

    let [live, deleted] = sightings.records.as_slice() else { panic!("{sightings:?}") };
    assert!(live.key == keys[0] && live.numbers.len() == 1 && !live.is_gone);
    assert!(deleted.key == keys[1] && deleted.is_gone);
    assert!(sightings.records.iter().all(|record| record.answered_at == Some(org.now())));
}

/// What is not shown to a user who sees all is gone.
#[tokio::test]
async fn unseen_by_user_seeing_all_is_gone() {
    let org = Org::start().await;

    let (keys, sightings) = sightings_of_absent(&org).await;

    assert!(sightings.records[0].key == keys[0] && sightings.records[0].is_gone);
    assert!(sightings.gone.iter().any(|gone| gone.key == keys[1]), "{sightings:?}");
}

/// What is not shown to a user who does not see all is hidden.
#[tokio::test]
async fn unseen_by_user_not_seeing_all_is_hidden() {
    let org = org_of_a_user_who_does_not_see_all().await;

    let (keys, sightings) = sightings_of_absent(&org).await;

    assert!(sightings.records[0].key == keys[0] && sightings.records[0].is_gone);
    assert!(sightings.records.len() == 1 && sightings.gone.is_empty());
}

/// To see all Contacts is to know of Contacts alone.
#[tokio::test]
async fn seeing_all_contacts_tells_of_contacts_alone() {
    let org = org_of_a_user_who_does_not_see_all().await;
    let (contact, lead) = (org.contact(&json!({})), org.lead());
    org.simulated.hard_delete("Contact", &contact).unwrap();
    org.simulated.hard_delete("Lead", &lead).unwrap();
    let set = org.simulated.records("PermissionSet").remove(0).id;
    let granted = json!({"ParentId": set, "SobjectType": "Contact", "PermissionsViewAllRecords": true});
    org.simulated.create("ObjectPermissions", &granted).unwrap();
    let lead_key = DESCRIPTOR.parse_record_key(ObjectType::Lead.as_str(), &lead).unwrap();
    let keys = [contact_key(&contact), lead_key];

    let sightings = org.client().look_up(&keys).await.unwrap();

    let [absent] = sightings.gone.as_slice() else { panic!("{sightings:?}") };
    assert!(absent.key == keys[0] && sightings.records.is_empty(), "{sightings:?}");
    assert_eq!(absent.seen_at, Some(org.now()));
}
