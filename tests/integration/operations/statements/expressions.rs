//! Expressions: the queries in them are levels of their own, and what a writing statement calls or
//! calculates must be the same wherever and whenever it is calculated. A distributed database
//! refuses anything else, or calculates it twice.

use super::{
    levels::{Fault, Reader, Rule, Scope, is_query, is_word},
    tokens::Node,
};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame {
    /// Inside `case .. end` or the arguments of a function.
    pub is_argument: bool,
    /// A column of a time is set to it.
    pub is_time: bool,
}

/// Before brackets, and no function.
const KEYWORDS: [&str; 45] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "by",
    "case",
    "conflict",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "filter",
    "from",
    "group",
    "having",
    "in",
    "intersect",
    "is",
    "like",
    "limit",
    "not",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "partition",
    "returning",
    "row",
    "rows",
    "select",
    "set",
    "some",
    "then",
    "union",
    "using",
    "values",
    "when",
    "where",
    "with",
    "within",
    "within",
];
/// Calls that no catalogue knows; immutable, but what stands in them is an argument.
const SYNTAX: [&str; 4] = ["coalesce", "nullif", "greatest", "least"];
const CLOCK_WORDS: [&str; 5] = ["current_timestamp", "current_date", "current_time", "localtime", "localtimestamp"];
const CLOCKS: [&str; 5] = ["now", "statement_timestamp", "transaction_timestamp", "clock_timestamp", "timeofday"];
const SESSION_WORDS: [&str; 6] =
    ["current_user", "session_user", "current_role", "user", "current_catalog", "current_schema"];
const TIMES: [&str; 7] = ["timestamptz", "timestamp", "date", "time", "timetz", "interval", "abstime"];
const ARITHMETIC: [&str; 6] = ["+", "-", "*", "/", "||", "%"];
const COMPARISONS: [&str; 13] = ["=", "<", ">", "<=", ">=", "<>", "!=", "is", "in", "like", "between", "||", "~"];

impl Reader<'_> {
    /// Learns what the statement calls a time: `created_at as begun`, and the columns of
    /// `unnest($2::timestamptz[])`.
    pub fn learn_times(&mut self, nodes: &[Node]) {
        for node in nodes {
            if let Node::Group(inner) | Node::Index(inner) = node {
                self.learn_times(inner);
            }
        }
        for run in runs(nodes) {
            let name = nodes.get(run.end + 1).and_then(Node::name).filter(|_| is_word(nodes.get(run.end), "as"));
            if let Some(name) = name
                && run.clone().any(|at| self.is_timely(nodes, at))
            {
                self.times.insert(name.to_owned());
            }
        }
        for part in nodes.windows(5) {
            if let [function, Node::Group(values), is_as, _, Node::Group(columns)] = part
                && function.is_word("unnest")
                && is_as.is_word("as")
            {
                let values = values.split(|node| node.is_sign(","));
                for (value, column) in values.zip(columns.split(|node| node.is_sign(","))) {
                    let is_time = value.iter().filter_map(Node::name).any(|name| TIMES.contains(&name));
                    self.times.extend(column.iter().filter_map(Node::name).filter(|_| is_time).map(str::to_owned));
                }
            }
        }
    }

    /// Looks at an expression, and into the queries in it.
    pub fn walk(&mut self, nodes: &[Node], scope: &Scope, frame: Frame) {
        let excused = excused(nodes);
        let mut cases = 0_usize;
        for (at, node) in nodes.iter().enumerate() {
            let is_argument = frame.is_argument || cases > 0;
            match node {
                Node::Group(inner) if is_query(inner) => self.query(inner, &scope.inner()),
                Node::Group(inner) | Node::Index(inner) => {
                    let is_call = at > 0 && is_call(nodes, at - 1);
                    self.walk(
                        inner,
                        scope,
                        Frame { is_argument: is_argument || is_call, is_time: frame.is_time && !is_call },
                    );
                }
                Node::Word(word) if word == "case" => cases += 1,
                Node::Word(word) if word == "end" => cases = cases.saturating_sub(1),
                Node::Word(_) | Node::Quoted(_) => self.name(nodes, at, is_argument, excused[at]),
                Node::Sign(sign) if sign == "::" => self.cast(nodes, at),
                Node::Sign(sign) if sign == ";" => self.fault(Rule::Readable, "two statements in one"),
                _ => {}
            }
        }
        self.arithmetic(nodes, &excused, frame.is_time);
    }

    fn impure(&mut self, what: String) {
        self.if_writing.push(Fault { rule: Rule::Pure, what });
    }

    fn name(&mut self, nodes: &[Node], at: usize, is_argument: bool, is_excused: bool) {
        let name = nodes[at].name().unwrap_or_default();
        if name == "account_id" {
            self.comparison(nodes, at);
        }
        if is_call(nodes, at) {
            return self.call(nodes, at, name, is_argument, is_excused);
        }
        let is_column = at > 0 && nodes[at - 1].is_sign(".") || matches!(nodes[at], Node::Quoted(_));
        if is_column {
            return;
        }
        let is_text = nodes.get(at + 1) == Some(&Node::Text);
        if CLOCK_WORDS.contains(&name) {
            self.fault(Rule::Clock, format!("{name} is the database's time"));
            self.impure(format!("{name} is the database's time"));
        } else if SESSION_WORDS.contains(&name) {
            self.impure(format!("{name} is another in another session"));
        } else if name == "zone" && at >= 2 && nodes[at - 1].is_word("time") && nodes[at - 2].is_word("at") {
            self.impure("at time zone".into());
        } else if name == "interval" && is_text && !is_excused {
            self.impure("an interval that is not beside statement_timestamp()".into());
        } else if TIMES.contains(&name) && name != "interval" && is_text {
            self.impure(format!("{name} '..' may mean now"));
        }
    }

    fn call(&mut self, nodes: &[Node], at: usize, name: &str, is_argument: bool, is_excused: bool) {
        if at > 0 && nodes[at - 1].is_sign(".") {
            return self.fault(Rule::Readable, format!("a function {name} of a named schema"));
        }
        if CLOCKS.contains(&name) {
            self.fault(Rule::Clock, format!("{name}() is the database's time"));
        }
        if SYNTAX.contains(&name) {
            return;
        }
        if name == "cast" {
            return self.fault(Rule::Pure, "a cast that is not written `::`");
        }
        if name == "make_interval" {
            if !is_excused {
                self.impure("make_interval that is not beside statement_timestamp()".into());
            }
            return;
        }
        // Syntax for a function of another name.
        let function = match name {
            "extract" => "date_part",
            "trim" => "btrim",
            name => name,
        };
        match self.known.volatility(function) {
            None => self.fault(Rule::Readable, format!("there is no function {name}")),
            Some('v') => self.fault(Rule::Pure, format!("{name}() is volatile")),
            Some('s') if name == "statement_timestamp" && !is_argument => {}
            Some('s') if name == "statement_timestamp" => {
                self.impure("statement_timestamp() in a case or in a function's arguments".into());
            }
            Some('s') => self.impure(format!("{name}() is not immutable")),
            Some(_) => {}
        }
    }

    /// `account_id` is compared with `$1` and with nothing else.
    fn comparison(&mut self, nodes: &[Node], at: usize) {
        let is_one = |node: &Node| match node {
            Node::Sign(sign) => COMPARISONS.contains(&sign.as_str()),
            Node::Word(word) => COMPARISONS.contains(&word.as_str()) || word == "not",
            _ => false,
        };
        let has_alias = at >= 2 && nodes[at - 1].is_sign(".");
        let before = if has_alias { at.checked_sub(3) } else { at.checked_sub(1) };
        let is_before = before.is_some_and(|before| is_one(&nodes[before]));
        let is_right =
            nodes.get(at + 1).is_some_and(|sign| sign.is_sign("=")) && nodes.get(at + 2) == Some(&Node::Parameter(1));
        if is_before || (!is_right && nodes.get(at + 1).is_some_and(is_one)) {
            self.fault(Rule::Account, "account_id is compared with something other than $1");
        }
    }

    /// A parameter may be said to be a time; anything else that becomes one, or ceases to be one,
    /// depends on the session.
    fn cast(&mut self, nodes: &[Node], at: usize) {
        let is_time = nodes.get(at + 1).and_then(Node::name).is_some_and(|name| TIMES.contains(&name));
        let from = at.checked_sub(1).map(|at| &nodes[at]);
        let is_parameter = matches!(from, Some(Node::Parameter(_)));
        let is_from_time = match from {
            Some(Node::Group(_)) => at >= 2 && nodes[at - 2].name().is_some_and(|name| CLOCKS.contains(&name)),
            Some(Node::Word(name) | Node::Quoted(name)) => self.is_time(name) || TIMES.contains(&name.as_str()),
            _ => false,
        };
        if is_from_time || (is_time && !is_parameter) {
            self.impure("a cast to or from a time".into());
        }
    }

    fn is_time(&self, name: &str) -> bool {
        self.times.contains(name)
    }

    /// Looks at what is inserted into columns of times.
    pub fn judge_times(&mut self, columns: &[Node], row: &[Node]) {
        let columns = columns.split(|node| node.is_sign(","));
        for (column, value) in columns.zip(row.split(|node| node.is_sign(","))) {
            if column.iter().filter_map(Node::name).any(|name| self.is_time(name)) {
                self.arithmetic(value, &excused(value), true);
            }
        }
    }

    /// Times are not calculated with, but for the distance of a lease from the database's own time.
    fn arithmetic(&mut self, nodes: &[Node], excused: &[bool], is_time: bool) {
        for run in runs(nodes) {
            let has_sign = run.clone().any(|at| match &nodes[at] {
                Node::Sign(sign) => !excused[at] && ARITHMETIC.contains(&sign.as_str()),
                _ => false,
            });
            let is_time = is_time || run.clone().any(|at| self.is_timely(nodes, at));
            if has_sign && is_time {
                self.impure("a calculation with a time".into());
            }
        }
    }

    fn is_timely(&self, nodes: &[Node], at: usize) -> bool {
        match &nodes[at] {
            Node::Word(name) | Node::Quoted(name) if is_call(nodes, at) => {
                CLOCKS.contains(&name.as_str())
                    || ["make_interval", "age", "date_trunc", "to_timestamp"].contains(&name.as_str())
            }
            Node::Word(name) if ["interval", "timestamptz"].contains(&name.as_str()) => true,
            Node::Word(name) | Node::Quoted(name) => self.is_time(name) || CLOCK_WORDS.contains(&name.as_str()),
            Node::Group(inner) if !is_query(inner) => {
                let is_arguments = at > 0 && nodes[at - 1].name().is_some() && is_call(nodes, at - 1);
                !is_arguments && (0..inner.len()).any(|at| self.is_timely(inner, at))
            }
            _ => false,
        }
    }
}

/// Whether the name at this place is called.
fn is_call(nodes: &[Node], at: usize) -> bool {
    let is_name = match &nodes[at] {
        Node::Word(word) => !KEYWORDS.contains(&word.as_str()),
        Node::Quoted(_) => true,
        _ => false,
    };
    is_name && matches!(nodes.get(at + 1), Some(Node::Group(_)))
}

/// What belongs together: between commas and words such as `and`.
fn runs(nodes: &[Node]) -> Vec<std::ops::Range<usize>> {
    const ENDS: [&str; 14] =
        ["and", "or", "not", "case", "when", "then", "else", "end", "as", "on", "where", "set", "order", "values"];
    let mut runs = Vec::new();
    let mut start = 0;
    for (at, node) in nodes.iter().enumerate() {
        if node.is_sign(",") || ENDS.iter().any(|word| node.is_word(word)) {
            runs.push(start..at);
            start = at + 1;
        }
    }
    runs.push(start..nodes.len());
    runs
}

/// What belongs to `statement_timestamp() + interval '..'`, or `+ make_interval(secs => $n)`, or `+
/// case when $n then interval '..' end`: the time of a lease, by the database's clock.
fn excused(nodes: &[Node]) -> Vec<bool> {
    let mut excused = vec![false; nodes.len()];
    for at in 2..nodes.len() {
        let is_clock = nodes[at - 2].is_word("statement_timestamp") && nodes[at - 1] == Node::Group(Vec::new());
        if !is_clock || !(nodes[at].is_sign("+") || nodes[at].is_sign("-")) {
            continue;
        }
        let rest = &nodes[at + 1..];
        let length = match rest {
            [word, Node::Group(inner), ..] if word.is_word("make_interval") => match &inner[..] {
                [secs, arrow, Node::Parameter(_)] if secs.is_word("secs") && arrow.is_sign("=>") => 2,
                _ => 0,
            },
            [word, Node::Text, ..] if word.is_word("interval") => 2,
            [case, when, Node::Parameter(_), then, word, Node::Text, end, ..]
                if case.is_word("case")
                    && when.is_word("when")
                    && then.is_word("then")
                    && word.is_word("interval")
                    && end.is_word("end") =>
            {
                7
            }
            _ => 0,
        };
        let goes_on =
            matches!(rest.get(length), Some(Node::Sign(sign)) if ARITHMETIC.contains(&sign.as_str()) || sign == "::");
        if length > 0 && !goes_on {
            excused[at..=at + length].fill(true);
        }
    }
    excused
}

/// Whether the whole statement begins as one that is read here.
pub fn begins_right(nodes: &[Node]) -> bool {
    ["with", "select", "insert", "update", "delete"].iter().any(|word| is_word(nodes.first(), word))
}
