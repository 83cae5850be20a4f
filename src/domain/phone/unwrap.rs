//! Takes a number out of what surrounds it on the wire: `"Name" <sip:+13105551234@host;user=phone>;tag=1`.
//!
//! Invariant: a host, a port, a display name or a parameter never becomes part of a number. Text that is no address
//! comes back as it is, trimmed; the library has its own rules for what may stand before a number.

use std::borrow::Cow;

use super::text;

/// The part of the text that may be a number. Of an address without one, what stands in its place ("anonymous").
pub(super) fn unwrap(raw: &str) -> Cow<'_, str> {
    let text = raw.trim_matches(is_blank);
    let address = in_angle_brackets(text).unwrap_or(text);

    if let Some(rest) = strip_scheme(address, "sip:").or_else(|| strip_scheme(address, "sips:")) {
        let user = rest.split(['@', '?', '>']).next().unwrap_or(rest);
        return if is_dialable(user) || text::count_digits(user) == 0 {
            without_foreign_parameters(user)
        } else {
            // A name that happens to hold digits.
            Cow::Borrowed("")
        };
    }
    if let Some((user, _host)) = address.split_once('@') {
        if is_dialable(user) {
            return without_foreign_parameters(user);
        }
        if text::count_digits(address) == 0 {
            return Cow::Borrowed(user);
        }
    }
    Cow::Borrowed(address)
}

/// What may stand around a text and is no part of it.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// What stands in `<…>`, if it is an address or a number and not a remark.
fn in_angle_brackets(text: &str) -> Option<&str> {
    let inner = text[text.rfind('<')? + 1..].split_once('>')?.0.trim();
    let is_address = inner.contains(['@', ':']) || inner.starts_with(|c: char| c == '+' || c.is_ascii_digit());
    is_address.then_some(inner)
}

/// The text after a scheme in either case.
pub(super) fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    // "sip: 12" is a word before a number and not an address.
    (start.eq_ignore_ascii_case(scheme) && !rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// Whether the user part of an address is dialled: digits and signs, letters only in parameters.
fn is_dialable(user: &str) -> bool {
    let number = user.split(';').next().unwrap_or(user);
    let number = strip_scheme(number, "%2b").unwrap_or(number);
    number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.()*#/ ".contains(&byte))
}

/// The user part with the parameters that belong to the number (RFC 3966: `ext`, `phone-context`), without those that
/// route it (`npdi`, `tgrp`), and with an escaped plus sign written out.
fn without_foreign_parameters(user: &str) -> Cow<'_, str> {
    let mut parts = user.split(';');
    let number = parts.next().unwrap_or(user);
    let escaped = strip_scheme(number, "%2b");
    let mut kept = parts.filter(|part| part.starts_with("ext=") || part.starts_with("phone-context=")).peekable();
    if escaped.is_none() && kept.peek().is_none() {
        return Cow::Borrowed(number);
    }
    let mut text = escaped.map_or_else(|| number.to_owned(), |rest| format!("+{rest}"));
    for part in kept {
        text.push(';');
        text.push_str(part);
    }
    Cow::Owned(text)
}
