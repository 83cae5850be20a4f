use std::{collections::BTreeSet, fs, path::Path};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;
use crate::rpc::{
    methods::{METHODS, MethodAccess},
    pb::FILE_DESCRIPTOR_SET,
};

/// Words of the same form in those files that are no reasons.
const NO_REASONS: [&str; 6] = ["CARGO_PKG_VERSION", "COPIED_DATA_PURGE", "ES256", "OUT_DIR", "POST", "RS256"];

/// Every text in a file's code, tests left out, that has the form of a reason: `"UPPER_SNAKE"`.
fn reasons_in(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_reason =
        |word: &&str| word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let words = code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split('"'));
    words.filter(is_reason).filter(|word| !NO_REASONS.contains(word)).map(str::to_owned).collect()
}

fn every_reason() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = fs::read_dir(source.join("rpc")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "rs"));
    files.retain(|path| !path.to_string_lossy().ends_with("tests.rs"));
    // The names of codes, which are no reasons.
    files.retain(|path| !path.ends_with("rpc/call_record.rs"));
    files.push(source.join("crm/error.rs"));
    let mut reasons: BTreeSet<String> = files.iter().flat_map(|path| reasons_in(path)).collect();
    // The causes that an error's metadata has are told by their own tables.
    reasons.retain(|word| !causes().contains(&word.as_str()));
    reasons
}

fn causes() -> Vec<&'static str> {
    let further = ["LOGIN_REFUSED"];
    CAUSES.iter().chain(&FAILURES).map(|(cause, _)| *cause).chain(further).collect()
}

/// Every reason that the service sends has advice, or says all itself.
#[test]
fn every_reason_has_advice_or_speaks_for_itself() {
    let reasons = every_reason();
    assert!(reasons.len() > 45, "{reasons:?}");

    let silent: Vec<_> =
        reasons.iter().filter(|reason| advice(reason).is_none() && !SAID.contains(&reason.as_str())).collect();

    assert!(silent.is_empty(), "reasons without advice: {silent:?}");
}

#[test]
fn nobody_is_advised_twice() {
    let reasons: BTreeSet<_> = ADVICE.iter().map(|advice| advice.reason).chain(SAID).collect();

    assert_eq!(reasons.len(), ADVICE.len() + SAID.len());
}

/// The paths of a message's fields, also within messages of this package.
fn paths(set: &FileDescriptorSet, name: &str, before: &str, found: &mut BTreeSet<String>) {
    let files = set.file.iter().filter(|file| file.package() == "contactsync.v1");
    let message = files.flat_map(|file| &file.message_type).find(|message| message.name() == name);
    let message: &DescriptorProto = message.unwrap_or_else(|| panic!("no message {name}"));
    for field in &message.field {
        let path = if before.is_empty() { field.name().to_owned() } else { format!("{before}.{}", field.name()) };
        if let Some(inner) = field.type_name().strip_prefix(".contactsync.v1.")
            && field.r#type() == prost_types::field_descriptor_proto::Type::Message
        {
            paths(set, inner, &path, found);
        }
        found.insert(path);
    }
}

/// Fields that no command lets a person say wrongly: it sets them itself, or by a flag that has no
/// value.
const NOT_TYPED: [&str; 19] = [
    "account",
    "account.create_time",
    "account.id",
    "account.update_time",
    "caller_id_withheld",
    "direction",
    "kind",
    "on_no_match",
    "only_position",
    "options.sync",
    "page_size",
    "page_token",
    "provider",
    "request_id",
    "subject",
    "update_mask",
    "with_organization",
    "with_suffix",
    "force",
];

/// Every field that a command can get wrong is told as its flag.
#[test]
fn every_wrong_field_is_told_as_flag() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut fields = BTreeSet::new();
    for method in METHODS.iter().filter(|method| method.access != MethodAccess::Open) {
        let (service, name) = method.path.trim_start_matches('/').split_once('/').unwrap();
        let service = service.rsplit('.').next().unwrap();
        let of = set.file.iter().flat_map(|file| &file.service).find(|of| of.name() == service).unwrap();
        let input = of.method.iter().find(|of| of.name() == name).unwrap().input_type();
        paths(&set, input.trim_start_matches(".contactsync.v1."), "", &mut fields);
    }

    let unnamed: Vec<_> =
        fields.iter().filter(|field| flag_of(field, &[]).is_none() && !NOT_TYPED.contains(&field.as_str())).collect();

    assert!(unnamed.is_empty(), "fields without a flag: {unnamed:?}");
    assert_eq!(flag_of("options.salesforce_leads.copy", &[]), Some("--leads or --mirror-leads"));
    assert_eq!(flag_of("phone_number", &[("phone_number", "NUMBER")]), Some("NUMBER"));
    assert_eq!(flag_of("page_token", &[]), None);
}

/// A step names what the error says, and leaves a word for what it does not say.
#[test]
fn step_names_errors_details_or_leaves_placeholder() {
    let metadata = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let step = |reason: &str, pairs: &[(&str, &str)]| next_step(Code::Unavailable, reason, &metadata(pairs)).unwrap();

    assert!(step("INTEGRATION_EXISTS", &[("integration_id", "0199")]).contains("--integration 0199`"));
    assert!(step("INTEGRATION_EXISTS", &[]).contains("--integration ID`"));
    assert!(
        step("CRM_UNREACHABLE", &[("cause", "DNS"), ("host", "a.zendesk.com")]).contains("getent hosts a.zendesk.com")
    );
    assert!(step("CRM_UNREACHABLE", &[]).contains("status page"));
    assert!(step("GRANT_REFUSED", &[("cause", "USER_NOT_APPROVED")]).contains("--username"));
    assert!(step("GRANT_REFUSED", &[("cause", "LOGIN_REFUSED")]).contains("sync authorize"));
    assert!(step("SOMETHING_NEW", &[]).contains("try again"));
    assert_eq!(next_step(Code::FailedPrecondition, "ERASED", &HashMap::new()), None);
}

#[test]
fn texts_of_the_server_name_commands() {
    for method in METHODS.iter().filter(|method| method.access != MethodAccess::Open) {
        let name = method.path.rsplit('/').next().unwrap();
        let told = in_own_words(name);
        // Of these no text of the service speaks.
        let is_silent = [
            "GetContact",
            "ListContacts",
            "ListChanges",
            "EraseContact",
            "CreateAccount",
            "GetAccount",
            "ListAccounts",
            "ListAuditEvents",
            "ExplainMatch",
            "ListIntegrations",
        ]
        .contains(&name);
        assert_eq!(told == name, is_silent, "{name}");
    }
    assert_eq!(in_own_words("then TriggerSync"), "then `sync trigger`");
}
