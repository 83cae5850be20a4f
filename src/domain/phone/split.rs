//! Several numbers in one field: "020 7946 0018 / 07700 900123".
//!
//! Invariant: a field is split only if every part is a number by itself, and the whole is none or a worse one.

use super::field::Candidates;
use super::library::Candidate;
use super::marks::Mark;
use super::{Region, extension, field, text};

/// More numbers in one field are not read apart.
const PARTS_MAX: usize = 8;
/// A part that is only possible, not valid, needs this many digits.
const POSSIBLE_DIGITS_MIN: usize = 6;
/// Fewer digits than this are no part.
const DIGITS_MIN: usize = 4;

/// Words between two numbers; blanks stand around them.
const WORDS: &[&str] =
    &[" or ", " and ", " oder ", " und ", " ou ", " et ", " o ", " y ", " e ", " of ", " en ", " или ", " и "];

/// The numbers of the field, if it is a list of numbers.
pub(super) fn read(text: &str, region: Option<Region>) -> Option<Candidates> {
    let parts = parts(text)?;
    if let Some(first) = read_first(text, &parts, region) {
        return Some(Candidates::one(first));
    }
    let mut candidates = Vec::with_capacity(parts.len());
    for part in &parts {
        if text::count_digits(part) < DIGITS_MIN || extension::is_extension(part) {
            return None;
        }
        candidates.push(field::read_one(part, region)?);
    }
    let all_valid = candidates.iter().all(Candidate::is_valid);
    let have_digits = parts.iter().all(|part| text::count_digits(part) >= POSSIBLE_DIGITS_MIN);
    let is_list = match Candidate::read(text, region) {
        None => all_valid || have_digits,
        // "…, 4567": digits behind a comma are an extension, unless they are a number as long as any.
        Some(whole) if whole.has_extension() => all_valid && (have_digits || are_alike(&parts)),
        // Long plans make one possible number of two: both begin as a number does, or the whole is not assigned.
        Some(whole) => all_valid && (parts.iter().all(|part| part.starts_with(['+', '0'])) || !whole.is_valid()),
    };
    if !is_list {
        return None;
    }
    let mut candidates = candidates.into_iter();
    Some(Candidates { first: candidates.next()?, others: candidates.collect() })
}

/// "020 7946 0018/19": the first number, where only the last digits of the others are written.
fn read_first(text: &str, parts: &[&str], region: Option<Region>) -> Option<Candidate> {
    let (first, others) = parts.split_first()?;
    let are_endings =
        others.iter().all(|part| part.len() < DIGITS_MIN && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !text.contains('/') || !are_endings || Candidate::read(text, region).is_some() {
        return None;
    }
    Some(Candidate::read(first, region).filter(Candidate::is_valid)?.marked(Mark::FirstOfList))
}

/// Whether all parts have as many digits.
fn are_alike(parts: &[&str]) -> bool {
    parts.windows(2).all(|pair| text::count_digits(pair[0]) == text::count_digits(pair[1]))
}

/// The parts between separators, trimmed; `None` if there is only one or more than eight, or an empty one: two commas
/// are a pause before an extension.
pub(super) fn parts(text: &str) -> Option<Vec<&str>> {
    if field::has_own_parameters(text) {
        return None;
    }
    // Only ASCII letters: lower-casing others may change their length, and with it every position.
    let lower = text.to_ascii_lowercase();
    let mut parts = Vec::with_capacity(2);
    let mut start = 0;
    while let Some(separator) = next_separator(&lower[start..]) {
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
    (parts.len() > 1 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

struct Separator {
    at: usize,
    length: usize,
    is_word: bool,
}

/// The first separator of a text in lower case.
fn next_separator(text: &str) -> Option<Separator> {
    let sign = text.find(text::SEPARATORS).map(|at| {
        let is_double = text[at..].starts_with("//") || text[at..].starts_with("||");
        let length = if is_double { 2 } else { text[at..].chars().next().map_or(1, char::len_utf8) };
        Separator { at, length, is_word: false }
    });
    // " +" behind a number begins another one.
    let plus = text.find(" +").filter(|&at| at > 0).map(|at| Separator { at, length: 1, is_word: true });
    let word = text
        .match_indices(' ')
        .find_map(|(at, _)| Some((at, WORDS.iter().find(|word| text[at..].starts_with(**word))?)))
        .map(|(at, word)| Separator { at, length: word.len(), is_word: true });
    let word = word.into_iter().chain(plus).min_by_key(|word| word.at);
    match (sign, word) {
        (Some(sign), Some(word)) if word.at < sign.at => Some(word),
        (sign, word) => sign.or(word),
    }
}
