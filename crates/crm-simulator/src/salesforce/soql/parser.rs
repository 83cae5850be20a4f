//! The grammar. Owns: what is a statement and what is a condition. As in life, `and` and `or` do
//! not mix without parentheses.

use super::{
    super::refusal::SalesforceRefusal,
    Expression, Literal, Operator, OrderBy, Spot, Statement,
    lexer::{Token, malformed, tokens, unexpected},
};

/// Parentheses and `not` inside each other.
const DEPTH_MAX: usize = 50;
/// Rows that an offset may pass over; the vendor's limit.
const OFFSET_MAX: usize = 2_000;

/// Reads a statement.
pub(in super::super) fn parse(text: &str) -> Result<Statement, SalesforceRefusal> {
    let mut parser = Parser::new(text)?;
    let statement = parser.statement()?;
    parser.end()?;
    Ok(statement)
}

/// Reads a condition by itself: that of a search's `RETURNING`.
pub(in super::super) fn parse_condition_of_search(text: &str) -> Result<Expression, SalesforceRefusal> {
    let mut parser = Parser { may_join: false, ..Parser::new(text)? };
    let condition = parser.condition(0)?;
    parser.end()?;
    Ok(condition)
}

struct Parser {
    tokens: Vec<Spot<Token>>,
    at: usize,
    /// A `SELECT` may stand within a condition: not within another one, nor in a search.
    may_join: bool,
}

impl Parser {
    fn new(text: &str) -> Result<Self, SalesforceRefusal> {
        Ok(Self { tokens: tokens(text)?, at: 0, may_join: true })
    }

    fn statement(&mut self) -> Result<Statement, SalesforceRefusal> {
        let mut statement = self.selection()?;
        if self.takes("order") {
            self.keyword("by")?;
            statement.order.push(self.order_by()?);
            while self.takes_sign(",") {
                statement.order.push(self.order_by()?);
            }
        }
        statement.limit = if self.takes("limit") { Some(self.number()?) } else { None };
        statement.offset = if self.takes("offset") { self.number()? } else { 0 };
        if statement.offset > OFFSET_MAX {
            return Err(SalesforceRefusal::bad("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000"));
        }
        Ok(statement)
    }

    /// A statement up to its condition: all that one within another may have.
    fn selection(&mut self) -> Result<Statement, SalesforceRefusal> {
        self.keyword("select")?;
        let columns = self.columns()?;
        self.keyword("from")?;
        let object = self.name()?;
        let condition = if self.takes("where") { Some(self.condition(0)?) } else { None };
        Ok(Statement { columns, object, condition, order: Vec::new(), limit: None, offset: 0 })
    }

    /// The paths selected; none for `count()`.
    fn columns(&mut self) -> Result<Vec<Spot<String>>, SalesforceRefusal> {
        let first = self.name()?;
        if first.it.eq_ignore_ascii_case("count") && self.takes_sign("(") {
            self.sign(")")?;
            return Ok(Vec::new());
        }
        let mut columns = vec![first];
        while self.takes_sign(",") {
            columns.push(self.name()?);
        }
        Ok(columns)
    }

    fn order_by(&mut self) -> Result<OrderBy, SalesforceRefusal> {
        let path = self.name()?;
        let is_descending = !self.takes("asc") && self.takes("desc");
        let mut are_nulls_last = false;
        if self.takes("nulls") {
            are_nulls_last = self.takes("last");
            if !are_nulls_last {
                self.keyword("first")?;
            }
        }
        Ok(OrderBy { path, is_descending, are_nulls_last })
    }

    fn condition(&mut self, depth: usize) -> Result<Expression, SalesforceRefusal> {
        if depth > DEPTH_MAX {
            return Err(SalesforceRefusal::bad("QUERY_TOO_COMPLICATED", "the condition is nested too deeply"));
        }
        let first = self.simple(depth)?;
        for (keyword, other) in [("and", "or"), ("or", "and")] {
            if !self.is_at(keyword) {
                continue;
            }
            let mut parts = vec![first];
            while self.takes(keyword) {
                parts.push(self.simple(depth)?);
            }
            if self.is_at(other) {
                return Err(unexpected(other));
            }
            return Ok(if keyword == "and" { Expression::All(parts) } else { Expression::Any(parts) });
        }
        Ok(first)
    }

    fn simple(&mut self, depth: usize) -> Result<Expression, SalesforceRefusal> {
        if self.takes("not") {
            if depth > DEPTH_MAX {
                return Err(SalesforceRefusal::bad("QUERY_TOO_COMPLICATED", "the condition is nested too deeply"));
            }
            return Ok(Expression::Not(Box::new(self.simple(depth + 1)?)));
        }
        if self.takes_sign("(") {
            let inner = self.condition(depth + 1)?;
            self.sign(")")?;
            return Ok(inner);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, SalesforceRefusal> {
        let path = self.name()?;
        if self.takes("in") {
            return self.among(path, Operator::In);
        }
        if self.takes("not") {
            self.keyword("in")?;
            return self.among(path, Operator::NotIn);
        }
        let operator = if self.takes("like") { Operator::Like } else { self.operator()? };
        let values = vec![self.literal()?];
        Ok(Expression::Compare { path, operator, values })
    }

    fn operator(&mut self) -> Result<Operator, SalesforceRefusal> {
        let operator = match self.next()? {
            Token::Sign("=") => Operator::Equal,
            Token::Sign("!=" | "<>") => Operator::NotEqual,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::LessOrEqual,
            Token::Sign(">") => Operator::Greater,
            Token::Sign(">=") => Operator::GreaterOrEqual,
            other => return Err(unexpected(&shown(&other))),
        };
        Ok(operator)
    }

    /// What follows `IN`: values, or a statement that gives them.
    fn among(&mut self, path: Spot<String>, operator: Operator) -> Result<Expression, SalesforceRefusal> {
        self.sign("(")?;
        if !self.is_at("select") {
            return Ok(Expression::Compare { path, operator, values: self.list()? });
        }
        if !self.may_join {
            return Err(malformed("Nesting of semi join sub-selects is not supported"));
        }
        self.may_join = false;
        let of = Box::new(self.selection()?);
        self.may_join = true;
        self.sign(")")?;
        Ok(Expression::Join { path, is_in: operator == Operator::In, of })
    }

    /// Values up to the closing parenthesis.
    fn list(&mut self) -> Result<Vec<Literal>, SalesforceRefusal> {
        let mut values = vec![self.literal()?];
        while self.takes_sign(",") {
            values.push(self.literal()?);
        }
        self.sign(")")?;
        Ok(values)
    }

    fn literal(&mut self) -> Result<Literal, SalesforceRefusal> {
        match self.next()? {
            Token::Literal(literal) => Ok(literal),
            other => Err(unexpected(&shown(&other))),
        }
    }

    fn number(&mut self) -> Result<usize, SalesforceRefusal> {
        match self.next()? {
            Token::Literal(Literal::Number(text)) => text.parse().map_err(|_| unexpected(&text)),
            other => Err(unexpected(&shown(&other))),
        }
    }

    fn name(&mut self) -> Result<Spot<String>, SalesforceRefusal> {
        let at = self.tokens.get(self.at).map_or(0, |token| token.at);
        match self.next()? {
            Token::Word(name) => Ok(Spot { at, it: name }),
            other => Err(unexpected(&shown(&other))),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), SalesforceRefusal> {
        if self.takes(keyword) {
            return Ok(());
        }
        let found = self.next()?;
        Err(unexpected(&shown(&found)))
    }

    fn sign(&mut self, sign: &str) -> Result<(), SalesforceRefusal> {
        if self.takes_sign(sign) {
            return Ok(());
        }
        let found = self.next()?;
        Err(unexpected(&shown(&found)))
    }

    fn end(&self) -> Result<(), SalesforceRefusal> {
        self.tokens.get(self.at).map_or(Ok(()), |token| Err(unexpected(&shown(&token.it))))
    }

    fn is_at(&self, keyword: &str) -> bool {
        let token = self.tokens.get(self.at);
        token.is_some_and(|token| matches!(&token.it, Token::Word(word) if word.eq_ignore_ascii_case(keyword)))
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let is_there = self.is_at(keyword);
        self.at += usize::from(is_there);
        is_there
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let token = self.tokens.get(self.at);
        let is_there = token.is_some_and(|token| matches!(token.it, Token::Sign(found) if found == sign));
        self.at += usize::from(is_there);
        is_there
    }

    fn next(&mut self) -> Result<Token, SalesforceRefusal> {
        let token = self.tokens.get(self.at).ok_or_else(|| malformed("unexpected token: '<EOF>'"))?;
        self.at += 1;
        Ok(token.it.clone())
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Sign(sign) => (*sign).to_owned(),
        Token::Literal(Literal::Number(number)) => number.clone(),
        Token::Literal(_) => "<literal>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_statement_is_read() {
        let text = "select Id, Account.Name FROM Contact WHERE (a = 1 OR not b IN ('x', 'y')) AND c LIKE '%z' \
                    ORDER BY c DESC NULLS LAST, d LIMIT 5 OFFSET 2";

        let statement = parse(text).unwrap();

        assert_eq!(
            statement.columns.iter().map(|column| column.it.as_str()).collect::<Vec<_>>(),
            ["Id", "Account.Name"]
        );
        assert!(matches!(&statement.condition, Some(Expression::All(parts)) if parts.len() == 2));
        assert!(statement.order[0].is_descending && statement.order[0].are_nulls_last);
        assert_eq!((statement.limit, statement.offset), (Some(5), 2));
        assert!(parse("SELECT count() FROM Contact").unwrap().columns.is_empty());
    }

    #[test]
    fn mistakes_name_the_word() {
        for (text, word) in [
            ("SELECT Id FORM Contact", "FORM"),
            ("SELECT Id FROM Contact WHERE a = 1 AND b = 2 OR c = 3", "or"),
            ("SELECT Id FROM Contact WHERE a == 1", "="),
            ("SELECT Id FROM Contact LIMIT x", "x"),
            ("SELECT Id,, Name FROM Contact", ","),
            ("SELECT Id FROM Contact WHERE", "<EOF>"),
            ("SELECT Id FROM Contact ; DROP", ";"),
            ("SELECT Id FROM Contact WHERE a IN (SELECT Id FROM Account LIMIT 1)", "LIMIT"),
        ] {
            let refusal = parse(text).unwrap_err();

            assert_eq!((refusal.code, refusal.message), ("MALFORMED_QUERY", format!("unexpected token: '{word}'")));
        }
    }

    #[test]
    fn statement_within_a_condition_has_none_within_itself() {
        let inner = "SELECT a FROM B WHERE c IN ('x')";
        let statement = parse(&format!("SELECT Id FROM A WHERE b NOT IN ({inner})")).unwrap();
        let nested = parse(&format!("SELECT Id FROM A WHERE b IN (SELECT Id FROM B WHERE a IN ({inner}))"));

        assert!(matches!(&statement.condition, Some(Expression::Join { is_in: false, of, .. })
            if of.columns.len() == 1 && of.condition.is_some()));
        assert_eq!(nested.unwrap_err().code, "MALFORMED_QUERY");
        assert!(parse_condition_of_search(&format!("a IN ({inner})")).is_err());
    }

    #[test]
    fn nesting_has_a_limit() {
        let text = format!("SELECT Id FROM Contact WHERE {}a = 1{}", "(".repeat(5_000), ")".repeat(5_000));

        assert_eq!(parse(&text).unwrap_err().code, "QUERY_TOO_COMPLICATED");
        let text = format!("SELECT Id FROM Contact WHERE {}a = 1", "NOT ".repeat(5_000));
        assert_eq!(parse(&text).unwrap_err().code, "QUERY_TOO_COMPLICATED");
    }
}
