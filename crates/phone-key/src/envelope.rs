//! Takes a number out of what surrounds it on the wire: `"Name"
//! <sip:+13105551234@host;user=phone>;tag=1`.
//!
//! Invariant: a host, a port, a password, a display name or a parameter never becomes part of a
//! number. Text that is no address comes back as it is, trimmed; the library has its own rules for
//! what may stand before a number.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use crate::{text, withheld};

/// Schemes of addresses whose first part is a number or a name.
const CALL_SCHEMES: &[&str] = &["sip:", "sips:"];
/// Schemes, and words, before a number and its parameters.
const NUMBER_SCHEMES: &[&str] = &["tel:", "callto:", "sms:", "whatsapp:", "facetime:"];
/// Hosts at which a user is a number in international form without its plus sign.
const INTERNATIONAL_HOSTS: &[&str] = &["c.us", "s.whatsapp.net"];

/// The part of the text that may be a number. Of an address without one, what stands in its place
/// ("anonymous").
pub(crate) fn open(raw: &str) -> Cow<'_, str> {
    let text = raw.trim_matches(is_blank);
    let address = in_angle_brackets(text).unwrap_or(text);

    if let Some(rest) = CALL_SCHEMES.iter().find_map(|scheme| strip_scheme(address, scheme)) {
        let (user, host) = rest.split_once('@').unwrap_or((rest, ""));
        if host.is_empty() && user.split([':', ';']).next().is_some_and(|host| host.parse::<Ipv4Addr>().is_ok()) {
            return Cow::Borrowed("");
        }
        return user_of(user.split(['?', '>']).next().unwrap_or(user), host).unwrap_or_default();
    }
    if let Some(rest) = NUMBER_SCHEMES.iter().find_map(|scheme| strip_scheme(address, scheme)) {
        let number = rest.trim_start_matches('/').split(['?', '>', '@']).next().unwrap_or(rest);
        let read = if is_one_uri(number) { user_of(number, "") } else { None };
        return read.unwrap_or(Cow::Borrowed(address));
    }
    let is_one_word = !address.contains(char::is_whitespace);
    if let Some((user, host)) = address.split_once('@').filter(|(user, _)| is_one_word && !user.is_empty()) {
        return user_of(user, host).unwrap_or_default();
    }
    if !is_one_word && address.contains('@') {
        return without_mail_addresses(address);
    }
    match strip_scheme(address, "%2b") {
        Some(_) => user_of(address, "").unwrap_or(Cow::Borrowed(address)),
        None => Cow::Borrowed(address),
    }
}

/// What may stand around a text and is no part of it.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// What stands in `<…>`, if it is an address, a number or a word for a hidden one, and not a
/// remark.
fn in_angle_brackets(text: &str) -> Option<&str> {
    let (before, inner) = text.rsplit_once('<')?;
    let inner = inner.split_once('>')?.0.trim();
    let is_address = inner.contains(['@', ':']) || inner.starts_with(|c: char| c == '+' || c.is_ascii_digit());
    let stands_alone = || text::count_digits(before) == 0 && withheld::is_withheld(inner);
    (is_address || stands_alone()).then_some(inner)
}

/// The text after a scheme in either case.
pub(crate) fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    // "sip: 12" is a word before a number and not an address.
    (start.eq_ignore_ascii_case(scheme) && !rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// The user part of an address: a number, or a word without digits. Nothing for a name that happens
/// to hold digits.
fn user_of<'a>(user: &'a str, host: &str) -> Option<Cow<'a, str>> {
    let mut parts = user.split(';');
    let name = parts.next().unwrap_or(user);
    // "+1-212-555-1212:1234@host": a password, or the port of a host that stands alone.
    let name = decoded(name.split(':').next().unwrap_or(name));
    if text::count_digits(&name) == 0 {
        return Some(name);
    }
    if !is_dialable(&name) {
        return None;
    }
    let parameters = parts.filter_map(own_parameter).collect::<String>();
    let is_international = INTERNATIONAL_HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known));
    let plus = if is_international && !name.starts_with('+') { "+" } else { "" };
    if parameters.is_empty() && plus.is_empty() {
        return Some(name);
    }
    Some(Cow::Owned(format!("{plus}{name}{parameters}")))
}

/// Whether only parameters (RFC 3966) stand behind the number. "Tel:030/1234567; 0171/1234567" is a
/// word before two numbers.
fn is_one_uri(number: &str) -> bool {
    let is_parameter =
        |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains(char::is_whitespace);
    !number.contains(':') && number.split(';').skip(1).all(is_parameter)
}

/// The signs of a number that an address writes as `%` and two hexadecimal digits.
fn decoded(name: &str) -> Cow<'_, str> {
    const ESCAPED: &[(&str, &str)] = &[
        ("%2b", "+"),
        ("%20", " "),
        ("%23", "#"),
        ("%28", "("),
        ("%29", ")"),
        ("%2a", "*"),
        ("%2d", "-"),
        ("%2e", "."),
        ("%40", "@"),
    ];
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let lower = name.to_ascii_lowercase();
    Cow::Owned(ESCAPED.iter().fold(lower, |text, (escaped, sign)| text.replace(escaped, sign)))
}

/// Whether the user part of an address is dialled: digits and signs only.
fn is_dialable(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_digit() || b"+-.()*#/, ".contains(&byte))
}

/// A parameter that belongs to the number (RFC 3966: `ext`, `phone-context`), written as the
/// library reads it. Not those that route a call (`npdi`, `tgrp`) or tell of the caller
/// (`verstat`).
fn own_parameter(parameter: &str) -> Option<String> {
    let (name, value) = parameter.split_once('=')?;
    match name.to_ascii_lowercase().as_str() {
        "ext" => Some(format!(";ext={}", value.replace(['-', '.', '(', ')'], ""))),
        "phone-context" => Some(format!(";phone-context={value}")),
        _ => None,
    }
}

/// A text without the mail addresses that stand in it: their digits are dialled by nobody.
fn without_mail_addresses(text: &str) -> Cow<'_, str> {
    let is_mail = |word: &&str| word.split_once('@').is_some_and(|(user, _)| !user.is_empty() && !is_dialable(user));
    if !text.split_whitespace().any(|word| is_mail(&word)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split_whitespace().filter(|word| !is_mail(word)).collect::<Vec<_>>().join(" "))
}
