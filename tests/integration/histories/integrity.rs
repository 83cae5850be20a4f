//! What must hold over all tables after any history, each rule as a statement that counts its
//! violations; and that each rule notices when it is broken.

use serde_json::json;

use crate::support::{TestApp, call};

/// Name, and how many rows break it.
const RULES: &[(&str, &str)] = &[
    (
        "a live ref has a live contact",
        "select count(*) from external_refs e left join contacts c using (account_id, contact_id)
        where e.is_live and (c.contact_id is null or c.deleted_at is not null)",
    ),
    (
        "a live contact has a live ref or is a placeholder",
        "select count(*) from contacts c where c.deleted_at is null and not c.is_placeholder and not exists (
            select from external_refs e where e.account_id = c.account_id and e.contact_id = c.contact_id and e.is_live)",
    ),
    (
        "a placeholder has no ref",
        "select count(*) from contacts c join external_refs e using (account_id, contact_id) where c.is_placeholder",
    ),
    (
        "a live placeholder has exactly its number",
        "select count(*) from contacts c where c.is_placeholder and c.deleted_at is null and 1 <> (
            select count(*) from phone_numbers n where n.account_id = c.account_id and n.contact_id = c.contact_id and n.is_placeholder)",
    ),
    (
        "a dead contact has no number",
        "select count(*) from phone_numbers n left join contacts c using (account_id, contact_id)
        where c.contact_id is null or c.deleted_at is not null",
    ),
    (
        "a number belongs to a live ref of its contact",
        "select count(*) from phone_numbers n where not n.is_placeholder and not exists (
            select from external_refs e where e.account_id = n.account_id and e.integration_id = n.integration_id
              and e.object_type = n.object_type and e.record_id = n.record_id and e.contact_id = n.contact_id and e.is_live)",
    ),
    (
        "a placeholder's number belongs to no integration",
        "select count(*) from phone_numbers n
        where n.is_placeholder <> (n.integration_id = '00000000-0000-0000-0000-000000000000')",
    ),
    (
        "a number carries its contact's rank",
        "select count(*) from phone_numbers n join contacts c using (account_id, contact_id)
        where n.contact_created_at <> c.created_at or n.is_placeholder <> c.is_placeholder",
    ),
    (
        "a ref's numbers have different keys",
        "select count(*) from (select from phone_numbers where e164 is not null
            group by account_id, contact_id, integration_id, object_type, record_id, e164 having count(*) > 1) t",
    ),
    (
        "no placeholder stands beside a record on its number",
        "select count(*) from phone_numbers p where p.is_placeholder and exists (
            select from phone_numbers n where n.account_id = p.account_id and n.e164 = p.e164 and not n.is_placeholder)",
    ),
    (
        "one placeholder to a number",
        "select count(*) from (select from phone_numbers where is_placeholder group by account_id, e164 having count(*) > 1) t",
    ),
    (
        "a tombstone holds nothing personal",
        "select count(*) from contacts
        where deleted_at is not null and (display_name <> '' or organization <> '' or emails <> '{}')",
    ),
    (
        "an alias leads to a contact that is no alias",
        "select count(*) from contacts a left join contacts s on s.account_id = a.account_id and s.contact_id = a.survivor_id
        where a.survivor_id is not null and (s.contact_id is null or s.survivor_id is not null)",
    ),
    (
        "an alias was merged into a contact and has no ref but those of records that the CRM has merged away",
        "select count(*) from contacts a where a.merged_into is not null and (
            not exists (select from contacts m where m.account_id = a.account_id and m.contact_id = a.merged_into)
            or exists (select from external_refs e where e.account_id = a.account_id and e.contact_id = a.contact_id
                and (e.is_live or e.successor_id is null)))",
    ),
    (
        "the newest change of a contact is its version",
        "select count(*) from contacts c where c.version <> (
            select max(x.version) from changes x where x.account_id = c.account_id and x.subject_id = c.contact_id)",
    ),
    (
        "an alias leads where the feed says",
        "select count(*) from contacts a
        cross join lateral (
            select x.kind, x.survivor_id from changes x where x.account_id = a.account_id and x.subject_id = a.contact_id
            order by x.version desc limit 1
        ) x
        left join contacts s on s.account_id = a.account_id and s.contact_id = x.survivor_id
        where a.survivor_id is not null and x.kind in ('MERGED', 'ADOPTED') and coalesce(s.survivor_id, s.contact_id) is distinct from a.survivor_id",
    ),
    (
        "a call names contacts that there are",
        "select count(*) from calls k cross join lateral (values (k.contact_id), (k.selection_id)) v (id)
        where v.id is not null and not exists (select from contacts c where c.account_id = k.account_id and c.contact_id = v.id)",
    ),
    (
        "the counts of a run add up",
        "select count(*) from sync_runs
        where read_count <> created_count + updated_count + deleted_count + skipped_count + rejected_count",
    ),
    (
        "one run at a time",
        "select count(*) from (select from sync_runs where state in ('QUEUED', 'RUNNING')
            group by account_id, integration_id having count(*) > 1) t",
    ),
    (
        "a run has ended when its state says so, and began before",
        "select count(*) from sync_runs where (finished_at is null) <> (state in ('QUEUED', 'RUNNING'))
            or (started_at is null and state in ('RUNNING', 'SUCCEEDED', 'FAILED'))",
    ),
    (
        "a failed run says why",
        "select count(*) from sync_runs where state = 'FAILED' and error = ''",
    ),
    (
        "a lease belongs to a run or a purge",
        "select count(*) from integrations i where i.lease_until is not null and not i.is_purging and not exists (
            select from sync_runs r where r.account_id = i.account_id and r.integration_id = i.integration_id and r.state = 'RUNNING')",
    ),
    (
        "an integration is due if and only if there is something to do",
        "select count(*) from integrations where (due_at is not null) <> ((is_enabled and is_sync_on and (hold is null or hold = 'QUOTA_PAUSED')) or is_purging) and not coalesce(is_sync_on and hold in ('AUTH_FAILED', 'PAUSED'), false)",
    ),
    (
        "a disabled integration keeps no credentials and no run",
        "select count(*) from integrations i where not i.is_enabled and (i.credentials is not null or exists (
            select from sync_runs r where r.account_id = i.account_id and r.integration_id = i.integration_id and r.state in ('QUEUED', 'RUNNING')))",
    ),
    (
        "a completed copy knows through when",
        "select count(*) from integrations where last_completed_at is not null and (checkpoint is null or known_through is null)",
    ),
];

/// Fails with the names of the rules that are broken.
pub async fn assert_holds(test: &TestApp) {
    let broken = broken_rules(test).await;
    assert!(broken.is_empty(), "broken: {broken:#?}");
}

async fn broken_rules(test: &TestApp) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, sql) in RULES {
        let count = test.db.number(sql).await;
        if count > 0 {
            broken.push(format!("{name} ({count} rows)"));
        }
    }
    broken
}

#[tokio::test]
async fn the_rules_notice_what_breaks_them() {
    let test = TestApp::start().await;
    for n in 0..3 {
        test.zendesk.create_user(&json!({"name": format!("U{n}"), "phone": format!("+1310555010{n}")})).unwrap();
    }
    let (account, _) = test.synced().await;
    let mut request = call(&account, "+13105550199");
    request.call_id = "c".into();
    test.match_caller(request).await;
    assert_holds(&test).await;

    for (damage, expected) in [
        (
            "update external_refs set is_live = false where record_id = (select min(record_id) from external_refs)",
            "live contact has a live ref",
        ),
        ("update contacts set deleted_at = now() where not is_placeholder", "a live ref has a live contact"),
        ("update contacts set is_placeholder = true where not is_placeholder", "a placeholder has no ref"),
        ("delete from phone_numbers where is_placeholder", "exactly its number"),
        (
            "update phone_numbers set contact_created_at = contact_created_at + interval '1 second' where not is_placeholder",
            "rank",
        ),
        ("update phone_numbers set record_id = 'x' where not is_placeholder", "belongs to a live ref"),
        ("update phone_numbers set integration_id = account_id where is_placeholder", "belongs to no integration"),
        (
            "update phone_numbers set e164 = (select e164 from phone_numbers where is_placeholder) where not is_placeholder",
            "beside a record",
        ),
        (
            "update contacts set deleted_at = now(), survivor_id = contact_id, merged_into = contact_id where is_placeholder",
            "alias leads",
        ),
        ("update contacts set deleted_at = now() where is_placeholder", "nothing personal"),
        ("update contacts set version = version + 1 where is_placeholder", "newest change"),
        (
            "update contacts c set deleted_at = now(), survivor_id = o.contact_id, merged_into = o.contact_id
             from (select contact_id from contacts where not is_placeholder order by contact_id limit 1) o where c.is_placeholder;
             insert into changes (account_id, subject_id, version, kind, survivor_id, created_at)
             select account_id, contact_id, version + 1, 'MERGED',
                 (select contact_id from contacts where not is_placeholder order by contact_id desc limit 1), now()
             from contacts where is_placeholder",
            "alias leads where the feed says",
        ),
        ("update calls set contact_id = account_id", "contacts that there are"),
        ("update sync_runs set read_count = read_count + 1", "add up"),
        ("update sync_runs set finished_at = null", "ended when its state says so"),
        ("update sync_runs set state = 'FAILED'", "says why"),
        ("update integrations set lease_until = now()", "a lease belongs"),
        ("update integrations set due_at = null", "is due if and only if"),
        ("update integrations set is_enabled = false, due_at = null", "keeps no credentials"),
        ("update integrations set known_through = null", "knows through when"),
    ] {
        let mut tx = test.db.pool.begin().await.unwrap();
        sqlx::raw_sql(damage).execute(&mut *tx).await.unwrap();
        let mut noticed = Vec::new();
        for (name, sql) in RULES {
            let count: i64 = sqlx::query_scalar(*sql).fetch_one(&mut *tx).await.unwrap();
            noticed.extend((count > 0).then_some(*name));
        }
        tx.rollback().await.unwrap();
        assert!(noticed.iter().any(|name| name.contains(expected)), "{damage}: noticed {noticed:?}");
    }
    assert_holds(&test).await;
}
