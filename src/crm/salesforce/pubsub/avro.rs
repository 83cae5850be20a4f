//! Reads the header of a change event, and nothing else of it: Avro's binary form (Apache Avro
//! 1.12, "Binary Encoding"), by the schema that Salesforce names. Pure. What it reads comes from
//! outside: it never panics, and never makes room by a length that it has only read of.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod schema;

use serde_json::Value;
use thiserror::Error;

use self::schema::{AvroType, SchemaReader, TypeId};

/// The field of a change event that says what has happened.
const HEADER: &str = "ChangeEventHeader";
/// Bytes of a schema; Salesforce's have some ten thousand.
const SCHEMA_BYTES_MAX: usize = 1024 * 1024;
/// Types within types, of a schema and of a datum.
const DEPTH_MAX: usize = 16;
/// Values of a datum that are passed over, also those that have no bytes: types within types could
/// be any number of them.
const SKIPPED_MAX: usize = 100_000;
/// Records that one event is about.
const RECORD_IDS_MAX: usize = 10_000;
/// Bytes of an id, and of a word.
const WORD_BYTES_MAX: usize = 64;
/// Bitmaps of changed fields: one for the record and one for each compound field.
const BITMAPS_MAX: usize = 256;
/// Bytes of one.
const BITMAP_BYTES_MAX: usize = 4 * 1024;

/// Why a schema or an event cannot be read. Says nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub(super) struct AvroError(&'static str);

type AvroResult<T> = Result<T, AvroError>;

/// How the header of one schema's events is read, and the names of the record's fields by their
/// bit.
#[derive(Debug)]
pub(super) struct HeaderLayout {
    types: Vec<AvroType>,
    /// What stands before the header.
    before: Vec<TypeId>,
    header: TypeId,
    /// Of the record's fields, in the order of their bits.
    pub(super) names: Vec<Box<str>>,
}

/// What an event says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangeHeader {
    /// The kind of object.
    pub(super) entity: String,
    /// Which records.
    pub(super) record_ids: Vec<String>,
    /// What happened to them.
    pub(super) change_type: String,
    /// When, in milliseconds since 1970, if it says so.
    pub(super) commit_ms: Option<i64>,
    /// Bitmaps of what was changed; `None`: it does not say.
    pub(super) changed_fields: Option<Vec<String>>,
}

impl HeaderLayout {
    /// Reads a schema.
    pub(super) fn read(schema: &str) -> AvroResult<Self> {
        if schema.len() > SCHEMA_BYTES_MAX {
            return Err(AvroError("the schema is too large"));
        }
        let schema: Value = serde_json::from_str(schema).map_err(|_| AvroError("the schema is no JSON"))?;
        let (types, root) = SchemaReader::read_all(&schema)?;
        let Some(AvroType::Record(fields)) = types.get(root) else { return Err(AvroError("the schema is no record")) };
        let at = fields.iter().position(|(name, _)| &**name == HEADER).ok_or(AvroError("it has no header"))?;
        let before = fields.iter().take(at).map(|(_, id)| *id).collect();
        let header = fields.get(at).ok_or(AvroError("it has no header"))?.1;
        let names = fields.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { types, before, header, names })
    }

    /// Reads an event's header; what follows it is not looked at.
    pub(super) fn decode(&self, payload: &[u8]) -> AvroResult<ChangeHeader> {
        let mut reader = DatumReader { types: &self.types, bytes: payload, skips_left: SKIPPED_MAX };
        for id in &self.before {
            reader.skip(*id, 0)?;
        }
        let header = reader.choose(self.header, 0)?;
        let AvroType::Record(fields) = reader.type_of(header)? else {
            return Err(AvroError("the header is no record"));
        };
        let (mut entity, mut record_ids, mut change_type) = (None, None, None);
        let (mut commit_ms, mut changed_fields) = (None, None);
        for (name, id) in fields {
            match &**name {
                "entityName" => entity = reader.word(*id)?,
                "recordIds" => record_ids = reader.texts(*id, RECORD_IDS_MAX, WORD_BYTES_MAX)?,
                "changeType" => change_type = reader.word(*id)?,
                "commitTimestamp" => commit_ms = reader.number(*id)?,
                "changedFields" => changed_fields = reader.texts(*id, BITMAPS_MAX, BITMAP_BYTES_MAX)?,
                _ => reader.skip(*id, 0)?,
            }
        }
        Ok(ChangeHeader {
            entity: entity.ok_or(AvroError("it names no object"))?,
            record_ids: record_ids.ok_or(AvroError("it names no records"))?,
            change_type: change_type.ok_or(AvroError("it does not say what happened"))?,
            commit_ms,
            changed_fields,
        })
    }
}

fn deeper(depth: usize) -> AvroResult<usize> {
    depth.checked_add(1).filter(|depth| *depth <= DEPTH_MAX).ok_or(AvroError("it is nested too deeply"))
}

/// Reads one datum.
struct DatumReader<'a> {
    types: &'a [AvroType],
    bytes: &'a [u8],
    skips_left: usize,
}

impl<'a> DatumReader<'a> {
    fn type_of(&self, id: TypeId) -> AvroResult<&'a AvroType> {
        self.types.get(id).ok_or(AvroError("a type is missing"))
    }

    fn take(&mut self, count: usize) -> AvroResult<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(AvroError("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A number of 64 bits: seven of them a byte, the lowest first, with the sign in the lowest
    /// bit.
    fn long(&mut self) -> AvroResult<i64> {
        let mut raw: u64 = 0;
        for shift in (0_u32..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(AvroError("it ends too early"))?;
            let bits = u64::from(byte & 0x7f);
            // Of the tenth byte one bit has room.
            let shifted = bits.checked_shl(shift).filter(|shifted| shifted.checked_shr(shift) == Some(bits));
            raw |= shifted.ok_or(AvroError("a number is too large"))?;
            if byte & 0x80 == 0 {
                let half = i64::try_from(raw >> 1).map_err(|_| AvroError("a number is too large"))?;
                return Ok(if raw & 1 == 0 { half } else { !half });
            }
        }
        Err(AvroError("a number is too long"))
    }

    fn int(&mut self) -> AvroResult<i32> {
        i32::try_from(self.long()?).map_err(|_| AvroError("a number is too large"))
    }

    fn length(&mut self) -> AvroResult<usize> {
        usize::try_from(self.long()?).map_err(|_| AvroError("a length is negative"))
    }

    fn text(&mut self) -> AvroResult<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| AvroError("a text is not UTF-8"))
    }

    fn symbol(&mut self, symbols: &'a [Box<str>]) -> AvroResult<&'a str> {
        let index = usize::try_from(self.int()?).ok();
        let symbol = index.and_then(|index| symbols.get(index));
        symbol.map(|symbol| &**symbol).ok_or(AvroError("a word is not in its list"))
    }

    fn branch(&mut self, branches: &[TypeId]) -> AvroResult<TypeId> {
        let index = usize::try_from(self.long()?).ok();
        let branch = index.and_then(|index| branches.get(index));
        branch.copied().ok_or(AvroError("a choice is not in its list"))
    }

    /// The type that comes, whatever may have come instead.
    fn choose(&mut self, id: TypeId, depth: usize) -> AvroResult<TypeId> {
        match self.type_of(id)? {
            AvroType::Union(branches) => {
                let branch = self.branch(branches)?;
                self.choose(branch, deeper(depth)?)
            }
            _ => Ok(id),
        }
    }

    /// The number of elements of the next block of a list; 0: its end.
    fn block(&mut self) -> AvroResult<usize> {
        let count = self.long()?;
        if count < 0 {
            // How many bytes the block has, which nobody here needs.
            self.length()?;
        }
        usize::try_from(count.unsigned_abs()).map_err(|_| AvroError("a list is too long"))
    }

    fn skip(&mut self, id: TypeId, depth: usize) -> AvroResult<()> {
        let depth = deeper(depth)?;
        self.skips_left = self.skips_left.checked_sub(1).ok_or(AvroError("it has too many values"))?;
        match self.type_of(id)? {
            AvroType::Null => {}
            AvroType::Boolean => {
                if !matches!(self.take(1)?, [0 | 1]) {
                    return Err(AvroError("a boolean is neither"));
                }
            }
            AvroType::Int => {
                self.int()?;
            }
            AvroType::Long => {
                self.long()?;
            }
            AvroType::Float => {
                self.take(4)?;
            }
            AvroType::Double => {
                self.take(8)?;
            }
            AvroType::Bytes => {
                let length = self.length()?;
                self.take(length)?;
            }
            AvroType::Text => {
                self.text()?;
            }
            AvroType::Fixed(size) => {
                self.take(*size)?;
            }
            AvroType::Enum(symbols) => {
                self.symbol(symbols)?;
            }
            AvroType::Array(of) => self.each(|reader| reader.skip(*of, depth))?,
            AvroType::Map(of) => self.each(|reader| {
                reader.text()?;
                reader.skip(*of, depth)
            })?,
            AvroType::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip(branch, depth)?;
            }
            AvroType::Record(fields) => {
                for (_, of) in fields {
                    self.skip(*of, depth)?;
                }
            }
        }
        Ok(())
    }

    /// Whoever takes an element in bounds their number.
    fn each(&mut self, mut element: impl FnMut(&mut Self) -> AvroResult<()>) -> AvroResult<()> {
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                element(self)?;
            }
        }
    }

    /// A text, or a word of a list; `None`: null.
    fn word(&mut self, id: TypeId) -> AvroResult<Option<String>> {
        let id = self.choose(id, 0)?;
        let word = match self.type_of(id)? {
            AvroType::Null => return Ok(None),
            AvroType::Text => self.text()?,
            AvroType::Enum(symbols) => self.symbol(symbols)?,
            _ => return Err(AvroError("a word is no text")),
        };
        bounded(word, WORD_BYTES_MAX).map(Some)
    }

    /// `None`: null.
    fn number(&mut self, id: TypeId) -> AvroResult<Option<i64>> {
        let id = self.choose(id, 0)?;
        match self.type_of(id)? {
            AvroType::Null => Ok(None),
            AvroType::Int => self.int().map(|number| Some(number.into())),
            AvroType::Long => self.long().map(Some),
            _ => Err(AvroError("a number is none")),
        }
    }

    /// At most so many texts of so many bytes; `None`: null.
    fn texts(&mut self, id: TypeId, count_max: usize, bytes_max: usize) -> AvroResult<Option<Vec<String>>> {
        let id = self.choose(id, 0)?;
        let of = match self.type_of(id)? {
            AvroType::Null => return Ok(None),
            AvroType::Array(of) => *of,
            _ => return Err(AvroError("a list is none")),
        };
        let mut texts = Vec::new();
        self.each(|reader| {
            let id = reader.choose(of, 0)?;
            let AvroType::Text = reader.type_of(id)? else { return Err(AvroError("a list is not of texts")) };
            if texts.len() >= count_max {
                return Err(AvroError("a list is too long"));
            }
            texts.push(bounded(reader.text()?, bytes_max)?);
            Ok(())
        })?;
        Ok(Some(texts))
    }
}

fn bounded(text: &str, bytes_max: usize) -> AvroResult<String> {
    if text.len() > bytes_max { Err(AvroError("a text is too long")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests;
