//! The short way for numbers as people write them at home, "020 7946 0018", and for any number
//! behind a word: "Tel: ".
//!
//! Invariant: as on the other short way, exactly the key that the long way gives, or nothing.

use std::sync::LazyLock;

use crate::calling_codes::{HOMES, LEFT_EVERYWHERE};
use crate::canonical::{self, POWERS, REPUNITS};
use crate::library::{ABROAD_LENGTHS_MIN, BARE_DIGITS_MAX, BARE_LENGTHS_MIN};
use crate::{PhoneKey, Region, library, renumbered, text, withheld};

/// Longer text is left to the library, bytes.
const TEXT_MAX: usize = 40;
/// More digits are left to the library: a trunk prefix and fifteen.
const DIGITS_MAX: usize = 16;

/// Digits of a date.
const DATE_DIGITS_MAX: usize = 8;

/// How numbers are written inside one region.
struct Home {
    /// The country code, as a number and as it is written.
    code: u16,
    code_digits: String,
    /// Bit n: a national number of n digits is possible.
    lengths: u32,
    /// How many lengths the plan has, those of old numbers too: of many, digits without the trunk
    /// prefix may be anything.
    lengths_count: u32,
    /// What is dialled before a national number ("0", "1", "06"); empty if nothing is.
    trunk: &'static str,
    /// Numbers that begin so are left to the library.
    left: &'static [&'static str],
}

/// By [`Region::index`].
static BY_REGION: LazyLock<Vec<Option<Home>>> = LazyLock::new(|| {
    let mut homes: Vec<_> = (0..Region::INDEX_END).map(|_| None).collect();
    for &(trunk, left, regions) in HOMES {
        for region in regions.split(' ').map(|code| Region::parse(code).expect("a region of the library")) {
            let code = library::country_code(region).expect("a region has a country code");
            // Old numbers are for the library.
            let lengths = library::possible_lengths(code) & !renumbered::old_lengths(code);
            homes[region.index()] = Some(Home {
                code,
                code_digits: code.to_string(),
                lengths,
                lengths_count: library::lengths(region),
                trunk,
                left,
            });
        }
    }
    homes
});

pub(crate) fn warm_up() {
    LazyLock::force(&BY_REGION);
}

/// The key of a number that is written as at home in the region or behind a word, where it is
/// certain.
pub(crate) fn read(raw: &str, region: Option<Region>) -> Option<PhoneKey> {
    if raw.len() > TEXT_MAX {
        return None;
    }
    let text = raw.trim_end();
    let number = behind_words(text)?;
    if number.starts_with('+') {
        // Without words it was looked at before.
        return if number.len() < raw.len() { canonical::read(number.as_bytes()) } else { None };
    }
    BY_REGION[region?.index()].as_ref()?.read(number)
}

/// Whether people of the region write something before a national number: nearly always a 0.
pub(crate) fn has_trunk(region: Region) -> bool {
    !matches!(BY_REGION[region.index()].as_ref().map_or("", |home| home.trunk), "" | "1")
}

/// Whether the text begins with what is dialled before a national number in the region, as far as
/// people write it there. True where nothing is, or nobody does (the 1 of North America).
pub(crate) fn shows_trunk(raw: &str, region: Region) -> bool {
    let trunk = BY_REGION[region.index()].as_ref().map_or("", |home| home.trunk);
    trunk == "1" || library::digits(raw).starts_with(trunk)
}

/// The text from its first digit or plus sign on, if only words stand before it, and no address's
/// scheme.
fn behind_words(text: &str) -> Option<&str> {
    let start = text.bytes().position(|byte| byte.is_ascii_digit() || byte == b'+')?;
    let (words, number) = text.split_at(start);
    let are_words = words.bytes().all(|byte| byte.is_ascii_alphabetic() || b" :.(".contains(&byte));
    let is_scheme = words.trim_start().get(..3).is_some_and(|word| word.eq_ignore_ascii_case("sip"));
    (are_words && !is_scheme).then_some(number)
}

impl Home {
    fn read(&self, text: &str) -> Option<PhoneKey> {
        if canonical::has_doubtful_end(text.as_bytes()) {
            return None;
        }
        let mut digits = [0; DIGITS_MAX];
        let digits = gather(text, &mut digits)?;
        if digits.len() <= DATE_DIGITS_MAX && text::is_date(text)
            || text.contains('.') && text::is_private_address(text)
        {
            return None;
        }
        let begins_with = |front: &str| digits.starts_with(front.as_bytes());
        if LEFT_EVERYWHERE.iter().chain(self.left).any(|front| begins_with(front)) || digits == text::KEYBOARD_FILLER {
            return None;
        }
        let national = match digits.strip_prefix(self.trunk.as_bytes()) {
            Some(national) if !self.trunk.is_empty() => national,
            _ if begins_with(&self.code_digits) || self.may_be_something_else(text, digits) => return None,
            _ => digits,
        };
        let count = national.len();
        if count <= BARE_DIGITS_MAX && self.lengths_count >= BARE_LENGTHS_MIN {
            return None;
        }
        let value = national.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        let filler = u64::from(national.first()? - b'0') * REPUNITS.get(count)?;
        if self.lengths & (1 << count) == 0 || value == filler {
            return None;
        }
        PhoneKey::new(u64::from(self.code) * POWERS[count] + value).filter(|key| !withheld::is_sentinel(*key))
    }
}

impl Home {
    /// Whether digits without the trunk prefix may be a number of another country, or no number at
    /// all.
    fn may_be_something_else(&self, text: &str, digits: &[u8]) -> bool {
        self.lengths_count >= ABROAD_LENGTHS_MIN && canonical::is_possible(digits)
            || (text.contains('.') || digits.len() <= DATE_DIGITS_MAX) && text::has_date_or_address(text)
    }
}

/// The digits of a text of nothing but digits and signs that stand inside of numbers.
fn gather<'a>(text: &str, digits: &'a mut [u8; DIGITS_MAX]) -> Option<&'a [u8]> {
    let mut count = 0;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte;
                count += 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' => {}
            // A blank that does not break a line, U+00A0.
            0xc2 if bytes.next() == Some(0xa0) => {}
            _ => return None,
        }
    }
    Some(&digits[..count])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair_tests::{Random, switch};
    use crate::{Reading, parsed_field};

    const SEED: u64 = 0x5eed_0a70_03e5;
    const FRONTS: u64 = 200;
    /// Set it to try more fronts of each region, 10,000 for all of four digits: a decimal number.
    const FRONTS_VARIABLE: &str = "PHONE_FRONTS";

    fn regions() -> Vec<Region> {
        HOMES.iter().flat_map(|(_, _, regions)| regions.split(' ')).map(|code| Region::parse(code).unwrap()).collect()
    }

    /// `true` if the short way took it.
    fn agrees(text: &str, region: Region) -> bool {
        let Some(key) = read(text, Some(region)) else {
            return false;
        };
        let long: Reading = parsed_field::parse(text, Some(region)).into();
        let keys: Vec<_> = long.numbers().map(|number| (number.key.e164(), number.extension.as_deref())).collect();
        assert_eq!(keys, [(key.e164(), None)], "{text} in {region}, seed {SEED:#x}");
        true
    }

    /// The short way agrees with the long one for every front of every region.
    #[test]
    fn short_way_agrees_on_every_regions_fronts() {
        let fronts = usize::try_from(switch(FRONTS_VARIABLE, FRONTS)).unwrap();
        let width = (fronts - 1).to_string().len();
        let mut random = Random(SEED);
        let (mut taken, mut asked) = (0, 0);
        for region in regions() {
            for front in 0..fronts {
                for count in width + 1..=DIGITS_MAX {
                    let mut text = format!("{front:0width$}");
                    text.push_str(&random.digits(count - width));
                    asked += 1;
                    taken += usize::from(agrees(&text, region));
                }
            }
        }
        assert!(taken > asked / 10, "only {taken} of {asked} were taken");
    }

    /// The short way agrees with the long one, whatever signs and words stand there.
    #[test]
    fn short_way_agrees_whatever_signs_and_words() {
        let mut random = Random(SEED);
        let regions = regions();
        let mut taken = 0;
        for _ in 0..100_000 {
            let region = *random.of(&regions);
            let home = BY_REGION[region.index()].as_ref().unwrap();
            let mut text = match random.below(4) {
                0 => format!("+{}", home.code_digits),
                1 => home.code_digits.clone(),
                2 => String::new(),
                _ => home.trunk.to_owned(),
            };
            let count = 5 + random.below(8);
            text.push_str(&random.digits(count));
            let mut text: Vec<char> = text.chars().collect();
            for _ in 0..random.below(4) {
                let sign = *random.of(&[' ', '-', '.', '(', ')', '\u{a0}', '/', '0', '#', 'é', '+']);
                text.insert(random.below(text.len() + 1), sign);
            }
            let words = random.of(&["", "", "Tel: ", "(", "sip:", "SIPS:", "tel:", "o ", "x ", "ext. ", "  "]);
            let end = random.of(&["", "", " ", "\u{a0}", ".0", ".00", "."]);
            let text = format!("{words}{}{end}", String::from_iter(text));
            taken += usize::from(agrees(&text, region));
        }
        assert!(taken > 5_000, "only {taken} were taken");
    }
}
