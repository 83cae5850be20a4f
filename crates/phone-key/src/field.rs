//! The order in which a field is read: the library first, then what it does not undo.
//!
//! Invariant: the library's reading stands if it is a possible number, unless another reading is valid and has better
//! evidence; where the library sees nothing, only a reading that proves itself counts.

use crate::library::Candidate;
use crate::marks::Mark;
use crate::text::{self, Shape};
use crate::{Region, extension, library, national, notes, reread, split};

/// Where numbers have as many lengths, one that the plan does not assign may be another country's.
pub(crate) const ABROAD_LENGTHS_MIN: u32 = 4;
/// A plan of as many lengths is open: without the 0 that is dialled there nearly any digits are a number, assigned or not. Germany has
/// 12, Austria 10, Britain 3.
pub(crate) const OPEN_LENGTHS_MIN: u32 = 6;
/// In a plan of as many lengths ..
pub(crate) const BARE_LENGTHS_MIN: u32 = 8;
/// .. as few digits, without the 0 that is dialled there and assigned to nobody, are an extension, an order number, a filler.
pub(crate) const BARE_DIGITS_MAX: usize = 6;

/// The numbers of a field, in the order written: at least one. One needs no heap.
pub(crate) struct Candidates {
    pub(crate) first: Candidate,
    pub(crate) others: Vec<Candidate>,
}

impl Candidates {
    pub(crate) fn one(first: Candidate) -> Self {
        Self { first, others: Vec::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The numbers of a field that was unwrapped and is not withheld.
pub(crate) fn read(text: &str, region: Option<Region>) -> Option<Candidates> {
    let shape = Shape::of(text);
    if (shape.has_letters || shape.has_separators)
        && let Some(numbers) = split::read(text, region)
    {
        return Some(numbers);
    }
    read_shaped(text, &shape, region)
        .or_else(|| reread::after_late_plus(text::from_first_digit(text)?))
        .map(Candidates::one)
}

/// One number with whatever stands around it.
pub(crate) fn read_one(text: &str, region: Option<Region>) -> Option<Candidate> {
    read_shaped(text, &Shape::of(text), region)
}

fn read_shaped(text: &str, shape: &Shape, region: Option<Region>) -> Option<Candidate> {
    if shape.has_letters && text::has_letter_for_digit(text) {
        return None;
    }
    if !shape.has_letters {
        let whole = read_plain(text, region);
        if text.ends_with([')', ']']) {
            return notes::cut_bracket(text, region, whole.as_ref()).or(whole);
        }
        return whole;
    }
    let spoken = read_foreign_extension(text, region);
    if spoken.as_ref().is_some_and(Candidate::is_valid) || extension::would_be_glued(text) {
        return spoken;
    }
    let whole = read_plain(text, region).or(spoken);
    if whole.as_ref().is_some_and(Candidate::has_extension) || has_own_parameters(text) {
        return whole;
    }
    notes::cut(text, region, whole.as_ref()).or(whole)
}

/// One number, perhaps with a word that announces an extension, but without remarks.
pub(crate) fn read_spoken(text: &str, region: Option<Region>) -> Option<Candidate> {
    read_foreign_extension(text, region).or_else(|| read_plain(text, region))
}

fn read_foreign_extension(text: &str, region: Option<Region>) -> Option<Candidate> {
    let (number, digits) = extension::split(text)?;
    if Shape::of(number).has_letters {
        return None;
    }
    let mut candidate = read_plain(number, region).filter(|candidate| !candidate.has_extension())?;
    candidate.set_extension(digits);
    Some(candidate)
}

/// One number without words: the library's reading, or a second one if that is none or a worse one.
fn read_plain(text: &str, region: Option<Region>) -> Option<Candidate> {
    if let Some(number) = reread::before_fraction(text) {
        return read_fraction(text, number, region);
    }
    let number = text::from_first_digit(text)?;
    if is_keyboard_filler(number) || text::is_date(number) || text::is_private_address(number) {
        return None;
    }
    if let Some((number, digits)) = extension::split_star(text)
        && let Some(mut candidate) = read_plain(number, region).filter(|it| it.is_valid() && !it.has_extension())
    {
        candidate.set_extension(digits);
        return Some(candidate);
    }
    let reading = Candidate::read(text, region);
    let Some(home) = region else {
        return reading.or_else(|| reread::without_odd_signs(number, region));
    };
    if reread::has_dialling_prefix(number)
        && reading.as_ref().is_none_or(|reading| reading.is_of(home) && !reading.is_valid())
        && let Some(abroad) = reread::after_dialling_prefix(number)
    {
        return Some(abroad);
    }
    // "1 670 234 5853" in Mexico: Mexico's own old prefix, or America without its plus sign.
    if number.starts_with('1') && reading.as_ref().is_some_and(Candidate::had_mexican_prefix) {
        return reread::after_lost_plus(number).or(reading);
    }
    match reading {
        // Of a valid number the dropped 0 is a trunk prefix: +44 (020).
        Some(reading) if number.starts_with(['+', '＋']) => {
            if reading.has_all_digits_of(number) || reading.is_valid() {
                return Some(reading);
            }
            reread::after_stray_plus(number, home).or(Some(reading))
        }
        Some(reading) => read_at_home(reading, number, home),
        None => reread::without_odd_signs(number, region)
            .or_else(|| reread::after_lost_plus(number))
            .or_else(|| reread::after_outside_line(number, home))
            .or_else(|| reread::after_stray_plus(number, home)),
    }
}

/// What the library reads as a number of the region, or of a call abroad from there. In plans of many lengths nearly any digits are one.
fn read_at_home(reading: Candidate, number: &str, home: Region) -> Option<Candidate> {
    let is_shown = national::shows_trunk(number, home);
    if is_shown && (national::has_trunk(home) || reading.is_valid()) || !reading.is_of(home) {
        return Some(reading);
    }
    let lengths = library::lengths(home);
    let is_valid = reading.is_valid();
    let may_be_abroad = !is_valid || lengths >= OPEN_LENGTHS_MIN && !is_shown && reading.may_be_of_a_place();
    if lengths >= ABROAD_LENGTHS_MIN
        && let Some(other) = reread::after_lost_plus(number)
        && (may_be_abroad || !is_shown && other.is_of(home))
    {
        return Some(other.marked(Mark::NotNational));
    }
    let is_bare = lengths >= BARE_LENGTHS_MIN && reading.national_digits() <= BARE_DIGITS_MAX;
    let is_odd = text::has_date_or_address(number);
    (is_valid && (is_shown || !is_odd) || !is_bare && !is_odd).then_some(reading)
}

/// "3105551234.0": the zero is not dialled, unless only with it the number is valid (a stray full stop before it). A
/// spreadsheet that writes fractions writes no plus sign, so behind one the zero counts first.
fn read_fraction(text: &str, number: &str, region: Option<Region>) -> Option<Candidate> {
    let stem = read_plain(number, region).map(|stem| stem.marked(Mark::Fraction));
    if !number.starts_with('+') && stem.as_ref().is_some_and(Candidate::is_valid) {
        return stem;
    }
    Candidate::read(text, region).filter(Candidate::is_valid).or(stem)
}

/// Typed to get past a form.
pub(crate) const KEYBOARD_FILLER: &[u8; 10] = b"1234567890";

/// 1234567890 typed to get past a form. With a prefix or country code it may be a real number (Vienna, Bedford).
pub(crate) fn is_keyboard_filler(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).eq(*KEYBOARD_FILLER)
}

/// Parameters of RFC 3966 that the library reads.
pub(crate) fn has_own_parameters(text: &str) -> bool {
    text.contains(';') && [";phone-context=", ";ext=", ";isub="].iter().any(|parameter| text.contains(parameter))
}
