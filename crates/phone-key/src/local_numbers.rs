//! Numbers written without a country, and how a caller's key may have been written so: at home in
//! another region of the account, or without the area code.
//!
//! A store keeps [`local_digits`] beside such a text and finds it by the probes made here. Digits
//! without their zeros and signs say less than the text does, so every hit is proved on the text:
//! [`assumed_region`], [`is_suffix`].

use crate::country_split::CountrySplit;
use crate::{PhoneKey, RAW_LENGTH_MAX, Region, envelope, library, read, second_reading, text};

/// Digits written, leading zeros included. Fewer are a short code or an extension; more are several
/// numbers.
const DIGITS: std::ops::RangeInclusive<usize> = 4..=15;
/// Fewer digits at the end of a number are shared by too many callers.
const SUFFIX_DIGITS_MIN: usize = 7;
/// As many digits alike are typed to get past a form.
const FILLER_DIGITS_MIN: usize = 7;
/// Area codes have at most this many digits, trunk prefix included; before a slash.
const AREA_DIGITS_MAX: usize = 6;

/// Digits that people write before the national number at home and that the plan's own format does
/// not show: the 1 of long-distance calls in North America, Lithuania's old 8. Zeros need no
/// mention.
const UNSHOWN_TRUNK_PREFIXES: &[(u16, &[&str])] = &[(1, &["1"]), (52, library::MEXICAN_PREFIXES), (370, &["8"])];

/// The digits of a text written without a country, leading zeros dropped; 1 to 999,999,999,999,999.
///
/// `None` if the text names a country (a plus sign, a prefix of calls abroad), holds words, an
/// extension or several numbers, has fewer than 4 or more than 15 digits, or is a date, an address
/// or a filler.
pub fn local_digits(raw: &str) -> Option<i64> {
    written_digits(raw).as_deref().and_then(value)
}

/// Values of [`local_digits`] under which a number that is `key` in one of these regions may be
/// stored: the national number, and with what is dialled before it there. Regions of another
/// country code give none, others at most 4 each.
pub fn assumed_probes(key: PhoneKey, regions: &[Region]) -> Vec<i64> {
    let Some(parts) = CountrySplit::of(key) else {
        return Vec::new();
    };
    if !regions.iter().any(|&region| library::country_code(region) == Some(parts.code())) {
        return Vec::new();
    }
    // Regions that share a country code dial alike.
    let national = parts.national();
    let unshown = UNSHOWN_TRUNK_PREFIXES.iter().filter(|(code, _)| *code == parts.code());
    let mut probes: Vec<i64> = std::iter::once(national.to_owned())
        .chain(library::national_format(key))
        .chain(unshown.flat_map(|(_, prefixes)| *prefixes).map(|prefix| format!("{prefix}{national}")))
        .filter_map(|digits| value(&digits))
        .collect();
    probes.sort_unstable();
    probes.dedup();
    probes
}

/// The first of `regions` in which `raw`, written without a country, reads as `key` and nothing
/// else. None if the text is a number already, `stored`, that its own plan assigns: then it means
/// that one, and the likeness is chance.
pub fn assumed_region(raw: &str, stored: Option<PhoneKey>, key: PhoneKey, regions: &[Region]) -> Option<Region> {
    if stored.is_some_and(library::is_assigned) {
        return None;
    }
    let code = CountrySplit::of(key)?.code();
    written_digits(raw)?;
    regions.iter().copied().find(|&region| {
        library::country_code(region) == Some(code)
            && read(raw, Some(region)).numbers().map(|number| number.key).eq([key])
    })
}

/// Values of [`local_digits`] that are the last 7 or more digits of the caller's national number,
/// longest first; none if `key` has another country code than `region`.
pub fn suffix_probes(key: PhoneKey, region: Region) -> Vec<i64> {
    let Some(parts) = CountrySplit::of(key).filter(|parts| library::country_code(region) == Some(parts.code())) else {
        return Vec::new();
    };
    let national = parts.national();
    let starts = 0..=national.len().saturating_sub(SUFFIX_DIGITS_MIN);
    let mut probes: Vec<i64> = starts
        .map(|start| &national[start..])
        .filter(|suffix| suffix.len() >= SUFFIX_DIGITS_MIN)
        .filter_map(value)
        .collect();
    // A suffix that begins with 0 has the value of the next one.
    probes.dedup();
    probes
}

/// Whether all digits of `raw`, at least 7 and with the leading zeros, are the last digits of the
/// caller's national number, and the caller is of `region`'s country code.
pub fn is_suffix(raw: &str, key: PhoneKey, region: Region) -> bool {
    let Some(parts) = CountrySplit::of(key).filter(|parts| library::country_code(region) == Some(parts.code())) else {
        return false;
    };
    written_digits(raw).is_some_and(|digits| digits.len() >= SUFFIX_DIGITS_MIN && parts.national().ends_with(&digits))
}

/// The number that is stored for these digits.
fn value(digits: &str) -> Option<i64> {
    let value = digits.parse().ok().filter(|&value: &i64| value > 0);
    value.filter(|_| DIGITS.contains(&digits.len()))
}

/// All digits of a text that is one number without a country, as ASCII.
fn written_digits(raw: &str) -> Option<String> {
    if raw.len() > RAW_LENGTH_MAX {
        return None;
    }
    let unwrapped = envelope::open(raw);
    let number = envelope::strip_scheme(&unwrapped, "tel:").unwrap_or(&unwrapped);
    let number = second_reading::before_fraction(number).unwrap_or(number);
    let is_plain = number.chars().all(|c| c.is_numeric() || second_reading::is_separator(c) || c == '/');
    if !is_plain || text::has_date_or_address(number) || !is_one_number(number) {
        return None;
    }
    let digits = library::digits(number);
    let names_country = digits.starts_with("00")
        || second_reading::has_dialling_prefix(number) && second_reading::after_dialling_prefix(number).is_some();
    (DIGITS.contains(&digits.len()) && !names_country && !is_filler(&digits)).then_some(digits)
}

/// "030/1234567" is one number: an area code before the only slash, and more behind it.
/// "867-5309/867-5310" is two.
fn is_one_number(number: &str) -> bool {
    let Some((area, subscriber)) = number.split_once('/') else {
        return true;
    };
    let area_digits = text::count_digits(area);
    !subscriber.contains('/') && area_digits <= AREA_DIGITS_MAX && area_digits < text::count_digits(subscriber)
}

fn is_filler(digits: &str) -> bool {
    let are_alike = digits.len() >= FILLER_DIGITS_MIN && digits.bytes().all(|digit| digits.as_bytes()[0] == digit);
    are_alike || text::is_keyboard_filler(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digits: i64) -> PhoneKey {
        PhoneKey::try_from_i64(digits).unwrap()
    }

    fn regions(codes: &[&str]) -> Vec<Region> {
        codes.iter().map(|code| Region::parse(code).unwrap()).collect()
    }

    fn region(code: &str) -> Region {
        Region::parse(code).unwrap()
    }

    /// Digits of a text without a country are kept without leading zeros and signs.
    #[test]
    fn countryless_digits_are_kept_without_zeros_and_signs() {
        for (raw, digits) in [
            ("867-5309", 8_675_309),
            (" (310) 867-5309 ", 3_108_675_309),
            ("020 7946 0018", 2_079_460_018),
            ("020\u{a0}7946\u{2011}0018", 2_079_460_018),
            ("\u{200e}020 7946 0018\u{202c}", 2_079_460_018),
            ("030/1234567", 301_234_567),
            ("3108675309.0", 3_108_675_309),
            ("tel:867-5309", 8_675_309),
            ("<sip:8675309@pbx.example>", 8_675_309),
            ("٠٢٠٧٩٤٦٠٠١٨", 2_079_460_018),
            // Turin and Seoul, though calls abroad begin so elsewhere.
            ("011 123 4567", 111_234_567),
            ("010-1234-5678", 1_012_345_678),
            ("4711", 4711),
        ] {
            assert_eq!(local_digits(raw), Some(digits), "{raw}");
        }
    }

    /// A text with a country, with words or with several numbers has no local digits.
    #[test]
    fn country_words_or_several_numbers_exclude_local_digits() {
        for raw in [
            "",
            "112",
            "+44 20 7946 0018",
            "＋442079460018",
            "(+1) 310 867 5309",
            "00 44 20 7946 0018",
            "011 44 20 7946 0018",
            "867-5309 x12",
            "867-5309 #12",
            "867-5309 (Bob)",
            "800-FLOWERS",
            "Anonymous",
            "867-5309, 867-5310",
            "867-5309/867-5310",
            "020 7946 0018/19",
            "020 7946 0018 07700 900123",
            "12/03/2021",
            "2021-03-12",
            "192.168.1.10",
            "$1200",
            "*67",
            "0000",
            "0000000",
            "9999999999",
            "123-456-7890",
            "-1234:5678",
        ] {
            assert_eq!(local_digits(raw), None, "{raw}");
        }
        assert_eq!(local_digits(&format!("867-5309{}", " ".repeat(RAW_LENGTH_MAX))), None);
    }

    /// Probes find what is stored as at home, and the text proves it.
    #[test]
    fn probes_find_numbers_stored_at_home() {
        for (code, raw, digits) in [
            ("US", "310-867-5309", 13_108_675_309),
            ("US", "1 310 867 5309", 13_108_675_309),
            ("GB", "020 7946 0018", 442_079_460_018),
            ("GB", "20 7946 0018", 442_079_460_018),
            ("RU", "8 (912) 345-67-89", 79_123_456_789),
            ("HU", "06 1 234 5678", 3_612_345_678),
            ("IT", "06 1234 5678", 390_612_345_678),
            ("AR", "011 15 2345-6789", 5_491_123_456_789),
            ("AR", "0351 15 612-3456", 5_493_516_123_456),
            ("BR", "(011) 98123-4567", 5_511_981_234_567),
            ("MX", "01 55 1234 5678", 525_512_345_678),
            ("MX", "044 55 1234 5678", 525_512_345_678),
            ("DE", "030/1234567", 49_301_234_567),
            ("LT", "8 612 34567", 37_061_234_567),
            ("JP", "03-1234-5678", 81_312_345_678),
        ] {
            let accounts = regions(&["CH", code]);
            let probes = assumed_probes(key(digits), &accounts);

            assert!(probes.contains(&local_digits(raw).unwrap()), "{code} {raw}");
            assert!(probes.len() <= 4, "{code} {raw}");
            assert_eq!(assumed_region(raw, None, key(digits), &accounts), Some(region(code)), "{code} {raw}");
        }
    }

    #[test]
    fn number_of_another_country_is_not_assumed() {
        let british = key(442_079_460_018);

        assert!(assumed_probes(british, &regions(&["US", "DE"])).is_empty());
        assert_eq!(assumed_region("020 7946 0018", None, british, &regions(&["US", "DE"])), None);
        // The same digits, another number at home.
        assert_eq!(assumed_region("020 7946 0019", None, british, &regions(&["GB"])), None);
        // In Italy the zero counts: Rome with it, nobody without.
        assert_eq!(assumed_region("6 1234 5678", None, key(390_612_345_678), &regions(&["IT"])), None);
        // A text that names its country is not assumed to be of one.
        assert_eq!(assumed_region("+44 20 7946 0018", None, british, &regions(&["GB"])), None);
        assert_eq!(assumed_region("44 20 7946 0018", None, british, &regions(&["US"])), None);
    }

    /// A number that its own plan assigns is not assumed to be of another.
    #[test]
    fn number_assigned_at_home_is_assumed_nowhere_else() {
        let german = key(493_108_675_309);
        let stored = |raw: &str| read(raw, Some(region("US"))).first().map(|number| number.key);

        let los_angeles = "(310) 867-5309";
        assert!(stored(los_angeles).is_some());
        assert_eq!(assumed_region(los_angeles, stored(los_angeles), german, &regions(&["DE"])), None);
        // Possible in America, and nobody's there.
        let berlin = "0301234567";
        assert!(stored(berlin).is_some());
        assert_eq!(assumed_region(berlin, stored(berlin), key(49_301_234_567), &regions(&["DE"])), Some(region("DE")));
    }

    /// Suffixes are seven digits and more, of the same country.
    #[test]
    fn suffixes_have_seven_digits_of_same_country() {
        let caller = key(13_108_675_309);

        assert_eq!(suffix_probes(caller, region("US")), [3_108_675_309, 108_675_309, 8_675_309]);
        assert!(suffix_probes(caller, region("GB")).is_empty());
        assert!(is_suffix("867-5309", caller, region("US")));
        assert!(is_suffix("08675309", caller, region("CA")));
        assert!(!is_suffix("867-5309", caller, region("GB")));
        assert!(!is_suffix("75309", caller, region("US")));
        assert!(!is_suffix("667-5309", caller, region("US")));
        assert!(!is_suffix("67 530 9 9", caller, region("US")));
        // A zero that the caller does not have.
        assert!(!is_suffix("0867 5309", key(13_118_675_309), region("US")));
        assert!(!is_suffix("+1 310 867 5309", caller, region("US")));
    }
}
