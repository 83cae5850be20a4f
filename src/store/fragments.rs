//! SQL that stands in several statements stands here once. There are no views: a distributed
//! planner refuses them.
//!
//! By convention a contact is `c`, a ref `e`, an integration `i` and a found number `f`; `$1` is
//! the account. Statements that the macro cannot serve (a number in SQL that is a constant in Rust)
//! are held by `tests/integration/operations/statements/repeated.rs`.

/// [`sqlx::query!`], or with a row's type before it [`sqlx::query_as!`], of a text that is put
/// together from literals and these pieces:
///
/// - `CONTACT`: everything that is read of the contact `c`, a record that is decoded as
///   [`Contact`](crate::domain::contact::Contact). At most
///   [`NUMBERS_SHOWN_MAX`](crate::domain::contact::NUMBERS_SHOWN_MAX) numbers and
///   [`RECORDS_SHOWN_MAX`](crate::domain::contact::RECORDS_SHOWN_MAX) records, live ones first.
/// - `FRESHNESS`: of the integration `i`, decoded as
///   [`Freshness`](crate::domain::integration::Freshness); `SOURCES`: of all, by id.
/// - `CALL`: the stored call with the id `$3`, decoded as [`Call`](crate::domain::call::Call).
/// - `MATCH_RANK`: what the policy `$4` says of the contact `f` with the number `$2`, as a
///   timestamptz, the latest first; null comes last. `$5` is the preferred integration.
/// - `TOMBSTONE`: what ends a contact `c` at `$2`: it shows nothing personal any more.
/// - `MARK_STALE`: what was told of the call `$2`, if it was there before, rests on another answer
///   as soon as `stored` has a row.
macro_rules! statement {
    ([$($pieces:tt)+], $($arguments:tt)*) => { statement!(@ query [] [$($pieces)+] [$($arguments)*]) };
    ($row:ident, [$($pieces:tt)+], $($arguments:tt)*) => { statement!(@ $row [] [$($pieces)+] [$($arguments)*]) };

    (@ $row:ident [$($text:tt)+] [CONTACT $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "row(
            c.contact_id, c.display_name, c.organization, c.emails,
            array(
                select row(p.raw, p.e164, p.label, p.extension)
                from phone_numbers p
                where p.account_id = $1 and p.contact_id = c.contact_id
                order by p.integration_id, p.object_type, p.record_id, p.position
                limit 64
            ),
            array(
                select row(e.integration_id, e.object_type, e.record_id, e.url, e.role, e.is_live)
                from external_refs e
                where e.account_id = $1 and e.contact_id = c.contact_id
                order by e.is_live desc, e.integration_id, e.object_type, e.record_id
                limit 32
            ),
            c.created_at, c.deleted_at, c.survivor_id, c.is_placeholder
        )"] [$($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [FRESHNESS $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "row(
            i.integration_id, i.provider, i.is_enabled, i.is_sync_on, i.hold, i.first_started_at, i.last_completed_at,
            i.known_through, i.period_seconds, i.is_widened, i.has_unread, coalesce(i.options ->> 'push' = 'ON', false),
            (
                select row(h.state, h.checked_at)
                from push_channels h
                where h.account_id = $1 and h.integration_id = i.integration_id
            )
        )"] [$($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [SOURCES $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "array(
            select "] [FRESHNESS "
            from integrations i
            where i.account_id = $1
            order by i.integration_id
        )" $($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [CALL $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "(
            select row(k.e164, k.raw, k.outcome, k.contact_id, k.tier, k.selection_id, k.agent_id)
            from calls k
            where k.account_id = $1 and k.call_id = $3
        )"] [$($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [MATCH_RANK $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "case $4::text
            when 'LAST_SELECTED' then (
                select s.selected_at
                from selections s
                where s.account_id = $1 and s.e164 = $2 and f.contact_id = (
                    select coalesce(c.survivor_id, c.contact_id) from contacts c where c.account_id = $1 and c.contact_id = s.contact_id
                )
            )
            when 'LAST_UPDATED' then (
                select max(e.record_updated_at)
                from external_refs e
                where e.account_id = $1 and e.contact_id = f.contact_id and e.is_live
            )
            when 'PREFERRED_INTEGRATION' then (
                select max('infinity'::timestamptz)
                from external_refs e
                where e.account_id = $1 and e.contact_id = f.contact_id and e.integration_id = $5 and e.is_live
            )
        end"] [$($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [TOMBSTONE $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "display_name = '', organization = '', emails = '{}', is_placeholder = false,
            deleted_at = coalesce(c.deleted_at, $2), updated_at = $2, version = c.version + 1"] [$($rest)*] $arguments)
    };
    (@ $row:ident [$($text:tt)+] [MARK_STALE $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + "marked_stale as (
            update requester_decisions
            set is_stale = true
            where account_id = $1 and call_id = $2 and exists (select from stored)
        )"] [$($rest)*] $arguments)
    };

    (@ $row:ident [] [$first:tt $($rest:tt)*] $arguments:tt) => { statement!(@ $row [$first] [$($rest)*] $arguments) };
    (@ $row:ident [$($text:tt)+] [$next:tt $($rest:tt)*] $arguments:tt) => {
        statement!(@ $row [$($text)+ + $next] [$($rest)*] $arguments)
    };
    (@ query [$($text:tt)+] [] [$($arguments:tt)*]) => { sqlx::query!($($text)+, $($arguments)*) };
    (@ $row:ident [$($text:tt)+] [] [$($arguments:tt)*]) => { sqlx::query_as!($row, $($text)+, $($arguments)*) };
}
pub(in crate::store) use statement;
