//! One behaviour suite for three CRMs: `behaviours` says it once, `crm` says where the vendors
//! differ, and `suite!` makes a test of each behaviour for each provider. What only one of them can
//! do has a file of its own.

mod behaviours;
mod complete_or_not;
mod crm;
mod fresh;
mod histories;
mod optional;
mod page_sizes;
mod pipedrive;
mod pipedrive_renamed;
mod races;
mod refused;
mod rejected;
mod salesforce;
mod salesforce_bulk;
mod salesforce_tokens;
mod times;
mod turns;
mod unread;
mod zendesk;
mod zendesk_merges;

/// A test of each behaviour, for one provider.
macro_rules! suite {
    ($provider:ident, $crm:ty: $($file:ident::$behaviour:ident)*) => {
        mod $provider {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    crate::sync::three_crms::$file::$behaviour::<$crm>().await;
                }
            )*
        }
    };
}

/// A test of each fault that passes, under its own name.
macro_rules! passing_faults {
    ($crm:ty: $($name:ident: $fault:expr,)*) => {
        mod passing_faults {
            use super::*;

            $(
                #[tokio::test]
                async fn $name() {
                    crate::sync::three_crms::behaviours::passing_fault_leaves_a_true_copy::<$crm>($fault).await;
                }
            )*
        }
    };
}

pub(crate) use passing_faults;

macro_rules! suites {
    ($($file:ident::$behaviour:ident)*) => {
        mod suite {
            suite!(zendesk, crate::sync::three_crms::crm::ZendeskCrm: $($file::$behaviour)*);
            suite!(salesforce, crate::sync::three_crms::crm::SalesforceCrm: $($file::$behaviour)*);
            suite!(pipedrive, crate::sync::three_crms::crm::PipedriveCrm: $($file::$behaviour)*);
        }
    };
}

suites! {
    behaviours::first_copy_brings_every_record
    behaviours::increment_brings_what_changed_and_nothing_else
    behaviours::increment_with_nothing_new_is_cheap
    times::change_during_a_pass_is_not_lost
    unread::bad_byte_or_half_surrogate_costs_character
    unread::number_of_another_kind_is_read_or_told
    unread::lost_number_leaves_incomplete_until_record_reread
    unread::lost_record_leaves_incomplete_until_daily_reread
    rejected::unreadable_record_is_listed_with_why_and_content
    rejected::rejected_record_is_forgotten_when_it_comes_whole
    rejected::retried_record_that_was_mended_is_copied
    rejected::still_unreadable_retry_stays_asked_once
    rejected::retried_record_that_is_gone_is_forgotten
    rejected::known_record_that_a_sweep_cannot_read_stays
    rejected::rejected_record_missing_from_full_read_is_forgotten
    rejected::record_missing_value_is_listed_as_copied
    rejected::rejected_record_goes_with_erased_person
    rejected::rejected_records_go_with_a_purge
    times::ties_at_a_page_boundary_lose_nobody
    behaviours::row_that_comes_twice_is_one_contact
    behaviours::deletion_is_mirrored_restore_returns_same_contact
    behaviours::merge_loser_is_deleted_and_winner_stays
    behaviours::access_ending_midway_is_renewed_once
    behaviours::revoked_grant_is_told_and_contacts_stay
    behaviours::daily_limit_pauses_until_told_time
    behaviours::crash_between_pages_loses_and_doubles_nothing
    behaviours::switched_off_asks_nothing_on_catches_up
    behaviours::same_organization_twice_is_refused
    behaviours::requester_is_the_callers_record
    times::row_that_becomes_visible_late_is_not_lost
    times::change_in_very_second_of_pass_is_kept
    times::older_copy_of_gone_record_revives_nobody
    times::equally_old_copy_of_gone_record_revives_nobody
    refused::blip_at_renewal_is_asked_again
    refused::good_token_refused_once_is_shown_again
    refused::refresh_token_refused_once_is_sent_again
    refused::only_triggers_send_spent_refresh_token_once
    refused::page_of_a_proxy_says_nothing_of_credentials
    refused::unknown_refusal_holds_nothing_at_once
    refused::wait_of_nothing_is_no_hot_loop
    refused::wait_in_any_form_is_obeyed
    refused::uninstalled_app_is_believed_at_once
    refused::host_that_begins_to_answer_404_deletes_nobody
    complete_or_not::caller_is_never_unknown_during_first_copy
    complete_or_not::caller_is_never_unknown_whatever_stops_copy
    complete_or_not::caller_is_never_unknown_while_link_returns
    histories::random_histories_end_in_the_truth
    page_sizes::pages_too_slow_for_gateway_are_halved
    page_sizes::too_large_answers_are_halved_until_fitting
    page_sizes::page_never_coming_is_told_tried_later
    races::two_accounts_with_one_organisation_share_nothing
    races::record_clicked_during_a_sweep_stays
    races::record_gone_while_sweep_asks_is_gone
}
