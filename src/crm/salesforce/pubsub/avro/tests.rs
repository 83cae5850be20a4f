//! Datums made by Apache's own library (`golden.txt`), and datums that nobody should send.

use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;

const SCHEMA: &str = include_str!("golden_schema.json");
/// A name and a datum in hex a line, written by apache-avro 0.22 with that schema.
const GOLDEN: &str = include_str!("golden.txt");

fn golden(wanted: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == wanted));
    let hex = line.unwrap_or_else(|| panic!("there is no {wanted}")).1;
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn layout() -> HeaderLayout {
    HeaderLayout::read(SCHEMA).unwrap()
}

/// A schema of nothing but a header, with this before and within it.
fn schema_with(before: &serde_json::Value, within: &serde_json::Value) -> String {
    let mut fields = vec![
        json!({"name": "entityName", "type": "string"}),
        json!({"name": "recordIds", "type": {"type": "array", "items": "string"}}),
        json!({"name": "changeType", "type": "string"}),
    ];
    fields.extend(within.as_array().unwrap().iter().cloned());
    let header = json!({"type": "record", "name": HEADER, "fields": fields});
    let mut all = before.as_array().unwrap().clone();
    all.push(json!({"name": HEADER, "type": header}));
    json!({"type": "record", "name": "Event", "fields": all}).to_string()
}

/// `Contact`, no records, `UPDATE`.
const PLAIN: &[u8] = b"\x0eContact\x00\x0cUPDATE";

#[test]
fn golden_headers_are_read() {
    let header = |name| layout().decode(&golden(name)).unwrap();
    let id = "003D000000QV9n2IAD".to_owned();

    let first = header("create");
    assert_eq!((first.entity.as_str(), first.change_type.as_str()), ("Contact", "CREATE"));
    assert_eq!((first.record_ids, first.commit_ms), (vec![id.clone()], Some(1_795_339_340_123)));
    for (name, change_type, ids, changed, commit_ms) in [
        ("update_phone", "UPDATE", 1, &["0x28"][..], 1_795_339_340_123),
        ("update_nested", "UPDATE", 1, &["0x20", "2-0x04"], 1_795_339_340_123),
        ("update_nothing", "UPDATE", 1, &[], 0),
        ("delete", "DELETE", 1, &[], -1),
        ("undelete", "UNDELETE", 1, &[], i64::MAX),
        ("merged", "UPDATE", 2, &["0x20"], i64::MIN),
        ("gap", "GAP_UPDATE", 1, &[], 1),
        ("overflow", "GAP_OVERFLOW", 1, &[], 1),
        ("wildcard", "UPDATE", 1, &["0x28"], 1),
        ("nobody", "UPDATE", 0, &["0x28"], 1),
        ("many", "DELETE", 26, &[], 1),
    ] {
        let read = header(name);
        assert_eq!((read.change_type.as_str(), read.record_ids.len()), (change_type, ids), "{name}");
        assert_eq!(read.changed_fields.unwrap(), changed, "{name}");
        assert_eq!(read.commit_ms, Some(commit_ms), "{name}");
    }
    assert_eq!(header("merged").record_ids, [id, "003D000000QV9n3IAD".to_owned()]);
}

#[test]
fn fields_have_the_bits_of_their_order() {
    let names = layout().names;

    assert_eq!(names[3].as_ref(), "Phone");
    assert_eq!(names.len(), 7);
}

#[test]
fn header_is_found_wherever_it_stands() {
    let before = json!([
        {"name": "a", "type": ["null", {"type": "map", "values": "long"}]},
        {"name": "b", "type": {"type": "record", "name": "B", "fields": [{"name": "x", "type": "double"}, {"name": "y", "type": "boolean"}]}},
        {"name": "c", "type": ["null", "B"]},
        {"name": "d", "type": {"type": "fixed", "name": "F", "size": 3}}
    ]);
    let layout = HeaderLayout::read(&schema_with(&before, &json!([]))).unwrap();
    let prefix = b"\x02\x02\x02k\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00abc";

    let header = layout.decode(&[prefix, PLAIN].concat()).unwrap();

    assert_eq!((header.entity.as_str(), header.changed_fields), ("Contact", None));
}

/// What follows the header is not needed, and everything before its end is.
#[test]
fn every_cut_is_refused() {
    let layout = layout();
    for line in GOLDEN.lines() {
        let name = line.split(' ').next().unwrap();
        let whole = golden(name);
        let read = (0..=whole.len()).filter(|length| layout.decode(&whole[..*length]).is_ok()).count();
        // The six fields behind the header; those that are null have one byte.
        let first = (0..whole.len()).find(|length| layout.decode(&whole[..*length]).is_ok()).unwrap();
        assert_eq!(read, (first..=whole.len()).count(), "{name}");
    }
}

#[test]
fn items_without_bytes_are_counted() {
    let nulls = json!([{"name": "nulls", "type": {"type": "array", "items": "null"}}]);
    let layout = HeaderLayout::read(&schema_with(&json!([]), &nulls)).unwrap();
    let with = |tail: &[u8]| layout.decode(&[PLAIN, tail].concat());

    assert!(with(b"\x04\x00").is_ok());
    // 2^61 of them.
    assert!(with(b"\x80\x80\x80\x80\x80\x80\x80\x80\x40\x00").is_err());
}

/// Ten million nulls of no byte, in records within records.
#[test]
fn records_within_records_are_counted() {
    // A record is told once, and named from then on.
    let (mut of, mut again) = (json!("null"), json!("null"));
    for level in 0..7 {
        let fields: Vec<_> = (0..10)
            .map(|n| json!({"name": format!("f{n}"), "type": if n == 0 { of.clone() } else { again.clone() }}))
            .collect();
        again = json!(format!("R{level}"));
        of = json!({"type": "record", "name": again, "fields": fields});
    }
    let within = json!([{"name": "deep", "type": of}]);
    let layout = HeaderLayout::read(&schema_with(&json!([]), &within)).unwrap();

    assert!(layout.decode(PLAIN).is_err());
}

#[test]
fn block_sizes_may_be_negative() {
    let layout = HeaderLayout::read(&schema_with(&json!([]), &json!([]))).unwrap();
    let decode = |ids: &[u8]| layout.decode(&[b"\x0eContact", ids, b"\x0cUPDATE"].concat());

    assert_eq!(decode(b"\x03\x08\x02a\x02b\x00").unwrap().record_ids, ["a", "b"]);
    assert_eq!(decode(b"\x02\x02a\x02\x02b\x00").unwrap().record_ids, ["a", "b"]);
    assert!(decode(b"\x03\x07\x02a\x02b\x00").is_err(), "a negative size of a block");
}

#[test]
fn long_lengths_allocate_nothing() {
    let layout = layout();
    for huge in [
        &b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    ] {
        assert!(layout.decode(huge).is_err());
        assert!(layout.decode(&[b"\x0eContact", huge].concat()).is_err());
    }
}

#[test]
fn deep_and_recursive_schemas_are_refused() {
    let mut deep = json!("null");
    for _ in 0..DEPTH_MAX {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(HeaderLayout::read(&schema_with(&json!([{"name": "deep", "type": deep}]), &json!([]))).is_err());
    let own =
        json!([{"name": "own", "type": {"type": "record", "name": "Own", "fields": [{"name": "own", "type": "Own"}]}}]);
    let layout = HeaderLayout::read(&schema_with(&own, &json!([]))).unwrap();
    assert!(layout.decode(PLAIN).is_err());
}

#[test]
fn schemas_that_are_none_are_refused() {
    let fields: Vec<_> = (0..2_001).map(|n| json!({"name": format!("f{n}"), "type": "null"})).collect();
    for wrong in [
        String::new(),
        "null".to_owned(),
        "\"string\"".to_owned(),
        json!({"type": "record", "name": "X", "fields": []}).to_string(),
        json!({"type": "record", "name": "X", "fields": [{"name": HEADER, "type": "Unknown"}]}).to_string(),
        json!({"type": "record", "name": "X", "fields": [{"type": "null"}]}).to_string(),
        json!({"type": "record", "name": "X", "fields": fields}).to_string(),
        "[".repeat(10_000),
        " ".repeat(1024 * 1024 + 1),
    ] {
        assert!(HeaderLayout::read(&wrong).is_err());
    }
    let no_record = json!({"type": "record", "name": "X", "fields": [{"name": HEADER, "type": "null"}]}).to_string();
    assert!(HeaderLayout::read(&no_record).unwrap().decode(b"").is_err());
}

#[test]
fn ids_and_bitmaps_are_bounded() {
    let layout = HeaderLayout::read(&schema_with(&json!([]), &json!([]))).unwrap();
    let long = [b"\x0eContact\x02\x82\x01".as_slice(), &[b'a'; 65], b"\x00\x0cUPDATE"].concat();
    assert!(layout.decode(&long).is_err());
    let many = [b"\x0eContact\xa2\x9c\x01".as_slice(), &[0; 10_001], b"\x00\x0cUPDATE"].concat();
    assert!(layout.decode(&many).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(name in 0..12_usize, at in any::<prop::sample::Index>(), bytes in vec(any::<u8>(), 0..24)) {
        let layout = layout();
        let mut datum = golden(GOLDEN.lines().nth(name).unwrap().split(' ').next().unwrap());
        let at = at.index(datum.len());
        let end = at.saturating_add(bytes.len()).min(datum.len());
        datum.splice(at..end, bytes.iter().copied());

        for payload in [&datum, &bytes] {
            if let Ok(header) = layout.decode(payload) {
                prop_assert!(header.record_ids.iter().all(|id| id.len() <= 64));
            }
        }
    }
}
