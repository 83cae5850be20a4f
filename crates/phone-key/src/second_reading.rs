//! Second readings for numbers that make no sense where they were written: another country's
//! dialling prefix, a lost plus sign, signs that no plan knows, and what a spreadsheet makes of a
//! number.
//!
//! Invariant: a second reading must be a valid number, and the first must not be.

use crate::derivations::Derivation;
use crate::library::{NumberCandidate, OPEN_LENGTHS_MIN};
use crate::{Region, library, national, text};

/// Prefixes of international calls, longest first. Those of a region itself are the library's
/// business.
const DIALLING_PREFIXES: &[&str] = &["0011", "001", "011", "010", "00"];
/// Fewer digits are not read as an international number that lost its plus sign: a local number
/// looks the same.
const LOST_PLUS_DIGITS_MIN: usize = 9;
/// The country code of the US, Canada and the Caribbean.
const NORTH_AMERICA: u16 = 1;
/// 1 and a national number of North America.
const OUTSIDE_DIGITS: usize = 11;
/// As many digits before a plus sign may be a number of their own.
const LATE_PLUS_DIGITS_MAX: usize = 6;
/// Digits of a number that a spreadsheet made a fraction.
const FRACTION_DIGITS: std::ops::RangeInclusive<usize> = 4..=17;

/// Whether the text begins as a call abroad does, in some country.
pub(crate) fn has_dialling_prefix(number: &str) -> bool {
    let mut digits = number.chars().filter(|c| c.is_alphanumeric());
    digits.next() == Some('0')
        && match digits.next() {
            Some('0') => true,
            Some('1') => matches!(digits.next(), Some('0' | '1')),
            _ => false,
        }
}

/// "00 44 …" where one dials 011, "011 44 …" where one dials 00. Nothing if two prefixes give two
/// numbers: 001 36 is Hungary from Singapore, 00 136 America from Europe.
pub(crate) fn after_dialling_prefix(number: &str) -> Option<NumberCandidate> {
    let mut readings = DIALLING_PREFIXES
        .iter()
        .filter_map(|prefix| text::strip_digits(number, prefix))
        .filter_map(|rest| NumberCandidate::read(&international(rest)?, None).filter(NumberCandidate::is_valid));
    let reading = readings.next()?.derived(Derivation::ForeignDiallingPrefix);
    readings.all(|other| other.key() == reading.key()).then_some(reading)
}

/// "44 20 7946 0018" outside of Britain.
pub(crate) fn after_lost_plus(number: &str) -> Option<NumberCandidate> {
    if text::count_digits(number) < LOST_PLUS_DIGITS_MIN || is_doubtful(number) {
        return None;
    }
    let reading = NumberCandidate::read(&international(number)?, None)
        .filter(NumberCandidate::is_valid)?
        .derived(Derivation::LostPlus);
    if is_grouped_otherwise(number, &reading) {
        return None;
    }
    // Where 800 begins a free number at home, nobody means the world's +800.
    if !reading.is_of_a_country() {
        return None;
    }
    // Letters are an extension here or no part of a number.
    if reading.has_extension() {
        return Some(reading);
    }
    // A prefix that only falls away in this reading is no evidence for it, unless it is marked as
    // one.
    let is_exact = number.contains("(0)") || text::ascii_digits(number).is_some_and(|digits| reading.key().is(digits));
    (is_exact && !number.contains(char::is_alphabetic)).then_some(reading)
}

/// "Line 2: +44 20 7946 0018": the number after the last plus sign, behind digits too few to be
/// another number.
pub(crate) fn after_late_plus(number: &str) -> Option<NumberCandidate> {
    let at = number.rfind(['+', '＋']).filter(|&at| at > 0)?;
    let before = &number[..at];
    // A plus sign that follows a letter is that of 3.10868E+09.
    if text::count_digits(before) >= LATE_PLUS_DIGITS_MAX || before.ends_with(char::is_alphabetic) {
        return None;
    }
    Some(NumberCandidate::read(&number[at..], None).filter(NumberCandidate::is_valid)?.derived(Derivation::LatePlus))
}

/// "+07700 900123", "+3108675309" in the US: a plus sign before a national number, which no country
/// code explains.
pub(crate) fn after_stray_plus(number: &str, home: Region) -> Option<NumberCandidate> {
    let national = number.trim_start_matches(['+', '＋']);
    let is_national = if national::has_trunk(home) {
        national::shows_trunk(national, home)
    } else {
        library::lengths(home) < OPEN_LENGTHS_MIN
    };
    if text::has_plus(national) || national.len() == number.len() || !is_national {
        return None;
    }
    let reading =
        NumberCandidate::read(national, Some(home)).filter(|reading| reading.is_of(home) && reading.is_valid())?;
    Some(reading.derived(Derivation::StrayPlus))
}

/// "9-1-712-555-1234" in North America: 9 or 8 for an outside line, 1, and ten digits.
pub(crate) fn after_outside_line(number: &str, home: Region) -> Option<NumberCandidate> {
    let rest = number.strip_prefix(['8', '9'])?.trim_start_matches(['-', ' ', ',', '.']);
    if library::country_code(home) != Some(NORTH_AMERICA) || !rest.starts_with('1') {
        return None;
    }
    let reading =
        NumberCandidate::read(rest, Some(home)).filter(|reading| reading.is_of(home) && reading.is_valid())?;
    (text::count_digits(rest) == OUTSIDE_DIGITS).then(|| reading.derived(Derivation::OutsideLine))
}

/// Whether the groups of digits contradict a country code in front: its digits are parted, or the
/// groups are those of North America.
fn is_grouped_otherwise(number: &str, reading: &NumberCandidate) -> bool {
    let mut groups = number.split(|c: char| !c.is_numeric()).map(str::len).filter(|&digits| digits > 0);
    let code_digits = if reading.country_code() < 10 {
        1
    } else if reading.country_code() < 100 {
        2
    } else {
        3
    };
    let is_of = |expected: [usize; 3]| groups.clone().eq(expected);
    is_of([3, 3, 4]) || groups.next().is_some_and(|digits| digits < code_digits)
}

/// Whether signs are there that dates, amounts, remarks and area codes have, and numbers in
/// international form do not.
fn is_doubtful(number: &str) -> bool {
    let opens_late = number.find(')').is_some_and(|close| !number[..close].contains('('));
    opens_late
        || number.ends_with(')')
        || number.contains(['/', ',', ':'])
        || number.contains('.') && number.contains('-')
        || text::has_date_or_address(number)
}

/// Reads again without invisible characters, and with a blank for each separator that the library
/// does not know.
pub(crate) fn without_odd_signs(number: &str, region: Option<Region>) -> Option<NumberCandidate> {
    let mut plain = String::with_capacity(number.len());
    let mut has_odd = false;
    for c in number.chars() {
        if is_invisible(c) {
            has_odd = true;
        } else if is_odd_separator(c) {
            has_odd = true;
            plain.push(' ');
        } else {
            plain.push(c);
        }
    }
    if !has_odd {
        return None;
    }
    Some(NumberCandidate::read(&plain, region).filter(NumberCandidate::is_valid)?.derived(Derivation::OddSigns))
}

/// The number before the ".0" of a spreadsheet, if the text is one run of digits and that.
pub(crate) fn before_fraction(text: &str) -> Option<&str> {
    let (number, zeros) = text::from_first_digit(text)?.rsplit_once('.')?;
    let digits = number.strip_prefix('+').unwrap_or(number);
    let is_fraction = !zeros.is_empty()
        && zeros.bytes().all(|byte| byte == b'0')
        && FRACTION_DIGITS.contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction.then_some(number)
}

/// The text with a plus sign before its first digit, unless that is a 0, which begins no country
/// code.
fn international(number: &str) -> Option<String> {
    let digits = number.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '+');
    digits.starts_with(|c: char| c.is_numeric() && c != '0').then(|| format!("+{digits}"))
}

/// Whether the character may stand between the digits of one number, and says nothing.
pub(crate) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '.' | '(' | ')' | '[' | ']' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}')
        || is_invisible(c)
        || is_odd_separator(c) && !text::is_between_numbers(c)
}

/// Characters without a picture that come with copied text (Unicode Cf,
/// `Default_Ignorable_Code_Point`).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffc}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Blanks (Zs), dashes (Pd) and dots beyond those of the library. Not the colon: it makes a number
/// of a time of day.
fn is_odd_separator(c: char) -> bool {
    c.is_whitespace() && c != ' '
        || matches!(
            c,
            '\u{58a}'
                | '\u{5be}'
                | '\u{1806}'
                | '\u{2e3a}'
                | '\u{2e3b}'
                | '\u{301c}'
                | '\u{3030}'
                | '\u{fe31}'
                | '\u{fe32}'
                | '\u{fe58}'
                | '\u{fe63}'
        )
        || matches!(c, '·' | '•' | '․' | '‧' | '・' | '。' | '_' | '\'' | '’' | '‘' | '`' | '´' | '…')
}
