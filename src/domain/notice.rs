//! What happened to a run, for a program to branch on and a person to read.

use std::{borrow::Cow, fmt};

/// A reason and words, such as `FIELD_HIDDEN` and what to do about it. Without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `UPPER_SNAKE`.
    pub reason: Cow<'static, str>,
    /// What it means and what to do.
    pub message: Cow<'static, str>,
}

impl Notice {
    /// With words made for the occasion.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Cow::Borrowed(reason), message: Cow::Owned(message.into()) }
    }

    /// With words that are always the same.
    pub const fn fixed(reason: &'static str, message: &'static str) -> Self {
        Self { reason: Cow::Borrowed(reason), message: Cow::Borrowed(message) }
    }

    /// As stored; empty: none.
    pub fn stored(notice: Option<&Self>) -> String {
        notice.map(Self::to_string).unwrap_or_default()
    }

    /// Reads what `Display` has written; `None`: nothing.
    pub fn read(text: &str) -> Option<Self> {
        let (reason, message) = text.split_once(": ").unwrap_or((text, ""));
        let owned = |text: &str| Cow::Owned(text.to_owned());
        (!text.is_empty()).then(|| Self { reason: owned(reason), message: owned(message) })
    }
}

/// As stored, and as told to operators: `REASON: words`.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_back_as_it_is_written() {
        let notice = Notice::new("CRM_UNREACHABLE", "acme.zendesk.com did not answer: it is tried again");

        assert_eq!(Notice::read(&notice.to_string()), Some(notice));
        assert_eq!(Notice::read(""), None);
    }
}
