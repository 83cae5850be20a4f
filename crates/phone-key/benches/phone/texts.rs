//! What is read: numbers of the world as carriers send them and as people type them, the same in
//! every run.

use phone_key::Region;
use rlibphonenumber::{
    PHONE_NUMBER_UTIL, PhoneNumber,
    PhoneNumberFormat::{self, E164, International, National, RFC3966},
    PhoneNumberType,
};

pub(crate) const SEED: u64 = 0x5eed;
/// Texts of a mix; few enough to stay in the cache of a core, as the text of a call is.
pub(crate) const COUNT: usize = 4_000;

/// Where most customers have most of their contacts.
const LARGE: &[&str] = &["US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "BR", "MX", "AU", "IN", "JP"];
/// Its area codes begin like a prefix, so that even the E.164 form takes the way through the
/// library.
const LEFT_TO_THE_LIBRARY: &str = "AR";

/// Texts of one kind.
pub(crate) struct Mix {
    pub name: &'static str,
    pub texts: Vec<Text>,
    /// How many times quicker than the library alone it should be.
    pub goal: Option<f64>,
}

/// A text and where it was written.
pub(crate) struct Text {
    pub raw: &'static str,
    pub region: Region,
    pub library_region: rlibphonenumber::Region,
}

/// All that is measured.
pub(crate) fn mixes() -> Vec<Mix> {
    let large: Vec<_> =
        LARGE.iter().map(|code| rlibphonenumber::Region::from_code(code).expect("a region of the list")).collect();
    let argentina = rlibphonenumber::Region::from_code(LEFT_TO_THE_LIBRARY).expect("a region of the library's list");
    let mut world: Vec<_> = PHONE_NUMBER_UTIL.get_supported_regions().collect();
    world.sort();
    let mut random = Random(SEED);
    let mut texts = |regions: &[rlibphonenumber::Region],
                     write: &mut dyn FnMut(&mut Random, &PhoneNumber) -> String| {
        let written: Vec<_> = (0..COUNT)
            .map(|at| {
                // One in twenty of the world.
                let region = if regions.len() > LARGE.len() && at % 20 == 0 { argentina } else { *random.of(regions) };
                let number = line(&mut random, region);
                (write(&mut random, &number), region)
            })
            .collect();
        side_by_side(written)
    };
    let mut mix = |name, goal, regions: &[_], write: &mut dyn FnMut(&mut Random, &PhoneNumber) -> String| Mix {
        name,
        goal,
        texts: texts(regions, write),
    };
    vec![
        mix("E.164", Some(40.0), &large, &mut |_, number| format(number, E164)),
        mix("E.164, all regions, 5 % misses", Some(6.0), &world, &mut |_, number| format(number, E164)),
        mix("international, formatted", Some(10.0), &large, &mut |_, number| format(number, International)),
        mix("national", Some(1.0 / 1.3), &large, &mut |_, number| format(number, National)),
        mix("noisy", Some(1.0 / 1.3), &large, &mut noisy),
        mix("with remarks and addresses", None, &large, &mut wrapped),
    ]
}

/// The texts in one piece of memory for as long as the bench runs, else the time of a short reading
/// is that of fetching its text.
fn side_by_side(written: Vec<(String, rlibphonenumber::Region)>) -> Vec<Text> {
    let all: &'static str = written.iter().map(|(raw, _)| raw.as_str()).collect::<String>().leak();
    let mut start = 0;
    written
        .into_iter()
        .map(|(raw, library_region)| {
            let end = start + raw.len();
            let region = Region::parse(&library_region.as_region_str()).expect("a region of the library");
            let text = Text { raw: &all[start..end], region, library_region };
            start = end;
            text
        })
        .collect()
}

/// Signs, blanks and words that the library reads too.
fn noisy(random: &mut Random, number: &PhoneNumber) -> String {
    let national = format(number, National);
    match random.below(6) {
        0 => national.replace(' ', "-"),
        1 => format!("Tel: {national}"),
        2 => format!("  {}  ", national.replace([' ', '-'], ".")),
        3 => format!("{national} ext. {}", 10 + random.below(90)),
        4 => format(number, RFC3966),
        _ => national.replace(' ', "\u{a0}"),
    }
}

/// What the library alone reads wrongly or not at all.
fn wrapped(random: &mut Random, number: &PhoneNumber) -> String {
    let national = format(number, National);
    match random.below(4) {
        0 => format!("{national} (Mary)"),
        1 => format!("{national} ask for Bob"),
        2 => format!("\"Bob\" <sip:{}@10.0.0.7:5060;user=phone>;tag=1", format(number, E164)),
        _ => format!("{national} / {}", format(number, E164)),
    }
}

fn format(number: &PhoneNumber, format: PhoneNumberFormat) -> String {
    number.format_as(format).into_owned()
}

/// A number of a fixed line or a mobile, valid or nearly so.
fn line(random: &mut Random, region: rlibphonenumber::Region) -> PhoneNumber {
    let kind = *random.of(&[PhoneNumberType::FixedLine, PhoneNumberType::Mobile]);
    let example = PHONE_NUMBER_UTIL
        .get_example_number_for_type_and_region(region, kind)
        .or_else(|_| PHONE_NUMBER_UTIL.get_example_number(region))
        .expect("every region has an example");
    let mut number = example.clone();
    number.national_number = example.national_number / 10_000 * 10_000 + random.below(10_000) as u64;
    if number.is_valid() { number } else { example.clone() }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit).unwrap_or(0)
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
