//! SQL as a tree of tokens: comments and the inside of strings are gone, names without quotes are
//! in lower case, and what stands in brackets is one node.

/// One token, or a pair of brackets with what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A keyword, or a name without quotes.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// `$1`.
    Parameter(u32),
    /// A string.
    Text,
    /// A number.
    Number,
    /// An operator, a comma, a dot, a semicolon.
    Sign(String),
    /// `( .. )`
    Group(Vec<Node>),
    /// `[ .. ]`
    Index(Vec<Node>),
}

impl Node {
    pub fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found == word)
    }

    pub fn is_sign(&self, sign: &str) -> bool {
        matches!(self, Self::Sign(found) if found == sign)
    }

    /// A name, with or without quotes. Keywords are names here, too.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            _ => None,
        }
    }
}

/// Reads a text; what is wrong, if it cannot be read.
pub fn nodes(sql: &str) -> Result<Vec<Node>, String> {
    let mut lexer = Lexer { text: sql.chars().collect(), at: 0 };
    let nodes = lexer.list(None)?;
    Ok(nodes)
}

struct Lexer {
    text: Vec<char>,
    at: usize,
}

const OPERATORS: &str = "+-*/<>=~!@#%^&|`?";

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// All nodes up to this bracket, or the end.
    fn list(&mut self, until: Option<char>) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        loop {
            self.skip_blanks()?;
            let Some(next) = self.peek(0) else {
                return if until.is_none() { Ok(nodes) } else { Err("a bracket is not closed".into()) };
            };
            if Some(next) == until {
                self.at += 1;
                return Ok(nodes);
            }
            nodes.push(self.node(next)?);
        }
    }

    fn node(&mut self, next: char) -> Result<Node, String> {
        match next {
            '(' | '[' => {
                self.at += 1;
                let inner = self.list(Some(if next == '(' { ')' } else { ']' }))?;
                Ok(if next == '(' { Node::Group(inner) } else { Node::Index(inner) })
            }
            ')' | ']' => Err("a bracket was not opened".into()),
            '\'' => self.text(false),
            '"' => self.quoted(),
            '$' => self.dollar(),
            _ if next.is_ascii_digit() => {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
                Ok(Node::Number)
            }
            _ if next.is_alphabetic() || next == '_' => {
                let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '$').to_lowercase();
                if self.peek(0) == Some('\'') && ["e", "b", "x", "n"].contains(&word.as_str()) {
                    return self.text(word == "e");
                }
                Ok(Node::Word(word))
            }
            ':' => Ok(self.sign(if self.peek(1) == Some(':') || self.peek(1) == Some('=') { 2 } else { 1 })),
            ',' | ';' | '.' => Ok(self.sign(1)),
            _ if OPERATORS.contains(next) => Ok(self.operator()),
            _ => Err(format!("{next} is no SQL")),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), String> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(c), _) if c.is_whitespace() => self.at += 1,
                (Some('-'), Some('-')) => {
                    self.take_while(|c| c != '\n');
                }
                (Some('/'), Some('*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// Comments of this kind hold others.
    fn skip_comment(&mut self) -> Result<(), String> {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some('*'), Some('/')) => (depth, self.at) = (depth - 1, self.at + 2),
                (Some(_), _) => self.at += 1,
                (None, _) => return Err("a comment is not closed".into()),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn text(&mut self, has_escapes: bool) -> Result<Node, String> {
        self.at += 1;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('\''), Some('\'')) => self.at += 2,
                (Some('\\'), Some(_)) if has_escapes => self.at += 2,
                (Some('\''), _) => {
                    self.at += 1;
                    return Ok(Node::Text);
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err("a string is not closed".into()),
            }
        }
    }

    fn quoted(&mut self) -> Result<Node, String> {
        self.at += 1;
        let mut name = String::new();
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('"'), Some('"')) => {
                    name.push('"');
                    self.at += 2;
                }
                (Some('"'), _) => {
                    self.at += 1;
                    return Ok(Node::Quoted(name));
                }
                (Some(c), _) => {
                    name.push(c);
                    self.at += 1;
                }
                (None, _) => return Err("a quoted name is not closed".into()),
            }
        }
    }

    /// A parameter, or a string between `$tag$`.
    fn dollar(&mut self) -> Result<Node, String> {
        self.at += 1;
        if self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            let digits = self.take_while(|c| c.is_ascii_digit());
            return digits.parse().map(Node::Parameter).map_err(|_| "a parameter's number is too great".into());
        }
        let tag = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let fence: Vec<char> = format!("${tag}$").chars().collect();
        self.at = self.at.saturating_sub(tag.chars().count() + 1);
        if !self.text[self.at..].starts_with(&fence) {
            return Err("a dollar stands alone".into());
        }
        self.at += fence.len();
        while self.at < self.text.len() {
            if self.text[self.at..].starts_with(&fence) {
                self.at += fence.len();
                return Ok(Node::Text);
            }
            self.at += 1;
        }
        Err("a string is not closed".into())
    }

    fn sign(&mut self, length: usize) -> Node {
        let sign = self.text[self.at..self.at + length].iter().collect();
        self.at += length;
        Node::Sign(sign)
    }

    /// As PostgreSQL reads it: no comment begins in an operator, and only one with an odd sign ends
    /// in + or -.
    fn operator(&mut self) -> Node {
        let rest = &self.text[self.at..];
        let mut length = rest.iter().take_while(|c| OPERATORS.contains(**c)).count();
        for at in 1..length {
            if matches!((rest[at], rest.get(at + 1)), ('-', Some('-')) | ('/', Some('*'))) {
                length = at;
                break;
            }
        }
        let is_odd = |signs: &[char]| signs.iter().any(|c| "~!@#%^&|`?".contains(*c));
        while length > 1 && matches!(rest[length - 1], '+' | '-') && !is_odd(&rest[..length]) {
            length -= 1;
        }
        self.sign(length)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(&belongs) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }
}

#[test]
fn what_comments_and_strings_hold_is_no_token() {
    let same = |a: &str, b: &str| assert_eq!(nodes(a), nodes(b), "{a}");
    same("select 1 -- where account_id = $1\n, 2", "SELECT 1, 2");
    same("select /* a /* nested */ one */ 1", "select 1");
    same("select 'account_id = $1 '' or (', E'it\\'s', $q$ ' $q$, $$ ( $$", "select '', '', '', ''");
    same("a=-1", "a = - 1");
    same("a->>'b'::text", "a ->> '' :: text");
    assert_ne!(nodes("$1"), nodes("$10"));
    assert_ne!(nodes("\"from\""), nodes("from"));
    for broken in ["(", ")", "'", "\"", "/*", "$a", "(]"] {
        assert!(nodes(broken).is_err(), "{broken}");
    }
}
