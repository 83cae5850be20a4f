//! The words of a SOQL text. Owns: strings and their escapes, dates and times, names, signs.

use super::{
    super::{record::read_time, refusal::SalesforceRefusal},
    Literal, STATEMENT_CHARS_MAX, Spot,
};

/// A word of the text.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Token {
    /// A name, a path or a keyword, as written.
    Word(String),
    Literal(Literal),
    Sign(&'static str),
}

const SIGNS: [&str; 10] = ["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ","];

/// What stands for other characters in `LIKE`.
pub(super) const WILDCARDS: [char; 2] = ['%', '_'];

/// Splits a text into its words.
pub(super) fn tokens(text: &str) -> Result<Vec<Spot<Token>>, SalesforceRefusal> {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() > STATEMENT_CHARS_MAX {
        return Err(SalesforceRefusal::bad(
            "QUERY_TOO_COMPLICATED",
            "SOQL statements cannot be longer than 100000 characters.",
        ));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        if character.is_whitespace() {
            at += 1;
            continue;
        }
        let (token, end) = if *character == '\'' {
            string(&characters, at)?
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| starts_with(&characters[at..], sign)) {
            (Token::Sign(sign), at + sign.len())
        } else {
            word(&characters, at)?
        };
        tokens.push(Spot { at, it: token });
        at = end;
    }
    Ok(tokens)
}

fn starts_with(characters: &[char], sign: &str) -> bool {
    sign.chars().enumerate().all(|(at, wanted)| characters.get(at) == Some(&wanted))
}

/// The string that begins at `start`, and the place after it.
fn string(characters: &[char], start: usize) -> Result<(Token, usize), SalesforceRefusal> {
    let mut text = String::new();
    let mut at = start + 1;
    loop {
        match characters.get(at) {
            Some('\'') => return Ok((Token::Literal(Literal::Text(text)), at + 1)),
            Some('\\') => {
                let escaped = characters.get(at + 1).and_then(|character| unescaped(*character));
                let escaped = escaped.ok_or_else(|| malformed("Illegal escape sequence in a string"))?;
                // A wildcard keeps its escape, so that `LIKE` can tell.
                if WILDCARDS.contains(&escaped) {
                    text.push('\\');
                }
                text.push(escaped);
                at += 2;
            }
            Some(character) => {
                text.push(*character);
                at += 1;
            }
            None => return Err(malformed("line 1: a string is not closed, expecting '''")),
        }
    }
}

fn unescaped(character: char) -> Option<char> {
    match character {
        'n' | 'N' => Some('\n'),
        'r' | 'R' => Some('\r'),
        't' | 'T' => Some('\t'),
        'b' | 'B' => Some('\u{8}'),
        'f' | 'F' => Some('\u{c}'),
        '"' | '\'' | '\\' | '_' | '%' => Some(character),
        _ => None,
    }
}

fn word(characters: &[char], start: usize) -> Result<(Token, usize), SalesforceRefusal> {
    let is_part = |character: &char| character.is_alphanumeric() || "._:+-".contains(*character);
    let length = characters[start..].iter().take_while(|character| is_part(character)).count();
    if length == 0 {
        return Err(unexpected(&characters[start].to_string()));
    }
    let text: String = characters[start..start + length].iter().collect();
    let end = start + length;
    let token = if text.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first)) {
        Token::Literal(number_or_time(&text)?)
    } else {
        let (name, count) = text.split_once(':').unwrap_or((text.as_str(), ""));
        match (name.to_ascii_lowercase().as_str(), count.parse()) {
            ("null", _) => Token::Literal(Literal::Null),
            ("true", _) => Token::Literal(Literal::Flag(true)),
            ("false", _) => Token::Literal(Literal::Flag(false)),
            ("today", _) => Token::Literal(Literal::LastDays(0)),
            ("last_n_days", Ok(days)) => Token::Literal(Literal::LastDays(days)),
            _ if text.contains([':', '+', '-']) => return Err(unexpected(&text)),
            _ => Token::Word(text),
        }
    };
    Ok((token, end))
}

fn number_or_time(text: &str) -> Result<Literal, SalesforceRefusal> {
    if text.contains('T') {
        return read_time(text).map(Literal::Time).ok_or_else(|| unexpected(text));
    }
    let is_date = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if is_date && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
        return Ok(Literal::Date(text.to_owned()));
    }
    text.parse::<f64>().map(|_| Literal::Number(text.to_owned())).map_err(|_| unexpected(text))
}

pub(super) fn malformed(message: &str) -> SalesforceRefusal {
    SalesforceRefusal::bad("MALFORMED_QUERY", message)
}

pub(super) fn unexpected(text: &str) -> SalesforceRefusal {
    let text: String = text.chars().take(80).collect();
    malformed(&format!("unexpected token: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(text: &str) -> Vec<Literal> {
        let tokens = tokens(text).unwrap().into_iter();
        tokens.filter_map(|token| if let Token::Literal(literal) = token.it { Some(literal) } else { None }).collect()
    }

    #[test]
    fn strings_lose_their_escapes() {
        assert_eq!(literals(r"'O\'Hara \\ \n'"), [Literal::Text("O'Hara \\ \n".to_owned())]);
        assert!(tokens(r"'\q'").is_err());
        assert!(tokens("'open").is_err());
    }

    #[test]
    fn times_dates_numbers_and_words_are_told_apart() {
        let found =
            literals("1970-01-01T00:00:01.500Z 1970-01-01T01:00:00+01:00 2026-01-02 -4.5 null TRUE LAST_N_DAYS:7");

        assert_eq!(
            found,
            [
                Literal::Time(1_500),
                Literal::Time(0),
                Literal::Date("2026-01-02".to_owned()),
                Literal::Number("-4.5".to_owned()),
                Literal::Null,
                Literal::Flag(true),
                Literal::LastDays(7),
            ]
        );
        // A plus sign that lost its encoding on the way has become a space.
        assert!(tokens("2026-01-02T10:00:00.000 00:00").is_err());
    }
}
