//! The corpus of raw inputs with their expected keys: the gate for every change of the rules and of
//! the library.
//!
//! Two of them: generated rows, and cells as people reported them in public.
//!
//! A generated row is `region, raw, expected key, expected extension, class`. Classes `c_` are
//! strict, `l_` accept one of two answers (`a|b`), `b_` are what the library alone does not undo.

use std::collections::BTreeMap;

use crate::{Reading, Region, read};

/// Cells of public reports: region, text with `\u`, `\U`, `\r` and `\t` escaped, what is right
/// (alternatives between `|`, keys between commas, an extension as ` xN`, `-` for no number, `W`
/// for withheld), and the kind or the report.
const PUBLIC_CELLS: &str = include_str!("../tests/fixtures/phone-public.tsv");

/// Further cells of the same kinds.
const OWN_CELLS: &str = include_str!("../tests/fixtures/phone-cells.tsv");

pub(crate) const CORPUS: &str = include_str!("../tests/fixtures/phone-open.tsv");

/// Classes of `b_` that must be nearly perfect; the others may miss one row in twenty.
const NEARLY_PERFECT: &[&str] = &["b_sip", "b_withheld", "b_excel_float"];

#[derive(Default)]
struct Score {
    rows: usize,
    missed: Vec<String>,
}

fn keys(reading: &Reading) -> String {
    let keys: Vec<_> = reading.numbers().map(|number| number.key.e164()).collect();
    if keys.is_empty() { "-".to_owned() } else { keys.join(",") }
}

#[test]
fn corpus_is_read_as_expected() {
    let mut scores = BTreeMap::<&str, Score>::new();
    for line in CORPUS.lines() {
        let &[region, raw, expected, expected_extension, class] = line.split('\t').collect::<Vec<_>>().as_slice()
        else {
            panic!("a row has five fields: {line}");
        };
        let region = (region != "ZZ").then(|| Region::parse(region).unwrap());

        let reading = read(raw, region);

        let key = keys(&reading);
        let extension = reading.first().and_then(|number| number.extension.as_deref()).unwrap_or("-");
        let is_hit = if class.starts_with("l_") {
            expected.split('|').any(|answer| answer == key)
        } else {
            expected == key && expected_extension == extension
        };
        let score = scores.entry(class).or_default();
        score.rows += 1;
        if !is_hit {
            score.missed.push(format!("{line}   read as {key} ext {extension}"));
        }
    }

    let mut failed = Vec::new();
    for (class, score) in &scores {
        // How many of a hundred rows may be missed.
        let tolerance = match class {
            class if NEARLY_PERFECT.contains(class) => 1,
            class if class.starts_with("b_") => 5,
            _ => 0,
        };
        println!("{class:24} {:4} rows, {} missed", score.rows, score.missed.len());
        score.missed.iter().for_each(|row| println!("    {row}"));
        if score.missed.len() * 100 > score.rows * tolerance {
            failed.push(class);
        }
    }
    assert!(failed.is_empty(), "classes below their gate: {failed:?}");
}

/// A text with its escapes resolved.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let (length, character) = match escape.as_bytes().first() {
            Some(b'u') => (5, char_of(&escape[1..5])),
            Some(b'U') => (9, char_of(&escape[1..9])),
            Some(b'r') => (1, '\r'),
            Some(b't') => (1, '\t'),
            _ => (1, escape.chars().next().unwrap()),
        };
        plain.push(character);
        rest = &escape[length..];
    }
    plain + rest
}

fn char_of(hex: &str) -> char {
    char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap()
}

/// What is read, as the cells write it: with extensions, and without.
fn written(reading: &Reading) -> [String; 2] {
    if *reading == Reading::Withheld {
        return ["W".to_owned(), "W".to_owned()];
    }
    let extended: Vec<_> = reading
        .numbers()
        .map(|number| match &number.extension {
            Some(extension) => format!("{} x{extension}", number.key.e164()),
            None => number.key.e164(),
        })
        .collect();
    let extended = if extended.is_empty() { "-".to_owned() } else { extended.join(",") };
    [extended, keys(reading)]
}

/// Cells of public reports, and their like, are read rightly.
#[test]
fn publicly_reported_cells_are_read_rightly() {
    let mut missed = Vec::new();
    let cells: Vec<_> = PUBLIC_CELLS.lines().chain(OWN_CELLS.lines()).filter(|line| !line.starts_with('#')).collect();
    for line in &cells {
        let &[region, raw, expected, kind] = line.split('\t').collect::<Vec<_>>().as_slice() else {
            panic!("a cell has four fields: {line}");
        };
        let region = (region != "ZZ").then(|| Region::parse(region).unwrap());

        let [extended, bare] = written(&read(&unescape(raw), region));

        let is_right = |answer: &str| answer == extended || !answer.contains(" x") && answer == bare;
        if !expected.split('|').any(is_right) {
            missed.push(format!("{line}: read as {extended} ({kind})"));
        }
    }

    assert!(cells.len() > 670);
    assert!(missed.is_empty(), "{} of {} cells: {missed:#?}", missed.len(), cells.len());
}
