//! Looking at text as digits, letters and signs. Knows nothing of numbering plans.

/// Signs that may stand between two numbers, and inside of one.
pub(crate) const SLASHES: &[char] = &['/', '／'];
/// Signs that may stand between two numbers, and inside of none.
pub(crate) const LIST_SIGNS: &[char] = &[',', ';', '|', '&', '\n', '\t', '、', '，', '；', '،', '؛'];
/// Several numbers of one person in an export of Google's contacts.
pub(crate) const TRIPLE_COLON: &str = ":::";

/// What a text holds from its first digit on; decides which readings are worth a try.
#[derive(Default)]
pub(crate) struct TextShape {
    pub(crate) has_letters: bool,
    pub(crate) has_separators: bool,
}

impl TextShape {
    /// One pass over the text, on the way of every number that is not in plain international form.
    pub(crate) fn of(text: &str) -> Self {
        let mut shape = Self::default();
        // A sign that begins the number separates nothing.
        for c in from_first_digit(text).unwrap_or_default().chars().skip(1) {
            match c {
                '0'..='9' | ' ' | '-' | '(' | ')' | '.' => {}
                '+' => shape.has_separators = true,
                c if c.is_alphabetic() => shape.has_letters = true,
                c if is_between_numbers(c) => shape.has_separators = true,
                ':' => shape.has_separators |= text.contains(TRIPLE_COLON),
                _ => {}
            }
        }
        shape
    }
}

/// Whether the sign may stand between two numbers.
pub(crate) fn is_between_numbers(c: char) -> bool {
    SLASHES.contains(&c) || LIST_SIGNS.contains(&c)
}

/// The ASCII digits of the text as one integer, if there are 1 to 18 of them.
pub(crate) fn ascii_digits(text: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    let mut digits = text.bytes().filter(u8::is_ascii_digit);
    let count = digits.clone().count();
    (1..=DIGITS_MAX)
        .contains(&count)
        .then(|| digits.by_ref().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Digits in any script.
pub(crate) fn count_digits(text: &str) -> usize {
    text.chars().filter(|c| c.is_numeric()).count()
}

/// Whether a plus sign stands anywhere.
pub(crate) fn has_plus(text: &str) -> bool {
    text.contains(['+', '＋'])
}

/// The text from its first digit or plus sign on, where a number begins.
pub(crate) fn from_first_digit(text: &str) -> Option<&str> {
    text.find(|c: char| c.is_ascii_digit() || matches!(c, '+' | '＋') || c.is_numeric()).map(|start| &text[start..])
}

/// What remains after a prefix of digits, whatever signs stand between them: "0-0 49…" without "00"
/// is " 49…".
pub(crate) fn strip_digits<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let mut expected = prefix.chars().peekable();
    for (at, c) in text.char_indices() {
        let Some(&digit) = expected.peek() else {
            return Some(&text[at..]);
        };
        if c.is_alphanumeric() {
            if c != digit {
                return None;
            }
            expected.next();
        } else if c == '+' {
            return None;
        }
    }
    None
}

/// Whether letters O stand for zeros ("030 12O4567"), or a small L or an I between digits for a
/// one: they are left out by whoever does not know it, and another number remains.
pub(crate) fn has_letter_for_digit(text: &str) -> bool {
    let is_zero = |c: char| matches!(c, 'o' | 'O' | 'о' | 'О' | 'ο' | 'Ο');
    let is_one = |c: char| matches!(c, 'l' | 'I');
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut rest = text;
    while let Some(start) = rest.find(char::is_alphabetic) {
        let end = rest[start..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        let touches = [is_digit(rest[..start].chars().next_back()), is_digit(rest[end..].chars().next())];
        if word.chars().all(is_zero) && touches.contains(&true) || word.chars().all(is_one) && touches == [true, true] {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

/// Whether the text is a date and no more, perhaps with a time of day: 12.03.2021, 2021-03-12
/// 10:00.
pub(crate) fn is_date(text: &str) -> bool {
    let mut words = text.trim_matches(|c: char| c == '(' || c == ')').split_whitespace();
    words.next().is_some_and(|word| is_date_or_address(word) && word.split(['/', '.', '-']).count() == 3)
        && words.all(|word| word.contains(':'))
}

/// Whether the text is an address of a network that is nobody's number anywhere (RFC 1918, RFC
/// 5735).
pub(crate) fn is_private_address(text: &str) -> bool {
    let text = text.split(':').next().unwrap_or(text).trim();
    text.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_private() || address.is_loopback())
}

/// Whether a word of the text is a date or an IP address: 12/03/2021, 2021-03-12, 192.168.1.10.
pub(crate) fn has_date_or_address(text: &str) -> bool {
    text.split_whitespace().any(is_date_or_address)
}

fn is_date_or_address(word: &str) -> bool {
    let parts: Vec<&str> = word.split(['/', '.', '-']).collect();
    if !parts.iter().all(|part| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    let value = |at: usize| parts[at].parse::<u16>().unwrap_or(u16::MAX);
    match parts.as_slice() {
        [first, _, last] => {
            let year_first = first.len() == 4 && (1900..2100).contains(&value(0)) && value(1) <= 12 && value(2) <= 31;
            let year_last = last.len() == 4 && (1900..2100).contains(&value(2)) && value(0) <= 31 && value(1) <= 31;
            year_first || year_last
        }
        [_, _, _, _] => !word.contains(['/', '-']) && (0..4).all(|at| value(at) <= 255),
        _ => false,
    }
}

/// Typed to get past a form.
pub(crate) const KEYBOARD_FILLER: &[u8; 10] = b"1234567890";

/// 1234567890 typed to get past a form. With a prefix or country code it may be a real number
/// (Vienna, Bedford).
pub(crate) fn is_keyboard_filler(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).eq(*KEYBOARD_FILLER)
}
