//! The corpus of raw inputs with their expected keys: the gate for every change of the rules and of the library.
//!
//! A row is `region, raw, expected key, expected extension, class`. Classes `c_` are strict, `l_` accept one of two
//! answers (`a|b`), `b_` are what the library alone does not undo.

use std::collections::BTreeMap;

use super::{Reading, Region, read};

pub(super) const CORPUS: &str = include_str!("../../../tests/fixtures/phone-open.tsv");

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
