//! Remarks behind a number: "(Mary)", "ask for Bob", "[fax]", "after 5pm", "*preferred*".
//!
//! The library takes three letters or more for a vanity number and turns the remark into digits.
//! The remark is cut off where what stands before it is a number; a vanity number (800-FLOWERS) has
//! none before its letters.

use crate::derivations::Derivation;
use crate::library::NumberCandidate;
use crate::{Region, extension, plain, text};

/// Fewer digits than this before a remark are no number worth a try.
const DIGITS_MIN: usize = 4;
/// A number that is only possible, not valid, needs this many digits.
const POSSIBLE_DIGITS_MIN: usize = 7;

/// The number before a remark of words. `whole` is the reading with the remark: if there is one,
/// the number must be valid, and letters that touch its digits are no remark.
pub(crate) fn cut(text: &str, region: Option<Region>, whole: Option<&NumberCandidate>) -> Option<NumberCandidate> {
    let number = text::from_first_digit(text)?;
    let word = find_remark(number)?;
    let is_vanity = whole.is_some() && number[..word].ends_with(char::is_numeric);
    let is_mail_address = number[..word].ends_with('@');
    if is_mail_address || is_exponent(&number[word..]) {
        return None;
    }
    let mut possible = None;
    let mut tried = "";
    for cut in cuts(number, word).filter(|&cut| cut != word || !is_vanity) {
        let before = number[..cut].trim_end_matches(|c: char| !c.is_numeric() && c != ')' && c != '#');
        if before == tried || text::count_digits(before) < DIGITS_MIN || text::has_date_or_address(before) {
            continue;
        }
        tried = before;
        let Some(candidate) = plain::read_with_extension(before, region) else {
            continue;
        };
        if candidate.is_valid() {
            return Some(candidate.derived(Derivation::Remark));
        }
        if whole.is_none() && possible.is_none() && text::count_digits(before) >= POSSIBLE_DIGITS_MIN {
            possible = Some(candidate.derived(Derivation::Remark));
        }
    }
    possible
}

/// The number before a last bracket without words, "(9-5)", if it is valid and the whole is not.
pub(crate) fn cut_bracket(
    text: &str,
    region: Option<Region>,
    whole: Option<&NumberCandidate>,
) -> Option<NumberCandidate> {
    let (before, _) = text.strip_suffix([')', ']'])?.rsplit_once(['(', '['])?;
    if text::count_digits(before) < DIGITS_MIN || whole.is_some_and(NumberCandidate::is_valid) {
        return None;
    }
    Some(NumberCandidate::read(before, region).filter(NumberCandidate::is_valid)?.derived(Derivation::Remark))
}

/// Where the first word begins that does not announce an extension.
fn find_remark(number: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(start) = number[at..].find(char::is_alphabetic).map(|offset| at + offset) {
        let end = number[start..].find(|c: char| !c.is_alphabetic()).map_or(number.len(), |length| start + length);
        let announces_digits =
            number[end..].trim_start_matches([' ', '.', ':', ',', '-']).starts_with(char::is_numeric);
        if !(announces_digits && extension::is_label(&number[start..end].to_lowercase())) {
            return Some(start);
        }
        at = end;
    }
    None
}

/// The end of 3.10868E+09, as spreadsheets write long numbers; most digits are lost.
fn is_exponent(remark: &str) -> bool {
    remark
        .strip_prefix(['E', 'e'])
        .is_some_and(|rest| rest.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit()))
}

/// Places to cut, the most cautious first: before the bracket that holds the word, before digits
/// that belong to the word ("2nd line"), before the word.
fn cuts(number: &str, word: usize) -> impl Iterator<Item = usize> {
    let before = &number[..word];
    let bracket = before.rfind(['(', '[', '{', '<']).filter(|&open| !before[open..].contains([')', ']', '}', '>']));
    let attached = before.trim_end_matches(char::is_numeric);
    let attached = (attached.len() < before.len() && attached.ends_with([' ', '\t', ','])).then_some(attached.len());
    [bracket, attached, Some(word)].into_iter().flatten()
}
