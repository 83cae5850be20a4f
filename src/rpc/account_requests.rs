//! What requests of `AccountService` say of an account, as it is kept: its fields, and which of
//! them an update changes (AIP-134).

use std::collections::HashSet;

use phone_key::Region;
use tonic::Status;

use super::{
    parse, pb, status,
    together::{self, ReadTogether},
};
use crate::{
    domain::{
        account::{FURTHER_REGIONS_MAX, LOOK_ASIDE_MS, NAME_CHARS_MAX},
        audit::NO_ACCOUNT,
        ids::{AccountId, IntegrationId},
        match_policy::MatchPolicy,
    },
    store::accounts::AccountChange,
};

/// What can be changed. A policy and its integration are one setting.
const PATHS: [&str; 6] =
    ["display_name", "default_region", "further_regions", "match_policy", "preferred_integration_id", "look_aside_ms"];

/// An id that an account may have.
pub(super) fn not_nil(id: AccountId) -> Result<AccountId, Status> {
    if id == NO_ACCOUNT {
        return Err(status::invalid("account_id", "must not be the nil UUID, which stands for no account"));
    }
    Ok(id)
}

pub(super) fn display_name(text: &str) -> Result<String, Status> {
    let text = parse::shown_text("display_name", text)?.trim().to_owned();
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX {
        return Err(status::invalid("display_name", "must have 1 to 200 characters"));
    }
    Ok(text)
}

pub(super) fn policy(given: i32, preferred: Option<IntegrationId>) -> Result<MatchPolicy, Status> {
    let policy = match (pb::MatchPolicy::try_from(given), preferred) {
        (Ok(pb::MatchPolicy::PreferredIntegration), Some(id)) => return Ok(MatchPolicy::PreferredIntegration(id)),
        (Ok(pb::MatchPolicy::PreferredIntegration), None) => {
            return Err(status::invalid(
                "preferred_integration_id",
                "is required with MATCH_POLICY_PREFERRED_INTEGRATION; UpdateAccount takes it, once there is an integration",
            ));
        }
        (Ok(pb::MatchPolicy::Unspecified | pb::MatchPolicy::FirstCreated), _) => MatchPolicy::FirstCreated,
        (Ok(pb::MatchPolicy::LastSelected), _) => MatchPolicy::LastSelected,
        (Ok(pb::MatchPolicy::LastUpdated), _) => MatchPolicy::LastUpdated,
        (Err(_), _) => return Err(status::invalid("match_policy", "must be one of the values of MatchPolicy")),
    };
    match preferred {
        Some(_) => Err(status::invalid(
            "preferred_integration_id",
            "goes with MATCH_POLICY_PREFERRED_INTEGRATION and with no other policy",
        )),
        None => Ok(policy),
    }
}

pub(super) fn look_aside_ms(given: i32) -> Result<i32, Status> {
    if given == 0 || LOOK_ASIDE_MS.contains(&given) {
        return Ok(given);
    }
    Err(status::invalid("look_aside_ms", "must be 0, or 200 to 1500 milliseconds"))
}

pub(super) fn regions(texts: &[String]) -> Result<Vec<Region>, Status> {
    if texts.len() > FURTHER_REGIONS_MAX {
        return Err(status::invalid("further_regions", "must be at most 20"));
    }
    let read = |(at, text): (usize, &String)| parse::region(&format!("further_regions[{at}]"), text);
    let mut regions = together::all(texts.iter().enumerate().map(read))?;
    let mut known = HashSet::new();
    regions.retain(|region| known.insert(*region));
    Ok(regions)
}

/// What an update changes. Fields of the account are named by their path, such as
/// `account.default_region`.
pub(super) fn change(request: &pb::UpdateAccountRequest) -> Result<AccountChange, Status> {
    let empty = pb::Account::default();
    let account = request.account.as_ref().unwrap_or(&empty);
    let id = if account.id.is_empty() || account.id.eq_ignore_ascii_case(&request.account_id) {
        Ok(())
    } else {
        Err(status::invalid("account.id", "must be account_id, or empty"))
    };
    let (paths, ()) = (paths(request.update_mask.as_ref(), account), id).together()?;
    let is_named = |path| paths.contains(&path);
    let has_policy = is_named("match_policy") || is_named("preferred_integration_id");
    let (display_name, default_region, further_regions, match_policy, look_aside_ms) = (
        is_named("display_name").then(|| display_name(&account.display_name)).transpose(),
        is_named("default_region").then(|| parse::region("default_region", &account.default_region)).transpose(),
        is_named("further_regions").then(|| regions(&account.further_regions)).transpose(),
        has_policy.then(|| match_policy(account)).transpose(),
        is_named("look_aside_ms").then(|| look_aside_ms(account.look_aside_ms)).transpose(),
    )
        .together()
        .map_err(|refused| status::within("account", &refused))?;
    Ok(AccountChange { display_name, default_region, further_regions, match_policy, look_aside_ms })
}

fn match_policy(account: &pb::Account) -> Result<MatchPolicy, Status> {
    let preferred: Option<IntegrationId> =
        parse::optional_id("preferred_integration_id", &account.preferred_integration_id)?;
    policy(account.match_policy, preferred)
}

/// The fields that the mask names; without a mask those that are not empty.
fn paths(mask: Option<&prost_types::FieldMask>, account: &pb::Account) -> Result<Vec<&'static str>, Status> {
    let given = mask.map_or(&[][..], |mask| &mask.paths);
    if given.is_empty() {
        let is_given = [
            !account.display_name.is_empty(),
            !account.default_region.is_empty(),
            !account.further_regions.is_empty(),
            account.match_policy != 0,
            !account.preferred_integration_id.is_empty(),
            account.look_aside_ms != 0,
        ];
        return Ok(PATHS.into_iter().zip(is_given).filter_map(|(path, is_given)| is_given.then_some(path)).collect());
    }
    if given == ["*"] {
        return Ok(PATHS.to_vec());
    }
    let known = |(at, path): (usize, &String)| {
        PATHS.into_iter().find(|known| known == path).ok_or_else(|| {
            let problem = format!("must be one of {}, or be `*` alone", PATHS.join(", "));
            status::invalid(&format!("update_mask.paths[{at}]"), &problem)
        })
    };
    together::all(given.iter().enumerate().map(known))
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn asked(account: pb::Account, paths: &[&str]) -> Result<AccountChange, Vec<String>> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::UpdateAccountRequest {
            account_id: "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f".into(),
            account: Some(account),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        change(&request).map_err(|refused| {
            refused.get_details_bad_request().unwrap().field_violations.into_iter().map(|wrong| wrong.field).collect()
        })
    }

    fn wrong_fields(account: pb::Account, paths: &[&str]) -> Vec<String> {
        asked(account, paths).err().unwrap()
    }

    fn named(name: &str) -> pb::Account {
        pb::Account { display_name: name.into(), ..Default::default() }
    }

    /// What the mask names is taken, and nothing else.
    #[test]
    fn only_masked_fields_are_taken() {
        let given = pb::Account { default_region: "FR".into(), ..named("New") };

        let change = asked(given, &["display_name"]).unwrap();
        assert_eq!(change.display_name.as_deref(), Some("New"));
        assert!(change.default_region.is_none() && change.further_regions.is_none() && change.match_policy.is_none());
        let emptied = asked(named(""), &["further_regions"]).unwrap();
        assert!(emptied.further_regions.is_some_and(|regions| regions.is_empty()) && emptied.display_name.is_none());
    }

    /// Without a mask, what is not empty is taken.
    #[test]
    fn without_mask_non_empty_fields_are_taken() {
        let change = asked(named("New"), &[]).unwrap();

        assert!(change.display_name.is_some() && change.further_regions.is_none() && change.match_policy.is_none());
    }

    /// A star takes all, and says what is missing.
    #[test]
    fn star_takes_all_and_says_missing() {
        assert_eq!(wrong_fields(named("New"), &["*"]), ["account.default_region"]);
        let whole = pb::Account { default_region: "FR".into(), ..named("New") };
        let change = asked(whole, &["*"]).unwrap();
        assert!(change.further_regions.is_some() && change.match_policy.is_some());
    }

    #[test]
    fn every_wrong_path_and_value_is_named() {
        let paths = ["display_name", "create_time", "*"];
        assert_eq!(wrong_fields(named("x"), &paths), ["update_mask.paths[1]", "update_mask.paths[2]"]);

        let further_regions = vec!["DE".into(), "XX".into()];
        let wrong = pb::Account { default_region: "EU".into(), further_regions, ..named("") };
        let expected = ["account.display_name", "account.default_region", "account.further_regions[1]"];
        assert_eq!(wrong_fields(wrong, &["display_name", "default_region", "further_regions"]), expected);
        assert_eq!(wrong_fields(pb::Account { id: "another".into(), ..named("x") }, &[]), ["account.id"]);
    }

    #[test]
    fn look_aside_is_none_or_within_its_range() {
        let of = |look_aside_ms| pb::Account { look_aside_ms, ..Default::default() };

        for ms in [200, 1_500] {
            assert_eq!(asked(of(ms), &[]).unwrap().look_aside_ms, Some(ms));
        }
        assert_eq!(asked(of(0), &[]).unwrap().look_aside_ms, None);
        assert_eq!(asked(of(0), &["look_aside_ms"]).unwrap().look_aside_ms, Some(0));
        for ms in [-1, 1, 199, 1_501, i32::MAX] {
            assert_eq!(wrong_fields(of(ms), &[]), ["account.look_aside_ms"], "{ms}");
        }
    }

    #[test]
    fn the_policy_and_its_integration_are_one_setting() {
        let integration = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e70".to_owned();
        let preferred = pb::Account {
            match_policy: pb::MatchPolicy::PreferredIntegration.into(),
            preferred_integration_id: integration.clone(),
            ..Default::default()
        };

        assert!(asked(preferred, &["match_policy"]).unwrap().match_policy.is_some());
        let alone = pb::Account { preferred_integration_id: integration, ..Default::default() };
        assert_eq!(wrong_fields(alone, &[]), ["account.preferred_integration_id"]);
    }
}
