//! What a text says: its numbers, or why it has none.

use std::fmt;

use crate::PhoneKey;

/// What a text says about a caller or a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// One number; several if the field holds several.
    Numbers(ReadNumbers),
    /// The caller hides the number: "anonymous", "private", a keypad sentinel such as +266696687.
    /// Never a key.
    Withheld,
    /// No number that could be called from elsewhere: short codes, local numbers without area code,
    /// fillers, words.
    Unparseable,
}

impl Reading {
    /// The numbers read, in the order written; none if withheld or unparseable.
    pub fn numbers(&self) -> impl Iterator<Item = &ReadNumber> {
        match self {
            Self::Numbers(numbers) => Some(numbers.iter()),
            Self::Withheld | Self::Unparseable => None,
        }
        .into_iter()
        .flatten()
    }

    pub(crate) fn of(key: PhoneKey) -> Self {
        Self::Numbers(ReadNumbers::one(ReadNumber { key, extension: None }))
    }

    /// The first number, which is the only one in nearly every field.
    pub fn first(&self) -> Option<&ReadNumber> {
        match self {
            Self::Numbers(numbers) => Some(&numbers.first),
            Self::Withheld | Self::Unparseable => None,
        }
    }
}

/// At least one and at most eight numbers. One needs no heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadNumbers {
    first: ReadNumber,
    others: Vec<ReadNumber>,
}

impl ReadNumbers {
    pub(crate) fn one(first: ReadNumber) -> Self {
        Self { first, others: Vec::new() }
    }

    /// In the order written. A number written twice is there once.
    pub fn iter(&self) -> impl Iterator<Item = &ReadNumber> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The number written first.
    pub fn first(&self) -> &ReadNumber {
        &self.first
    }

    pub(crate) fn add(&mut self, number: ReadNumber) {
        if self.iter().all(|known| known.key != number.key) {
            self.others.push(number);
        }
    }
}

impl IntoIterator for ReadNumbers {
    type Item = ReadNumber;
    type IntoIter = std::iter::Chain<std::iter::Once<ReadNumber>, std::vec::IntoIter<ReadNumber>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.first).chain(self.others)
    }
}

/// One number of a field.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadNumber {
    /// What is compared.
    pub key: PhoneKey,
    /// The digits to dial after the call is answered, as written (any script's digits, at most 20).
    /// Caller ids never carry it, so it is a label and never part of the key.
    pub extension: Option<String>,
}

impl fmt::Debug for ReadNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadNumber").field("key", &self.key).field("has_extension", &self.extension.is_some()).finish()
    }
}
