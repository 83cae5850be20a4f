//! The version of a program, as Cargo.toml has it, and as migrations name it.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Three numbers, compared from the left; a later release has a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramVersion([u32; 3]);

/// A text that is not three numbers with dots between them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no version such as 1.2.3")]
pub struct InvalidVersion(String);

impl FromStr for ProgramVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        let numbers = numbers.and_then(|numbers| <[u32; 3]>::try_from(numbers).ok());
        numbers.map(Self).ok_or_else(|| InvalidVersion(text.to_owned()))
    }
}

impl fmt::Display for ProgramVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| text.parse::<ProgramVersion>().unwrap();
        let ordered = ["0.1.0", "0.1.2", "0.1.10", "0.2.0", "0.10.0", "1.0.0", "10.0.0"];

        assert!(ordered.is_sorted_by(|a, b| version(a) < version(b)));
        assert_eq!(version("1.20.3").to_string(), "1.20.3");
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.", "1.-2.3", "+1.2.3", "1.2.3-beta", "1.2.99999999999", " 1.2.3"] {
            assert!(text.parse::<ProgramVersion>().is_err(), "{text}");
        }
    }
}
