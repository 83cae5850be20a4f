//! One behaviour suite for three CRMs: `behaviours` says it once, `crm` says where the vendors differ, and `suite!` makes a test of each
//! behaviour for each provider. What only one of them can do has a file of its own.

mod behaviours;
mod crm;
mod pipedrive;
mod salesforce;
mod zendesk;

/// A test of each behaviour, for one provider.
macro_rules! suite {
    ($provider:ident, $crm:ty: $($behaviour:ident)*) => {
        mod $provider {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    crate::three_crms::behaviours::$behaviour::<$crm>().await;
                }
            )*
        }
    };
}

macro_rules! suites {
    ($($behaviour:ident)*) => {
        mod suite {
            suite!(zendesk, crate::three_crms::crm::ZendeskCrm: $($behaviour)*);
            suite!(salesforce, crate::three_crms::crm::SalesforceCrm: $($behaviour)*);
            suite!(pipedrive, crate::three_crms::crm::PipedriveCrm: $($behaviour)*);
        }
    };
}

suites! {
    first_copy_brings_every_record
    increment_brings_what_changed_and_nothing_else
    increment_with_nothing_new_is_cheap
    change_during_a_pass_is_not_lost
    ties_at_a_page_boundary_lose_nobody
    row_that_comes_twice_is_one_contact
    deletion_is_mirrored_and_a_restore_brings_the_same_contact_back
    loser_of_a_merge_is_deleted_and_the_winner_stays
    access_that_ends_in_the_middle_is_renewed_once
    revoked_grant_is_told_and_new_credentials_go_on_with_the_same_contacts
    daily_limit_pauses_with_the_time_when_it_goes_on
    crash_between_pages_loses_and_doubles_nothing
    switched_off_nothing_is_asked_and_switched_on_it_catches_up
    same_organization_twice_is_refused
    requester_is_the_callers_record
}
