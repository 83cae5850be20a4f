//! Names and values of a statement held against the schema. Owns: the errors about fields, objects
//! and types, in Salesforce's words and with its pointer into the text.

use chrono::{Days, NaiveTime};

use super::{
    super::{
        id::RecordId,
        objects::{Kind, ObjectKind},
        record::{Millis, instant},
        refusal::SalesforceRefusal,
        schema::{ObjectSchema, Schema},
    },
    Column, Condition, Expression, Join, Literal, Operand, Operator, Order, PARENTS_MAX, Parent, Path, Query, Spot,
    Statement,
    lexer::{WILDCARDS, malformed},
};

/// Makes a query of a statement whose text is `text`; `now` is what `LAST_N_DAYS` counts from.
pub(in super::super) fn bind(
    schema: &Schema,
    statement: &Statement,
    text: &str,
    now: Millis,
) -> Result<Query, SalesforceRefusal> {
    let object = schema.find(&statement.object.it).map_err(|refusal| SalesforceRefusal {
        message: pointed(text, statement.object.at, &refusal.message),
        ..refusal
    })?;
    let mut binder = Binder { schema, object, text, now, parents: Vec::new() };
    let columns = statement.columns.iter().map(|path| binder.column(path)).collect::<Result<Vec<_>, _>>()?;
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|other| other.names == column.names) {
            let name = column.names.join(".");
            return Err(SalesforceRefusal::bad("INVALID_FIELD", format!("duplicate field selected: {name}")));
        }
    }
    let (mut joins, mut conditions) = (Vec::new(), Vec::new());
    let parts = match &statement.condition {
        Some(Expression::All(parts)) => parts.as_slice(),
        other => other.as_slice(),
    };
    for part in parts {
        match part {
            Expression::Join { path, is_in, of } => joins.push(binder.join(path, *is_in, of)?),
            other => conditions.push(binder.condition(other)?),
        }
    }
    let condition = (!conditions.is_empty()).then_some(Condition::All(conditions));
    let order = statement.order.iter().map(|order| {
        let path = binder.path(&order.path)?;
        Ok(Order { path, is_descending: order.is_descending, are_nulls_last: order.are_nulls_last })
    });
    let order = order.collect::<Result<Vec<_>, SalesforceRefusal>>()?;
    Ok(Query {
        object: object.kind,
        columns,
        parents: binder.parents,
        condition,
        joins,
        order,
        limit: statement.limit,
        offset: statement.offset,
    })
}

struct Binder<'a> {
    schema: &'a Schema,
    object: &'a ObjectSchema,
    text: &'a str,
    now: Millis,
    parents: Vec<Parent>,
}

impl Binder<'_> {
    fn column(&mut self, written: &Spot<String>) -> Result<Column, SalesforceRefusal> {
        let path = self.path(written)?;
        let mut parents = Vec::new();
        let mut from = path.parent;
        while let Some(parent) = from {
            parents.insert(0, parent);
            from = self.parents[parent].from;
        }
        let mut object = self.object;
        let mut names = Vec::new();
        for parent in &parents {
            let Parent { reference, to, .. } = self.parents[*parent];
            if let Kind::Reference(_, relationship) = object.field(reference).kind {
                names.push(relationship.to_owned());
            }
            object = self.schema.object(to);
        }
        names.push(object.field(path.slot).name.clone());
        Ok(Column { names, parents, path })
    }

    fn path(&mut self, written: &Spot<String>) -> Result<Path, SalesforceRefusal> {
        let mut parts: Vec<&str> = written.it.split('.').collect();
        // The object's own name may stand before its fields.
        if parts.len() > 1 && parts[0].eq_ignore_ascii_case(self.object.name()) {
            parts.remove(0);
        }
        let name = parts.pop().unwrap_or_default();
        if parts.len() > PARENTS_MAX {
            return Err(SalesforceRefusal::bad("INVALID_FIELD", "a field path has five relationships at most"));
        }
        let (mut object, mut parent) = (self.object, None);
        for relationship in parts {
            let (reference, to) = object.relationship(relationship).ok_or_else(|| {
                let hint = "If you are attempting to use a custom relationship, be sure to append the '__r' after the \
                            custom relationship name. Please reference your WSDL or the describe call for the \
                            appropriate names.";
                let message = format!("Didn't understand relationship '{relationship}' in field path. {hint}");
                SalesforceRefusal::bad("INVALID_FIELD", pointed(self.text, written.at, &message))
            })?;
            let step = Parent { from: parent, reference, to };
            let known = self.parents.iter().position(|known| *known == step);
            parent = Some(known.unwrap_or_else(|| {
                self.parents.push(step);
                self.parents.len() - 1
            }));
            object = self.schema.object(to);
        }
        let slot = object.visible_slot(name).ok_or_else(|| {
            let message = format!(
                "No such column '{name}' on entity '{}'. If you are attempting to use a custom field, be sure to \
                 append the '__c' after the custom field name. Please reference your WSDL or the describe call for \
                 the appropriate names.",
                object.name()
            );
            SalesforceRefusal::bad("INVALID_FIELD", pointed(self.text, written.at, &message))
        })?;
        Ok(Path { parent, object: object.kind, slot })
    }

    fn condition(&mut self, written: &Expression) -> Result<Condition, SalesforceRefusal> {
        match written {
            Expression::All(parts) => Ok(Condition::All(self.conditions(parts)?)),
            Expression::Any(parts) => Ok(Condition::Any(self.conditions(parts)?)),
            Expression::Not(inner) => Ok(Condition::Not(Box::new(self.condition(inner)?))),
            Expression::Join { path, .. } => {
                let message = "Semi join sub-selects are only allowed at the top level WHERE expressions and not in \
                               nested WHERE expressions";
                Err(malformed(&pointed(self.text, path.at, message)))
            }
            Expression::Compare { path, operator, values } => {
                let bound = self.path(path)?;
                let field = self.schema.object(bound.object).field(bound.slot);
                if field.kind == Kind::LongText {
                    let message = format!("field '{}' can not be filtered in a query call", field.name);
                    return Err(SalesforceRefusal::bad("INVALID_FIELD", pointed(self.text, path.at, &message)));
                }
                let is_text =
                    !matches!(field.kind, Kind::Id | Kind::Reference(..) | Kind::Boolean | Kind::DateTime | Kind::Date);
                if *operator == Operator::Like && !is_text {
                    let message = pointed(self.text, path.at, "invalid operator on field");
                    return Err(SalesforceRefusal::bad("INVALID_QUERY_FILTER_OPERATOR", message));
                }
                let is_range = values.iter().any(|value| matches!(value, Literal::LastDays(_)));
                let operator =
                    if is_range && *operator == Operator::Equal { Operator::GreaterOrEqual } else { *operator };
                let values = values
                    .iter()
                    .map(|value| {
                        self.operand(field.kind, operator, value)
                            .ok_or_else(|| self.wrong_type(path, &field.name, field.kind, value))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Condition::Compare { path: bound, operator, values })
            }
        }
    }

    fn join(&mut self, written: &Spot<String>, is_in: bool, of: &Statement) -> Result<Join, SalesforceRefusal> {
        let path = self.path(written)?;
        let of = bind(self.schema, of, self.text, self.now)?;
        let is_reference = |path: Path| {
            matches!(self.schema.object(path.object).field(path.slot).kind, Kind::Id | Kind::Reference(..))
        };
        let is_right = matches!(of.columns.as_slice(), [only] if only.parents.is_empty() && is_reference(only.path));
        if !is_right || !is_reference(path) {
            let message = "a semi join sub-select gives one field, its object's own; it and the field that is compared \
                           with it are ids or references";
            return Err(malformed(&pointed(self.text, written.at, message)));
        }
        Ok(Join { path, is_in, of })
    }

    fn conditions(&mut self, written: &[Expression]) -> Result<Vec<Condition>, SalesforceRefusal> {
        written.iter().map(|part| self.condition(part)).collect()
    }

    /// The value to compare a field of this kind with; `None` if it is of another type.
    fn operand(&self, kind: Kind, operator: Operator, literal: &Literal) -> Option<Operand> {
        match (kind, literal) {
            (_, Literal::Null) => Some(Operand::Null),
            (Kind::Id | Kind::Reference(..), Literal::Text(text)) => RecordId::parse(text).map(Operand::Id),
            (Kind::Boolean, Literal::Flag(flag)) => Some(Operand::Flag(*flag)),
            (Kind::DateTime, Literal::Time(time)) => Some(Operand::Time(*time)),
            (Kind::Date, Literal::Date(date)) => Some(Operand::Date(date.clone())),
            (Kind::DateTime | Kind::Date, Literal::LastDays(days)) => {
                let day = instant(self.now).date_naive().checked_sub_days(Days::new(u64::from(*days)))?;
                let midnight = day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
                Some(if kind == Kind::Date { Operand::Date(day.to_string()) } else { Operand::Time(midnight) })
            }
            (Kind::Id | Kind::Reference(..) | Kind::Boolean | Kind::DateTime | Kind::Date, _) => None,
            (_, Literal::Text(text)) => {
                let text = text.to_lowercase();
                let plain =
                    |text: String, wildcard: char| text.replace(&format!("\\{wildcard}"), &wildcard.to_string());
                let is_pattern = operator == Operator::Like;
                Some(Operand::Text(if is_pattern { text } else { WILDCARDS.into_iter().fold(text, plain) }))
            }
            _ => None,
        }
    }

    fn wrong_type(&self, path: &Spot<String>, name: &str, kind: Kind, value: &Literal) -> SalesforceRefusal {
        let (expected, quotes) = match kind {
            Kind::Id | Kind::Reference(..) if matches!(value, Literal::Text(_)) => {
                let message = pointed(self.text, path.at, "invalid ID field");
                return SalesforceRefusal::bad("INVALID_QUERY_FILTER_OPERATOR", message);
            }
            Kind::Id | Kind::Reference(..) => ("id", "should be enclosed in quotes"),
            Kind::Boolean => ("boolean", "should not be enclosed in quotes"),
            Kind::DateTime => ("dateTime", "should not be enclosed in quotes"),
            Kind::Date => ("date", "should not be enclosed in quotes"),
            _ => ("string", "should be enclosed in quotes"),
        };
        let message = format!("value of filter criterion for field '{name}' must be of type {expected} and {quotes}");
        SalesforceRefusal::bad("INVALID_FIELD", pointed(self.text, path.at, &message))
    }
}

/// A message with the line it is about and a pointer to the place, as Salesforce shows it.
fn pointed(text: &str, at: usize, message: &str) -> String {
    let before: String = text.chars().take(at).collect();
    let row = before.matches('\n').count();
    let column = before.chars().rev().take_while(|character| *character != '\n').count();
    let line = text.lines().nth(row).unwrap_or_default();
    format!("\n{line}\n{}^\nERROR at Row:{}:Column:{}\n{message}", " ".repeat(column), row + 1, column + 1)
}

/// For the search, whose `RETURNING` names an object and a condition apart.
pub(in super::super) fn bind_search(
    schema: &Schema,
    kind: ObjectKind,
    fields: &[String],
    condition: Option<Expression>,
    now: Millis,
) -> Result<Query, SalesforceRefusal> {
    let spot = |it: String| Spot { at: 0, it };
    let text = format!("SELECT {} FROM {}", fields.join(", "), kind.name());
    let statement = Statement {
        columns: fields.iter().cloned().map(spot).collect(),
        object: spot(kind.name().to_owned()),
        condition,
        order: Vec::new(),
        limit: None,
        offset: 0,
    };
    bind(schema, &statement, &text, now)
}
