use proptest::prelude::*;

use crate::*;

fn region(code: &str) -> Region {
    Region::parse(code).unwrap()
}

/// The reading in the form of the command line: keys joined by a comma, then the first extension.
fn show(reading: &Reading) -> String {
    let keys: Vec<_> = reading.numbers().map(|number| number.key.e164()).collect();
    let extension = reading.first().and_then(|number| number.extension.clone());
    match reading {
        Reading::Withheld => "withheld".to_owned(),
        Reading::Unparseable => "-".to_owned(),
        Reading::Numbers(_) => keys.join(",") + &extension.map_or_else(String::new, |digits| format!(" x{digits}")),
    }
}

fn read_in(code: &str, raw: &str) -> String {
    show(&read(raw, (!code.is_empty()).then(|| region(code))))
}

#[track_caller]
fn assert_readings(rows: &[(&str, &str, &str)]) {
    for (code, raw, expected) in rows {
        assert_eq!(read_in(code, raw), *expected, "{code} {raw:?}");
    }
}

/// A number as typed by people meets the number as sent by carriers.
#[test]
fn typed_number_meets_number_sent_by_carrier() {
    let spellings = [
        "(310)-867-5309",
        "310.867.5309",
        "3108675309",
        "1 310 867 5309",
        "+1 310 867 5309",
        "+13108675309",
        "011 1 310 867 5309",
        "tel:+1-310-867-5309",
        "sip:+13108675309@10.0.0.7;user=phone",
        "\"Bryce\" <sip:3108675309@pbx.example:5060>;tag=1",
        "3108675309.0",
        "Tel: (310) 867-5309",
        "310-867-5309 (mobile)",
        "310-867-5309 ask for Bryce",
        "310 867 5309 x12",
        "+1 (310) 867‑5309",
        "３１０-８６７-５３０９",
        "\u{200e}+1 310 867 5309\u{202c}",
        "<+13108675309>",
        "%2B13108675309@host",
        "0013108675309",
    ];
    let called = read("+13108675309", None).first().unwrap().key;

    for raw in spellings {
        assert_eq!(read(raw, Some(region("US"))).first().map(|number| number.key), Some(called), "{raw:?}");
    }
}

#[test]
fn what_is_no_number_gives_no_key() {
    assert_readings(&[
        ("US", "", "-"),
        ("US", "867-5309", "-"),
        ("GB", "112", "-"),
        ("DE", "999", "-"),
        ("US", "*67", "-"),
        ("US", "12/03/2021", "-"),
        ("GB", "2021-03-12", "-"),
        ("US", "192.168.1.10", "-"),
        ("US", "$1,200.00", "-"),
        ("IT", "3.10868E+09", "-"),
        ("FI", "3.10868E+09", "-"),
        ("DK", "since 2021-03-12 000", "-"),
        ("WF", "x12 192.168.1.10 old", "-"),
        ("AT", "192.168.1.10 until 4.47", "-"),
        ("US", "bob2079460018@example.com", "-"),
        ("GB", "sip:bob2079460018@example.com", "-"),
        ("US", "sip:100@192.168.1.10", "-"),
        ("US", "room 12, second floor", "-"),
        ("", "310 867 5309", "-"),
        ("", "0044 20 7946 0018", "-"),
    ]);
}

#[test]
fn fillers_give_no_key() {
    assert_readings(&[
        ("BE", "0000000000", "-"),
        ("US", "999-999-9999", "-"),
        ("US", "+1 555 555 5555", "-"),
        ("FR", "+33 1 11 11 11 11", "-"),
        ("RU", "+10000000000", "-"),
        ("IN", "1234567890", "-"),
        ("DE", "123-456-7890", "-"),
        // The same digits with a prefix are somebody's number.
        ("AT", "01 234567890", "+431234567890"),
    ]);
}

#[test]
fn hidden_callers_are_withheld_and_never_a_key() {
    assert_readings(&[
        ("US", "Anonymous", "withheld"),
        ("US", "PRIVATE NUMBER", "withheld"),
        ("US", "Out of Area", "withheld"),
        ("US", "P", "withheld"),
        ("ES", "Número oculto", "withheld"),
        ("JP", "非通知", "withheld"),
        ("GB", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1", "withheld"),
        ("GB", "anonymous@anonymous.invalid", "withheld"),
        ("GB", "sip:restricted@10.0.0.1", "withheld"),
        ("CN", "+86282452253", "withheld"),
        ("CN", "+86 282 452 253", "withheld"),
        ("CN", "sip:+86282452253@host", "withheld"),
        ("US", "+266696687", "withheld"),
        ("US", "+7378742833", "withheld"),
        ("US", "+8656696", "withheld"),
        ("US", "+2562533", "withheld"),
        ("GB", "0086282452253", "-"),
        // Without a plus sign it is a number in Texas.
        ("US", "7378742833", "+17378742833"),
        ("US", "none", "-"),
        ("US", "unknown company", "-"),
        ("US", "private 310 867 5309", "+13108675309"),
    ]);
}

#[test]
fn several_numbers_of_a_field_are_read_apart() {
    assert_readings(&[
        ("GB", "020 7946 0018 / 07700 900123", "+442079460018,+447700900123"),
        ("GB", "020 7946 0018 or 07700 900123 or +1 310 867 5309", "+442079460018,+447700900123,+13108675309"),
        ("GB", "020 7946 0018 (office), 07700 900123 (Mary)", "+442079460018,+447700900123"),
        ("DE", "030 1234567 / 030 1234568", "+49301234567,+49301234568"),
        ("GB", "020 7946 0018; 020 7946 0018", "+442079460018"),
        ("DE", "030/1234567", "+49301234567"),
        ("US", "310-867-5309, 4567", "+13108675309 x4567"),
        ("US", "310-867-5309,,4567", "+13108675309 x4567"),
        ("GB", "+44 20 7946 0018 +1 310 867 5309", "+442079460018,+13108675309"),
        ("GB", "020 7946 0018 / n/a", "+442079460018"),
        ("GB", "020 7946 0018/19", "+442079460018"),
        ("GB", "Line 2: +1 310 867 5309", "+13108675309"),
        ("GB", "2nd floor +1 310 867 5309", "+13108675309"),
        ("CK", "71 997, ext 75410", "+68271997 x75410"),
    ]);
}

#[test]
fn remarks_are_cut_off_and_vanity_numbers_kept() {
    assert_readings(&[
        ("US", "1-800-FLOWERS", "+18003569377"),
        ("US", "310 867 5309 FLOWERS", "+13108675309"),
        ("DE", "030 123456 privat", "+4930123456"),
        ("FR", "+593 99 123 4598 after 5pm", "+593991234598"),
        ("GB", "020 7946 0018 2nd line", "+442079460018"),
        ("HK", "+852 800 123 185 (24h)", "+852800123185"),
        ("US", "310 867 5309 (9-5)", "+13108675309"),
        ("US", "310 867 5309 called 12/03/2021", "+13108675309"),
        ("US", "310 867 5309 ext 12 mobile", "+13108675309 x12"),
    ]);
}

#[test]
fn extension_stays_beside_the_key() {
    assert_readings(&[
        ("US", "310 867 5309 ext. 12", "+13108675309 x12"),
        ("FR", "06 12 34 56 75 poste 703", "+33612345675 x703"),
        ("JP", "03-1234-5678 内線1394", "+81312345678 x1394"),
        ("US", "310 867 5309 ext no 5428", "+13108675309 x5428"),
        ("US", "310 867 5309p1430", "+13108675309 x1430"),
        // The digits of an extension are never the end of a number.
        ("US", "310867p5309", "-"),
        ("US", "+1310867p5309", "-"),
        ("US", "Tel: 310867 p 5309", "-"),
        ("DZ", "+213 5512 9414p8", "+21355129414 x8"),
        ("SH", "p 22671", "+29022671"),
        ("US", "sip:+13108675309;ext=12;npdi@host", "+13108675309 x12"),
    ]);
}

#[test]
fn another_countrys_way_to_dial_is_understood() {
    assert_readings(&[
        ("US", "00 44 20 7946 0018", "+442079460018"),
        ("DE", "011 44 20 7946 0018", "+442079460018"),
        ("US", "0011 44 20 7946 0018", "+442079460018"),
        ("US", "44 20 7946 0018", "+442079460018"),
        ("US", "442079460018", "+442079460018"),
        // Turin, not a call abroad.
        ("IT", "011 123 4567", "+390111234567"),
        // 001 36 Hungary or 00 136 America: nobody knows.
        ("BR", "0013612345678", "-"),
    ]);
}

#[test]
fn mexicos_old_prefixes_fall_away() {
    assert_readings(&[
        ("MX", "+52 1 55 1234 5678", "+525512345678"),
        ("MX", "044 55 1234 5678", "+525512345678"),
        ("MX", "01 55 1234 5678", "+525512345678"),
        ("US", "+5215512345678", "+525512345678"),
        ("MX", "55 1234 5678", "+525512345678"),
    ]);
}

#[test]
fn different_numbers_stay_different() {
    assert_ne!(read_in("IT", "+39 06 1234 5678"), read_in("IT", "+39 6 1234 5678"));
    assert_ne!(read_in("AR", "+54 9 11 2345 6789"), read_in("AR", "+54 11 2345 6789"));
    assert_ne!(read_in("DE", "030 123456-0"), read_in("DE", "030 123456"));
}

#[test]
fn text_beyond_the_limit_is_unparseable() {
    let padding = " ".repeat(RAW_LENGTH_MAX - "+13108675309".len());

    assert_eq!(read_in("US", &format!("+13108675309{padding}")), "+13108675309");
    assert_eq!(read_in("US", &format!("+13108675309{padding} ")), "-");
}

#[test]
fn known_panic_of_the_library_is_no_number() {
    for raw in [
        ";phone-context=x;tel:",
        "1;phone-context=+1;tel:2",
        "a;phone-context=tel:",
        ";phone-context=+44;tel:020 7946 0018",
    ] {
        assert_eq!(read_in("US", raw), "-", "{raw}");
    }
}

#[test]
fn key_is_a_positive_bigint() {
    for value in [1, 13_108_675_309, PhoneKey::MAX] {
        assert_eq!(PhoneKey::try_from_i64(value).unwrap().as_i64(), value);
    }
    for value in [0, -1, i64::MIN] {
        assert_eq!(PhoneKey::try_from_i64(value), Err(InvalidPhoneKey));
    }
    assert_eq!(PhoneKey::try_from_i64(13_108_675_309).unwrap().e164(), "+13108675309");
}

#[test]
fn debug_shows_no_number() {
    let debug = format!("{:?}", read("310 867 5309 ext 4711", Some(region("US"))));

    assert!(!debug.contains("867") && !debug.contains("4711"), "{debug}");
}

#[test]
fn region_is_a_country_with_a_plan() {
    assert_eq!(region("us").as_str(), "US");
    assert_eq!(serde_json::to_string(&region("XK")).unwrap(), "\"XK\"");
    assert_eq!(serde_json::from_str::<Region>("\"de\"").unwrap(), region("DE"));
    for code in ["", "U", "USA", "ZZ", "QQ", "EU", "U1", "ÜS", "001"] {
        assert_eq!(Region::parse(code), Err(UnknownRegion), "{code}");
    }
}

#[test]
fn warm_up_reads_every_country() {
    warm_up();
}

/// Valid numbers of the world: an example number of a region with its last digits changed.
fn numbers() -> impl Strategy<Value = (Region, rlibphonenumber::PhoneNumber)> {
    let mut regions: Vec<_> = rlibphonenumber::PHONE_NUMBER_UTIL.get_supported_regions().collect();
    regions.sort();
    (prop::sample::select(regions), any::<bool>(), 0..10_000_u64).prop_filter_map(
        "a region without such an example",
        |(plan, is_mobile, tail)| {
            use rlibphonenumber::PhoneNumberType::{FixedLine, Mobile};
            let kind = if is_mobile { Mobile } else { FixedLine };
            let example = rlibphonenumber::PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(plan, kind).ok()?;
            let mut number = example.clone();
            number.national_number = example.national_number / 10_000 * 10_000 + tail;
            let number = if number.is_valid() { number } else { example };
            // 111111111 is assigned in Ethiopia, and a filler everywhere.
            let digits = number.national_number.to_string();
            let is_filler = digits.bytes().all(|digit| digit == digits.as_bytes()[0]);
            (!is_filler).then_some(())?;
            Some((Region::parse(&plan.as_region_str()).unwrap(), number))
        },
    )
}

/// A deterministic case count, and no files beside the sources.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn spellings_of_a_number_give_one_key((home, number) in numbers()) {
        use rlibphonenumber::PhoneNumberFormat::{E164, International, National, RFC3966};
        let e164 = number.format_as(E164).into_owned();
        let international = number.format_as(International).into_owned();
        let national = number.format_as(National).into_owned();
        let spellings = [
            e164.clone(),
            international.clone(),
            national.clone(),
            number.format_as(RFC3966).into_owned(),
            format!("sip:{e164}@gw1.carrier.example;user=phone"),
            format!("\"3rd Floor 22\" <sip:{e164};npdi@10.0.0.7:5060>;tag=1"),
            format!("{national} (mobile)"),
            format!("{international} - ask for Bob"),
            format!("{international} poste 703"),
            international.replace(' ', "\u{a0}"),
            format!("Tel.: {international}"),
        ];

        for raw in spellings {
            let reading = read(&raw, Some(home));
            prop_assert_eq!(reading.numbers().count(), 1, "{}", raw);
            prop_assert_eq!(reading.first().unwrap().key.e164(), e164.clone(), "{}", raw);
        }
    }

    /// A key that is read again is the same key, in every region.
    #[test]
    fn rereading_key_gives_same_key_everywhere((_, number) in numbers(), (elsewhere, _) in numbers()) {
        let e164 = number.format_as(rlibphonenumber::PhoneNumberFormat::E164).into_owned();

        for region in [Some(elsewhere), None] {
            let reading = read(&e164, region);
            prop_assert_eq!(reading.first().map(|number| number.key.e164()), Some(e164.clone()));
        }
    }

    #[test]
    fn reading_never_panics_and_repeats(raw in any::<String>(), (home, _) in numbers()) {
        prop_assert_eq!(read(&raw, Some(home)), read(&raw, Some(home)));
        read(&raw, None);
    }

    #[test]
    fn reading_of_phone_like_text_never_panics(
        raw in "([0-9+＋٣３;:,/|&()<>@\\[\\]\"*#~xXpP. \u{200b}\u{ad}-]|tel:|sip:|;phone-context=|;ext=|;isub=| or |ext|poste|内線|Bob|é|\\.0){0,40}",
        (home, _) in numbers(),
    ) {
        let reading = read(&raw, Some(home));
        for number in reading.numbers() {
            prop_assert_eq!(PhoneKey::try_from_i64(number.key.as_i64()), Ok(number.key));
        }
    }
}
