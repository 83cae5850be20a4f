//! The objects of the simulated organisation and their standard fields, as an organisation has them
//! before anybody customises it. Owns: names, types, lengths, who may write what. Must not: hold
//! records.

/// The objects that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ObjectKind {
    Account,
    Contact,
    Lead,
    User,
    PermissionSet,
    PermissionSetAssignment,
    ObjectPermissions,
}

impl ObjectKind {
    pub(super) const ALL: [Self; 7] = [
        Self::Account,
        Self::Contact,
        Self::Lead,
        Self::User,
        Self::PermissionSet,
        Self::PermissionSetAssignment,
        Self::ObjectPermissions,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Contact => "Contact",
            Self::Lead => "Lead",
            Self::User => "User",
            Self::PermissionSet => "PermissionSet",
            Self::PermissionSetAssignment => "PermissionSetAssignment",
            Self::ObjectPermissions => "ObjectPermissions",
        }
    }

    /// What the object's ids begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Account => "001",
            Self::Contact => "003",
            Self::Lead => "00Q",
            Self::User => "005",
            Self::PermissionSet => "0PS",
            Self::PermissionSetAssignment => "0Pa",
            Self::ObjectPermissions => "110",
        }
    }

    /// Whether records go to the recycle bin and can be merged.
    pub(super) fn is_deletable(self) -> bool {
        matches!(self, Self::Account | Self::Contact | Self::Lead)
    }

    /// Whether a search looks at records of this kind.
    pub(super) fn is_searchable(self) -> bool {
        self.is_deletable() || self == Self::User
    }

    pub(super) fn standard_fields(self) -> &'static [FieldSpec] {
        match self {
            Self::Account => ACCOUNT,
            Self::Contact => CONTACT,
            Self::Lead => LEAD,
            Self::User => USER,
            Self::PermissionSet => PERMISSION_SET,
            Self::PermissionSetAssignment => PERMISSION_SET_ASSIGNMENT,
            Self::ObjectPermissions => OBJECT_PERMISSIONS,
        }
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    /// Another record, with the name under which its fields are reached.
    Reference(ObjectKind, &'static str),
    Text,
    Phone,
    Email,
    Url,
    /// Long text, which cannot be filtered by.
    LongText,
    Picklist,
    Boolean,
    DateTime,
    Date,
}

/// Where a field's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Among the record's values.
    Stored,
    Id,
    IsDeleted,
    MasterRecordId,
    CreatedDate,
    LastModifiedDate,
    SystemModstamp,
    /// The administrator, who does everything.
    Administrator,
    /// First and last name, or an account's own.
    Name,
}

/// Who writes a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Everybody,
    /// Must be given when a record is made.
    Required,
    /// Salesforce alone.
    System,
}

/// A standard field.
#[derive(Clone, Copy)]
pub(super) struct FieldSpec {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) source: Source,
    pub(super) access: Access,
    /// Only in organisations with person accounts.
    pub(super) is_person_field: bool,
}

const fn field(name: &'static str, kind: Kind, length: usize) -> FieldSpec {
    FieldSpec { name, kind, length, source: Source::Stored, access: Access::Everybody, is_person_field: false }
}

const fn text(name: &'static str, length: usize) -> FieldSpec {
    field(name, Kind::Text, length)
}

const fn required(name: &'static str, length: usize) -> FieldSpec {
    FieldSpec { access: Access::Required, ..text(name, length) }
}

const fn phone(name: &'static str) -> FieldSpec {
    field(name, Kind::Phone, 40)
}

const fn email(name: &'static str) -> FieldSpec {
    field(name, Kind::Email, 80)
}

const fn picklist(name: &'static str) -> FieldSpec {
    field(name, Kind::Picklist, 255)
}

const fn flag(name: &'static str) -> FieldSpec {
    field(name, Kind::Boolean, 0)
}

const fn long_text(name: &'static str) -> FieldSpec {
    field(name, Kind::LongText, 32_000)
}

const fn reference(name: &'static str, to: ObjectKind, relationship: &'static str) -> FieldSpec {
    field(name, Kind::Reference(to, relationship), 18)
}

const fn system(spec: FieldSpec, source: Source) -> FieldSpec {
    FieldSpec { source, access: Access::System, ..spec }
}

const fn read_only(spec: FieldSpec) -> FieldSpec {
    FieldSpec { access: Access::System, ..spec }
}

const fn of_persons(spec: FieldSpec) -> FieldSpec {
    FieldSpec { is_person_field: true, ..spec }
}

const ID: FieldSpec = system(field("Id", Kind::Id, 18), Source::Id);
const IS_DELETED: FieldSpec = system(flag("IsDeleted"), Source::IsDeleted);
const CREATED: FieldSpec = system(field("CreatedDate", Kind::DateTime, 0), Source::CreatedDate);
const CREATED_BY: FieldSpec = system(reference("CreatedById", ObjectKind::User, "CreatedBy"), Source::Administrator);
const MODIFIED: FieldSpec = system(field("LastModifiedDate", Kind::DateTime, 0), Source::LastModifiedDate);
const MODIFIED_BY: FieldSpec =
    system(reference("LastModifiedById", ObjectKind::User, "LastModifiedBy"), Source::Administrator);
const STAMP: FieldSpec = system(field("SystemModstamp", Kind::DateTime, 0), Source::SystemModstamp);
const OWNER: FieldSpec = reference("OwnerId", ObjectKind::User, "Owner");
const WHOLE_NAME: FieldSpec = system(text("Name", 121), Source::Name);

const fn master(object: ObjectKind) -> FieldSpec {
    system(reference("MasterRecordId", object, "MasterRecord"), Source::MasterRecordId)
}

const CONTACT: &[FieldSpec] = &[
    ID,
    IS_DELETED,
    master(ObjectKind::Contact),
    reference("AccountId", ObjectKind::Account, "Account"),
    required("LastName", 80),
    text("FirstName", 40),
    picklist("Salutation"),
    WHOLE_NAME,
    text("MailingStreet", 255),
    text("MailingCity", 40),
    text("MailingState", 80),
    text("MailingPostalCode", 20),
    text("MailingCountry", 80),
    phone("Phone"),
    phone("Fax"),
    phone("MobilePhone"),
    phone("HomePhone"),
    phone("OtherPhone"),
    phone("AssistantPhone"),
    reference("ReportsToId", ObjectKind::Contact, "ReportsTo"),
    email("Email"),
    text("Title", 128),
    text("Department", 80),
    text("AssistantName", 40),
    picklist("LeadSource"),
    field("Birthdate", Kind::Date, 0),
    long_text("Description"),
    OWNER,
    flag("HasOptedOutOfEmail"),
    flag("HasOptedOutOfFax"),
    flag("DoNotCall"),
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
    read_only(text("EmailBouncedReason", 255)),
    read_only(field("EmailBouncedDate", Kind::DateTime, 0)),
    of_persons(read_only(flag("IsPersonAccount"))),
];

const LEAD: &[FieldSpec] = &[
    ID,
    IS_DELETED,
    master(ObjectKind::Lead),
    required("LastName", 80),
    text("FirstName", 40),
    picklist("Salutation"),
    WHOLE_NAME,
    text("Title", 128),
    required("Company", 255),
    text("Street", 255),
    text("City", 40),
    text("State", 80),
    text("PostalCode", 20),
    text("Country", 80),
    phone("Phone"),
    phone("MobilePhone"),
    phone("Fax"),
    email("Email"),
    field("Website", Kind::Url, 255),
    long_text("Description"),
    picklist("LeadSource"),
    picklist("Status"),
    picklist("Industry"),
    picklist("Rating"),
    OWNER,
    flag("HasOptedOutOfEmail"),
    flag("DoNotCall"),
    read_only(flag("IsConverted")),
    read_only(field("ConvertedDate", Kind::Date, 0)),
    read_only(reference("ConvertedAccountId", ObjectKind::Account, "ConvertedAccount")),
    read_only(reference("ConvertedContactId", ObjectKind::Contact, "ConvertedContact")),
    flag("IsUnreadByOwner"),
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
];

const ACCOUNT: &[FieldSpec] = &[
    ID,
    IS_DELETED,
    master(ObjectKind::Account),
    FieldSpec { source: Source::Name, ..required("Name", 255) },
    picklist("Type"),
    reference("ParentId", ObjectKind::Account, "Parent"),
    text("BillingStreet", 255),
    text("BillingCity", 40),
    text("BillingState", 80),
    text("BillingPostalCode", 20),
    text("BillingCountry", 80),
    phone("Phone"),
    phone("Fax"),
    text("AccountNumber", 40),
    field("Website", Kind::Url, 255),
    picklist("Industry"),
    long_text("Description"),
    OWNER,
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
    of_persons(text("LastName", 80)),
    of_persons(text("FirstName", 40)),
    of_persons(picklist("Salutation")),
    of_persons(read_only(reference("PersonContactId", ObjectKind::Contact, "PersonContact"))),
    of_persons(read_only(flag("IsPersonAccount"))),
    of_persons(phone("PersonMobilePhone")),
    of_persons(phone("PersonHomePhone")),
    of_persons(phone("PersonOtherPhone")),
    of_persons(phone("PersonAssistantPhone")),
    of_persons(email("PersonEmail")),
    of_persons(text("PersonTitle", 80)),
    of_persons(text("PersonDepartment", 80)),
    of_persons(text("PersonAssistantName", 40)),
];

const USER: &[FieldSpec] = &[
    ID,
    required("Username", 80),
    required("LastName", 80),
    text("FirstName", 40),
    WHOLE_NAME,
    email("Email"),
    text("Title", 80),
    text("Department", 80),
    phone("Phone"),
    phone("MobilePhone"),
    phone("Fax"),
    phone("Extension"),
    flag("IsActive"),
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
];

const PERMISSION_SET: &[FieldSpec] = &[
    ID,
    required("Name", 80),
    required("Label", 80),
    // The permissions of a profile are a set of their own.
    flag("IsOwnedByProfile"),
    flag("PermissionsViewAllData"),
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
];

const PERMISSION_SET_ASSIGNMENT: &[FieldSpec] = &[
    ID,
    reference("PermissionSetId", ObjectKind::PermissionSet, "PermissionSet"),
    reference("AssigneeId", ObjectKind::User, "Assignee"),
    STAMP,
];

const OBJECT_PERMISSIONS: &[FieldSpec] = &[
    ID,
    reference("ParentId", ObjectKind::PermissionSet, "Parent"),
    picklist("SobjectType"),
    flag("PermissionsRead"),
    flag("PermissionsViewAllRecords"),
    CREATED,
    CREATED_BY,
    MODIFIED,
    MODIFIED_BY,
    STAMP,
];
