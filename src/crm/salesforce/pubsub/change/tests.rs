use super::*;

const ID: &str = "003D000000QV9n2IAD";

fn names(count: usize) -> Vec<Box<str>> {
    (0..count).map(|n| format!("f{n}").into()).collect()
}

fn layout() -> HeaderLayout {
    HeaderLayout::read(include_str!("../avro/golden_schema.json")).unwrap()
}

fn header(change_type: &str, ids: &[&str], changed: Option<&[&str]>) -> ChangeHeader {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    ChangeHeader {
        entity: "Contact".to_owned(),
        record_ids: owned(ids),
        change_type: change_type.to_owned(),
        commit_ms: None,
        changed_fields: changed.map(owned),
    }
}

fn reach(change_type: &str, ids: &[&str], changed: Option<&[&str]>) -> ChangeReach {
    let untracked = ["LastModifiedDate", "Site__c"].map(Into::into).into_iter().collect();
    reach_of(ObjectType::Contact, &header(change_type, ids, changed), &layout(), &untracked)
}

fn key(id: &str) -> RecordKey {
    RecordKey { object_type: ObjectType::Contact, record_id: id.to_owned() }
}

#[test]
fn each_type_has_its_reach() {
    for change_type in ["CREATE", "DELETE", "UNDELETE"] {
        assert_eq!(reach(change_type, &[ID], Some(&[])), ChangeReach::Records(vec![key(ID)]), "{change_type}");
    }
    for change_type in ["GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE"] {
        assert_eq!(reach(change_type, &[ID], Some(&[])), ChangeReach::Gap(vec![key(ID)]), "{change_type}");
    }
    assert_eq!(reach("GAP_OVERFLOW", &[ID], None), ChangeReach::Overflow);
    assert_eq!(reach("SNAPSHOT", &[ID], None), ChangeReach::Unreadable);
    let lead = reach_of(ObjectType::Lead, &header("CREATE", &[ID], None), &layout(), &UntrackedFields::new());
    assert_eq!(lead, ChangeReach::Foreign);
    let merged = reach("UPDATE", &[ID, "003D000000QV9n3"], None);
    assert_eq!(merged, ChangeReach::Records(vec![key(ID), key("003D000000QV9n3IAD")]));
}

/// Bits 3 and 5 of the schema are `Phone` and `LastModifiedDate`, 2 is `Name`, 6 `Site__c`.
#[test]
fn update_of_what_is_not_copied_is_untouched() {
    let update = |changed: &[&str]| reach("UPDATE", &[ID], Some(changed));

    for untouched in [&["0x20"][..], &["0x60"], &["0x0"], &["0x"], &["0x20", "2-0x0"]] {
        assert_eq!(update(untouched), ChangeReach::Untouched, "{untouched:?}");
    }
    for touched in [&["0x28"][..], &["0x20", "2-0x04"], &["0x8"], &["0x20", "0x08"]] {
        assert_eq!(update(touched), ChangeReach::Records(vec![key(ID)]), "{touched:?}");
    }
}

#[test]
fn empty_list_touches_nothing_and_absent_list_everything() {
    assert_eq!(reach("UPDATE", &[ID], Some(&[])), ChangeReach::Untouched);
    assert_eq!(reach("UPDATE", &[ID], None), ChangeReach::Records(vec![key(ID)]));
}

#[test]
fn bitmaps_of_any_length_and_case() {
    let names = names(70);

    assert_eq!(touched("0x5", &names), Some(vec!["f0", "f2"]));
    assert_eq!(touched("0X0aF", &names).unwrap().len(), 6);
    assert_eq!(touched("0x2000000000000000AF", &names).unwrap().last(), Some(&"f69"));
    assert_eq!(touched("0x", &names), Some(Vec::new()));
    assert_eq!(touched(&format!("0x{}1", "0".repeat(4_000)), &names), Some(vec!["f0"]));
}

#[test]
fn nested_bit_touches_its_parent() {
    assert_eq!(touched("4-0x01", &names(5)), Some(vec!["f4"]));
    assert_eq!(touched("4-0xffffffffffffffffff", &names(5)), Some(vec!["f4"]));
    assert_eq!(touched("4-0x00", &names(5)), Some(Vec::new()));
}

/// Neither is a bitmap that nobody can read, nor one of fields that the schema does not have.
#[test]
fn unknown_bit_is_touched() {
    let names = names(5);
    for unknown in ["0x20", "5-0x1", "x-0x1", "-0x1", "0xg", "", "7", "0x1-0x1", "99999999999999999999-0x1"] {
        assert_eq!(touched(unknown, &names), None, "{unknown}");
        assert!(!is_untouched(&header("UPDATE", &[ID], Some(&[unknown])), &names, &UntrackedFields::new()));
    }
}

#[test]
fn field_that_was_not_described_is_touched() {
    let none = UntrackedFields::new();
    let reach = reach_of(ObjectType::Contact, &header("UPDATE", &[ID], Some(&["0x40"])), &layout(), &none);
    assert_eq!(reach, ChangeReach::Records(vec![key(ID)]));
}

#[test]
fn wildcards_zero_ids_and_foreign_prefixes_mean_everything() {
    for whole in ["003*", "*", NO_RECORD] {
        assert_eq!(reach("UPDATE", &[ID, whole], None), ChangeReach::Overflow, "{whole}");
    }
    for wrong in ["00QD000000QV9n2IAD", "", "x", "003D000000QV9n2IAX"] {
        assert_eq!(reach("UPDATE", &[ID, wrong], None), ChangeReach::Unreadable, "{wrong}");
    }
}

#[test]
fn twenty_six_records_are_everything() {
    let place = || StreamPlace::new(vec![1]).unwrap();
    let batch = |count: usize| {
        let mut batch = ChangeBatch::default();
        for n in 0..count {
            // Each comes twice.
            batch.add(ChangeReach::Records(vec![key(&format!("{n}")), key(&format!("{n}"))]), None);
        }
        batch.end(place()).reach
    };

    assert!(matches!(batch(25), EventReach::Records(records) if records.len() == 25));
    assert_eq!(batch(26), EventReach::Everything);
    assert_eq!(batch(0), EventReach::Nothing);
    let mut gone = ChangeBatch::default();
    gone.add(ChangeReach::Overflow, None);
    gone.add(ChangeReach::Untouched, None);
    assert_eq!(gone.end(place()).reach, EventReach::Everything);
}

/// Salesforce's queries may show the row as it was before: that is known by its stamp.
#[test]
fn record_is_as_new_as_its_last_event_but_for_ten_seconds() {
    let at = |seconds: i64| event_time(Some(1_795_999_999_500 + seconds * 1_000));
    let mut batch = ChangeBatch::default();
    batch.add(ChangeReach::Records(vec![key("1"), key("2"), key("3")]), at(0));
    batch.add(ChangeReach::Gap(vec![key("2")]), at(30));
    batch.add(ChangeReach::Records(vec![key("1")]), at(-30));
    batch.add(ChangeReach::Records(vec![key("4")]), None);

    let EventReach::Records(records) = batch.end(StreamPlace::new(vec![1]).unwrap()).reach else { panic!("others") };

    let times: Vec<_> = records.into_iter().map(|record| record.updated_at).collect();
    assert_eq!(times, [at(-10), at(20), at(-10), None]);
}

#[test]
fn event_time_of_another_century_is_none() {
    let time = |ms| event_time(Some(ms));

    assert_eq!(time(1_795_999_999_500).unwrap().timestamp_millis(), 1_795_999_999_500);
    for wrong in [0, -1, i64::MIN, i64::MAX, 946_684_799_999, 4_102_444_800_000] {
        assert_eq!(time(wrong), None, "{wrong}");
    }
    assert_eq!(event_time(None), None);
}
