//! Main lines of organisations whose extensions are dialled through: "030 123456-0" is the
//! switchboard, and whoever calls from there shows "030 123456-789".
//!
//! Only in plans where the length of a number is open. A hit names the organisation, never a
//! person.

use crate::PhoneKey;
use crate::country_split::CountrySplit;
use crate::library;

const GERMANY: u16 = 49;
const AUSTRIA: u16 = 43;
/// Digits of an extension at most; more would make neighbours of strangers.
const EXTENSION_DIGITS_MAX: usize = 3;
/// Digits of a main line at least, area code included: 1 4000 in Vienna.
const MAIN_LINE_DIGITS_MIN: usize = 5;

/// A key under which the main line of a caller's organisation may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrgPrefix {
    /// Never the caller's own.
    pub key: PhoneKey,
    /// The last digit is the switchboard's 0, so the stored text must show it as such:
    /// [`is_switchboard`].
    pub is_switchboard: bool,
}

/// Keys under which the main line may be stored, longest first: the caller's without its last 1 to
/// 3 digits, and the same with a 0 behind. None outside of plans with open lengths, and none of a
/// number that is not of a fixed line: mobiles have no extensions.
pub fn org_prefixes(key: PhoneKey) -> Vec<OrgPrefix> {
    let Some(parts) = CountrySplit::of(key).filter(|parts| matches!(parts.code(), GERMANY | AUSTRIA)) else {
        return Vec::new();
    };
    if !(library::is_fixed_line(key) || is_austrian_company(&parts)) {
        return Vec::new();
    }
    let national = parts.national();
    let mut prefixes = Vec::<OrgPrefix>::with_capacity(2 * EXTENSION_DIGITS_MAX);
    let mut add = |national: &str, is_switchboard| {
        let Some(prefix) = parts.with_national(national).filter(|&prefix| prefix != key) else {
            return;
        };
        // A main line that ends in 0 needs no switchboard's proof.
        if prefixes.iter().all(|known| known.key != prefix) {
            prefixes.push(OrgPrefix { key: prefix, is_switchboard });
        }
    };
    let main_lines = (0..=EXTENSION_DIGITS_MAX)
        .filter_map(|missing| national.len().checked_sub(missing))
        .take_while(|&length| length >= MAIN_LINE_DIGITS_MIN);
    for length in main_lines {
        if length < national.len() {
            add(&national[..length], false);
        }
        if length > MAIN_LINE_DIGITS_MIN && length > national.len() - EXTENSION_DIGITS_MAX {
            add(&format!("{}0", &national[..length - 1]), true);
        }
    }
    prefixes
}

/// 05 and more in Austria: numbers of companies for the whole country, and of Tyrol. The metadata
/// calls some of them lines over the internet, as it does those of single persons elsewhere.
fn is_austrian_company(parts: &CountrySplit) -> bool {
    parts.code() == AUSTRIA && parts.national().starts_with('5')
}

/// Whether a stored text shows its last digit as the switchboard's: dashes or blanks, then a single
/// 0 at the end.
pub fn is_switchboard(raw: &str) -> bool {
    let is_dash = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}');
    raw.trim_end()
        .strip_suffix('0')
        .and_then(|line| line.strip_suffix(is_dash))
        .is_some_and(|line| line.trim_end_matches(is_dash).ends_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Region, read};

    fn prefixes(digits: i64) -> Vec<(i64, bool)> {
        org_prefixes(PhoneKey::try_from_i64(digits).unwrap())
            .iter()
            .map(|prefix| (prefix.key.as_i64(), prefix.is_switchboard))
            .collect()
    }

    /// A main line is up to three digits shorter, or ends in the switchboard's zero.
    #[test]
    fn main_line_is_shorter_or_ends_in_zero() {
        assert_eq!(
            prefixes(4_930_123_456_789),
            [
                (4_930_123_456_780, true),
                (493_012_345_678, false),
                (493_012_345_670, true),
                (49_301_234_567, false),
                (49_301_234_560, true),
                (4_930_123_456, false),
            ]
        );
    }

    /// A caller from an extension meets the switchboard as it is stored.
    #[test]
    fn extension_caller_meets_switchboard_as_stored() {
        let stored = "030 123456-0";
        let main_line = read(stored, Some(Region::parse("DE").unwrap())).first().unwrap().key;
        let caller = PhoneKey::try_from_i64(4_930_123_456_789).unwrap();

        let found = org_prefixes(caller).into_iter().find(|prefix| prefix.key == main_line).unwrap();

        assert!(found.is_switchboard && is_switchboard(stored));
    }

    /// A main line keeps five digits and is never the caller.
    #[test]
    fn main_line_keeps_five_digits_never_is_caller() {
        assert_eq!(prefixes(43_140_000), [(4_314_000, false)]);
        // The switchboard itself; 12345 may be its main line, 12345 with a 0 is a shorter one.
        assert_eq!(
            prefixes(4_930_123_450),
            [(493_012_345, false), (493_012_340, true), (49_301_234, false), (49_301_230, true), (4_930_123, false)]
        );
    }

    #[test]
    fn mobiles_and_closed_plans_have_no_main_line() {
        for digits in
            [4_915_112_345_678, 436_641_234_567, 498_001_234_567, 13_108_675_309, 442_079_460_018, 390_612_345_678, 49]
        {
            assert_eq!(prefixes(digits), [], "{digits}");
        }
        assert_ne!(prefixes(43_662_123_456), [], "Salzburg begins as mobiles do");
        assert_ne!(prefixes(43_501_001_234), [], "numbers of companies in all of Austria");
    }

    /// A switchboard is a single zero behind a dash or a blank.
    #[test]
    fn switchboard_is_single_zero_behind_dash_or_blank() {
        for raw in ["030 123456-0", "+49 30 123456 - 0", "030 123456 0", "030 123456\u{2013}0 ", "030/123456\u{2010}0"]
        {
            assert!(is_switchboard(raw), "{raw}");
        }
        for raw in ["030 1234560", "030 123456-00", "030 123456-10", "030 123456", "0", "-0", "030 123456 (0)", "x-0"] {
            assert!(!is_switchboard(raw), "{raw}");
        }
    }
}
