//! Holds docs/phone-numbers.md true: each example of its first table, in every region that it
//! speaks of.

use crate::{Reading, Region, read, variants};

const DOCUMENT: &str = include_str!("../../../docs/phone-numbers.md");

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn keys(reading: &Reading) -> Vec<String> {
    reading.numbers().map(|number| number.key.e164()).collect()
}

/// Every example of the document is read as it says, in every region.
#[test]
fn document_examples_read_as_told_in_every_region() {
    let rows = DOCUMENT.split("|---|---|---|---|\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut missed = Vec::new();
    for row in rows.lines() {
        let &["", texts, region, expected, _, ""] = row.split('|').map(str::trim).collect::<Vec<_>>().as_slice() else {
            panic!("a row has four cells: {row}");
        };
        let expected = quoted(expected);
        let regions: Vec<Option<Region>> = match region {
            "any" => {
                let codes = ('A'..='Z').flat_map(|first| ('A'..='Z').map(move |second| format!("{first}{second}")));
                codes.filter_map(|code| Region::parse(&code).ok()).map(Some).chain([None]).collect()
            }
            region => vec![Some(Region::parse(region).unwrap())],
        };
        for text in quoted(texts) {
            for region in &regions {
                let found = keys(&read(text, *region));
                if found != expected {
                    let region = region.as_ref().map_or("no region", Region::as_str);
                    missed.push(format!("{text} in {region}: {found:?}, and the document says {expected:?}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{} examples are not so:\n{}", missed.len(), missed.join("\n"));
}

/// Every other form of a line is found by the rule that the document names.
#[test]
fn other_forms_are_found_by_documented_rules() {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `") && line.contains("and back"));
    let mut rules = Vec::new();
    for row in rows {
        let [_, rule, caller, found, ..] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let key = |cell| read(quoted(cell)[0], None).first().unwrap().key;
        let (rule, caller, found) = (quoted(rule)[0], key(caller), key(found));
        for (caller, found) in [(caller, found), (found, caller)] {
            let by = variants(caller).find(|variant| variant.key == found).map(|variant| variant.rule.as_str());
            assert_eq!(by, Some(rule), "{row}");
        }
        rules.push(rule);
    }
    assert_eq!(rules, ["argentina_mobile_9", "brazil_ninth_digit", "renumbered", "italy_leading_zero"]);
}
