//! What the lint is for: statements that must not pass, of each kind, and others that must.

use super::{
    known::Known,
    levels::{Fault, Rule},
    lint::faults,
};
use crate::support::db::TestDb;

/// Statements that are not one account's, or may not be: a table, somewhere, whose account is not
/// said.
const WITHOUT_ACCOUNT: &[&str] = &[
    "select 1 from contacts where contact_id = $1",
    "select 1 from contacts where account_id = $2",
    "select 1 from contacts where account_id = $10",
    "select 1 from contacts where account_id <> $1",
    "select 1 from contacts where account_id >= $1 and account_id <= $1",
    "select 1 from contacts where $1 = account_id",
    "select 1 from contacts where account_id in ($1)",
    "select 1 from contacts where account_id = any($1)",
    "select 1 from contacts where account_id is not distinct from $1",
    "select 1 from contacts where account_id = coalesce($1, account_id)",
    "select 1 from contacts where account_id::text = $1",
    "select 1 from contacts where account_id between $1 and $1",
    "select 1 from contacts where (account_id, contact_id) = ($1, $2)",
    "select 1 from contacts where (account_id, contact_id) in (select $1, $2)",
    "select 1 from contacts where account_id = $1 or contact_id = $2",
    "select 1 from contacts where contact_id = $2 and (account_id = $1 or is_placeholder)",
    "select 1 from contacts where not account_id = $1",
    "select 1 from contacts where not (account_id = $1 and is_placeholder)",
    "select 1 from contacts where (account_id = $1) is not true",
    "select 1 from contacts where case when $2 then account_id = $1 else true end",
    "select 1 from contacts where case when true and account_id = $1 and true then true else true end",
    "select count(*) filter (where account_id = $1) from contacts",
    "select 1 from contacts group by account_id having account_id = $1",
    "select account_id = $1 from contacts",
    "select 1 from contacts -- where account_id = $1",
    "select 1 from contacts /* /* */ where account_id = $1 */",
    "select 1 from contacts where display_name = ' and account_id = $1'",
    "select 1 from contacts where display_name = $q$ and account_id = $1 and $q$",
    "select 1 as \"where account_id = $1\" from contacts",
    "SELECT 1 FROM CONTACTS WHERE ACCOUNT_ID = $2",
    "select 1 from \"contacts\" where \"account_id\" = $2",
    "select 1 from contacts c join external_refs e on e.contact_id = c.contact_id where c.account_id = $1",
    "select 1 from contacts c join external_refs e on e.account_id = c.account_id where c.account_id = $1",
    "select 1 from contacts c join external_refs e using (account_id, contact_id) where account_id = $1",
    "select 1 from contacts c natural join external_refs e where account_id = $1",
    "select 1 from contacts c, external_refs e where c.account_id = $1 and c.account_id = $1",
    "select 1 from contacts c, external_refs e where e.contact_id = c.contact_id and account_id = $1",
    "select 1 from contacts c cross join external_refs e where c.account_id = $1",
    "select 1 from contacts c left join external_refs e on c.account_id = $1 and e.account_id = $1",
    "select 1 from contacts c left join external_refs e on c.account_id = $1 where e.account_id = $1",
    "select 1 from contacts c right join external_refs e on e.account_id = $1 where c.account_id = $1",
    "select 1 from contacts c full join external_refs e on e.account_id = $1 and c.account_id = $1",
    "select 1 from (contacts c join external_refs e on true) where c.account_id = $1",
    "select 1 from contacts as c (contact_id, account_id) where c.account_id = $1",
    "select 1 from contacts calls, calls contacts where calls.account_id = $1 and contacts.account_id = $1",
    "with contacts as (select 1 as account_id) select 1 from contacts where account_id = $1",
    "with c as (select contact_id from contacts) select 1 from c join calls d on d.account_id = $1",
    "with c as (select account_id from contacts) select 1 from c where account_id = $1",
    "select 1 from (select account_id from contacts) c where c.account_id = $1",
    "select 1 from contacts c where c.account_id = $1 and exists (select from calls d where c.account_id = $1)",
    "select 1 from contacts c where c.account_id = $1 and exists (select from calls d where d.account_id = c.account_id)",
    "select 1 from contacts c where c.account_id = $1 and c.contact_id in (select contact_id from calls)",
    "select (select max(created_at) from calls d where d.contact_id = c.contact_id) from contacts c where c.account_id = $1",
    "select 1 from contacts c cross join lateral (select from calls d where d.contact_id = c.contact_id) d where c.account_id = $1",
    "select 1 from contacts where account_id = $1 union all select 1 from calls where call_id = $2",
    "(select 1 from contacts where account_id = $1) union (select 1 from calls)",
    "select 1 from contacts where account_id = $1 except (select 1 from calls)",
    "select array(select contact_id from contacts)",
    "select 1 from unnest(array(select contact_id from contacts)) as u (contact_id)",
    "select 1 from contacts where account_id = $1 order by (select count(*) from calls)",
    "select 1 from contacts where account_id = $1 limit (select count(*) from calls)",
    "select coalesce(((select count(*) from calls)), 0)",
    "with recursive a as (select contact_id from contacts where account_id = $1 union
        select c.contact_id from a join contacts c on c.merged_into = a.contact_id) select contact_id from a",
    "with recursive a as (select contact_id from contacts where merged_into = $2 union
        select c.contact_id from a join contacts c on c.account_id = $1 and c.merged_into = a.contact_id) select contact_id from a",
    "select 1 from calls order by created_at limit 1 for update skip locked",
    "update calls set outcome = $2",
    "update calls set account_id = $1",
    "update calls set account_id = $2 where account_id = $1",
    "update calls set (account_id, call_id) = ($2, $3) where account_id = $1",
    "update calls c set outcome = $2 from contacts k where c.account_id = $1 and k.contact_id = c.contact_id",
    "update calls c set outcome = $2 from contacts c2 where c2.account_id = $1",
    "update calls set outcome = (select max(outcome) from calls) where account_id = $1",
    "update calls c set outcome = null from (select account_id from contacts) k where c.account_id = k.account_id",
    "delete from calls",
    "delete from calls using contacts where calls.account_id = $1",
    "delete from calls c using contacts k where c.account_id = $1 and k.account_id = c.account_id",
    "delete from calls c using unnest($2::uuid[]) as u (account_id) where u.account_id = $1",
    "delete from calls where ctid in (select ctid from calls where account_id = $1 limit 10)",
    "with a as (select $1::uuid as account_id) select 1 from contacts c join a on c.account_id = a.account_id",
    "select 1 from contacts where account_id = $1 = true",
    "select 1 from contacts where account_id = /* $1 */ $2",
    "select 1 from contacts where display_name = E'\\' and account_id = $1 and \\''",
    "select 1 from contacts c where c.account_id = $1 and exists (select from calls, contacts k where k.account_id = $1)",
    "select 1 from contacts c join external_refs e on e.account_id = $1 or e.contact_id = c.contact_id where c.account_id = $1",
    "insert into calls (call_id, account_id) values ($1, $2)",
    "insert into calls (account_id, call_id) values ($2, $1)",
    "insert into calls (account_id, call_id) values ($1, $2), ($3, $4)",
    "insert into calls (account_id, call_id) values ($1::text::uuid, $2)",
    "insert into calls values ($1, $2)",
    "insert into calls (account_id, call_id) select $2, $1 from unnest($3::uuid[]) as x",
    "insert into calls (account_id, call_id) select u.account_id, $1 from unnest($3::uuid[]) as u (account_id)",
    "insert into calls (account_id, call_id) select $1, 'a' union all select $2, 'b'",
    "insert into calls as c (account_id, call_id) values ($1, $2) on conflict (account_id, call_id) do update set account_id = $3",
];

/// Views, catalogues, tables under other names, and what is not read here.
const NO_TABLE: &[&str] = &[
    "select details from a_view where account_id = $1",
    "select 1 from contacts c join another_view f on f.account_id = $1 where c.account_id = $1",
    "select 1 from pg_catalog.pg_class",
    "select 1 from information_schema.tables",
    "select 1 from public.contacts where account_id = $1",
    "select 1 from only contacts where account_id = $1",
    "select 1 from \"Contacts\" where account_id = $1",
    "select 1 from contacts tablesample system (1) where account_id = $1",
    "table contacts",
    "select 1 from (table contacts) c where c.account_id = $1",
    "truncate contacts",
    "select * into copy from contacts where account_id = $1",
    "merge into calls c using contacts k on k.account_id = $1 and c.account_id = $1 when matched then delete",
    "with gone as (merge into calls c using contacts k on true when matched then delete returning 1) select 1 from gone",
    "select 1 from contacts where account_id = $1; delete from calls",
    "select 1 from contacts where account_id = $1 for update skip locked",
    "select 1 from contacts where account_id = $1 for share nowait",
    "select 1 from contacts where account_id = $1 and pg_catalog.now() > created_at",
    "select 1 from contacts where account_id = $1 and my_function(contact_id)",
    "select 1 from contacts where account_id = $1 and display_name = 'open",
];

/// Writing statements whose parts are not the same wherever they are calculated.
const IMPURE: &[&str] = &[
    "update calls set updated_at = now() where account_id = $1",
    "update calls set updated_at = NOW ( ) where account_id = $1",
    "update calls set updated_at = \"now\"() where account_id = $1",
    "update calls set updated_at = current_timestamp where account_id = $1",
    "update calls set updated_at = localtimestamp where account_id = $1",
    "update calls set updated_at = current_date where account_id = $1",
    "update calls set updated_at = transaction_timestamp() where account_id = $1",
    "update calls set updated_at = clock_timestamp() where account_id = $1",
    "update calls set updated_at = 'now'::timestamptz where account_id = $1",
    "update calls set updated_at = timestamptz 'now' where account_id = $1",
    "update calls set updated_at = cast('today' as timestamptz) where account_id = $1",
    "update calls set updated_at = $2::text::timestamptz where account_id = $1",
    "update calls set updated_at = to_timestamp($2::text, 'YYYY') where account_id = $1",
    "update calls set updated_at = date_trunc('day', created_at) where account_id = $1",
    "update calls set updated_at = created_at at time zone 'UTC' where account_id = $1",
    "update calls set raw = created_at::text where account_id = $1",
    "update calls set updated_at = $2 + interval '1 hour' where account_id = $1",
    "update calls set updated_at = $2 + $3 where account_id = $1",
    "update calls set updated_at = created_at + $2 where account_id = $1",
    "update calls set updated_at = $2::timestamptz + make_interval(secs => $3) where account_id = $1",
    "update integrations set due_at = $2 + make_interval(secs => period_seconds) where account_id = $1",
    "update integrations set due_at = statement_timestamp() + make_interval(secs => period_seconds) where account_id = $1",
    "update integrations set due_at = statement_timestamp() + period_seconds * interval '1 second' where account_id = $1",
    "update integrations set due_at = statement_timestamp() + interval '1 second' * period_seconds where account_id = $1",
    "update integrations set due_at = (statement_timestamp() + interval '1 day')::date where account_id = $1",
    "update integrations set lease_until = case when $2 then statement_timestamp() end where account_id = $1",
    "update integrations set lease_until = coalesce(lease_until, statement_timestamp()) where account_id = $1",
    "update integrations set lease_until = greatest(lease_until, statement_timestamp() + interval '1 day') where account_id = $1",
    "delete from calls where account_id = $1 and age(created_at) > $2",
    "delete from calls where account_id = $1 and created_at + interval '90 days' < $2",
    "delete from calls where account_id = $1 and statement_timestamp() - created_at > $2",
    "delete from calls where account_id = $1 and exists (select from unnest($2::uuid[]) as u where now() > $3)",
    "update calls set raw = random()::text where account_id = $1",
    "update calls set raw = coalesce(raw, gen_random_uuid()::text) where account_id = $1",
    "update feeds set last_number = nextval('x') where account_id = $1",
    "update feeds set last_number = case when $2 then nextval('x') else 0 end where account_id = $1",
    "update changes set correction = json_build_object('a', $2::text) where account_id = $1",
    "update changes set correction = jsonb_build_object('a', subject_id) where account_id = $1",
    "update changes set correction = to_jsonb($2::text) where account_id = $1",
    "update calls set raw = format('%s', e164) where account_id = $1",
    "update calls set raw = concat(call_id, $2) where account_id = $1",
    "update calls set selected_by = current_user where account_id = $1",
    "insert into calls (account_id, call_id, created_at) values ($1, $2, now())",
    "insert into calls (account_id, call_id) values ($1, gen_random_uuid()::text)",
    "insert into calls (account_id, call_id, created_at) values ($1, $2, $3 + $4)",
    "insert into calls (account_id, call_id, created_at) select $1, u.id, $3 - $4 from unnest($2::text[]) as u (id)",
    "insert into calls (account_id, call_id, created_at) values ($1, $2, $3::timestamptz + '1 day'::interval)",
    "insert into calls (account_id, call_id) select $1, u.id from unnest($2::text[]) as u (id) where random() > 0.5",
    "insert into calls as c (account_id, call_id) values ($1, $2) on conflict (account_id, call_id) do update set updated_at = now()",
    "delete from calls where account_id = $1 returning now()",
    "with x as (select call_id, created_at as t from calls where account_id = $1)
        delete from calls c using x where c.account_id = $1 and c.call_id = x.call_id and x.t + $2 > $3",
    "update calls c set raw = null from unnest($2::timestamptz[]) as u (at) where c.account_id = $1 and u.at - $3 > c.created_at",
    "delete from calls where account_id = $1 and (created_at, $2) overlaps ($3, $4)",
    "update calls set e164 = extract(epoch from created_at)::bigint where account_id = $1",
    "update calls set raw = $2::timestamptz::text where account_id = $1",
    "update calls set raw = to_char(created_at, 'YYYY') where account_id = $1",
    "update calls set raw = current_setting('x') where account_id = $1",
    "delete from calls where account_id = $1 and created_at between $2 and $3 - interval '1 day'",
    "with gone as (delete from calls where account_id = $1 returning call_id) select json_build_object('a', call_id) from gone",
    "select 1 from contacts where account_id = $1 and random() > 0.5",
    "select pg_sleep(1)",
    "select set_config('jit', 'off', false)",
];

/// Inserts that take their rows from elsewhere than parameters.
const INSERTS_OF_READ_ROWS: &[&str] = &[
    "insert into calls (account_id, call_id) select $1, c.display_name from contacts c where c.account_id = $1",
    "insert into calls (account_id, call_id) select $1, max(call_id) from calls where account_id = $1",
    "insert into calls (account_id, call_id) select $1, $2 where not exists (select from calls where account_id = $1)",
    "insert into calls (account_id, call_id) select $1, $2 where (select count(*) from calls where account_id = $1) < $3",
    "insert into calls (account_id, call_id) select $1, s.id from (select call_id as id from calls where account_id = $1) s",
    "insert into calls (account_id, e164) values ($1, (select max(e164) from calls where account_id = $1))",
    "insert into calls (account_id, call_id) select $1, 'a' union all select $1, call_id from calls where account_id = $1",
    "with a as (delete from contacts where account_id = $1 returning contact_id)
        insert into changes (account_id, subject_id) select $1, contact_id from a",
    "with a as (select contact_id from contacts where account_id = $1) insert into changes (account_id, subject_id) select $1, contact_id from a",
    "with a as (select contact_id from contacts where account_id = $1)
        insert into changes (account_id, subject_id) values ($1, (select contact_id from a))",
    "with a as (insert into changes (account_id, subject_id) select $1, contact_id from contacts where account_id = $1) select 1",
    "insert into calls as c (account_id, call_id) values ($1, $2) on conflict (account_id, call_id) do update
        set e164 = (select max(e164) from calls where account_id = $1)",
];

/// Several writes in one statement.
const SEVERAL_WRITES: &[&str] = &[
    "with a as (delete from calls where account_id = $1) delete from selections where account_id = $1",
    "with a as (update contacts set version = version + 1 where account_id = $1 returning contact_id),
        b as (insert into changes (account_id, subject_id) select $1, contact_id from a) select 1",
    "WITH a AS MATERIALIZED (DELETE FROM calls WHERE account_id = $1), b AS NOT MATERIALIZED (DELETE FROM feeds WHERE account_id = $1) SELECT 1",
];

/// A part of a statement that needs, by a foreign key, what a later part writes.
const AGAINST_FOREIGN_KEYS: &[&str] = &[
    "with r as (insert into external_refs (account_id, contact_id) values ($1, $2)),
        c as (insert into contacts (account_id, contact_id) values ($1, $2)) select 1",
    "with i as (insert into sync_runs (account_id, integration_id) values ($1, $2))
        insert into integrations (account_id, integration_id) values ($1, $2)",
    "with c as (delete from contacts where account_id = $1 and contact_id = $2)
        delete from external_refs where account_id = $1 and contact_id = $2",
];

/// Recursive before a write, and queries where a distributed database takes none.
const UNREADABLE: &[&str] = &[
    "with recursive a as (select $2::uuid as id union select c.contact_id from a join contacts c on c.account_id = $1 and c.merged_into = a.id)
        update contacts c set version = 1 from a where c.account_id = $1 and c.contact_id = a.id",
    "delete from calls where account_id = $1 returning (select count(*) from contacts where account_id = $1)",
];

const RIGHT: &[&str] = &[
    "select 1",
    "select 1 from contacts where account_id = $1",
    "SELECT 1 FROM Contacts WHERE Account_Id = $1 AND contact_id = $2",
    "select 1 from \"contacts\" c where c.\"account_id\" = $1",
    "select 1 from contacts c where (c.account_id = $1 and c.contact_id = $2) and (c.is_placeholder or c.version > 1)",
    "select 1 from contacts c where c.version between 1 and 3 and c.account_id = $1",
    "select 1 from contacts c where c.survivor_id is distinct from $2 and c.account_id = $1",
    "select 1 from contacts c left join external_refs e on e.account_id = $1 and e.contact_id = c.contact_id where c.account_id = $1",
    "select 1 from contacts c join external_refs e on e.account_id = $1 and c.account_id = $1",
    "select 1 from contacts c where c.account_id = $1 for no key update",
    "select 1 from unnest($2::uuid[]) with ordinality as u (id, place) cross join lateral (
        select e.record_id from external_refs e where e.account_id = $1 and e.contact_id = u.id limit 1) r",
    "with recursive a as (select contact_id from contacts where account_id = $1 and merged_into = $2 union
        select c.contact_id from a join contacts c on c.account_id = $1 and c.merged_into = a.contact_id) select contact_id from a",
    "select json_build_object('id', contact_id, 'at', created_at + interval '1 day') from contacts where account_id = $1",
    "insert into calls (account_id, call_id) values ($1, $2), ($1, $3) on conflict (account_id, call_id) do nothing",
    "insert into calls (account_id, call_id) select $1, u.id from unnest($2::text[]) as u (id) on conflict do nothing returning call_id",
    "insert into calls as c (account_id, call_id) values ($1, $2) on conflict (account_id, call_id) do update
        set e164 = excluded.e164, updated_at = excluded.updated_at where c.outcome is null or c.e164 is not distinct from excluded.e164",
    "update contacts set version = version + 1, updated_at = $2, deleted_at = coalesce(deleted_at, $2) where account_id = $1",
    "update contacts c set version = u.version + 1 from unnest($2::uuid[], $3::bigint[]) as u (id, version)
        where c.account_id = $1 and c.contact_id = u.id",
    "update integrations set lease_until = statement_timestamp() + make_interval(secs => $3)
        where account_id = $1 and lease_number = $2 and lease_until is not null",
    "update integrations set refresh_claim = case when $4 then refresh_claim end,
        refresh_claimed_until = statement_timestamp() + case when $4 then interval '0' end where account_id = $1 and refresh_claim = $3",
    "update integrations set lease_until = $2 where account_id = $1 and (lease_until is null or lease_until < statement_timestamp())",
    "delete from calls where account_id = $1 and created_at < $2 and created_at < statement_timestamp() - interval '90 days'",
    "update changes set correction = correction || '{\"a\": null}'::jsonb where account_id = $1 and correction ->> 'a' = $2",
    "select 1 from contacts c left join lateral (select d.call_id from calls d where d.account_id = $1) x on true where c.account_id = $1",
    "update calls set raw = trim(lower(raw)), e164 = $2 + 1, updated_at = $3::timestamptz where account_id = $1 and created_at = any($4::timestamptz[])",
    "delete from calls c using unnest($2::text[]) as u (call_id) where c.account_id = $1 and c.call_id = u.call_id returning c.call_id",
    "update contacts c set survivor_id = a.survivor_id from (
        with recursive alias as (select c.contact_id, c.merged_into as survivor_id from contacts c where c.account_id = $1 union
            select c.contact_id, a.survivor_id from alias a join contacts c on c.account_id = $1 and c.merged_into = a.contact_id)
        select contact_id, survivor_id from alias) a where c.account_id = $1 and c.contact_id = a.contact_id",
];

/// Where inserts into one table take what others of the same statement have written: fit, and on
/// the list of several writes.
const RIGHT_BUT_SEVERAL_WRITES: &[&str] = &[
    "with n as (insert into phone_numbers (account_id, contact_id) values ($1, $2) returning contact_id),
        c as (insert into contacts (account_id, contact_id) select $1, contact_id from n returning contact_id)
        select exists (select from c)",
    "with c as (insert into contacts (account_id, contact_id) values ($1, $2) returning contact_id),
        r as (insert into external_refs (account_id, contact_id) select $1, contact_id from c) select 1 from c",
    "with a as (delete from external_refs where account_id = $1 returning contact_id),
        b as (delete from contacts where account_id = $1 and contact_id in (select contact_id from a)) select 1",
];

/// The lint finds each kind of misfit by its rule.
#[tokio::test]
async fn lint_finds_each_misfit_by_its_rule() {
    let known = Known::read(&TestDb::create().await).await;
    let groups: [(&[&str], &[Rule]); 7] = [
        (WITHOUT_ACCOUNT, &[Rule::Account, Rule::Table, Rule::Readable]),
        (NO_TABLE, &[Rule::Table, Rule::Readable]),
        (IMPURE, &[Rule::Pure]),
        (INSERTS_OF_READ_ROWS, &[Rule::Insert]),
        (SEVERAL_WRITES, &[Rule::OneWrite]),
        (AGAINST_FOREIGN_KEYS, &[Rule::ForeignKey]),
        (UNREADABLE, &[Rule::Readable]),
    ];
    let mut missed = Vec::new();
    for (statements, rules) in groups {
        for statement in statements {
            let found = faults(statement, &known);
            if !found.iter().any(|fault| rules.contains(&fault.rule)) {
                missed.push(format!("{rules:?}: {statement}\n    found {found:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[tokio::test]
async fn the_lint_passes_what_is_right() {
    let known = Known::read(&TestDb::create().await).await;
    for statement in RIGHT {
        let found: Vec<Fault> =
            faults(statement, &known).into_iter().filter(|fault| fault.rule != Rule::Clock).collect();
        assert_eq!(found, [], "{statement}");
    }
    for statement in RIGHT_BUT_SEVERAL_WRITES {
        let rules: Vec<Rule> = faults(statement, &known).into_iter().map(|Fault { rule, .. }| rule).collect();
        assert_eq!(rules, [Rule::OneWrite], "{statement}");
    }
}
