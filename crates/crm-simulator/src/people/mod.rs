//! The people of a simulated CRM: who they are and how somebody typed their numbers. Owns: names,
//! organisations, numbers, times. Invariant: one seed, one clock, one sequence of people, on every
//! machine and for ever: it draws from the generator's raw output only. Must not: use anybody's
//! real data. Domains end in `.example` (RFC 2606); numbers come from the ranges kept for fiction
//! while these last.

mod names;
mod numbers;

use std::{collections::VecDeque, fmt};

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use numbers::Numbers;

/// Share of people (per thousand) who have no phone number.
const WITHOUT_PHONE: u64 = 50;
/// Share of people (per thousand) who are on a number that somebody else has too.
const ON_SHARED_NUMBER: u64 = 30;
/// Share of people (per thousand) with a second number, and of these with a third.
const WITH_SECOND_NUMBER: u64 = 120;
/// Share of people (per thousand) who work for the owner of the CRM.
const AGENTS: u64 = 15;
/// Share of people (per thousand) without an e-mail address.
const WITHOUT_EMAIL: u64 = 200;
/// Numbers that the next people may share with: families and colleagues are near each other in a
/// CRM.
const NEIGHBOURS_MAX: usize = 64;
/// People were added over this many days before the clock's time.
const HISTORY_DAYS: u64 = 5 * 365;

/// A number as it stands in the CRM.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonPhone {
    /// As a human typed it, perhaps in national form, perhaps with an extension.
    pub text: String,
    /// What it means: `+` and digits.
    pub e164: String,
}

/// Somebody in a CRM. `Debug` shows nothing personal, though nobody is real.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// In the order and script of their culture.
    pub name: String,
    /// Where they work.
    pub organization: String,
    /// Which of the organisations it is, from zero; the same number, the same organisation.
    pub organization_index: u64,
    /// Unique in the sequence.
    pub email: Option<String>,
    /// None to three, the main one first.
    pub phones: Vec<PersonPhone>,
    /// Works for the owner of the CRM.
    pub is_agent: bool,
    /// Whole seconds, in the past.
    pub created_at: DateTime<Utc>,
    /// Whole seconds, not before `created_at`, in the past.
    pub updated_at: DateTime<Utc>,
}

impl fmt::Debug for Person {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Person").field("phones", &self.phones.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PersonPhone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PersonPhone(..)")
    }
}

/// An endless sequence of people.
pub struct People {
    dice: Dice,
    now: DateTime<Utc>,
    index: u64,
    numbers: Numbers,
    neighbours: VecDeque<PersonPhone>,
}

impl People {
    /// The people of `seed`, in an account that looks back from `now`.
    pub fn new(seed: u64, now: DateTime<Utc>) -> Self {
        let dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        Self { dice, now, index: 0, numbers: Numbers::default(), neighbours: VecDeque::with_capacity(NEIGHBOURS_MAX) }
    }

    fn phones(&mut self) -> Vec<PersonPhone> {
        let dice = &mut self.dice;
        if dice.per_mille(WITHOUT_PHONE) {
            return Vec::new();
        }
        if dice.per_mille(ON_SHARED_NUMBER) && !self.neighbours.is_empty() {
            let neighbour = dice.below(self.neighbours.len() as u64);
            return vec![self.neighbours[usize::try_from(neighbour).expect("at most 64")].clone()];
        }
        let mut phones = vec![self.numbers.draw(dice)];
        while phones.len() < 3 && dice.per_mille(WITH_SECOND_NUMBER) {
            phones.push(self.numbers.draw(dice));
        }
        if self.neighbours.len() == NEIGHBOURS_MAX {
            self.neighbours.pop_front();
        }
        self.neighbours.push_back(phones[0].clone());
        phones
    }

    fn times(&mut self) -> (DateTime<Utc>, DateTime<Utc>) {
        const HOUR: u64 = 3_600;
        let age = HOUR + self.dice.below(HISTORY_DAYS * 24 * HOUR);
        // Half of the records have not been touched since they were made.
        let last_touched = if self.dice.below(2) == 0 { age } else { HOUR + self.dice.below(age - HOUR + 1) };
        let before = |seconds: u64| {
            let whole = DateTime::from_timestamp(self.now.timestamp(), 0).expect("the clock is within chrono's range");
            whole - TimeDelta::seconds(i64::try_from(seconds).expect("at most five years"))
        };
        (before(age), before(last_touched))
    }
}

impl Iterator for People {
    type Item = Person;

    fn next(&mut self) -> Option<Person> {
        let index = self.index;
        self.index += 1;
        let (name, ascii) = names::draw(&mut self.dice);
        let organization_index = self.dice.below(names::ORGANIZATIONS);
        let (organization, domain) = names::organization(organization_index);
        // The index keeps addresses unique without remembering them all.
        let email = (!self.dice.per_mille(WITHOUT_EMAIL)).then(|| format!("{ascii}{index}@{domain}.example"));
        let phones = self.phones();
        let is_agent = self.dice.per_mille(AGENTS);
        let (created_at, updated_at) = self.times();
        Some(Person { name, organization, organization_index, email, phones, is_agent, created_at, updated_at })
    }
}

/// Draws that stay the same whatever the random number library does to its distributions.
struct Dice(ChaCha8Rng);

impl Dice {
    /// From zero to below `bound`; the bias is below one in 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("below the bound")
    }

    fn per_mille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("an index of the slice")]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 500_000_000).unwrap()
    }

    #[test]
    fn same_seed_makes_the_same_people() {
        let take = |seed| People::new(seed, now()).take(500).collect::<Vec<_>>();

        assert!(take(42) == take(42));
        assert!(take(42) != take(43));
    }

    #[test]
    fn people_are_spread_as_in_a_real_account() {
        let people: Vec<Person> = People::new(7, now()).take(20_000).collect();
        let share = |count: usize| count * 1_000 / people.len();

        let mut owners: HashMap<&str, usize> = HashMap::new();
        people.iter().flat_map(|person| &person.phones).for_each(|phone| *owners.entry(&phone.e164).or_default() += 1);
        let shared =
            people.iter().filter(|person| person.phones.iter().any(|phone| owners[phone.e164.as_str()] > 1)).count();
        assert!((40..80).contains(&share(shared)), "{shared} on a shared number, those who came first included");
        let phoneless = people.iter().filter(|person| person.phones.is_empty()).count();
        assert!((40..60).contains(&share(phoneless)), "{phoneless} without a phone");
        let several = people.iter().filter(|person| person.phones.len() > 1).count();
        assert!((80..140).contains(&share(several)), "{several} with several");
        assert!(people.iter().any(|person| person.is_agent));
    }

    #[test]
    fn emails_are_unique_ascii_and_reserved() {
        let mut seen = HashSet::new();
        for email in People::new(3, now()).take(20_000).filter_map(|person| person.email) {
            assert!(email.is_ascii() && email.ends_with(".example") && !email.contains(' '));
            assert!(seen.insert(email));
        }
    }

    #[test]
    fn times_are_whole_seconds_in_the_past() {
        for person in People::new(5, now()).take(5_000) {
            assert!(person.created_at <= person.updated_at && person.updated_at < now());
            assert_eq!(person.updated_at.timestamp_subsec_nanos(), 0);
        }
    }
}
