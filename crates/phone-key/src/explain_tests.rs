use crate::*;
use crate::{RAW_LENGTH_MAX, corpus_tests::CORPUS, read};

fn steps(code: &str, raw: &str) -> String {
    let region = (!code.is_empty()).then(|| Region::parse(code).unwrap());
    let steps: Vec<_> = explain(raw, region).steps.iter().map(ToString::to_string).collect();
    steps.join("; ")
}

/// Every row of the corpus is explained as it is read.
#[test]
fn every_corpus_row_is_explained_as_read() {
    for line in CORPUS.lines() {
        let mut fields = line.split('\t');
        let (code, raw) = (fields.next().unwrap(), fields.next().unwrap());
        let region = (code != "ZZ").then(|| Region::parse(code).unwrap());

        let explanation = explain(raw, region);

        assert_eq!(explanation.reading, read(raw, region), "{line}");
        assert!(!explanation.steps.is_empty(), "{line}");
        let refuses = explanation.steps.iter().any(|step| matches!(step, ReadingStep::NoKey(..)));
        assert_eq!(refuses, explanation.reading == Reading::Unparseable, "{line}");
    }
}

#[test]
fn key_is_explained_in_words() {
    for (code, raw, expected) in [
        ("US", "+13101234567", "written with plus sign and country code; possible but not assigned"),
        ("US", "(310) 555-1234", "read as a national number of US"),
        ("GB", "+44 20 7946 0018 ", "written with plus sign and country code"),
        ("US", "310 555 1234 ext. 12", "read as a national number of US; extension 12 kept aside"),
        (
            "US",
            "sip:+13105551234@host;user=phone",
            "taken out of the SIP address; written with plus sign and country code",
        ),
        ("US", "<+13105551234>", "taken out of the angle brackets; written with plus sign and country code"),
        ("US", "011 44 20 7946 0018", "read as a call abroad, dialled from US"),
        ("US", "00 44 20 7946 0018", "another country's prefix for calls abroad"),
        ("US", "44 20 7946 0018", "country code 44 without its plus sign"),
        (
            "DE",
            "4917612345678",
            "country code 49 without its plus sign; not a national number: the plan does not assign it, or it lacks the 0 \
             that is dialled there",
        ),
        ("US", "9-1-712-555-1234", "read as a national number of US; the digit for an outside line left out"),
        ("US", "+3108675309", "read as a national number of US, although a plus sign stands before it"),
        (
            "BJ",
            "97 12 34 56",
            "read as a national number of BJ; an old number, as it is since the country's plan has changed",
        ),
        ("US", "3105551234.0", "read as a national number of US; a spreadsheet's .0 dropped"),
        ("US", "310 555 1234 ask for Bob", "read as a national number of US; the remark behind the number left out"),
        ("US", "1-800-FLOWERS", "read as a national number of US; letters read as on a keypad"),
        ("MX", "+52 1 55 1234 5678", "written with plus sign and country code; Mexico's old mobile prefix removed"),
        (
            "GB",
            "020 7946 0018 / 020 7946 0019",
            "2 numbers in one field; read as a national number of GB; read as a national number of GB",
        ),
        (
            "GB",
            "020 7946 0018 x12 or +1 310 555 1234",
            "2 numbers in one field; read as a national number of GB; extension 12 kept aside; \
             written with plus sign and country code",
        ),
        (
            "GB",
            "020 7946 0018/19",
            "read as a national number of GB; only the first number: of the others the last digits are written",
        ),
    ] {
        assert_eq!(steps(code, raw), expected, "{code} {raw}");
    }
}

/// A reading that was chosen over another says over which.
#[test]
fn chosen_reading_says_what_it_beat() {
    for (code, raw, chosen, over) in [
        ("DE", "4917612345678", "country code 49", "not a national number"),
        ("AT", "442079460018", "country code 44", "not a national number"),
        ("IN", "12018010233", "country code 1 ", "not a national number"),
        (
            "US",
            "6591234567",
            "read as a national number of US",
            "chosen over a number of country code 65 without its plus sign",
        ),
        ("MX", "1 670 234 5853", "country code 1 ", "chosen over a national number of MX"),
    ] {
        let told = steps(code, raw);

        assert!(told.contains(chosen) && told.contains(over), "{code} {raw}: {told}");
    }
    for (code, raw) in [("US", "(310) 555-1234"), ("US", "3108675309"), ("GB", "020 7946 0018"), ("DE", "030 1234567")]
    {
        assert!(!steps(code, raw).contains("chosen over"), "{code} {raw}: {}", steps(code, raw));
    }
}

#[test]
fn missing_key_is_explained_in_words() {
    for (code, raw, expected) in [
        ("US", "867-5309", "too short for US, local only: could be anybody's"),
        ("GB", "+44 207", "too short for +44"),
        ("US", "011 44 207", "too short for +44"),
        ("US", "+1 867-5309", "too short for +1, local only: could be anybody's"),
        ("US", "310 867 5309 1234", "too long for US"),
        ("", "310 867 5309", "no country code and no region"),
        ("US", "+999 123 456 789", "unknown country code"),
        ("US", "ask for Bob", "no digits"),
        ("US", "", "no digits"),
        ("US", "999-999-9999", "a filler"),
        ("US", "123-456-7890", "a filler"),
        ("US", "12/03/2021", "a date or an IP address"),
        ("US", "192.168.1.10", "a date or an IP address"),
        ("GB", "0086282452253", "a withheld caller's keypad digits"),
        ("GB", "sip:anonymous@anonymous.invalid", "taken out of the SIP address; a withheld caller's word"),
        ("US", "+266696687", "a withheld caller's keypad digits"),
    ] {
        assert_eq!(steps(code, raw), expected, "{code} {raw}");
    }
    assert_eq!(steps("US", &"1".repeat(RAW_LENGTH_MAX + 1)), "longer than 250 bytes");
}

#[test]
fn debug_shows_no_extension() {
    let debug = format!("{:?}", explain("310 555 1234 ext 4711", Some(Region::parse("US").unwrap())));

    assert!(!debug.contains("4711"), "{debug}");
}
