//! Where a run stands, as an opaque text: what of each object is known from the runs before, and
//! how far this one has come. Everything that leads on is in here, so that any process can go on,
//! also days later. It comes back from storage: nothing in it is believed unchecked.

use serde::{Deserialize, Serialize};

use super::fields;
use crate::{crm::CrmError, domain::record::ObjectType};

const VERSION: u8 = 1;
/// Two objects with every field that is taken have about 6 KiB.
const POSITION_BYTES_MAX: usize = 32 * 1024;
/// 1970 to 9999, in milliseconds.
const TIMES: std::ops::Range<i64> = 0..253_402_300_800_000;
/// Salesforce's have 18 characters, those of jobs too.
const ID_BYTES_MAX: usize = 32;
/// Salesforce's have a few.
const LOCATOR_BYTES_MAX: usize = 1_024;
const FIELDS_MAX: usize = 40;

/// The place of a run. Times are milliseconds since 1970 by the server's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SalesforcePosition {
    version: u8,
    /// One of each object that was ever read to its end. That of an object which is not copied any
    /// more is kept: switched on again, it is caught up with from there.
    pub(super) marks: Vec<ObjectProgress>,
    /// `None`: between runs.
    pub(super) turn: Option<ObjectTurn>,
    /// Objects that the run (or the last one) has left because the CRM had trouble with them, and
    /// where each goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<ObjectTurn>,
}

/// How far an object is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectProgress {
    #[serde(with = "object")]
    pub(super) object: ObjectType,
    /// The end of the last window of rows that was read to its end.
    pub(super) rows_through: i64,
    /// The end of the log of deletions that was read.
    pub(super) deleted_through: i64,
    /// The fields that were asked for.
    pub(super) fields: Vec<String>,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectTurn {
    /// The object that is read now; those before it are done.
    #[serde(with = "object")]
    pub(super) object: ObjectType,
    /// The earliest end of a window that this run has finished.
    pub(super) known: Option<i64>,
    /// All objects have had their turn; those that were left have another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_again: bool,
    pub(super) stage: RunStage,
}

/// What is done with an object. Full: `Begin` to `RowsProgress` or `BulkProgress`. Increment:
/// `Begin` to `RowsProgress` to `DeletedProgress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum RunStage {
    /// Nothing is asked yet, or a job of the bulk interface came to nothing so many times.
    Begin { bulk_failures: u8 },
    /// Rows by REST.
    Rows(RowsProgress),
    /// Rows by the bulk interface.
    Bulk(BulkProgress),
    /// The log of deletions.
    Deleted(DeletedProgress),
}

/// A row, in the order of the queries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowKeyset {
    pub(super) at: i64,
    pub(super) id: String,
}

/// Rows by REST.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowsProgress {
    pub(super) fields: Vec<String>,
    pub(super) since: Option<i64>,
    pub(super) after: Option<RowKeyset>,
    /// The end of the window: the server's time at the first answer.
    pub(super) until: Option<i64>,
    /// A nearer end, because queries took too long.
    pub(super) bound: Option<i64>,
    /// From where to that nearer end, milliseconds.
    pub(super) span: i64,
    /// So many times in succession.
    pub(super) halvings: u8,
}

/// Rows by the bulk interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkProgress {
    pub(super) fields: Vec<String>,
    pub(super) job: String,
    /// Where the results go on; `None`: before the first.
    pub(super) locator: Option<String>,
    pub(super) polls: u16,
    pub(super) failures: u8,
    /// The server's time when the job was made.
    pub(super) until: i64,
}

/// The log of deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeletedProgress {
    pub(super) end: i64,
    /// The end of this request, nearer than `end` where there were too many.
    pub(super) upto: i64,
    /// Entries up to this one are done, in order of time and id.
    pub(super) after: Option<RowKeyset>,
}

impl Default for SalesforcePosition {
    fn default() -> Self {
        Self { version: VERSION, marks: Vec::new(), turn: None, left: Vec::new() }
    }
}

impl SalesforcePosition {
    /// Reads a stored one.
    pub(super) fn decode(text: &str) -> Result<Self, CrmError> {
        let fits = text.len() <= POSITION_BYTES_MAX;
        let position: Option<Self> = if fits { serde_json::from_str(text).ok() } else { None };
        position.filter(Self::is_sound).ok_or(CrmError::PositionRefused)
    }

    pub(super) fn encode(&self) -> Result<String, CrmError> {
        let text = serde_json::to_string(self).ok().filter(|text| text.len() <= POSITION_BYTES_MAX);
        text.ok_or(CrmError::Unreadable("its objects have too many fields to go on by"))
    }

    pub(super) fn mark(&self, object: ObjectType) -> Option<&ObjectProgress> {
        self.marks.iter().find(|mark| mark.object == object)
    }

    /// The rows of an object are known through this time; of one that was never read before, the
    /// deletions too.
    pub(super) fn rows_are_known(&mut self, object: ObjectType, through: i64, fields: Vec<String>) -> ObjectProgress {
        let deleted_through = self.mark(object).map_or(through, |mark| mark.deleted_through);
        let mark = ObjectProgress { object, rows_through: through, deleted_through, fields };
        self.marks.retain(|mark| mark.object != object);
        self.marks.push(mark.clone());
        mark
    }

    pub(super) fn deletions_are_known(&mut self, object: ObjectType, through: i64) {
        for mark in self.marks.iter_mut().filter(|mark| mark.object == object) {
            mark.deleted_through = mark.deleted_through.max(through);
        }
    }

    /// An object's turn in a run; where it was left, it goes on.
    pub(super) fn begin(&mut self, object: ObjectType, known: Option<i64>, is_again: bool) -> ObjectTurn {
        match self.left.iter().position(|turn| turn.object == object) {
            Some(place) => ObjectTurn { known, is_again, ..self.left.swap_remove(place) },
            None => ObjectTurn { is_again, ..ObjectTurn::begin(object, known) },
        }
    }

    /// Leaves an object to a later turn. What is known of it is caught up with from there, by the
    /// time of then.
    pub(super) fn leave(&mut self, object: ObjectType, stage: RunStage) {
        let stage = if self.mark(object).is_some() { RunStage::Begin { bulk_failures: 0 } } else { stage };
        self.left.retain(|turn| turn.object != object);
        self.left.push(ObjectTurn { object, known: None, is_again: false, stage });
    }

    /// Something that was never read to its end is left.
    pub(super) fn is_incomplete(&self) -> bool {
        self.left.iter().any(|turn| self.mark(turn.object).is_none())
    }

    fn is_sound(&self) -> bool {
        self.version == VERSION
            && self.marks.len() <= 2
            && self.marks.iter().all(ObjectProgress::is_sound)
            && self.left.len() <= 2
            && self.turn.iter().chain(&self.left).all(|turn| turn.is_sound(self.mark(turn.object).is_some()))
    }
}

impl ObjectProgress {
    fn is_sound(&self) -> bool {
        are_times(&[Some(self.rows_through), Some(self.deleted_through)]) && are_fields(&self.fields)
    }
}

impl ObjectTurn {
    const fn begin(object: ObjectType, known: Option<i64>) -> Self {
        Self { object, known, is_again: false, stage: RunStage::Begin { bulk_failures: 0 } }
    }

    fn is_sound(&self, is_known: bool) -> bool {
        let is_stage_sound = match &self.stage {
            RunStage::Begin { .. } => true,
            RunStage::Rows(rows) => {
                are_times(&[rows.since, rows.until, rows.bound, Some(rows.span)])
                    && are_fields(&rows.fields)
                    && rows.after.as_ref().is_none_or(RowKeyset::is_sound)
            }
            RunStage::Bulk(bulk) => {
                let is_locator = |text: &String| is_locator(text);
                are_times(&[Some(bulk.until)])
                    && are_fields(&bulk.fields)
                    && is_id(&bulk.job)
                    && bulk.locator.as_ref().is_none_or(is_locator)
            }
            RunStage::Deleted(deleted) => {
                is_known
                    && are_times(&[Some(deleted.end), Some(deleted.upto)])
                    && deleted.after.as_ref().is_none_or(RowKeyset::is_sound)
            }
        };
        is_stage_sound && are_times(&[self.known])
    }
}

impl BulkProgress {
    /// The stage after its job has come to nothing.
    pub(super) const fn begin_again(&self) -> RunStage {
        RunStage::Begin { bulk_failures: self.failures.saturating_add(1) }
    }
}

impl RowKeyset {
    fn is_sound(&self) -> bool {
        are_times(&[Some(self.at)]) && is_id(&self.id)
    }
}

fn are_times(times: &[Option<i64>]) -> bool {
    times.iter().flatten().all(|time| TIMES.contains(time))
}

fn are_fields(names: &[String]) -> bool {
    names.len() <= FIELDS_MAX && names.iter().all(|name| fields::is_name(name))
}

/// Whether this can be an id of Salesforce's, also of a job.
pub(super) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether this can be a place in the results of a job.
pub(super) fn is_locator(text: &str) -> bool {
    (1..=LOCATOR_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

mod object {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::domain::{provider::Provider, record::ObjectType};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(object: &ObjectType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(object.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectType, D::Error> {
        let object = String::deserialize(deserializer)?.parse::<ObjectType>().ok();
        let object = object.filter(|object| object.provider() == Provider::Salesforce);
        object.ok_or_else(|| D::Error::custom("not an object of Salesforce's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(object: ObjectType) -> ObjectProgress {
        ObjectProgress { object, rows_through: 2_000, deleted_through: 1_000, fields: vec!["Account.Name".to_owned()] }
    }

    fn position(stage: RunStage) -> SalesforcePosition {
        SalesforcePosition {
            marks: vec![mark(ObjectType::Contact), mark(ObjectType::Lead)],
            turn: Some(ObjectTurn { object: ObjectType::Lead, known: Some(5), is_again: false, stage }),
            ..SalesforcePosition::default()
        }
    }

    fn last() -> RowKeyset {
        RowKeyset { at: 7, id: "003D000000QV9n2IAD".to_owned() }
    }

    fn stages() -> Vec<RunStage> {
        let fields = || vec!["Phone".to_owned(), "Site__c".to_owned()];
        vec![
            RunStage::Begin { bulk_failures: 1 },
            RunStage::Rows(RowsProgress {
                fields: fields(),
                since: Some(1),
                after: Some(last()),
                until: Some(9),
                bound: Some(8),
                span: 3,
                halvings: 2,
            }),
            RunStage::Bulk(BulkProgress {
                fields: fields(),
                job: "750R0000000zlh9IAA".to_owned(),
                locator: Some("MTAwMDA".to_owned()),
                polls: 3,
                failures: 1,
                until: 9,
            }),
            RunStage::Deleted(DeletedProgress { end: 9, upto: 8, after: Some(last()) }),
        ]
    }

    #[test]
    fn every_place_comes_back_as_it_was() {
        for stage in stages() {
            let position = position(stage);

            assert_eq!(SalesforcePosition::decode(&position.encode().unwrap()).unwrap(), position);
        }
        let between = SalesforcePosition { turn: None, ..position(RunStage::Begin { bulk_failures: 0 }) };
        assert_eq!(SalesforcePosition::decode(&between.encode().unwrap()).unwrap(), between);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let good = position(stages().remove(1)).encode().unwrap();
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        for text in [
            String::new(),
            "MTU3NjYxMzUzOS4wfHw0Njd8".to_owned(),
            "{}".to_owned(),
            "null".to_owned(),
            changed("\"version\":1", "\"version\":2"),
            changed("\"object\":\"Lead\"", "\"object\":\"user\""),
            changed("\"Account.Name\"", "\"Id FROM User\""),
            changed("003D000000QV9n2IAD", "') OR Id != '"),
            changed("\"since\":1", "\"since\":-1"),
            changed("\"until\":9", "\"until\":999999999999999999"),
            changed("\"span\":3", "\"span\":3,\"more\":1"),
            format!("{good}{}", " ".repeat(POSITION_BYTES_MAX)),
        ] {
            assert!(matches!(SalesforcePosition::decode(&text), Err(CrmError::PositionRefused)), "{text:.60}");
        }
    }

    #[test]
    fn deletions_are_never_known_less_far_than_before() {
        let mut position = position(RunStage::Begin { bulk_failures: 0 });

        position.deletions_are_known(ObjectType::Lead, 500);
        position.rows_are_known(ObjectType::Lead, 3_000, Vec::new());

        assert_eq!(position.mark(ObjectType::Lead).unwrap().deleted_through, 1_000);
        assert_eq!(position.mark(ObjectType::Lead).unwrap().rows_through, 3_000);
        assert_eq!(position.mark(ObjectType::Contact).unwrap(), &mark(ObjectType::Contact));
    }

    #[test]
    fn the_largest_place_fits() {
        let fields: Vec<String> = (0..FIELDS_MAX).map(|number| format!("{number:a>61}")).collect();
        let mark = |object| ObjectProgress { fields: fields.clone(), ..mark(object) };
        let position = SalesforcePosition {
            marks: vec![mark(ObjectType::Contact), mark(ObjectType::Lead)],
            turn: Some(ObjectTurn {
                object: ObjectType::Lead,
                known: None,
                is_again: true,
                stage: RunStage::Bulk(BulkProgress {
                    fields: fields.clone(),
                    job: "7".repeat(ID_BYTES_MAX),
                    locator: Some("x".repeat(LOCATOR_BYTES_MAX)),
                    polls: u16::MAX,
                    failures: 1,
                    until: 1,
                }),
            }),
            ..SalesforcePosition::default()
        };

        assert_eq!(SalesforcePosition::decode(&position.encode().unwrap()).unwrap(), position);
    }
}
