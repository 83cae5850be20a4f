//! Nobody is named by a number that is not his: one digit off, the same last digits in another
//! country, a short code within a number, letters on a keypad, and whatever stands in the place of
//! a hidden number. What is no number makes nobody.

use std::collections::BTreeSet;

use contact_sync::rpc::pb::MatchOutcome;
use futures_util::{StreamExt, stream};
use phone_key::Region;

use crate::{
    support::calls::{call_with_id, look_only, withheld},
    support::{TestApp, call},
};

const BRYCE: &str = "+13108675309";
/// What CRMs hold in the place of a number.
const NO_NUMBERS: [&str; 14] = [
    "5309",
    "867-5309",
    "Anonymous",
    "unknown",
    "+266696687",
    "+7378742833",
    "+8656696",
    "+86282452253",
    "+2562533",
    "0000000000",
    "+10000000000",
    "9999999999",
    "911",
    "n/a",
];
/// Looks at once.
const AT_ONCE: usize = 16;

/// An account that knows Bryce, a vanity number, and people whose number is none.
async fn acquainted() -> (TestApp, String) {
    let test = TestApp::start().await;
    test.user("Bryce Love", "(310) 867-5309");
    test.user("Florist", "1-800-FLOWERS");
    for (n, text) in NO_NUMBERS.iter().enumerate() {
        test.user(&format!("Nobody {n}"), text);
    }
    let (account, _) = test.synced().await;
    (test, account)
}

fn digits(number: &str) -> Vec<char> {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// The number with each of its digits, behind the country code, exchanged for each other digit,
/// left out, doubled, or swapped with the next one.
fn one_digit_off(number: &str) -> BTreeSet<String> {
    let digits = digits(number);
    let mut near = BTreeSet::new();
    let mut add = |digits: Vec<char>| near.insert(format!("+{}", String::from_iter(digits)));
    for at in 1..digits.len() {
        for digit in '0'..='9' {
            let mut changed = digits.clone();
            changed[at] = digit;
            add(changed);
        }
        let (mut shorter, mut longer, mut swapped) = (digits.clone(), digits.clone(), digits.clone());
        shorter.remove(at);
        longer.insert(at, digits[at]);
        swapped.swap(at, at - 1);
        add(shorter);
        add(longer);
        if at > 1 {
            add(swapped);
        }
    }
    near.remove(number);
    near
}

/// The last seven to ten digits of a number behind the calling codes of other countries, filled up
/// to their usual lengths.
fn suffix_twins(number: &str) -> BTreeSet<String> {
    let digits = String::from_iter(digits(number));
    let mut twins = BTreeSet::new();
    for code in ["44", "49", "33", "39", "34", "61", "55", "91", "81", "86", "7", "52", "48", "31", "46", "27"] {
        for kept in 7..=10 {
            let suffix = &digits[digits.len() - kept..];
            for filling in ["", "2", "30", "211", "9"] {
                twins.insert(format!("+{code}{filling}{suffix}"));
            }
        }
    }
    // "+3108675309" is the number itself as it is written at home, behind a plus sign.
    twins.remove(&format!("+{}", &digits[1..]));
    twins
}

/// Looks for all of these; how many were numbers.
async fn assert_are_strangers(test: &TestApp, account: &str, texts: impl IntoIterator<Item = String>) -> usize {
    let looks = stream::iter(texts).map(async |text| {
        let answer = test.look_up(account, &text).await;
        let is_nobody =
            matches!(answer.outcome(), MatchOutcome::NotFound | MatchOutcome::Unparseable | MatchOutcome::Withheld);
        assert!(is_nobody, "{text} is taken for {:?}", answer.selected.map(|contact| contact.display_name));
        assert!(answer.candidates.is_empty() && answer.total == 0, "{text}");
        usize::from(answer.outcome() == MatchOutcome::NotFound)
    });
    looks.buffer_unordered(AT_ONCE).fold(0, async |sum, found| sum + found).await
}

/// A number that is one digit off names nobody.
#[tokio::test]
async fn one_digit_off_names_nobody() {
    let (test, account) = acquainted().await;
    let near = one_digit_off(BRYCE);
    assert!(near.len() > 100);

    let numbers = assert_are_strangers(&test, &account, near).await;

    // Most of them can be called: it is not for want of a reading that nobody is found.
    assert!(numbers > 60, "{numbers}");
}

/// The same last digits in another country name nobody.
#[tokio::test]
async fn same_last_digits_abroad_name_nobody() {
    let (test, account) = acquainted().await;

    let numbers = assert_are_strangers(&test, &account, suffix_twins(BRYCE)).await;

    assert!(numbers > 80, "{numbers}");
    // The national number, read in another country.
    for region in ["GB", "DE", "FR", "MX", "AU", "IN"] {
        let mut request = look_only(call(&account, "3108675309"));
        request.default_region = region.into();
        let answer = test.match_caller(request).await;
        assert!(answer.selected.is_none(), "{region}");
    }
}

/// A part of a number, and a number with a part of another, name nobody.
#[tokio::test]
async fn partial_or_overlapping_numbers_name_nobody() {
    let (test, account) = acquainted().await;
    let whole = String::from_iter(digits(BRYCE));
    let mut parts = BTreeSet::new();
    for from in 0..whole.len() {
        for to in from + 1..=whole.len() {
            let part = &whole[from..to];
            // With and without its country code these are the number itself.
            if part != whole && part != &whole[1..] {
                parts.insert(part.to_owned());
                parts.insert(format!("+{part}"));
            }
        }
    }
    // Those who are kept with a short number are not called by a long one that ends with it.
    let long = ["+12125555309", "+442079465309", "+4930865309", "+13105550911", "+12128675309"].map(str::to_owned);

    assert_are_strangers(&test, &account, parts).await;
    let numbers = assert_are_strangers(&test, &account, long).await;

    assert_eq!(numbers, 5);
}

/// Letters on a keypad name only whom they spell.
#[tokio::test]
async fn keypad_letters_name_only_whom_they_spell() {
    let (test, account) = acquainted().await;

    let florist = test.look_up(&account, "+18003569377").await;
    let near = ["+1800356937", "+18003569378", "+18883569377", "1-888-FLOWERS", "1-800-FLOWERZ2", "FLOWERS", "3569377"];
    assert_are_strangers(&test, &account, near.map(str::to_owned)).await;

    assert_eq!(florist.selected.unwrap().display_name, "Florist");
}

/// What CRMs hold in the place of a number names nobody.
#[tokio::test]
async fn crm_fillers_for_numbers_name_nobody() {
    let (test, account) = acquainted().await;

    let numbers = assert_are_strangers(&test, &account, NO_NUMBERS.map(str::to_owned)).await;

    assert_eq!(numbers, 0, "a filler is taken for a number");
    // A bare 7378742833 is a number in Texas, and nobody's here.
    assert_are_strangers(&test, &account, ["7378742833".to_owned()]).await;
}

/// Hidden and unreadable callers make nobody, however they call.
#[tokio::test]
async fn hidden_and_unreadable_callers_make_nobody() {
    let (test, account) = acquainted().await;
    let before = (test.rows(&account, "contacts").await, test.rows(&account, "phone_numbers").await);
    let hidden = [
        "Restricted",
        "Unavailable",
        "PRIVATE NUMBER",
        "No Caller ID",
        "out of area",
        "sip:anonymous@anonymous.invalid",
        "Unterdrückt",
        "非通知",
        "sip:+266696687@carrier.example",
        "<sip:Anonymous@10.0.0.1>",
    ];
    let unreadable = [
        "",
        " ",
        "+",
        "++",
        "0",
        "-1",
        "#",
        "*67",
        "abc",
        "12/03/2021",
        "192.168.1.10",
        "\u{0}",
        "NaN",
        "null",
        "🦀",
        "+1310867530999999999",
        "310",
    ];
    let mut n = 0;

    for text in NO_NUMBERS.iter().chain(&hidden).chain(&unreadable) {
        for is_withheld in [false, true] {
            n += 1;
            let request = call_with_id(&account, text, &format!("call-{n}"));
            let request = if is_withheld { withheld(request) } else { request };
            let anonymous = crate::support::call(&account, text);
            for request in [request.clone(), request, anonymous] {
                // A control character, or an empty text that is not said to be withheld, may be
                // refused outright.
                let Ok(answer) = test.callers().match_caller(request).await else { continue };
                let answer = answer.into_inner();
                assert!(
                    matches!(answer.outcome(), MatchOutcome::Withheld | MatchOutcome::Unparseable),
                    "{text:?}: {:?}",
                    answer.outcome()
                );
                assert!(answer.selected.is_none() && answer.candidates.is_empty() && answer.e164.is_empty());
            }
        }
    }
    // A number that could be called, and is withheld.
    let answer = test.match_caller(withheld(call(&account, BRYCE))).await;

    assert_eq!((answer.outcome(), answer.selected), (MatchOutcome::Withheld, None));
    assert_eq!((test.rows(&account, "contacts").await, test.rows(&account, "phone_numbers").await), before);
    let region = Region::parse("US").unwrap();
    assert!(NO_NUMBERS.iter().all(|text| phone_key::read(text, Some(region)).first().is_none()));
}
