use std::collections::BTreeSet;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;
use crate::rpc::pb::FILE_DESCRIPTOR_SET;

/// Every method of the descriptors: its path, and its request.
fn described_methods(set: &FileDescriptorSet) -> Vec<(String, Option<&DescriptorProto>)> {
    let messages = set.file.iter().filter(|file| file.package() == "contactsync.v1");
    let messages: Vec<&DescriptorProto> = messages.flat_map(|file| &file.message_type).collect();
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    services
        .flat_map(|(package, service)| service.method.iter().map(move |method| (package, service.name(), method)))
        .map(|(package, service, method)| {
            let input = method.input_type().trim_start_matches(".contactsync.v1.");
            let request = messages.iter().find(|message| message.name() == input).copied();
            (format!("/{package}.{service}/{}", method.name()), request)
        })
        .collect()
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn rule_of(path: &str) -> &'static MethodRule {
    find_method(path, false).unwrap()
}

/// Every method of the descriptors is in the table, and nothing else.
#[test]
fn table_lists_exactly_described_methods() {
    let table: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
    let set = descriptors();
    let described = described_methods(&set).into_iter().map(|(path, _)| path).collect();

    assert_eq!(table, described);
    assert_eq!(table.len(), METHODS.len(), "a path is twice in the table");
}

/// What the scopes of before have opened they still open.
#[test]
fn scopes_of_before_open_their_service() {
    for method in METHODS {
        let expected = match method.path.split('/').nth(1).unwrap() {
            _ if method.path.ends_with("/EraseContact") => TokenScope::ContactsErase,
            "contactsync.v1.CallerService" => TokenScope::Calls,
            "contactsync.v1.SyncService" => TokenScope::Sync,
            "contactsync.v1.ContactService" => TokenScope::ContactsRead,
            "contactsync.v1.AccountService" => TokenScope::Admin,
            "grpc.health.v1.Health" => {
                assert_eq!(method.access, MethodAccess::Open);
                continue;
            }
            other => panic!("unexpected service {other}"),
        };

        let MethodAccess::AnyOf(scopes) = method.access else { panic!("{} is open to all", method.path) };
        assert_eq!(scopes[0], expected, "{}", method.path);
        assert!(method.fields.iter().all(|rule| rule.scopes[0] == expected), "{}", method.path);
    }
}

/// A field that asks for more is one of the method's, and is given by less than the method is.
#[test]
fn field_rules_name_fields_and_fewer_scopes() {
    let set = descriptors();
    for (path, request) in described_methods(&set) {
        for rule in rule_of(&path).fields {
            let MethodAccess::AnyOf(scopes) = rule_of(&path).access else { panic!("{path} is open to all") };
            assert!(request.unwrap().field.iter().any(|field| field.name() == rule.field), "{path}: {}", rule.field);
            assert!(rule.scopes.iter().all(|scope| scopes.contains(scope)), "{path}: {}", rule.field);
            assert!(rule.scopes.len() < scopes.len(), "{path}: {}", rule.field);
            assert!(rule.applies(&(), "router"), "{path}: a message of another method asks for it");
        }
    }
}

/// No request can ask to purge, and none can name an agent to a method that is opened to an agent's
/// own calls, without the rule of that field.
#[test]
fn no_field_that_asks_for_more_goes_without_rule() {
    let set = descriptors();
    let mut found = 0;
    for (path, request) in described_methods(&set) {
        let rule = rule_of(&path);
        let MethodAccess::AnyOf(scopes) = rule.access else { continue };
        for field in &request.unwrap().field {
            let purges = field.type_name() == ".contactsync.v1.CopiedData";
            let is_for_agents = scopes.iter().any(|scope| scope.is_of_own_calls());
            let names_agent = field.name() == "agent_id" && is_for_agents;
            let binds = field.name() == "contact_id" && is_for_agents && path.ends_with("/PreRegisterContact");
            if purges || names_agent || binds {
                assert!(rule.fields.iter().any(|of| of.field == field.name()), "{path}: {}", field.name());
                found += 1;
            }
        }
    }
    assert_eq!(found, 4);
}

#[test]
fn purging_and_other_agents_ask_for_more() {
    let disable = |copied_data: i32| pb::DisableSyncRequest { copied_data, ..Default::default() };
    let purge = |request: &pb::DisableSyncRequest| PURGE.applies(request, "router");
    assert!(purge(&disable(pb::CopiedData::Purge.into())));
    for other in [pb::CopiedData::Unspecified.into(), pb::CopiedData::Keep.into(), 77] {
        assert!(!purge(&disable(other)), "{other}");
    }

    for (contact_id, asks) in [("", false), ("not even one", true)] {
        let report = pb::PreRegisterContactRequest { contact_id: contact_id.into(), ..Default::default() };
        assert_eq!(PLACEHOLDER.applies(&report, "anna"), asks, "{contact_id}");
    }
    for (agent_id, is_other) in [("", false), ("anna", false), ("Anna", true), ("anna ", true), ("bob", true)] {
        let click = pb::PreRegisterContactRequest { agent_id: agent_id.into(), ..Default::default() };
        let choice = pb::SelectMatchRequest { agent_id: agent_id.into(), ..Default::default() };
        assert_eq!(CLICK_OF_OTHER.applies(&click, "anna"), is_other, "{agent_id}");
        assert_eq!(CHOICE_OF_OTHER.applies(&choice, "anna"), is_other, "{agent_id}");
    }
}

/// Every method that needs a scope ends in time.
#[test]
fn every_scoped_method_ends_in_time() {
    for method in METHODS.iter().filter(|m| m.access != MethodAccess::Open) {
        assert!(method.time_max.is_some(), "{}", method.path);
    }
}

/// Reflection is not served unless it is switched on, and unknown methods never are.
#[test]
fn reflection_needs_switch_unknown_methods_never_served() {
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

    assert!(find_method(reflection, false).is_none());
    assert!(find_method(reflection, true).is_some());
    assert!(find_method("/contactsync.v1.CallerService/matchcaller", true).is_none());
    assert!(find_method("/contactsync.v1.CallerService/MatchCaller/", true).is_none());
    assert!(find_method("contactsync.v1.CallerService/MatchCaller", true).is_none());
}

#[test]
fn a_scope_reads_back_as_it_is_written() {
    for scope in TokenScope::ALL {
        assert_eq!(scope.as_str().parse(), Ok(scope));
    }
    assert_eq!("Calls".parse::<TokenScope>(), Err(UnknownScope));
    assert!(UnknownScope.to_string().contains("calls, clicks, sync, sync.read"));
}

/// The table of docs/api.md, as this table says it.
fn documented_table() -> String {
    let mut table = String::from("| method | opened by any of | beyond that |\n|---|---|---|\n");
    let quoted = |scopes: &[TokenScope]| scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(", ");
    for method in METHODS {
        let MethodAccess::AnyOf(scopes) = method.access else { continue };
        let name = method.path.rsplit('/').next().unwrap();
        let beyond =
            method.fields.iter().map(|rule| format!("`{}`: {} needs {}", rule.field, rule.value, quoted(rule.scopes)));
        let beyond = beyond.collect::<Vec<_>>().join("; ");
        table += &format!("| {name} | {} | {beyond} |\n", quoted(scopes)).replace("|  |", "| |");
    }
    table
}

/// docs/api.md says what this table says, row by row.
#[test]
fn documentation_has_this_very_table() {
    let page = include_str!("../../docs/api.md");
    let table = documented_table();

    assert!(page.contains(&table), "docs/api.md should have this table:\n{table}");
}
