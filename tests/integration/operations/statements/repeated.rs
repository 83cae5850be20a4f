//! What stands in several statements stands there alike, and a number in SQL is the constant of the
//! same meaning in Rust. (As a parameter it would not be known to a plan that serves all
//! parameters, which then expects a tenth of the rows.)

use std::collections::BTreeSet;

use contact_sync::domain::contact::{CANDIDATES_MAX, NUMBERS_SHOWN_MAX, RECORDS_SHOWN_MAX, TOTAL_MAX};

use super::statements;

/// All statements, each on one line.
fn lines() -> Vec<(String, String)> {
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    statements().into_iter().map(|(name, text)| (name, flat(text))).collect()
}

/// What statements say from these words up to those, and how often.
fn pieces(from: &str, to: &str) -> (BTreeSet<String>, usize) {
    let (mut pieces, mut count) = (BTreeSet::new(), 0);
    for (name, line) in lines() {
        for (at, _) in line.match_indices(from) {
            let end = line[at..].find(to).unwrap_or_else(|| panic!("{name}: no `{to}` behind `{from}`"));
            pieces.insert(line[at..at + end + to.len()].to_owned());
            count += 1;
        }
    }
    (pieces, count)
}

#[test]
fn what_stands_in_several_statements_stands_there_alike() {
    for (from, to, count_min) in [
        // What is read of a contact.
        ("row( c.contact_id,", "c.is_placeholder )", 8),
        ("row( i.integration_id,", "h.integration_id = i.integration_id ) )", 4),
        ("row(k.e164,", "where k.account_id = $1 and k.call_id = $3", 2),
        // Who comes first.
        ("case $4::text when 'LAST_SELECTED'", "end as rank", 2),
        // What is left of one that ends.
        ("display_name = ''", "version = c.version + 1", 3),
        ("marked_stale as", "exists (select from stored) )", 4),
    ] {
        let (pieces, count) = pieces(from, to);
        assert_eq!(pieces.len(), 1, "{pieces:#?}");
        assert!(count >= count_min, "{count} of `{from}`");
    }
}

/// Each has its reason to say this itself; what else must say it does so by a function of the
/// store.
#[test]
fn what_is_written_in_one_place_is_written_nowhere_else() {
    for (words, places) in [
        (
            "insert into changes",
            &[
                // The one for contacts.
                "store::changes::record",
                // With the new contact, in the only statement of the call path that makes one.
                "store::contact_writes::placeholders::insert",
                // Corrections.
                "store::requester_decisions::save_requester_decision (correction)",
                "store::requester_decisions::try_record",
            ][..],
        ),
        (
            "is_stale = true",
            &[
                "store::calls::select",
                "store::calls::store_answer",
                "store::contact_writes::placeholders::insert",
                "store::requester_decisions::mark_stale",
                "store::requester_decisions::mark_stale_of_call",
                "store::requester_decisions::try_record",
                "store::expected_calls::consume",
            ],
        ),
    ] {
        let found: BTreeSet<String> =
            lines().into_iter().filter(|(_, line)| line.contains(words)).map(|(name, _)| name).collect();
        assert_eq!(found, places.iter().map(|place| (*place).to_owned()).collect(), "{words}");
    }
}

#[test]
fn limits_in_statements_are_the_constants() {
    let lines = lines();
    for (name, limits) in [
        ("store::caller_lookup::read_lean", vec![NUMBERS_SHOWN_MAX, RECORDS_SHOWN_MAX, CANDIDATES_MAX + 1]),
        (
            "store::caller_lookup::read_full",
            vec![TOTAL_MAX + 1, TOTAL_MAX, NUMBERS_SHOWN_MAX, RECORDS_SHOWN_MAX, CANDIDATES_MAX],
        ),
        ("store::phone_numbers::find_hits", vec![TOTAL_MAX + 1, TOTAL_MAX + 1]),
        ("store::requester::select_contact", vec![NUMBERS_SHOWN_MAX]),
    ] {
        let (_, line) = lines.iter().find(|(found, _)| found == name).unwrap();
        let said: Vec<usize> = line
            .split(" limit ")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(said, limits, "{name}");
    }
}
