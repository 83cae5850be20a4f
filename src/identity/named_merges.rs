//! Merges that the CRM names: the contact of a record that was merged away becomes an alias of its
//! successor's, through chains of any length; a converted Lead's ref moves to its Contact's
//! contact. Works in whatever order the records come.
//!
//! Lists of Zendesk and Pipedrive name no winner, only their events do: without one the loser is a
//! deletion, and whoever may have taken it in is read again (`sync::copy`).

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
    },
    store::{
        StoreError, Tx,
        contact_writes::{
            aliases::{self, MergeAlias},
            contacts, refs,
        },
        merge_chains::{self, ChainLink},
    },
};

/// Steps of one chain, and rounds of looking for more of it; each round is a statement. Salesforce
/// merges two or three records at once, and duplicates that are merged one into the next make
/// chains of dozens between two runs; a longer one is followed from its newer end.
const STEPS_MAX: usize = 200;

/// Looks whether these records, just taken in, are part of merges, and makes the aliases that
/// follow.
pub(super) async fn follow(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    changed: &[RecordKey],
    merged: &[RecordKey],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let links = find_chains(tx, account_id, integration_id, changed, merged).await?;
    if links.is_empty() {
        return Ok(());
    }
    let (new_aliases, moves) = plan(&links);
    let mut everyone: Vec<ContactId> =
        new_aliases.iter().flat_map(|alias| [alias.loser_id, alias.survivor_id]).collect();
    everyone.sort_unstable();
    everyone.dedup();
    let locked = contacts::lock(tx, account_id, &everyone).await?;
    // A survivor that was merged or deleted while its lock was waited for: the next try sees it.
    let is_live = |id: ContactId| locked.iter().any(|contact| contact.contact_id == id && contact.is_live);
    if new_aliases.iter().any(|alias| !is_live(alias.survivor_id)) {
        return Err(StoreError::Conflict);
    }
    if !moves.is_empty() {
        refs::move_refs(tx, account_id, integration_id, &moves, now).await?;
    }
    if !new_aliases.is_empty() {
        aliases::alias_merged(tx, account_id, &new_aliases, now).await?;
    }
    Ok(())
}

/// All known records of the chains that these are part of.
async fn find_chains(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    changed: &[RecordKey],
    merged: &[RecordKey],
) -> Result<HashMap<RecordKey, ChainLink>, StoreError> {
    let mut links: HashMap<RecordKey, ChainLink> = HashMap::new();
    // Against the direction of the merges: who waits for these?
    let mut frontier = merge_chains::find_predecessors(tx, account_id, integration_id, changed).await?;
    if !merged.is_empty() {
        frontier.extend(merge_chains::find(tx, account_id, integration_id, merged).await?);
    }
    for _ in 0..STEPS_MAX {
        let fresh: Vec<ChainLink> = frontier.into_iter().filter(|link| !links.contains_key(&link.key)).collect();
        if fresh.is_empty() {
            break;
        }
        let keys: Vec<RecordKey> = fresh.iter().map(|link| link.key.clone()).collect();
        links.extend(fresh.into_iter().map(|link| (link.key.clone(), link)));
        frontier = merge_chains::find_predecessors(tx, account_id, integration_id, &keys).await?;
    }
    // With it: where do they lead?
    for _ in 0..STEPS_MAX {
        let wanted: HashSet<&RecordKey> = links.values().filter_map(|link| link.successor.as_ref()).collect();
        let mut unknown: Vec<RecordKey> = wanted.into_iter().filter(|key| !links.contains_key(*key)).cloned().collect();
        unknown.sort_unstable();
        let found = merge_chains::find(tx, account_id, integration_id, &unknown).await?;
        if found.is_empty() {
            break;
        }
        links.extend(found.into_iter().map(|link| (link.key.clone(), link)));
    }
    Ok(links)
}

/// Who becomes whose alias, and which refs move. A chain that does not end in a live record leads
/// nowhere yet.
fn plan(links: &HashMap<RecordKey, ChainLink>) -> (Vec<MergeAlias>, Vec<(RecordKey, ContactId)>) {
    let (mut new_aliases, mut moves) = (Vec::new(), Vec::new());
    let mut merged: Vec<&ChainLink> = links.values().filter(|link| !link.is_live).collect();
    // One contact with several merged records gets one successor: that of its smallest record.
    merged.sort_unstable_by_key(|link| (link.contact_id, link.key.rank(), link.key.object_type));
    for link in merged {
        let (Some(loser_id), Some(chain)) = (link.contact_id, chain(link, links)) else { continue };
        let is_conversion = link.successor.as_ref().is_some_and(|next| next.object_type != link.key.object_type);
        // To the Contact's own contact, also when that was merged since: it may be restored, and
        // leave the others behind.
        if is_conversion && loser_id != chain.next {
            moves.push((link.key.clone(), chain.next));
        }
        if let Some(direct_id) = chain.direct.filter(|_| loser_id != chain.end) {
            new_aliases.push(MergeAlias { loser_id, direct_id, survivor_id: chain.end });
        }
    }
    new_aliases.dedup_by_key(|alias| alias.loser_id);
    (new_aliases, moves)
}

/// Where a chain leads.
struct MergeChain {
    /// The next contact.
    next: ContactId,
    /// The next that is not the record's own: two records of one contact may be in a chain, and an
    /// alias must not lead to itself.
    direct: Option<ContactId>,
    /// The live one at the end.
    end: ContactId,
}

/// Follows the chain that begins behind this record.
fn chain(link: &ChainLink, links: &HashMap<RecordKey, ChainLink>) -> Option<MergeChain> {
    let (mut next, mut direct, mut at) = (None, None, link);
    for _ in 0..=STEPS_MAX {
        at = links.get(at.successor.as_ref()?)?;
        next = next.or(at.contact_id);
        direct = direct.or(at.contact_id.filter(|id| Some(*id) != link.contact_id));
        if at.is_live {
            return Some(MergeChain { next: next?, direct, end: at.contact_id? });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::record::ObjectType;

    fn id(n: u128) -> ContactId {
        ContactId(Uuid::from_u128(n))
    }

    fn key(kind: ObjectType, record_id: &str) -> RecordKey {
        RecordKey { object_type: kind, record_id: record_id.to_owned() }
    }

    fn links(rows: &[(&str, Option<u128>, bool, Option<&str>)]) -> HashMap<RecordKey, ChainLink> {
        let link = |(record_id, contact, is_live, successor): &(&str, Option<u128>, bool, Option<&str>)| ChainLink {
            key: key(ObjectType::Contact, record_id),
            contact_id: contact.map(id),
            is_live: *is_live,
            successor: successor.map(|next| key(ObjectType::Contact, next)),
        };
        rows.iter().map(link).map(|link| (link.key.clone(), link)).collect()
    }

    /// A chain leads directly to the next contact, and finally to the live one.
    #[test]
    fn chain_leads_to_next_and_final_survivor() {
        let (mut new_aliases, moves) = plan(&links(&[
            ("a", Some(1), false, Some("b")),
            ("b", Some(2), false, Some("c")),
            ("c", Some(3), true, None),
        ]));

        new_aliases.sort_unstable_by_key(|alias| alias.loser_id);
        assert_eq!(
            new_aliases,
            [
                MergeAlias { loser_id: id(1), direct_id: id(2), survivor_id: id(3) },
                MergeAlias { loser_id: id(2), direct_id: id(3), survivor_id: id(3) },
            ]
        );
        assert!(moves.is_empty());
    }

    /// A chain without a live end, or with an unknown one, makes no alias.
    #[test]
    fn chain_without_live_end_makes_no_alias() {
        for rows in
            [&[("a", Some(1), false, Some("b")), ("b", Some(2), false, None)][..], &[("a", Some(1), false, Some("b"))]]
        {
            assert!(plan(&links(rows)).0.is_empty());
        }
    }

    /// A step that was first seen as deleted is passed through.
    #[test]
    fn step_first_seen_deleted_is_passed_through() {
        let (new_aliases, _) = plan(&links(&[
            ("a", Some(1), false, Some("b")),
            ("b", None, false, Some("c")),
            ("c", Some(3), true, None),
        ]));

        assert_eq!(new_aliases, [MergeAlias { loser_id: id(1), direct_id: id(3), survivor_id: id(3) }]);
    }

    #[test]
    fn a_circle_ends() {
        let (new_aliases, _) = plan(&links(&[("a", Some(1), false, Some("b")), ("b", Some(2), false, Some("a"))]));

        assert!(new_aliases.is_empty());
    }

    /// A contact with several records of one chain is merged into the next that is not itself.
    #[test]
    fn contact_twice_in_chain_joins_next_other_one() {
        // A Lead that was converted into Contact 2, whose contact it has since: both lead through 1
        // to 3.
        let lead = ChainLink {
            key: key(ObjectType::Lead, "1"),
            contact_id: Some(id(2)),
            is_live: false,
            successor: Some(key(ObjectType::Contact, "2")),
        };
        // The order in which a map shows its entries is another one each time.
        for _ in 0..20 {
            let mut rows = links(&[
                ("2", Some(2), false, Some("1")),
                ("1", Some(1), false, Some("3")),
                ("3", Some(3), true, None),
            ]);
            rows.insert(lead.key.clone(), lead.clone());

            let (new_aliases, moves) = plan(&rows);

            assert_eq!(
                new_aliases,
                [
                    MergeAlias { loser_id: id(1), direct_id: id(3), survivor_id: id(3) },
                    MergeAlias { loser_id: id(2), direct_id: id(1), survivor_id: id(3) },
                ]
            );
            assert!(moves.is_empty());
        }
    }

    #[test]
    fn a_converted_lead_moves_to_its_contact() {
        let mut rows = links(&[("c", Some(3), true, None)]);
        let lead = ChainLink {
            key: key(ObjectType::Lead, "l"),
            contact_id: Some(id(1)),
            is_live: false,
            successor: Some(key(ObjectType::Contact, "c")),
        };
        rows.insert(lead.key.clone(), lead);

        let (new_aliases, moves) = plan(&rows);

        assert_eq!(moves, [(key(ObjectType::Lead, "l"), id(3))]);
        assert_eq!(new_aliases, [MergeAlias { loser_id: id(1), direct_id: id(3), survivor_id: id(3) }]);
    }
}
