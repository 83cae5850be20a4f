//! What a CRM sent, made fit for us: bounded text, numbers read, a fingerprint. Pure. One bad
//! number is a number without a key, never a failed page.

use std::collections::{HashMap, hash_map::Entry};

use phone_key::{PhoneKey, Region};
use sha2::{Digest, Sha256};

use crate::domain::{
    account::Account,
    record::{EMAILS_MAX, NUMBERS_MAX, NormalNumber, NormalRecord, RawNumber, Record},
};

const NAME_CHARS_MAX: usize = 200;
const EMAIL_CHARS_MAX: usize = 254;
const LABEL_CHARS_MAX: usize = 40;
const URL_CHARS_MAX: usize = 500;

/// How an account's numbers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberRules {
    /// The country of numbers written without one.
    pub region: Region,
    /// The customer works in other countries too: a number written without a country may be one of
    /// theirs.
    pub has_further_regions: bool,
}

impl From<&Account> for NumberRules {
    fn from(account: &Account) -> Self {
        Self { region: account.default_region, has_further_regions: !account.further_regions.is_empty() }
    }
}

/// A page's records, each once: of two copies of one record the newer stays, of equally old ones
/// that of the later answer, else the later in the page. Returns also how many were left out.
pub(super) fn normalize_page(records: Vec<Record>, rules: NumberRules) -> (Vec<NormalRecord>, usize) {
    let read = records.len();
    let mut newest: HashMap<_, Record> = HashMap::with_capacity(read);
    for record in records {
        match newest.entry(record.key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(record);
            }
            Entry::Occupied(mut known) => {
                let newest = known.get();
                if (record.updated_at, record.answered_at) >= (newest.updated_at, newest.answered_at) {
                    known.insert(record);
                }
            }
        }
    }
    let mut records: Vec<NormalRecord> = newest.into_values().map(|record| normalize(record, rules)).collect();
    // New contacts get their ids, and so their rank, in this order.
    records.sort_by(|a, b| a.key.rank().cmp(&b.key.rank()).then(a.key.cmp(&b.key)));
    let repeats = read - records.len();
    (records, repeats)
}

fn normalize(record: Record, rules: NumberRules) -> NormalRecord {
    let is_gone = record.is_gone;
    let numbers = if is_gone { Vec::new() } else { numbers(&record.numbers, record.region, rules) };
    let emails: Vec<String> = record
        .emails
        .iter()
        .map(|email| clean(email, EMAIL_CHARS_MAX))
        .filter(|email| !email.is_empty())
        .take(EMAILS_MAX)
        .collect();
    let name = clean(&record.display_name, NAME_CHARS_MAX);
    let display_name = [
        name,
        emails.first().cloned().unwrap_or_default(),
        numbers.first().map(|number| number.raw.clone()).unwrap_or_default(),
    ]
    .into_iter()
    .find(|text| !text.is_empty())
    .unwrap_or_else(|| format!("{} {}", record.key.object_type.as_str(), record.key.record_id));
    let mut normal = NormalRecord {
        key: record.key,
        updated_at: Some(record.updated_at),
        answered_at: record.answered_at,
        is_gone,
        successor: record.successor,
        display_name,
        organization: clean(&record.organization, NAME_CHARS_MAX),
        emails,
        numbers,
        role: clean(&record.role, LABEL_CHARS_MAX),
        url: clean(&record.url, URL_CHARS_MAX),
        region: record.region,
        fingerprint: None,
    };
    normal.fingerprint = Some(fingerprint(&normal));
    normal
}

/// Each number once, in the CRM's order; a field may hold several. Texts without a number are kept
/// too: an agent sees them. `country` is that of the record's address.
pub(super) fn numbers(raw: &[RawNumber], country: Option<Region>, rules: NumberRules) -> Vec<NormalNumber> {
    let mut numbers: Vec<NormalNumber> = Vec::new();
    for number in raw {
        let text = clean(&number.raw, usize::MAX);
        if text.is_empty() {
            continue;
        }
        let raw = text[..text.floor_char_boundary(phone_key::RAW_LENGTH_MAX)].to_owned();
        let label = clean(&number.label, LABEL_CHARS_MAX);
        let (reading, region) = phone_key::read_near(&text, country, rules.region);
        // Only where something else than its key may be meant: most accounts work in one country,
        // and pay nothing.
        let row = |key: Option<PhoneKey>, extension| NormalNumber {
            raw: raw.clone(),
            label: label.clone(),
            region: Some(region),
            key,
            extension,
            local_digits: if key.is_none() || rules.has_further_regions { phone_key::local_digits(&raw) } else { None },
        };
        if reading.first().is_none() {
            numbers.push(row(None, String::new()));
        }
        for read in reading.numbers() {
            if numbers.iter().all(|known| known.key != Some(read.key)) {
                numbers.push(row(Some(read.key), read.extension.clone().unwrap_or_default()));
            }
        }
        if numbers.len() >= NUMBERS_MAX {
            numbers.truncate(NUMBERS_MAX);
            break;
        }
    }
    numbers
}

/// Without control characters (Postgres refuses NUL, and a line break would split a list), trimmed,
/// bounded.
fn clean(text: &str, chars_max: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max.min(4_000)).collect();
    text.trim().to_owned()
}

/// The first 64 bits of SHA-256 over everything that is stored: a change that it misses happens
/// once in 2^64.
fn fingerprint(record: &NormalRecord) -> i64 {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    add(&record.display_name);
    add(&record.organization);
    add(&record.role);
    add(&record.url);
    add(record.region.as_ref().map_or("", Region::as_str));
    for email in &record.emails {
        add(email);
    }
    for number in &record.numbers {
        add(&number.raw);
        add(&number.label);
        add(&number.extension);
        add(number.region.as_ref().map_or("", Region::as_str));
        add(&number.key.map_or(0, PhoneKey::as_i64).to_string());
        add(&number.local_digits.unwrap_or(0).to_string());
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::domain::record::{ObjectType, RawNumber, RecordKey};

    fn rules() -> NumberRules {
        NumberRules { region: region(), has_further_regions: false }
    }

    fn region() -> Region {
        Region::parse("US").unwrap()
    }

    fn record(id: &str, name: &str, numbers: &[&str]) -> Record {
        Record {
            key: RecordKey { object_type: ObjectType::User, record_id: id.to_owned() },
            updated_at: DateTime::from_timestamp(0, 0).unwrap(),
            answered_at: None,
            is_gone: false,
            successor: None,
            region: None,
            display_name: name.to_owned(),
            organization: String::new(),
            emails: vec![],
            numbers: numbers
                .iter()
                .map(|raw| RawNumber { raw: (*raw).to_owned(), label: "phone".to_owned() })
                .collect(),
            role: String::new(),
            url: String::new(),
        }
    }

    #[test]
    fn newest_copy_of_a_record_stays() {
        let old = record("1", "old", &[]);
        let mut new = record("1", "new", &[]);
        new.updated_at += TimeDelta::seconds(1);

        let (records, repeats) = normalize_page(vec![new, old], rules());

        assert_eq!(repeats, 1);
        assert_eq!(records[0].display_name, "new");
    }

    #[test]
    fn later_of_two_equal_copies_stays() {
        let (records, _) = normalize_page(vec![record("1", "first", &[]), record("1", "second", &[])], rules());

        assert_eq!(records[0].display_name, "second");
    }

    /// A list may be behind; who was asked for by id is as it is.
    #[test]
    fn answer_stays_before_equally_old_row_of_list() {
        let answer = Record { answered_at: DateTime::from_timestamp(9, 0), ..record("1", "answer", &[]) };

        let (records, _) = normalize_page(vec![answer, record("1", "row", &[])], rules());

        assert_eq!(records[0].display_name, "answer");
    }

    /// One number that is written twice is one, and a text without a number is kept.
    #[test]
    fn repeated_number_is_one_numberless_text_kept() {
        let (records, _) =
            normalize_page(vec![record("1", "a", &["(310)-867-5309", "+13108675309", "", "ask Bob"])], rules());

        let keys: Vec<bool> = records[0].numbers.iter().map(|number| number.key.is_some()).collect();
        assert_eq!(keys, [true, false]);
    }

    #[test]
    fn text_that_postgres_refuses_is_cleaned() {
        let (records, _) = normalize_page(vec![record("1", "a\0b\nc", &["\0+13108675309"])], rules());

        assert_eq!(records[0].display_name, "a b c");
        assert!(records[0].numbers[0].key.is_some());
    }

    /// A nameless record is shown by what it has.
    #[test]
    fn nameless_record_shows_what_it_has() {
        let (records, _) = normalize_page(vec![record("1", " ", &["+13108675309"]), record("2", "", &[])], rules());

        assert_eq!(records[0].display_name, "+13108675309");
        assert_eq!(records[1].display_name, "user 2");
    }

    /// The fingerprint changes with every field, and with nothing else.
    #[test]
    fn fingerprint_changes_with_fields_alone() {
        let of = |record: Record| normalize(record, rules()).fingerprint;
        let base = of(record("1", "a", &["+13108675309"]));
        let mut later = record("1", "a", &["+13108675309"]);
        later.updated_at += TimeDelta::seconds(9);
        let mut with_role = record("1", "a", &["+13108675309"]);
        with_role.role = "agent".to_owned();

        assert_eq!(base, of(later));
        assert_ne!(base, of(with_role));
        assert_ne!(base, of(record("1", "b", &["+13108675309"])));
        assert_ne!(base, of(record("1", "a", &["+13108675308"])));
        assert_ne!(base, of(record("1", "a", &[])));
    }
}
