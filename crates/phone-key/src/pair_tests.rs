//! Pairs of a stored text and a caller: the same line in another spelling, or another line that
//! looks alike. A wrong match names a stranger, so there may be none; a missed one is counted, and
//! bounded.
//!
//! A tenth of a million in every run of the suite; the million takes two minutes:
//! `PHONE_PAIRS=1000000 cargo test --lib pair_tests -- --show-output`.

use std::collections::BTreeMap;

use rlibphonenumber::PhoneNumberFormat::{E164, International, National, RFC3966};
use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberType};

use crate::{PhoneKey, Region, assumed_probes, assumed_region, is_assigned, local_digits, read, variants};

const PAIRS: u64 = 100_000;
/// Set it to try more: a decimal number.
const PAIRS_VARIABLE: &str = "PHONE_PAIRS";
const SEED: u64 = 0x5eed_09a1_125e;
/// Set it to repeat a run, or to try others: a decimal number.
const SEED_VARIABLE: &str = "PHONE_PAIRS_SEED";
/// Same lines of a thousand that may be missed. Measured: 2, nearly all short numbers without their
/// plus sign, which look like local ones.
const MISSED_MAX: usize = 4;

/// xorshift64*, enough to spread numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }

    pub(crate) fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub(crate) fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| self.digit()).collect()
    }

    fn digit(&mut self) -> char {
        char::from_digit(u32::try_from(self.below(10)).unwrap(), 10).unwrap()
    }
}

/// A number that somebody may have.
#[derive(Clone)]
struct Line {
    home: Region,
    number: PhoneNumber,
}

impl Line {
    /// The digits of the national number, with leading zeros.
    fn national(&self) -> String {
        self.number.get_national_significant_number()
    }

    fn with_national(&self, national: &str) -> Self {
        let zeros = national.len() - national.trim_start_matches('0').len().max(1);
        let mut number = self.number.clone();
        number.national_number = national.parse().unwrap();
        number.italian_leading_zero = (zeros > 0).then_some(true);
        number.number_of_leading_zeros = (zeros > 0).then(|| i32::try_from(zeros).unwrap());
        Self { home: self.home, number }
    }

    fn e164(&self) -> String {
        self.number.format_as(E164).into_owned()
    }

    /// As its owner may write it: at home, or for the world.
    fn spelled(&self, random: &mut Random) -> Stored {
        let format = *random.of(&[National, International, E164, RFC3966]);
        self.stored(self.number.format_as(format).into_owned())
    }

    fn stored(&self, text: String) -> Stored {
        Stored { text, region: Some(self.home) }
    }
}

/// A text of a CRM and the region in which it is read.
struct Stored {
    text: String,
    region: Option<Region>,
}

/// Example numbers of every region, of which lines are made.
struct World(Vec<Line>);

impl World {
    fn new() -> Self {
        use PhoneNumberType::{FixedLine, Mobile, TollFree, VoIP};
        let mut regions: Vec<_> = PHONE_NUMBER_UTIL.get_supported_regions().collect();
        regions.sort();
        let lines = regions.iter().flat_map(|&plan| {
            let home = Region::parse(&plan.as_region_str()).unwrap();
            // Most calls come from lines and mobiles of persons.
            [FixedLine, FixedLine, Mobile, Mobile, TollFree, VoIP].into_iter().filter_map(move |kind| {
                let number = PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(plan, kind).ok()?;
                Some(Line { home, number: number.clone() })
            })
        });
        Self(lines.collect())
    }

    /// A valid number of some region.
    fn line(&self, random: &mut Random) -> Line {
        let example = random.of(&self.0);
        let national = example.national();
        for _ in 0..4 {
            let kept = national.len() - (2 + random.below(5)).min(national.len() - 2);
            let changed: String =
                national[..kept].chars().chain((kept..national.len()).map(|_| random.digit())).collect();
            let line = example.with_national(&changed);
            // 2222222 is assigned on São Tomé, and a filler everywhere.
            if line.number.is_valid() && changed.bytes().any(|digit| digit != changed.as_bytes()[0]) {
                return line;
            }
        }
        example.clone()
    }
}

type Make = fn(&World, &mut Random, &Line) -> Option<Stored>;

/// Spellings of the line itself.
const SAME: &[(&str, Make)] = &[
    ("national", |_, _, line| Some(line.stored(line.number.format_as(National).into_owned()))),
    ("international", |_, _, line| Some(line.stored(line.number.format_as(International).into_owned()))),
    ("tel uri", |_, _, line| Some(line.stored(line.number.format_as(RFC3966).into_owned()))),
    ("sip", |_, _, line| Some(line.stored(format!("\"2nd Desk\" <sip:{}@10.0.0.7:5060;user=phone>", line.e164())))),
    ("digits only", |_, _, line| {
        let national = line.national();
        // Those look like the whole number, and are read so.
        (!national.starts_with(&line.number.country_code.to_string())).then(|| line.stored(national))
    }),
    ("dialled from abroad", |_, random, line| {
        let (region, prefix) =
            *random.of(&[("US", "011"), ("GB", "00"), ("DE", "00 "), ("JP", "010 "), ("AU", "0011")]);
        Some(Stored { text: format!("{prefix}{}", &line.e164()[1..]), region: Region::parse(region).ok() })
    }),
    ("without its plus", |_, random, line| {
        // Where it is a number at home, it means that one.
        let code = random.of(&["US", "GB", "FR"]);
        let region = Region::parse(code).unwrap();
        let text = line.e164()[1..].to_owned();
        (!plain(&text, region).is_some_and(|number| is_possible(&number)))
            .then_some(Stored { text, region: Some(region) })
    }),
    ("extension", |_, random, line| {
        let label = random.of(&[" x", " ext. ", " poste ", ";ext=", " #"]);
        Some(line.stored(format!("{}{label}{}", line.number.format_as(International), 10 + random.below(9_000))))
    }),
    ("remark", |_, random, line| {
        let remark = random.of(&[" (Mary)", " - ask for Bob", " mobile", " [fax]", " after 5pm"]);
        Some(line.stored(format!("{}{remark}", line.number.format_as(National))))
    }),
    ("odd signs", |_, random, line| {
        let sign = random.of(&["\u{a0}", "\u{2011}", " \u{2013} ", "\u{200b} ", "."]);
        Some(line.stored(line.number.format_as(International).replace([' ', '-'], sign)))
    }),
    ("one of two", |world, random, line| {
        let other = world.line(random);
        let separator = random.of(&[" / ", "; ", ", ", " or ", " | "]);
        Some(line.stored(format!("{}{separator}{}", line.number.format_as(International), other.e164())))
    }),
    ("own vanity", |_, random, line| vanity(random, line, line)),
    // Telephone systems push this form everywhere.
    ("own country code, no plus", |_, _, line| Some(line.stored(line.e164()[1..].to_owned()))),
    ("first of a list of endings", |_, random, line| {
        let ending = 1 + random.below(3);
        Some(line.stored(format!("{} / {}", line.number.format_as(International), random.digits(ending))))
    }),
    ("list with slashes", |world, random, line| {
        let slashed = |line: &Line| line.number.format_as(International).replace('-', " ");
        let (other, word) = (world.line(random), random.of(&[", ", "; ", " oder ", " ::: ", "، "]));
        Some(line.stored(format!("{}{word}{}", slashed(line), slashed(&other))))
    }),
    ("star before an extension", |_, random, line| {
        Some(line.stored(format!("{}*{}", line.e164(), 10 + random.below(900))))
    }),
    ("invisible signs", |_, random, line| {
        let sign = random.of(&["\u{61c}", "\u{34f}", "\u{180e}", "\u{fe0f}", "\u{206a}", "\u{e0020}"]);
        Some(line.stored(line.number.format_as(International).replace(' ', &format!(" {sign}"))))
    }),
    ("escaped sip", |_, random, line| {
        let host = random.of(&["10.1.2.3", "sip3108675309.example.com:5060", "4930123456.example.com"]);
        Some(line.stored(format!("sip:%2B{}:1234@{host}", &line.e164()[1..])))
    }),
];

/// Other lines that look like it, and what is no line.
const DIFFERENT: &[(&str, Make)] = &[
    ("one digit off", |_, random, line| Some(one_digit_off(random, line).spelled(random))),
    ("two digits swapped", |_, random, line| {
        let mut digits = line.national().into_bytes();
        let at = random.below(digits.len() - 1);
        digits.swap(at, at + 1);
        (digits[at] != digits[at + 1])
            .then(|| line.with_national(std::str::from_utf8(&digits).unwrap()).spelled(random))
    }),
    ("one digit more or less", |_, random, line| {
        let mut digits = line.national();
        let at = 1 + random.below(digits.len() - 1);
        if random.below(2) == 0 {
            digits.remove(at);
        } else {
            digits.insert(at, random.digit());
        }
        // A digit before the whole number may be the prefix with which it is dialled at home.
        (!digits.ends_with(&line.national())).then(|| line.with_national(&digits).spelled(random))
    }),
    ("twin abroad, all digits", |world, random, line| {
        let other = world.line(random);
        (other.number.country_code != line.number.country_code)
            .then(|| other.with_national(&line.national()).spelled(random))
    }),
    ("twin abroad, last digits", |world, random, line| {
        let other = world.line(random);
        let shared = 7 + random.below(3);
        let (national, others) = (line.national(), other.national());
        let kept = others.len().checked_sub(shared)?;
        let tail = &national[national.len().checked_sub(shared)?..];
        let twin = other.with_national(&format!("{}{tail}", &others[..kept]));
        (other.number.country_code != line.number.country_code).then(|| twin.spelled(random))
    }),
    ("twin in another area", |_, random, line| {
        let national = line.national();
        let shared = 7.min(national.len() - 1);
        let mut front: Vec<char> = national[..national.len() - shared].chars().collect();
        let at = random.below(front.len());
        front[at] = random.digit();
        let twin = front.into_iter().collect::<String>() + &national[national.len() - shared..];
        (twin != national).then(|| line.with_national(&twin).spelled(random))
    }),
    ("short code inside", |_, random, line| {
        let digits = line.e164();
        let length = 3 + random.below(4);
        let start = 1 + random.below(digits.len() - length);
        incomplete(line, &digits[start..start + length])
    }),
    ("local part", |_, random, line| {
        let national = line.national();
        let cut = 1 + random.below(national.len() - 2);
        incomplete(line, &national[cut..])
    }),
    ("vanity of another", |_, random, line| {
        let other = one_digit_off(random, line);
        vanity(random, line, &other)
    }),
    ("extension behind a shorter one", |_, random, line| {
        let digits = line.e164();
        let cut = digits.len() - (1 + random.below(5)).min(digits.len() - 5);
        let label = random.of(&["x", " ext ", " x", "#", ";ext=", " poste ", ",", "p", " int. "]);
        Some(line.stored(format!("{}{label}{}", &digits[..cut], &digits[cut..])))
    }),
    ("withheld", |_, random, line| {
        let words = ["Anonymous", "Private number", "+266696687", "+86282452253", "unknown", "sip:anonymous@host"];
        Some(line.stored((*random.of(&words)).to_owned()))
    }),
    ("hidden user at a host", |_, random, line| {
        let digits = &line.e164()[1..];
        let user = *random.of(&["anonymous", "unknown", "asterisk", "bob"]);
        let host = *random.of(&["sip", "pbx-", ""]);
        Some(line.stored(format!("{user}@{host}{digits}.example.com")))
    }),
    ("bare extension", |_, random, line| {
        let digits = 3 + random.below(4);
        let text = random.digits(digits);
        (!shows_national(&text, line) && !line.national().ends_with(&text)).then(|| line.stored(text))
    }),
    ("letter for a digit", |_, random, line| {
        let national = line.national();
        let at = national.find('0').filter(|&at| at > 1)?;
        let shown = format!("{}O{}", &national[..at], &national[at + 1..]);
        Some(line.stored((*random.of(&[shown.clone(), format!("0{shown}")])).clone()))
    }),
    ("filler", |_, random, line| {
        let digit = random.digit();
        let filler: String = std::iter::repeat_n(digit, 7 + random.below(5)).collect();
        Some(line.stored((*random.of(&[filler.as_str(), "1234567890", "+10000000000"])).to_owned()))
    }),
];

/// The library's reading alone.
fn plain(text: &str, region: Region) -> Option<PhoneNumber> {
    let region = rlibphonenumber::Region::from_code(region.as_str()).unwrap();
    PHONE_NUMBER_UTIL.parse(text, Some(region)).ok()
}

fn is_possible(number: &PhoneNumber) -> bool {
    number.is_possible_with_reason() == Ok(NumberLengthType::IsPossible)
}

/// A part of the line's digits, unless it is all of them there: plans of one area complete them
/// (Bermuda, San Marino).
fn incomplete(line: &Line, digits: &str) -> Option<Stored> {
    let is_complete = plain(digits, line.home).is_some_and(|number| number.format_as(E164) == line.e164());
    (!is_complete).then(|| line.stored(digits.to_owned()))
}

fn one_digit_off(random: &mut Random, line: &Line) -> Line {
    let mut digits: Vec<char> = line.national().chars().collect();
    let at = random.below(digits.len());
    let old = digits[at].to_digit(10).unwrap();
    digits[at] = char::from_digit((old + 1 + u32::try_from(random.below(9)).unwrap()) % 10, 10).unwrap();
    line.with_national(&digits.into_iter().collect::<String>())
}

/// The last digits of `shown` as letters, if a keypad has letters for at least three of them.
fn vanity(random: &mut Random, line: &Line, shown: &Line) -> Option<Stored> {
    // Without X, which announces an extension.
    const KEYPAD: [&str; 10] = ["", "", "ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WYZ"];
    let digits = shown.e164();
    let spelled = (4 + random.below(4)).min(digits.len() - 5);
    let (front, back) = digits.split_at(digits.len() - spelled);
    let letters: String = back
        .bytes()
        .map(|digit| {
            let keys = KEYPAD[usize::from(digit - b'0')].as_bytes();
            char::from(if keys.is_empty() { digit } else { *random.of(keys) })
        })
        .collect();
    (letters.bytes().filter(u8::is_ascii_alphabetic).count() >= 3).then(|| line.stored(format!("{front}{letters}")))
}

#[derive(Default)]
struct Figures {
    pairs: usize,
    exact: usize,
    variant: usize,
    assumed: usize,
    missed: usize,
    wrong: Vec<String>,
}

/// Whether a plan gave one of its old numbers to the same line as another: the list again.
fn are_twins(old: &str, new: &str) -> bool {
    const FRONTS: &[(&str, &str)] = &[
        ("+24101", "+24111"),
        ("+24102", "+24162"),
        ("+24104", "+24174"),
        ("+24105", "+24165"),
        ("+24106", "+24166"),
        ("+24107", "+24177"),
        ("+38128", "+38328"),
        ("+38129", "+38329"),
        ("+38138", "+38338"),
        ("+38139", "+38339"),
        ("+37744", "+38344"),
        ("+37745", "+38345"),
        ("+844", "+8424"),
    ];
    let is_area_of_vietnam =
        old.starts_with("+84") && new.starts_with("+842") && old[old.len() - 7..] == new[new.len() - 7..];
    is_area_of_vietnam
        || FRONTS
            .iter()
            .any(|(front, now)| old.strip_prefix(front).is_some_and(|rest| new.strip_prefix(now) == Some(rest)))
}

/// Whether a text shows the eight digits that the line had before its plan put two before them.
fn shows_old_number(text: &str, line: &Line) -> bool {
    const INSERTED: &[(i32, &[&str])] =
        &[(229, &["01"]), (225, &["01", "05", "07", "21", "25", "27"]), (57, &["60"]), (234, &["20"])];
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let national = line.national();
    INSERTED.iter().any(|(code, prefixes)| {
        line.number.country_code == *code
            && prefixes
                .iter()
                .any(|prefix| national.strip_prefix(prefix).is_some_and(|old| old.len() == 8 && digits.ends_with(old)))
    })
}

/// Whether two keys are told apart by the one digit of a rule and nothing else: the rules again, in
/// other words.
fn are_variants_by_rule(one: PhoneKey, other: PhoneKey) -> bool {
    let (one, other) = (one.e164(), other.e164());
    if are_twins(&one, &other) || are_twins(&other, &one) {
        return true;
    }
    let (long, short) = if one.len() > other.len() { (one, other) } else { (other, one) };
    [("+54", 3, '9'), ("+55", 5, '9'), ("+39", 3, '0')].iter().any(|&(code, at, digit)| {
        let mut without = long.clone();
        long.starts_with(code) && long.chars().nth(at) == Some(digit) && {
            without.remove(at);
            without == short
        }
    })
}

/// Whether a text without a country shows the whole national number, perhaps behind what is dialled
/// before it.
fn shows_national(text: &str, line: &Line) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let national = line.national();
    !text.contains('+')
        && digits.strip_suffix(&national).is_some_and(|trunk| trunk.len() <= 3)
        // Argentina writes 15 behind the area code for the 9 before it.
        || line.number.country_code == 54 && digits.ends_with(&national[national.len() - 6..])
}

fn measure(figures: &mut Figures, class: &str, line: &Line, stored: &Stored, is_same: bool) {
    figures.pairs += 1;
    let caller = read(&line.e164(), None).first().unwrap().key;
    let keys: Vec<_> = read(&stored.text, stored.region).numbers().map(|number| number.key).collect();
    let by_variant = variants(caller).find(|variant| keys.contains(&variant.key));
    let is_probed =
        local_digits(&stored.text).is_some_and(|digits| assumed_probes(caller, &[line.home]).contains(&digits));
    let assumed = is_probed && assumed_region(&stored.text, keys.first().copied(), caller, &[line.home]).is_some();
    let mut wrong = |what: &str| {
        let keys: Vec<_> = keys.iter().map(|key| key.e164()).collect();
        let Stored { text, region } = stored;
        figures.wrong.push(format!("{class}: {what}: {text:?} in {region:?} is {keys:?}, called {}", line.e164()));
    };
    if keys.contains(&caller) {
        if !is_same && !shows_old_number(&stored.text, line) {
            wrong("matched another line");
        }
        figures.exact += 1;
        return;
    }
    if is_same && !keys.is_empty() {
        wrong("read as another line");
    }
    if let Some(variant) = by_variant {
        if !are_variants_by_rule(caller, variant.key) {
            wrong("variant without a rule");
        }
        figures.variant += 1;
    } else if assumed {
        if !shows_national(&stored.text, line) {
            wrong("assumed region of another line");
        }
        if !is_same && keys.iter().any(|&key| is_assigned(key)) {
            wrong("assumed, though it is somebody's number at home");
        }
        figures.assumed += 1;
    } else {
        figures.missed += 1;
    }
}

pub(crate) fn switch(variable: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, not a setting of the service")]
    std::env::var(variable).ok().map_or(default, |value| value.parse().unwrap())
}

#[test]
fn no_pair_is_matched_wrongly() {
    let (seed, wanted) = (switch(SEED_VARIABLE, SEED), switch(PAIRS_VARIABLE, PAIRS));
    let world = World::new();
    let mut random = Random(seed.max(1));
    let mut all = BTreeMap::<(bool, &str), Figures>::new();
    let mut pairs = 0;
    while pairs < wanted {
        let line = world.line(&mut random);
        let is_same = random.below(3) == 0;
        let (class, make) = *random.of(if is_same { SAME } else { DIFFERENT });
        if let Some(stored) = make(&world, &mut random, &line) {
            measure(all.entry((is_same, class)).or_default(), class, &line, &stored, is_same);
            pairs += 1;
        }
    }

    println!("{pairs} pairs, seed {seed} ({SEED_VARIABLE})");
    for ((is_same, class), figures) in &all {
        let kind = if *is_same { "same" } else { "different" };
        let Figures { pairs, exact, variant, assumed, missed, wrong } = figures;
        let wrong_count = wrong.len();
        println!(
            "{kind:9} {class:32} {pairs:7} pairs: {exact} exact, {variant} variant, {assumed} assumed, {missed} none, \
             {wrong_count} wrong"
        );
        wrong.iter().take(8).for_each(|pair| println!("    {pair}"));
    }
    let same = || all.iter().filter(|((is_same, _), _)| *is_same).map(|(_, figures)| figures);
    let wrong: usize = all.values().map(|figures| figures.wrong.len()).sum();
    let missed: usize = same().map(|figures| figures.missed).sum();
    let same_pairs: usize = same().map(|figures| figures.pairs).sum();
    assert_eq!(wrong, 0, "wrong matches, seed {seed}");
    assert!(missed * 1000 <= same_pairs * MISSED_MAX, "{missed} of {same_pairs} missed, seed {seed}");
}
