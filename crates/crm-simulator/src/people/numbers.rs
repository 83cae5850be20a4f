//! Phone numbers and the ways in which humans type them. Owns: number ranges by country and
//! spelling. Ranges kept for fiction come first (NANP 555-01XX; Ofcom, ARCEP, `BNetzA` and ACMA
//! lists of numbers for drama); an account of hundreds of thousands needs more, and goes on in
//! ranges that are plausible. Nothing here ever dials.

use super::{Dice, PersonPhone};

/// A country's numbers and its manner of writing them.
struct Country {
    /// How often it occurs, in parts of the sum of all.
    weight: u64,
    calling_code: &'static str,
    /// Written before a national number inside the country.
    trunk: &'static str,
    blocks: &'static [Block],
}

/// Numbers that begin alike, all valid in their country's plan (ranges for drama that the plan
/// calls invalid are left out): a prefix of the national number and so many free digits.
struct Block {
    prefix: &'static str,
    free_digits: u32,
    /// How the national number is cut when it is written down.
    groups: &'static [usize],
}

const fn block(prefix: &'static str, free_digits: u32, groups: &'static [usize]) -> Block {
    Block { prefix, free_digits, groups }
}

const fn country(weight: u64, calling_code: &'static str, trunk: &'static str, blocks: &'static [Block]) -> Country {
    Country { weight, calling_code, trunk, blocks }
}

/// Area codes of the United States and Canada; the exchange is always 555.
const NANP_AREAS: [&str; 64] = [
    "201", "202", "203", "205", "206", "207", "208", "209", "210", "212", "213", "214", "215", "216", "217", "218",
    "219", "224", "225", "228", "229", "231", "234", "239", "240", "248", "251", "252", "253", "254", "256", "260",
    "262", "267", "269", "270", "276", "281", "301", "302", "303", "304", "305", "307", "308", "309", "310", "312",
    "313", "314", "315", "316", "317", "318", "319", "320", "321", "323", "416", "514", "604", "613", "647", "780",
];

const NANP_WEIGHT: u64 = 50;

const COUNTRIES: [Country; 13] = [
    country(
        12,
        "44",
        "0",
        &[
            block("2079460", 3, &[2, 4, 4]),
            block("1614960", 3, &[3, 3, 4]),
            block("1214960", 3, &[3, 3, 4]),
            block("7400", 6, &[4, 3, 3]),
        ],
    ),
    country(
        7,
        "33",
        "0",
        &[
            block("19900", 4, &[1, 2, 2, 2, 2]),
            block("35301", 4, &[1, 2, 2, 2, 2]),
            block("26191", 4, &[1, 2, 2, 2, 2]),
            block("761", 6, &[1, 2, 2, 2, 2]),
        ],
    ),
    country(
        7,
        "49",
        "0",
        &[
            block("3023125", 3, &[2, 8]),
            block("6990009", 3, &[2, 8]),
            block("8999998", 3, &[2, 8]),
            block("1512", 7, &[3, 8]),
        ],
    ),
    country(
        4,
        "61",
        "0",
        &[
            block("25550", 4, &[1, 4, 4]),
            block("35550", 4, &[1, 4, 4]),
            block("75550", 4, &[1, 4, 4]),
            block("412", 6, &[3, 3, 3]),
        ],
    ),
    country(3, "34", "", &[block("61", 7, &[3, 2, 2, 2]), block("912", 6, &[2, 3, 2, 2])]),
    country(3, "39", "", &[block("3471", 6, &[3, 3, 4]), block("02", 8, &[2, 4, 4])]),
    country(4, "351", "", &[block("91", 7, &[3, 3, 3]), block("21", 7, &[3, 3, 3])]),
    country(2, "31", "0", &[block("61", 7, &[1, 4, 4])]),
    country(3, "55", "0", &[block("1198", 7, &[2, 5, 4])]),
    country(2, "52", "", &[block("5512", 6, &[2, 4, 4])]),
    country(3, "91", "0", &[block("981", 7, &[5, 5])]),
    country(1, "81", "0", &[block("9012", 6, &[2, 4, 4])]),
    country(1, "48", "", &[block("501", 6, &[3, 3, 3])]),
];

/// Hands out numbers: each once, until a country's ranges are used up.
#[derive(Default)]
pub(super) struct Numbers {
    nanp_used: u64,
    used: [u64; COUNTRIES.len()],
}

impl Numbers {
    pub(super) fn draw(&mut self, dice: &mut Dice) -> PersonPhone {
        let all = NANP_WEIGHT + COUNTRIES.iter().map(|country| country.weight).sum::<u64>();
        let mut point = dice.below(all);
        if point < NANP_WEIGHT {
            return self.draw_nanp(dice);
        }
        point -= NANP_WEIGHT;
        for (country, used) in COUNTRIES.iter().zip(&mut self.used) {
            if point < country.weight {
                *used += 1;
                return draw_of(country, *used - 1, dice);
            }
            point -= country.weight;
        }
        unreachable!("the point is below the sum of the weights")
    }

    fn draw_nanp(&mut self, dice: &mut Dice) -> PersonPhone {
        let used = self.nanp_used;
        self.nanp_used += 1;
        let areas = NANP_AREAS.len() as u64;
        let area = NANP_AREAS[usize::try_from(used % areas).expect("below the number of areas")];
        let line = format!("{:04}", nanp_line(used / areas));
        PersonPhone { e164: format!("+1{area}555{line}"), text: spell_nanp(area, &line, dice) }
    }
}

/// The line number of the n-th person in an area: 0100 to 0199, kept for fiction, first; then the
/// rest of the exchange, which is all but empty.
fn nanp_line(index: u64) -> u64 {
    const FICTION: std::ops::Range<u64> = 100..200;
    const REST: u64 = 9_900;
    if index < 100 {
        return FICTION.start + index;
    }
    let rest = (index - 100) % REST * 7_919 % REST;
    if rest < FICTION.start { rest } else { rest + 100 }
}

fn spell_nanp(area: &str, line: &str, dice: &mut Dice) -> String {
    let mut text = match dice.below(20) {
        0..4 => format!("({area}) 555-{line}"),
        4..6 => format!("({area})-555-{line}"),
        6..9 => format!("{area}-555-{line}"),
        9..11 => format!("{area}.555.{line}"),
        11..13 => format!("{area}555{line}"),
        13 => format!("1-{area}-555-{line}"),
        14 => format!("{area} 555 {line}"),
        15 => format!("+1 {area} 555 {line}"),
        16 => format!("+1 ({area}) 555-{line}"),
        17 => format!("1 ({area}) 555 {line}"),
        _ => format!("+1{area}555{line}"),
    };
    if dice.per_mille(40) {
        let extension = 100 + dice.below(900);
        let word = dice.pick(&[" ext. ", " x", " ext ", "x", " Ext: ", " #"]);
        text.push_str(word);
        text.push_str(&extension.to_string());
    }
    text
}

fn draw_of(country: &Country, used: u64, dice: &mut Dice) -> PersonPhone {
    let mut index = used;
    let mut chosen = &country.blocks[country.blocks.len() - 1];
    for block in country.blocks {
        let capacity = 10_u64.pow(block.free_digits);
        if index < capacity {
            chosen = block;
            break;
        }
        index -= capacity;
    }
    let capacity = 10_u64.pow(chosen.free_digits);
    // Multiplying by a prime that divides no power of ten visits every number of the block once, in
    // no visible order.
    let free = (index % capacity) * 7_919 % capacity;
    let national = format!("{}{free:0width$}", chosen.prefix, width = chosen.free_digits as usize);
    PersonPhone { e164: format!("+{}{national}", country.calling_code), text: spell(country, chosen, &national, dice) }
}

fn spell(country: &Country, block: &Block, national: &str, dice: &mut Dice) -> String {
    let Country { calling_code, trunk, .. } = country;
    let mut groups = Vec::with_capacity(block.groups.len());
    let mut rest = national;
    for length in block.groups {
        let (group, tail) = rest.split_at(*length.min(&rest.len()));
        groups.push(group);
        rest = tail;
    }
    match dice.below(20) {
        0..7 => format!("+{calling_code} {}", groups.join(" ")),
        7..12 => format!("+{calling_code}{national}"),
        12 => format!("00{calling_code} {}", groups.join(" ")),
        13 => format!("+{calling_code}-{}", groups.join("-")),
        14 if !trunk.is_empty() => format!("+{calling_code} ({trunk}){}", groups.join(" ")),
        14 => format!("+{calling_code} ({}) {}", groups[0], groups[1..].join("-")),
        15 => format!("00{calling_code}{national}"),
        16 => format!("+{calling_code}.{}", groups.join(".")),
        17 => format!("{trunk}{}", groups.join(" ")),
        18 => format!("({trunk}{}) {}", groups[0], groups[1..].join(" ")),
        _ => format!("{trunk}{national}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn numbers_do_not_repeat_in_a_large_account() {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(11));
        let mut numbers = Numbers::default();
        let mut seen = HashSet::new();
        for _ in 0..300_000 {
            assert!(seen.insert(numbers.draw(&mut dice).e164));
        }
    }

    #[test]
    fn text_holds_the_digits_of_the_number() {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(12));
        let mut numbers = Numbers::default();
        for _ in 0..20_000 {
            let phone = numbers.draw(&mut dice);
            let subscriber = &phone.e164[phone.e164.len() - 6..];
            assert!(digits(&phone.text).contains(subscriber), "{} is not in {}", subscriber, phone.text);
        }
    }

    #[test]
    fn groups_cover_the_whole_number() {
        for block in COUNTRIES.iter().flat_map(|country| country.blocks) {
            let length = block.prefix.len() + block.free_digits as usize;
            assert_eq!(block.groups.iter().sum::<usize>(), length, "block {}", block.prefix);
        }
    }
}
