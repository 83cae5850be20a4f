//! Reads what vendors send as far as it can be read, in bounded memory: a byte that is none costs a
//! character, a value of a wrong kind costs that value, a row costs that row. Rows stay slices of
//! the body and are taken one by one, so that what a page costs is a small multiple of its bytes,
//! whatever they say.

use std::borrow::Cow;

use serde::{
    Deserializer as _,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::CrmError;
use crate::domain::{
    record::{NUMBERS_MAX, RawNumber},
    rejected::{RejectReason, ValueLosses},
};

/// Characters of a body that may be replaced; each takes up to two bytes more than it had. More of
/// them, and it is another encoding.
const REPLACED_MAX: usize = 1_000_000;
/// What is read of one text with numbers.
const TEXT_BYTES_MAX: usize = 4_000;
/// What stands where a character could not be read.
const REPLACEMENT: char = '\u{fffd}';

const NO_TEXT: CrmError = CrmError::Unreadable("it is not text in UTF-8");

/// Does work that takes long off the threads that answer calls. The work is bounded; who waits for
/// it may be cancelled meanwhile.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CrmError> + Send + 'static,
) -> Result<T, CrmError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(CrmError::Unreadable("reading it failed; see the log")),
    }
}

/// A body as text.
pub(super) struct BodyText {
    pub(super) text: String,
    /// Characters that were replaced.
    pub(super) replaced: usize,
}

impl BodyText {
    /// JSON in which every string can be read: bytes that are no UTF-8 and halves of surrogates
    /// become U+FFFD, raw control characters and escapes that there are not become spaces.
    pub(super) fn json(mut body: Vec<u8>) -> Result<Self, CrmError> {
        let mended = mend_escapes(&mut body);
        let text = Self::plain(body)?;
        Ok(Self { replaced: text.replaced + mended, ..text })
    }

    /// Text without a byte-order mark, with U+FFFD for what is no UTF-8.
    pub(super) fn plain(mut body: Vec<u8>) -> Result<Self, CrmError> {
        if body.starts_with(b"\xef\xbb\xbf") {
            body.drain(..3);
        }
        let body = match String::from_utf8(body) {
            Ok(text) => return Ok(Self { text, replaced: 0 }),
            Err(error) => error.into_bytes(),
        };
        let replaced = body.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
        if replaced > REPLACED_MAX {
            return Err(NO_TEXT);
        }
        let mut text = String::with_capacity(body.len() + 2 * replaced);
        for chunk in body.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(REPLACEMENT);
            }
        }
        Ok(Self { text, replaced })
    }

    /// The whole as one value.
    pub(super) fn value(&self) -> Option<&RawValue> {
        serde_json::from_str(&self.text).ok()
    }
}

/// Mends in place, and counts. Outside of strings JSON has no backslash, and control characters are
/// white space there.
fn mend_escapes(body: &mut [u8]) -> usize {
    let mut mended = 0;
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'\t' | b'\n' | b'\r' => body[at] = b' ',
            0..0x20 => {
                body[at] = b' ';
                mended += 1;
            }
            b'\\' => {
                at += escape(body, at, &mut mended);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    mended
}

/// The escape at this place: mends it, and says how long it is.
fn escape(body: &mut [u8], at: usize, mended: &mut usize) -> usize {
    match body.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
        Some(b'u') => match (unit(body, at), unit(body, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                body[at + 2..at + 6].copy_from_slice(b"fffd");
                *mended += 1;
                6
            }
            (Some(_), _) => 6,
            (None, _) => space(body, at, mended),
        },
        _ => space(body, at, mended),
    }
}

fn space(body: &mut [u8], at: usize, mended: &mut usize) -> usize {
    body[at] = b' ';
    *mended += 1;
    1
}

/// The code unit of `\uXXXX` at this place.
fn unit(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Some fields of an object; of a name that comes twice, the last value.
pub(super) struct JsonFields<'a, 'n> {
    found: Vec<(&'n str, &'a RawValue)>,
}

impl<'a, 'n> JsonFields<'a, 'n> {
    /// `None`: it is no object.
    pub(super) fn of(value: &'a RawValue, wanted: &[&'n str]) -> Option<Self> {
        let visitor = FieldsVisitor { wanted };
        let found = serde_json::Deserializer::from_str(value.get()).deserialize_map(visitor).ok()?;
        Some(Self { found })
    }

    /// The value of this field; `None`: it is not there.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.found.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The value of this field; null if it is not there.
    pub(super) fn cell(&self, name: &str) -> JsonCell<'a> {
        self.raw(name).map_or(JsonCell::Null, JsonCell::of)
    }

    /// A list; `None`: it is none.
    pub(super) fn list(&self, name: &str) -> Option<&'a RawValue> {
        self.raw(name).filter(|value| value.get().starts_with('['))
    }
}

struct FieldsVisitor<'w, 'n> {
    wanted: &'w [&'n str],
}

impl<'a, 'n> Visitor<'a> for FieldsVisitor<'_, 'n> {
    type Value = Vec<(&'n str, &'a RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Vec<(&'n str, &'a RawValue)> = Vec::with_capacity(self.wanted.len());
        while let Some(name) = map.next_key::<String>()? {
            let Some(wanted) = self.wanted.iter().find(|wanted| **wanted == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&'a RawValue>()?;
            match found.iter_mut().find(|(known, _)| known == wanted) {
                Some(known) => known.1 = value,
                None => found.push((wanted, value)),
            }
        }
        Ok(found)
    }
}

/// Takes the elements of a list one by one, at most `max` of them. False: it is no list, or there
/// are more.
pub(super) fn each<'a>(list: &'a RawValue, max: usize, take: impl FnMut(&'a RawValue)) -> bool {
    serde_json::Deserializer::from_str(list.get()).deserialize_seq(EachVisitor { max, take }).is_ok()
}

struct EachVisitor<F> {
    max: usize,
    take: F,
}

impl<'a, F: FnMut(&'a RawValue)> Visitor<'a> for EachVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list that is not too long")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut left = self.max;
        while let Some(value) = list.next_element::<&'a RawValue>()? {
            left = left.checked_sub(1).ok_or_else(|| A::Error::custom("too long"))?;
            (self.take)(value);
        }
        Ok(())
    }
}

/// A value, as far as anybody needs to know.
pub(super) enum JsonCell<'a> {
    /// Null, or not there.
    Null,
    Text(Cow<'a, str>),
    /// As written.
    Number(&'a str),
    Flag(bool),
    List(&'a RawValue),
    Object(&'a RawValue),
}

/// A value of another kind than its field can have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnreadableValue;

impl<'a> JsonCell<'a> {
    pub(super) fn of(value: &'a RawValue) -> Self {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map_or(Self::Null, |text: String| Self::Text(Cow::Owned(text))),
            Some(b'[') => Self::List(value),
            Some(b'{') => Self::Object(value),
            Some(b't') => Self::Flag(true),
            Some(b'f') => Self::Flag(false),
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number(text),
        }
    }

    /// A text that is not blank. A number is its digits.
    pub(super) fn text(self) -> Result<Option<String>, UnreadableValue> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text.into_owned()).filter(|text| !text.trim().is_empty())),
            Self::Number(number) => digits(number).map(Some).ok_or(UnreadableValue),
            Self::Flag(_) | Self::List(_) | Self::Object(_) => Err(UnreadableValue),
        }
    }

    /// As [`Self::text`]; what cannot be read is none, and noted.
    pub(super) fn text_or_loss(self, field: &str, losses: &mut ValueLosses) -> Option<String> {
        self.text().unwrap_or_else(|UnreadableValue| {
            losses.value(field);
            None
        })
    }

    /// True or false, also as 1 and 0 or as text; null and nothing say neither.
    pub(super) fn flag(self) -> Result<Option<bool>, UnreadableValue> {
        match self {
            Self::Null => Ok(None),
            Self::Flag(flag) => Ok(Some(flag)),
            Self::Number("1") => Ok(Some(true)),
            Self::Number("0") => Ok(Some(false)),
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(UnreadableValue),
            },
            Self::Number(_) | Self::List(_) | Self::Object(_) => Err(UnreadableValue),
        }
    }

    /// As [`Self::flag`]; what cannot be read says neither, and is noted.
    pub(super) fn flag_or_loss(self, field: &str, losses: &mut ValueLosses) -> Option<bool> {
        self.flag().unwrap_or_else(|UnreadableValue| {
            losses.value(field);
            None
        })
    }

    /// An id that is a whole number above 0, written as a number or as text.
    pub(super) fn id(self) -> Option<u64> {
        let id: u64 = match &self {
            Self::Number(number) => number.parse().ok()?,
            Self::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        (id > 0).then_some(id)
    }
}

/// The digits of a number in JSON's notation. A telephone number that was taken for a number may
/// come as `4155551212`, as `4155551212.0` and as `4.155551212E9`; from 2^53 on such a one has lost
/// digits, and is none.
fn digits(number: &str) -> Option<String> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if !number.contains(['.', 'e', 'E']) {
        return Some(number.to_owned());
    }
    let value: f64 = number.parse().ok().filter(|value: &f64| value.is_finite() && value.abs() < EXACT_MAX)?;
    if value.fract() == 0.0 { Some(format!("{value:.0}")) } else { Some(number.to_owned()) }
}

/// The numbers, or addresses, of one record: each text once, the first so many of them.
pub(super) struct TextValues {
    pub(super) found: Vec<RawNumber>,
    max: usize,
    are_numbers: bool,
}

impl TextValues {
    pub(super) fn numbers() -> Self {
        Self { found: Vec::new(), max: NUMBERS_MAX, are_numbers: true }
    }

    pub(super) fn emails() -> Self {
        Self { found: Vec::new(), max: crate::domain::record::EMAILS_MAX, are_numbers: false }
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.found.into_iter().map(|number| number.raw).collect()
    }

    /// Takes a value in any form that vendors have had: a text, a number, an object with a `value`,
    /// or a list of those.
    pub(super) fn take(&mut self, cell: JsonCell<'_>, field: &str, label: &str, losses: &mut ValueLosses) {
        match cell {
            JsonCell::List(list) => {
                each(list, usize::MAX, |element| self.take_one(JsonCell::of(element), field, label, losses));
            }
            other => self.take_one(other, field, label, losses),
        }
    }

    fn take_one(&mut self, cell: JsonCell<'_>, field: &str, label: &str, losses: &mut ValueLosses) {
        let (cell, label) = match cell {
            JsonCell::Object(entry) => {
                let Some(entry) = JsonFields::of(entry, &["value", "label"]) else { return self.lose(field, losses) };
                if entry.raw("value").is_none() && entry.raw("label").is_none() {
                    return self.lose(field, losses);
                }
                let named = entry.cell("label").text().ok().flatten();
                (entry.cell("value"), named.map_or(Cow::Borrowed(""), Cow::Owned))
            }
            other => (other, Cow::Borrowed(label)),
        };
        match cell.text() {
            Ok(None) => {}
            // Which character it was cannot be known: it may have been a digit.
            Ok(Some(text)) if self.are_numbers && text.contains(REPLACEMENT) => self.lose(field, losses),
            Ok(Some(text)) => self.add(text, &label, field, losses),
            Err(UnreadableValue) => self.lose(field, losses),
        }
    }

    pub(super) fn add(&mut self, mut raw: String, label: &str, field: &str, losses: &mut ValueLosses) {
        if self.are_numbers && raw.len() > TEXT_BYTES_MAX {
            losses.add(RejectReason::TooManyNumbers, field, true);
            raw.truncate(raw.floor_char_boundary(TEXT_BYTES_MAX));
        }
        if self.found.iter().any(|known| known.raw == raw) {
            return;
        }
        if self.found.len() < self.max {
            self.found.push(RawNumber { raw, label: label.to_owned() });
        } else if self.are_numbers {
            losses.add(RejectReason::TooManyNumbers, field, true);
        }
    }

    fn lose(&self, field: &str, losses: &mut ValueLosses) {
        losses.add(RejectReason::ValueUnreadable, field, self.are_numbers);
    }
}

/// A small answer, wholly.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests;
