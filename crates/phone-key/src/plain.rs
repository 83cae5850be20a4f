//! One number without remarks: the library's reading, or a second one.
//!
//! Invariant: the library's reading stands if it is a possible number, unless another reading is
//! valid and has better evidence; where the library sees nothing, only a reading that proves itself
//! counts.

use crate::derivations::Derivation;
use crate::library::{ABROAD_LENGTHS_MIN, BARE_DIGITS_MAX, BARE_LENGTHS_MIN, NumberCandidate, OPEN_LENGTHS_MIN};
use crate::text::{self, TextShape};
use crate::{Region, extension, library, national, second_reading};

/// One number, perhaps with a word that announces an extension, but without remarks.
pub(crate) fn read_with_extension(text: &str, region: Option<Region>) -> Option<NumberCandidate> {
    read_foreign_extension(text, region).or_else(|| read(text, region))
}

pub(crate) fn read_foreign_extension(text: &str, region: Option<Region>) -> Option<NumberCandidate> {
    let (number, digits) = extension::split(text)?;
    if TextShape::of(number).has_letters {
        return None;
    }
    let mut candidate = read(number, region).filter(|candidate| !candidate.has_extension())?;
    candidate.set_extension(digits);
    Some(candidate)
}

/// One number without words: the library's reading, or a second one if that is none or a worse one.
pub(crate) fn read(text: &str, region: Option<Region>) -> Option<NumberCandidate> {
    if let Some(number) = second_reading::before_fraction(text) {
        return read_fraction(text, number, region);
    }
    let number = text::from_first_digit(text)?;
    if text::is_keyboard_filler(number) || text::is_date(number) || text::is_private_address(number) {
        return None;
    }
    if let Some((number, digits)) = extension::split_star(text)
        && let Some(mut candidate) = read(number, region).filter(|it| it.is_valid() && !it.has_extension())
    {
        candidate.set_extension(digits);
        return Some(candidate);
    }
    let reading = NumberCandidate::read(text, region);
    let Some(home) = region else {
        return reading.or_else(|| second_reading::without_odd_signs(number, region));
    };
    if second_reading::has_dialling_prefix(number)
        && reading.as_ref().is_none_or(|reading| reading.is_of(home) && !reading.is_valid())
        && let Some(abroad) = second_reading::after_dialling_prefix(number)
    {
        return Some(abroad);
    }
    // "1 670 234 5853" in Mexico: Mexico's own old prefix, or America without its plus sign.
    if number.starts_with('1') && reading.as_ref().is_some_and(NumberCandidate::had_mexican_prefix) {
        return second_reading::after_lost_plus(number).or(reading);
    }
    match reading {
        // Of a valid number the dropped 0 is a trunk prefix: +44 (020).
        Some(reading) if number.starts_with(['+', '＋']) => {
            if reading.has_all_digits_of(number) || reading.is_valid() {
                return Some(reading);
            }
            second_reading::after_stray_plus(number, home).or(Some(reading))
        }
        Some(reading) => read_at_home(reading, number, home),
        None => second_reading::without_odd_signs(number, region)
            .or_else(|| second_reading::after_lost_plus(number))
            .or_else(|| second_reading::after_outside_line(number, home))
            .or_else(|| second_reading::after_stray_plus(number, home)),
    }
}

/// What the library reads as a number of the region, or of a call abroad from there. In plans of
/// many lengths nearly any digits are one.
fn read_at_home(reading: NumberCandidate, number: &str, home: Region) -> Option<NumberCandidate> {
    let is_shown = national::shows_trunk(number, home);
    if is_shown && (national::has_trunk(home) || reading.is_valid()) || !reading.is_of(home) {
        return Some(reading);
    }
    let lengths = library::lengths(home);
    let is_valid = reading.is_valid();
    let may_be_abroad = !is_valid || lengths >= OPEN_LENGTHS_MIN && !is_shown && reading.may_be_of_a_place();
    if lengths >= ABROAD_LENGTHS_MIN
        && let Some(other) = second_reading::after_lost_plus(number)
        && (may_be_abroad || !is_shown && other.is_of(home))
    {
        return Some(other.derived(Derivation::NotNational));
    }
    let is_bare = lengths >= BARE_LENGTHS_MIN && reading.national_digits() <= BARE_DIGITS_MAX;
    let is_odd = text::has_date_or_address(number);
    (is_valid && (is_shown || !is_odd) || !is_bare && !is_odd).then_some(reading)
}

/// "3105551234.0": the zero is not dialled, unless only with it the number is valid (a stray full
/// stop before it). A spreadsheet that writes fractions writes no plus sign, so behind one the zero
/// counts first.
fn read_fraction(text: &str, number: &str, region: Option<Region>) -> Option<NumberCandidate> {
    let stem = read(number, region).map(|stem| stem.derived(Derivation::Fraction));
    if !number.starts_with('+') && stem.as_ref().is_some_and(NumberCandidate::is_valid) {
        return stem;
    }
    NumberCandidate::read(text, region).filter(NumberCandidate::is_valid).or(stem)
}
