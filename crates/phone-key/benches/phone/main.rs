//! How quick a phone number is read, beside the library alone: `./dev bench phone`.
//!
//! Both sides read the same texts in the same process, in turns; of several rounds the quickest
//! counts, in nanoseconds a number. The library alone is what a program would do without this
//! service: parse, ask whether the length is possible, pack country code and number into an
//! integer. It understands less: how many texts give both the same key is said beside.
//!
//! A goal that is missed is said, and is no failure: on a shared machine such figures are noise.

mod texts;

use std::{hint::black_box, time::Instant};

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL};

use texts::{Mix, Text};

/// Rounds of each mix; the quickest counts.
const ROUNDS: usize = 60;

fn main() {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("./dev bench phone");
        return;
    }
    phone_key::warm_up();
    println!("phone: {} texts a mix, {ROUNDS} rounds, seed {}", texts::COUNT, texts::SEED);
    println!("{:34} {:>9} {:>9} {:>8}  {:14} {:7} same key", "", "read", "library", "quicker", "goal", "");
    for mix in texts::mixes() {
        measure(&mix);
    }
}

fn measure(mix: &Mix) {
    let same = mix.texts.iter().filter(|text| ours(text) == plain(text)).count();
    let (mut read, mut library) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        read = read.min(nanoseconds(&mix.texts, ours));
        library = library.min(nanoseconds(&mix.texts, plain));
    }
    let ratio = library / read;
    let (goal, verdict) = match mix.goal {
        Some(goal) => (format!("at least {goal:.2}"), if ratio >= goal { "met" } else { "MISSED" }),
        None => (String::new(), ""),
    };
    println!(
        "{:34} {read:6.0} ns {library:6.0} ns {ratio:7.2}x  {goal:14} {verdict:7} {same} of {}",
        mix.name,
        mix.texts.len()
    );
}

fn nanoseconds(texts: &[Text], key: fn(&Text) -> Option<u64>) -> f64 {
    let start = Instant::now();
    for text in texts {
        black_box(key(black_box(text)));
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let count = texts.len() as f64;
    start.elapsed().as_secs_f64() * 1e9 / count
}

fn ours(text: &Text) -> Option<u64> {
    let reading = phone_key::read(text.raw, Some(text.region));
    reading.first().and_then(|number| u64::try_from(number.key.as_i64()).ok())
}

fn plain(text: &Text) -> Option<u64> {
    let number = PHONE_NUMBER_UTIL.parse(text.raw, Some(text.library_region)).ok()?;
    if number.is_possible_with_reason() != Ok(NumberLengthType::IsPossible) {
        return None;
    }
    let zeros = if number.italian_leading_zero() { u32::try_from(number.number_of_leading_zeros()).ok()? } else { 0 };
    let digits = number.national_number.checked_ilog10().unwrap_or(0) + 1 + zeros;
    let code = u64::try_from(number.country_code).ok()?;
    10_u64.checked_pow(digits)?.checked_mul(code)?.checked_add(number.national_number)
}
