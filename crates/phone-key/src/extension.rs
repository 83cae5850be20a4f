//! Extensions behind words that the library does not know: "poste 703", "Durchwahl 22", "内線1394",
//! "p1430".
//!
//! Invariant: the words of the library (ext, x, int, anexo, доб, #, ~) are not here; those it reads
//! better itself.

use crate::text;

/// An extension has at most this many digits; more are another number.
const DIGITS_MAX: usize = 11;
/// Where the label may also mean something else ("w" for work), at most this many.
const SHORT_DIGITS_MAX: usize = 6;

/// As many letters are dialled on a keypad; fewer the library drops.
const VANITY_LETTERS_MIN: usize = 3;

/// Words that announce an extension, in lower case.
const LABELS: &[&str] = &[
    // English; p and w are the pause and wait of dialling software
    "p",
    "w",
    "pause",
    "wait",
    "extno",
    // French, German, Dutch, Nordic
    "poste",
    "pst",
    "durchwahl",
    "durchw",
    "dw",
    "dwl",
    "apparat",
    "app",
    "nebenstelle",
    "nst",
    "toestel",
    "tst",
    "tstl",
    "anknytning",
    "ankn",
    "anknyt",
    "lokal",
    "lokalnummer",
    "lokalnr",
    "internnummer",
    "linje",
    "alanumero",
    "alanro",
    // Spanish, Portuguese, Italian
    "interno",
    "ramal",
    "rml",
    "extensión",
    "extensao",
    "extensão",
    "anx",
    "derivazione",
    // Polish, Czech, Slovak, Hungarian, Romanian, Croatian, Serbian, Slovene
    "wew",
    "wewn",
    "wewnętrzny",
    "linka",
    "klapka",
    "mellék",
    "interior",
    "kućni",
    "lok",
    "interna",
    // Russian, Ukrainian, Bulgarian, Greek, Turkish
    "добавочный",
    "внутр",
    "внутренний",
    "вн",
    "внутрішній",
    "вътр",
    "вътрешен",
    "εσωτ",
    "εσωτερικό",
    "dahili",
    "dah",
    // Arabic, Hebrew, Indonesian, Vietnamese
    "تحويلة",
    "داخلي",
    "שלוחה",
    "pesawat",
    "pes",
    "lẻ",
    "nhánh",
    // Japanese, Chinese, Korean
    "内線",
    "內線",
    "分机",
    "分機",
    "转",
    "轉",
    "내선",
];

/// Labels of the library, here only before a word for "number": "ext no 5428".
const LIBRARY_LABELS: &[&str] = &["ext", "extension", "extn", "int", "anexo", "доб", "x"];

/// Words between a label and its digits.
const NUMBER_WORDS: &[&str] = &["no", "nr", "num", "number", "nummer", "numéro", "numero", "número", "n", "nº", "№"];

/// The text before the label, and the extension's digits, if the text ends in a label and 1 to 11
/// digits.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end_matches([' ', ')', ']', '#', '.', '\u{a0}']);
    let (rest, digits) = split_trailing(text, |c| c.is_ascii_digit());
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let labelled = trim_signs(rest);
    let (before, written) = split_trailing(labelled, char::is_alphabetic);
    let label = written.to_lowercase();
    if NUMBER_WORDS.contains(&label.as_str()) {
        let (before, label) = split_trailing(trim_signs(before), char::is_alphabetic);
        return is_any_label(&label.to_lowercase()).then_some((trim_signs(before), digits));
    }
    // Dialling software writes a small p or w; a capital between digits is a letter of a vanity
    // number.
    let is_vanity = written != label && before.ends_with(|c: char| c.is_alphanumeric());
    if label.len() == 1 && (digits.len() > SHORT_DIGITS_MAX || is_vanity) {
        return None;
    }
    let says_number = rest[labelled.len()..].contains(['#', '№', 'º', '°']);
    let is_label = if says_number { is_any_label(&label) } else { LABELS.contains(&label.as_str()) };
    is_label.then_some((trim_signs(before), digits))
}

/// "+1 416 555 0139*227": the number and the digits behind its only star.
pub(crate) fn split_star(text: &str) -> Option<(&str, &str)> {
    let (number, digits) = text.trim_end_matches('#').split_once('*')?;
    let are_digits = (1..=SHORT_DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (are_digits && text::count_digits(number) > SHORT_DIGITS_MAX).then_some((number.trim_end(), digits))
}

/// Whether the library, which drops one or two letters, would add an extension's digits to those
/// before: "1310867p5309".
pub(crate) fn would_be_glued(text: &str) -> bool {
    let letters = text::from_first_digit(text).unwrap_or_default().chars().filter(|c| c.is_alphabetic()).count();
    (1..VANITY_LETTERS_MIN).contains(&letters)
        && split(text).is_some_and(|(number, _)| number.contains(|c: char| c.is_ascii_digit()))
}

/// Whether the text is an extension and no number: a label and a few digits.
pub(crate) fn is_extension(text: &str) -> bool {
    let start = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    is_label(&text[..start].to_lowercase()) && text::count_digits(text) <= SHORT_DIGITS_MAX
}

/// Whether the word announces an extension, to us or to the library; in lower case.
pub(crate) fn is_label(word: &str) -> bool {
    is_any_label(word) || NUMBER_WORDS.contains(&word)
}

fn is_any_label(word: &str) -> bool {
    LABELS.contains(&word) || LIBRARY_LABELS.contains(&word)
}

fn split_trailing(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    let start = text.char_indices().rev().take_while(|&(_, c)| is_part(c)).last().map_or(text.len(), |(at, _)| at);
    text.split_at(start)
}

fn trim_signs(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_whitespace() || ".:,;-–(/[=#№°º".contains(c))
}
