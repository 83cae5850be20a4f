//! Several numbers in one field: "020 7946 0018 / 07700 900123".
//!
//! Commas, words and the like part first; a slash may also stand inside of a number, so it parts
//! last, and only what is left. Invariant: a field is split only if every part is a number by
//! itself, and the whole is none or a worse one.

use crate::derivations::Derivation;
use crate::library::NumberCandidate;
use crate::{ReadNumbers, Region, extension, one_number, text};

/// More numbers in one field are not read apart.
const PARTS_MAX: usize = 8;
/// A part that is only possible, not valid, needs this many digits.
const POSSIBLE_DIGITS_MIN: usize = 6;
/// Fewer digits than this are no part.
const DIGITS_MIN: usize = 4;
/// The last digits of another line, where the first is written out: at most this many are never a
/// number.
const ENDING_DIGITS_MAX: usize = 4;
/// Behind a slash of its own, a national number of fewer digits may go on behind the next one:
/// 0664/1234/567.
const COMPLETE_DIGITS_MIN: usize = 8;
/// Signs before the last digits of another line.
const ENDING_SIGNS: &[char] = &['/', '／', '&'];

/// Words between two numbers; blanks stand around them.
const WORDS: &[&str] = &[
    " or ",
    " and ",
    " oder ",
    " und ",
    " bzw. ",
    " ou ",
    " et ",
    " o ",
    " y ",
    " e ",
    " of ",
    " en ",
    " eller ",
    " og ",
    " och ",
    " tai ",
    " ja ",
    " lub ",
    " nebo ",
    " alebo ",
    " vagy ",
    " és ",
    " sau ",
    " și ",
    " ili ",
    " ali ",
    " veya ",
    " ve ",
    " atau ",
    " hoặc ",
    " ή ",
    " και ",
    " или ",
    " и ",
    " або ",
    " та ",
    " או ",
    " أو ",
    " 或 ",
    " または ",
];

/// The numbers of a field, in the order written: at least one. One needs no heap.
pub(crate) struct NumberCandidates {
    pub(crate) first: NumberCandidate,
    pub(crate) others: Vec<NumberCandidate>,
}

impl NumberCandidates {
    pub(crate) fn one(first: NumberCandidate) -> Self {
        Self { first, others: Vec::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &NumberCandidate> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<NumberCandidates> for ReadNumbers {
    fn from(candidates: NumberCandidates) -> Self {
        let mut numbers = Self::one(candidates.first.into_number());
        candidates.others.into_iter().for_each(|other| numbers.add(other.into_number()));
        numbers
    }
}

/// The numbers of the field, if it is a list of numbers.
pub(crate) fn read(text: &str, region: Option<Region>) -> Option<NumberCandidates> {
    let mut numbers = find(text, region)?.into_iter().map(|(_, candidate)| candidate);
    Some(NumberCandidates { first: numbers.next()?, others: numbers.collect() })
}

/// The same with the text of each number.
pub(crate) fn find(text: &str, region: Option<Region>) -> Option<Vec<(&str, NumberCandidate)>> {
    if one_number::has_own_parameters(text) {
        return None;
    }
    let Some(mut parts) = parts(text, next_separator) else { return find_slashed(text, region) };
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    parts.retain(|part| text::count_digits(part) > 0);
    if let [only] = parts.as_slice() {
        return find_slashed(only, region);
    }
    let mut numbers = Vec::with_capacity(parts.len());
    for part in parts {
        match find_slashed(part, region) {
            Some(several) => numbers.extend(several),
            None => match read_part(part, region) {
                Some(number) => numbers.push((part, number)),
                None => return before_endings(text, region),
            },
        }
    }
    (numbers.len() <= PARTS_MAX && are_list(text, &numbers, region)).then_some(numbers)
}

fn find_slashed(text: &str, region: Option<Region>) -> Option<Vec<(&str, NumberCandidate)>> {
    if let Some(first) = before_endings(text, region) {
        return Some(first);
    }
    let parts = parts(text, next_slash)?;
    let numbers: Option<Vec<_>> = parts.into_iter().map(|part| Some((part, read_part(part, region)?))).collect();
    numbers.filter(|numbers| are_list(text, numbers, region))
}

fn read_part(part: &str, region: Option<Region>) -> Option<NumberCandidate> {
    if text::count_digits(part) < DIGITS_MIN || extension::is_extension(part) {
        return None;
    }
    one_number::read(part, region)
}

/// Whether these numbers say more than the text as one number.
fn are_list(text: &str, numbers: &[(&str, NumberCandidate)], region: Option<Region>) -> bool {
    let all_valid = numbers.iter().all(|(_, number)| number.is_valid());
    let have_digits = numbers.iter().all(|(part, _)| text::count_digits(part) >= POSSIBLE_DIGITS_MIN);
    match NumberCandidate::read(text, region) {
        None => all_valid || have_digits,
        // "…, 4567": digits behind a comma are an extension, unless they are a number as long as
        // any.
        Some(whole) if whole.has_extension() => all_valid && (have_digits || are_alike(numbers)),
        // Long plans make one possible number of two: both begin as a number does, or the whole is
        // not assigned.
        Some(whole) => all_valid && (numbers.iter().all(|(part, _)| begins_as_a_number(part)) || !whole.is_valid()),
    }
}

/// Whether the digits begin with a plus sign or a 0, whatever words stand before them.
fn begins_as_a_number(part: &str) -> bool {
    text::from_first_digit(part).is_some_and(|number| number.starts_with(['+', '0']))
}

/// "020 7946 0018/19", "030/1234567/68": the number before the last digits of others.
fn before_endings(text: &str, region: Option<Region>) -> Option<Vec<(&str, NumberCandidate)>> {
    for (at, sign) in text.match_indices(ENDING_SIGNS) {
        let (before, after) = (text[..at].trim_end(), &text[at + sign.len()..]);
        // One slash may stand behind the area code.
        if before.matches(ENDING_SIGNS).count() > 1 {
            return None;
        }
        if !after.split(ENDING_SIGNS).all(is_digits) {
            continue;
        }
        let Some(number) = one_number::read(before, region).filter(NumberCandidate::is_valid) else { continue };
        let is_ending = |part: &str| {
            let digits = text::count_digits(part);
            digits <= ENDING_DIGITS_MAX
                || digits < number.national_digits()
                    && !NumberCandidate::read(part, region).is_some_and(|other| other.is_valid())
        };
        let is_complete = !before.contains(ENDING_SIGNS) || number.national_digits() >= COMPLETE_DIGITS_MIN;
        if is_complete && after.split(ENDING_SIGNS).all(is_ending) {
            return Some(vec![(before, number.derived(Derivation::FirstOfList))]);
        }
    }
    None
}

/// Digits, and at most what may stand between them.
fn is_digits(part: &str) -> bool {
    let part = part.trim();
    part.contains(|c: char| c.is_ascii_digit())
        && part.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.'))
}

/// Whether all parts have as many digits.
fn are_alike(numbers: &[(&str, NumberCandidate)]) -> bool {
    numbers.windows(2).all(|pair| text::count_digits(pair[0].0) == text::count_digits(pair[1].0))
}

/// The parts between separators, trimmed; `None` if there is only one or more than eight. One may
/// be empty: two commas are a pause before an extension.
fn parts(text: &str, next: impl Fn(&str) -> Option<Separator>) -> Option<Vec<&str>> {
    // Only ASCII letters: lower-casing others may change their length, and with it every position.
    let lower = text.to_ascii_lowercase();
    let mut parts = Vec::with_capacity(2);
    let mut start = 0;
    while let Some(separator) = next(&lower[start..]) {
        let part = text[start..start + separator.at].trim();
        start += separator.at + separator.length;
        // ", or": a sign and a word are one separator.
        if part.is_empty() && separator.is_word {
            continue;
        }
        if parts.len() + 1 == PARTS_MAX {
            return None;
        }
        parts.push(part);
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    (parts.len() > 1).then_some(parts)
}

struct Separator {
    at: usize,
    length: usize,
    is_word: bool,
}

/// The first slash.
fn next_slash(text: &str) -> Option<Separator> {
    next_sign(text, text::SLASHES)
}

/// The first separator of a text in lower case, but slashes.
fn next_separator(text: &str) -> Option<Separator> {
    let sign = next_sign(text, text::LIST_SIGNS);
    let colons =
        text.find(text::TRIPLE_COLON).map(|at| Separator { at, length: text::TRIPLE_COLON.len(), is_word: false });
    // " +" behind a number begins another one.
    let plus = text.find(" +").filter(|&at| at > 0).map(|at| Separator { at, length: 1, is_word: true });
    let word = text
        .match_indices(' ')
        .find_map(|(at, _)| Some((at, WORDS.iter().find(|word| text[at..].starts_with(**word))?)))
        .map(|(at, word)| Separator { at, length: word.len(), is_word: true });
    // Of two at one place the sign.
    [sign, colons, word, plus].into_iter().flatten().min_by_key(|separator| separator.at)
}

/// The first of these signs; doubled, it is one.
fn next_sign(text: &str, signs: &[char]) -> Option<Separator> {
    let at = text.find(signs)?;
    let sign = text[at..].chars().next()?;
    let is_double = matches!(sign, '/' | '|') && text[at + 1..].starts_with(sign);
    Some(Separator { at, length: if is_double { 2 } else { sign.len_utf8() }, is_word: false })
}
