//! Avro's schemas, as JSON (Apache Avro 1.12, "Schema Declaration"). Aliases, defaults and logical
//! types change nothing of how a datum is read.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{AvroError, AvroResult, deeper};

/// Types of a schema.
const TYPES_MAX: usize = 5_000;
/// Fields of a record; an object of Salesforce's has 800 custom ones at most.
const FIELDS_MAX: usize = 2_000;

/// Where a type stands among a schema's types.
pub(super) type TypeId = usize;

/// A type; those within it are named by their place, so that a schema that holds itself is finite.
#[derive(Debug)]
pub(super) enum AvroType {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<Box<str>>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(Box<str>, TypeId)>),
}

/// Reads a schema's JSON.
pub(super) struct SchemaReader {
    types: Vec<AvroType>,
    /// By full name.
    named: HashMap<String, TypeId>,
}

impl SchemaReader {
    /// All types of a schema, and which of them is the whole.
    pub(super) fn read_all(schema: &Value) -> AvroResult<(Vec<AvroType>, TypeId)> {
        let mut reader = Self { types: Vec::new(), named: HashMap::new() };
        let root = reader.read(schema, "", 0)?;
        Ok((reader.types, root))
    }

    fn add(&mut self, of: AvroType) -> AvroResult<TypeId> {
        let id = self.types.len();
        if id >= TYPES_MAX {
            return Err(AvroError("the schema has too many types"));
        }
        self.types.push(of);
        Ok(id)
    }

    fn read(&mut self, schema: &Value, namespace: &str, depth: usize) -> AvroResult<TypeId> {
        let depth = deeper(depth)?;
        match schema {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let id = self.add(AvroType::Null)?;
                let branches: AvroResult<Vec<TypeId>> =
                    branches.iter().map(|branch| self.read(branch, namespace, depth)).collect();
                self.set(id, AvroType::Union(branches?));
                Ok(id)
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.complex(name, object, namespace, depth),
                Some(inner) => self.read(inner, namespace, depth),
                None => Err(AvroError("a type has no kind")),
            },
            _ => Err(AvroError("a type is no type")),
        }
    }

    fn complex(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
        depth: usize,
    ) -> AvroResult<TypeId> {
        let inner = |name| object.get(name).ok_or(AvroError("a list does not say of what"));
        match kind {
            "array" => {
                let of = self.read(inner("items")?, namespace, depth)?;
                self.add(AvroType::Array(of))
            }
            "map" => {
                let of = self.read(inner("values")?, namespace, depth)?;
                self.add(AvroType::Map(of))
            }
            "enum" => {
                let symbols = object.get("symbols").and_then(Value::as_array).ok_or(AvroError("an enum is empty"))?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(Into::into)).collect::<Option<Vec<_>>>();
                let id = self.add(AvroType::Enum(symbols.ok_or(AvroError("a word is no text"))?))?;
                self.name(id, object, namespace);
                Ok(id)
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let id = self.add(AvroType::Fixed(size.ok_or(AvroError("a fixed type has no size"))?))?;
                self.name(id, object, namespace);
                Ok(id)
            }
            "record" => self.record(object, namespace, depth),
            _ => self.by_name(kind, namespace),
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> AvroResult<TypeId> {
        let id = self.add(AvroType::Null)?;
        let namespace = self.name(id, object, namespace);
        let fields = object.get("fields").and_then(Value::as_array).ok_or(AvroError("a record has no fields"))?;
        if fields.len() > FIELDS_MAX {
            return Err(AvroError("a record has too many fields"));
        }
        let fields: AvroResult<Vec<(Box<str>, TypeId)>> = fields
            .iter()
            .map(|field| {
                let name = field.get("name").and_then(Value::as_str).ok_or(AvroError("a field has no name"))?;
                let of = field.get("type").ok_or(AvroError("a field has no type"))?;
                Ok((name.into(), self.read(of, &namespace, depth)?))
            })
            .collect();
        self.set(id, AvroType::Record(fields?));
        Ok(id)
    }

    /// Notes a named type, and gives the namespace of what is within it.
    fn name(&mut self, id: TypeId, object: &Map<String, Value>, namespace: &str) -> String {
        let text = |key| object.get(key).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let (namespace, name) = name.rsplit_once('.').unwrap_or((text("namespace").unwrap_or(namespace), name));
        self.named.insert(full_name(namespace, name), id);
        namespace.to_owned()
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> AvroResult<TypeId> {
        let primitive = match name {
            "null" => AvroType::Null,
            "boolean" => AvroType::Boolean,
            "int" => AvroType::Int,
            "long" => AvroType::Long,
            "float" => AvroType::Float,
            "double" => AvroType::Double,
            "bytes" => AvroType::Bytes,
            "string" => AvroType::Text,
            _ => {
                let is_full = name.contains('.');
                let beside = self.named.get(&full_name(namespace, name)).filter(|_| !is_full);
                let known = beside.or_else(|| self.named.get(name));
                return known.copied().ok_or(AvroError("the schema names a type that it does not have"));
            }
        };
        self.add(primitive)
    }

    fn set(&mut self, id: TypeId, of: AvroType) {
        if let Some(place) = self.types.get_mut(id) {
            *place = of;
        }
    }
}

fn full_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
