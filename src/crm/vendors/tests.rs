use super::*;
use crate::domain::{
    descriptor::ProviderDescriptor,
    options::{NothingCopied, ObjectOptions, Options, OptionsChange, UserRoles},
    record::{ObjectType, RecordKey},
};

fn of(provider: Provider) -> &'static ProviderDescriptor {
    vendor(provider).descriptor()
}

fn key(provider: Provider, object_type: &str, record_id: &str) -> Option<RecordKey> {
    of(provider).parse_record_key(object_type, record_id).ok()
}

#[test]
fn each_vendor_tells_of_itself_and_of_its_own_objects_in_their_order() {
    for (provider, descriptor) in descriptors().iter() {
        let objects: Vec<ObjectType> = descriptor.objects.iter().map(|object| object.object_type).collect();

        assert_eq!(descriptor.provider, provider);
        let own = ObjectType::ALL.iter().copied().filter(|kind| kind.provider() == provider);
        assert_eq!(objects, own.collect::<Vec<_>>(), "{provider}");
    }
}

#[test]
fn shares_are_percent_and_sweeps_come_at_least_once_a_year() {
    for (provider, descriptor) in descriptors().iter() {
        let defaults = &descriptor.defaults;

        assert!((1..=100).contains(&defaults.quota_share_percent), "{provider}");
        assert!((1..=100).contains(&defaults.first_copy_share_percent), "{provider}");
        assert!((1..=8_760).contains(&defaults.sweep_hours), "{provider}");
    }
}

#[test]
fn tokens_are_given_by_hosts_of_the_vendors_own() {
    for (host, provider) in [
        ("acme.zendesk.com", Provider::Zendesk),
        ("login.salesforce.com", Provider::Salesforce),
        ("oauth.pipedrive.com", Provider::Pipedrive),
    ] {
        assert_eq!(of(provider).hosts.token_host("acme"), host);
    }
}

#[test]
fn a_vendors_answer_names_an_api_at_the_vendors_hosts_over_https() {
    let pipedrive = |url| of(Provider::Pipedrive).hosts.named_origin(url);

    assert_eq!(pipedrive("https://acme.pipedrive.com").as_deref(), Some("https://acme.pipedrive.com"));
    assert_eq!(pipedrive("https://acme.my.salesforce.com"), None);
    assert_eq!(of(Provider::Zendesk).hosts.named_origin("https://acme.zendesk.com"), None);
    assert_eq!(of(Provider::Zendesk).hosts.api_host("acme").as_deref(), Ok("acme.zendesk.com"));
    assert!(of(Provider::Salesforce).hosts.api_host("00Dx0000000BV7zEAO").is_err());
}

#[test]
fn a_tenant_gives_a_label_and_never_a_host() {
    for provider in [Provider::Zendesk, Provider::Pipedrive] {
        for wrong in [
            "",
            "acme.zendesk.com",
            "https://acme",
            "a/b",
            "-acme",
            "acme-",
            "acme:443",
            "acme@evil",
            "ac me",
            "acmé",
            &"a".repeat(64),
        ] {
            assert!(of(provider).parse_organization(wrong).is_err(), "{provider} {wrong}");
        }
        assert_eq!(of(provider).parse_organization("Acme-2").unwrap().name, "acme-2");
    }
}

#[test]
fn an_account_is_refused_with_the_reason() {
    let refused = of(Provider::Salesforce).parse_record_key("Account", "001D000000IRFmaIAH").unwrap_err();

    assert!(refused.to_string().contains("003"), "{refused}");
}

#[test]
fn what_is_no_object_of_the_crm_is_refused_with_those_that_are() {
    let refused = |provider| of(provider).parse_record_key("thing", "1").unwrap_err().to_string();

    assert_eq!(refused(Provider::Salesforce), "Salesforce has no such object here; use `Contact` or `Lead`");
    assert_eq!(refused(Provider::Zendesk), "Zendesk has no such object here; use `user`");
}

#[test]
fn ids_of_the_wrong_form_or_kind_are_refused() {
    for (provider, object_type, record_id) in [
        (Provider::Zendesk, "user", "0"),
        (Provider::Zendesk, "user", "007"),
        (Provider::Zendesk, "user", "12a"),
        (Provider::Zendesk, "user", ""),
        (Provider::Zendesk, "user", "123456789012345678901"),
        (Provider::Zendesk, "person", "1"),
        (Provider::Pipedrive, "person", "-1"),
        (Provider::Salesforce, "Contact", "00QD000000QV9n2"),
        (Provider::Salesforce, "Lead", "003D000000QV9n2"),
        (Provider::Salesforce, "Contact", "003D000000QV9n2AAA"),
        (Provider::Salesforce, "Contact", "003D000000QV9n"),
    ] {
        assert_eq!(key(provider, object_type, record_id), None, "{provider} {object_type} {record_id}");
    }
    assert!(
        key(Provider::Zendesk, "user", "12").is_some()
            && key(Provider::Salesforce, "Lead", "00QD000000QV9n2").is_some()
    );
}

fn without(kind: ObjectType, change: impl Fn(&mut ObjectOptions)) -> Options {
    let mut options = Options::default();
    change(&mut options.objects[kind]);
    options
}

#[test]
fn not_everything_can_be_switched_off() {
    let mut leads = OptionsChange::default();
    leads.objects[ObjectType::Lead].is_copied = Some(false);
    let mut both = leads.clone();
    both.objects[ObjectType::Contact].is_copied = Some(false);

    assert!(leads.apply(Provider::Salesforce, &Options::default()).is_ok());
    assert_eq!(both.apply(Provider::Salesforce, &Options::default()), Err(NothingCopied));
    assert!(both.apply(Provider::Zendesk, &Options::default()).is_ok());
}

#[test]
fn a_late_switch_to_mirrored_deletions_and_other_roles_need_a_sweep() {
    let before = without(ObjectType::Person, |wishes| wishes.mirrors_deletions = false);
    let end_users = Options { user_roles: UserRoles::EndUsers, ..Options::default() };
    let leads = without(ObjectType::Lead, |wishes| wishes.mirrors_deletions = false);

    let all = Options::default();

    assert!(of(Provider::Pipedrive).needs_sweep(&all, &before));
    assert!(!of(Provider::Salesforce).needs_sweep(&all, &leads));
    assert!(!of(Provider::Salesforce).needs_sweep(&all, &before));
    assert!(!of(Provider::Pipedrive).needs_sweep(&before, &all));
    assert!(of(Provider::Zendesk).needs_sweep(&end_users, &all));
}

#[test]
fn more_kinds_and_more_users_are_wider_and_nothing_else_is() {
    let no_leads = without(ObjectType::Lead, |wishes| wishes.is_copied = false);
    let end_users = Options { user_roles: UserRoles::EndUsers, ..Options::default() };
    let all = Options::default();

    assert!(of(Provider::Salesforce).is_widened(&all, &no_leads));
    assert!(!of(Provider::Salesforce).is_widened(&no_leads, &all));
    assert!(of(Provider::Zendesk).is_widened(&all, &end_users));
    assert!(!of(Provider::Salesforce).is_widened(&all, &end_users));
    assert!(!of(Provider::Zendesk).is_widened(&end_users, &all) && !of(Provider::Zendesk).is_widened(&all, &all));
}
