//! What one organisation's objects look like to its users: standard fields, custom ones, without
//! those that are hidden. Owns: finding objects and fields by name, whatever the case. Invariant: a
//! field's place in its object never changes; records keep their values by it.

use std::collections::HashMap;

use super::{
    SalesforceConfig,
    objects::{Access, Kind, ObjectKind, Source},
    refusal::SalesforceRefusal,
};

/// Fields of one object, custom ones included: a record numbers them with one byte.
const FIELDS_MAX: usize = 255;

/// A field of an object of this organisation.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) source: Source,
    pub(super) access: Access,
    pub(super) is_custom: bool,
    /// Hidden from the API's users by field-level security.
    is_hidden: bool,
}

/// Where a field stands in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u8);

/// An object of this organisation.
pub(super) struct ObjectSchema {
    pub(super) kind: ObjectKind,
    fields: Vec<Field>,
    by_name: HashMap<String, Slot>,
}

impl ObjectSchema {
    fn new(kind: ObjectKind, config: &SalesforceConfig) -> Self {
        let is_of = |(object, _): &&(String, String)| object.eq_ignore_ascii_case(kind.name());
        let is_hidden =
            |name: &str| config.hidden_fields.iter().filter(is_of).any(|(_, hidden)| hidden.eq_ignore_ascii_case(name));
        let standard =
            kind.standard_fields().iter().filter(|spec| config.has_person_accounts || !spec.is_person_field).map(
                |spec| Field {
                    name: spec.name.to_owned(),
                    kind: spec.kind,
                    length: spec.length,
                    source: spec.source,
                    access: spec.access,
                    is_custom: false,
                    is_hidden: is_hidden(spec.name),
                },
            );
        let custom = config.custom_phones.iter().filter(is_of).map(|(_, name)| Field {
            name: name.clone(),
            kind: Kind::Phone,
            length: 40,
            source: Source::Stored,
            access: Access::Everybody,
            is_custom: true,
            is_hidden: is_hidden(name),
        });
        let fields: Vec<Field> = standard.chain(custom).take(FIELDS_MAX).collect();
        let by_name = fields.iter().zip(0..).map(|(field, slot)| (field.name.to_lowercase(), Slot(slot))).collect();
        Self { kind, fields, by_name }
    }

    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// A field by name, hidden or not: what Salesforce itself sees.
    pub(super) fn slot(&self, name: &str) -> Option<Slot> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// A field by name, as the API's users see it.
    pub(super) fn visible_slot(&self, name: &str) -> Option<Slot> {
        self.slot(name).filter(|slot| !self.field(*slot).is_hidden)
    }

    pub(super) fn field(&self, slot: Slot) -> &Field {
        &self.fields[usize::from(slot.0)]
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (Slot, &Field)> {
        self.fields.iter().zip(0..).map(|(field, slot)| (Slot(slot), field))
    }

    pub(super) fn visible_fields(&self) -> impl Iterator<Item = (Slot, &Field)> {
        self.fields().filter(|(_, field)| !field.is_hidden)
    }

    /// The reference that a relationship's name stands for.
    pub(super) fn relationship(&self, name: &str) -> Option<(Slot, ObjectKind)> {
        self.visible_fields().find_map(|(slot, field)| match field.kind {
            Kind::Reference(to, relationship) if relationship.eq_ignore_ascii_case(name) => Some((slot, to)),
            _ => None,
        })
    }
}

/// The objects of one organisation.
pub(super) struct Schema {
    objects: Vec<ObjectSchema>,
    has_leads: bool,
}

impl Schema {
    pub(super) fn new(config: &SalesforceConfig) -> Self {
        let objects = ObjectKind::ALL.into_iter().map(|kind| ObjectSchema::new(kind, config)).collect();
        Self { objects, has_leads: config.has_leads }
    }

    pub(super) fn object(&self, kind: ObjectKind) -> &ObjectSchema {
        &self.objects[kind as usize]
    }

    /// The objects that this organisation offers.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectSchema> {
        self.objects.iter().filter(|object| self.has_leads || object.kind != ObjectKind::Lead)
    }

    /// An object by name. Errors: there is none, or this organisation does not offer it.
    pub(super) fn find(&self, name: &str) -> Result<&ObjectSchema, SalesforceRefusal> {
        let found = self.objects().find(|object| object.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| SalesforceRefusal::unsupported_object(name))
    }

    /// The object that an id is of.
    pub(super) fn of_id(&self, id: super::id::RecordId) -> Option<&ObjectSchema> {
        self.objects().find(|object| object.kind.prefix() == id.prefix())
    }
}
