//! Everything that is sealed is brought under the newest key, beside a service that goes on
//! writing: the old key can leave then, and nothing that was written meanwhile is lost.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
};

use contact_sync::{
    app,
    credentials::{CredentialVault, ResealOutcome, VaultResealer},
    domain::ids::IdSource,
    store::{
        Db,
        sealed_values::{self, SealedQuery, SealedTable},
    },
    vault::{KeyRing, SealScope},
};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::key_rotation::{NEW, OLD};
use crate::support::{TestApp, statements::aim_at, sync::eventually};

/// More than two pages of one statement.
const REJECTED: u32 = 250;

fn both() -> String {
    format!(r#"{{"primary":"k2","keys":[{NEW},{OLD}]}}"#)
}

fn resealer(test: &TestApp, ring: &str) -> VaultResealer {
    let db = Db::connect_lazy(test.db.url(), "reseal", app::command_pool(&test.config), TaskTracker::new()).unwrap();
    let key_ring = Arc::new(KeyRing::parse(ring).unwrap());
    VaultResealer { db, vault: CredentialVault { key_ring, ids: Arc::new(IdSource::seeded(5)) } }
}

/// Values that are sealed for one account, as the service seals them.
struct SealedAccount<'t> {
    test: &'t TestApp,
    ring: KeyRing,
    ids: IdSource,
    account: Uuid,
    integration: Uuid,
}

impl<'t> SealedAccount<'t> {
    async fn make(test: &'t TestApp) -> Self {
        let account = test.account().await;
        let integration = test.enable(&account, "acme").await;
        let ring = KeyRing::parse(&format!(r#"{{"primary":"k1","keys":[{OLD}]}}"#)).unwrap();
        let (account, integration) = (account.parse().unwrap(), integration.parse().unwrap());
        Self { test, ring, ids: IdSource::seeded(6), account, integration }
    }

    fn scope(&self, integration: Uuid, field: &'static str) -> SealScope<'static> {
        SealScope { account: self.account, integration, field }
    }

    fn seal(&self, integration: Uuid, field: &'static str, text: &str) -> Vec<u8> {
        let scope = self.scope(integration, field);
        self.ids.with_rng(|rng| self.ring.seal(rng, &scope, &SecretString::from(text))).unwrap()
    }

    /// Beside the credentials one of everything else, and many rejected records.
    async fn fill(&self) {
        let (account, integration) = (self.account, self.integration);
        let execute = async |sql: &'static str, values: &[Vec<u8>]| {
            let mut query = sqlx::query(sql).bind(account).bind(integration);
            for value in values {
                query = query.bind(value);
            }
            query.execute(&self.test.db.pool).await.unwrap();
        };
        let access = self.seal(integration, "access", "token");
        execute("update integrations set access = $3 where account_id = $1 and integration_id = $2", &[access]).await;
        for (hash, of) in [(1_u8, integration), (2, Uuid::nil())] {
            let sealed = self.seal(of, "authorization", "plan");
            execute(
                "insert into authorizations (account_id, state_hash, provider, organization, integration_id, sealed, created_at, expires_at)
                values ($1, $3, 'ZENDESK', 'acme', case when $3 = '\\x01'::bytea then $2 end, $4, now(), now())",
                &[vec![hash], sealed],
            )
            .await;
        }
        let sealed = self.seal(Uuid::nil(), "suppression", "secret");
        execute(
            "insert into suppression_keys (account_id, sealed) select $1, $3 where $2::uuid is not null",
            &[sealed],
        )
        .await;
        let sealed = self.seal(integration, "hook", "shared");
        execute(
            "insert into push_channels (account_id, integration_id, state, hook_number, secret) values ($1, $2, 'ACTIVE', 1, $3)",
            &[sealed],
        )
        .await;
        // A stream has no secret.
        execute(
            "insert into push_channels (account_id, integration_id, state)
            select $1, gen_random_uuid(), 'ACTIVE' where $2::uuid is not null",
            &[],
        )
        .await;
        for number in 0..REJECTED {
            let raw = self.seal(integration, "rejected", &format!("record {number}"));
            execute(
                "insert into rejected_records (account_id, integration_id, object_type, record_key, reason, fields, is_copied, hides_number, raw,
                    sync_run_id, first_seen_at, last_seen_at, times_seen)
                values ($1, $2, 'user', encode($4, 'escape'), 'UNREADABLE', '', false, false, $3, $1, now(), now(), 1)",
                &[raw, number.to_string().into_bytes()],
            )
            .await;
        }
        // Its content was removed.
        execute(
            "insert into rejected_records (account_id, integration_id, object_type, record_key, reason, fields, is_copied, hides_number, raw,
                sync_run_id, first_seen_at, last_seen_at, times_seen)
            values ($1, $2, 'user', 'empty', 'UNREADABLE', '', false, false, null, $1, now(), now(), 1)",
            &[],
        )
        .await;
    }

    async fn stored(&self, column: &str, table: &str) -> Vec<Vec<u8>> {
        let sql =
            format!("select {column} from {table} where account_id = $1 and {column} is not null order by {column}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(self.account).fetch_all(&self.test.db.pool).await.unwrap()
    }
}

/// Everything of every account comes under the newest key, and opens without the old one as what it
/// was.
#[tokio::test]
async fn everything_comes_under_newest_key() {
    let test = TestApp::start().await;
    let accounts = [SealedAccount::make(&test).await, SealedAccount::make(&test).await];
    for account in &accounts {
        account.fill().await;
    }
    let resealer = resealer(&test, &both());
    let rows = u64::from(REJECTED);

    let before = resealer.count(|_| {}).await.unwrap();
    let outcome = resealer.reseal(|_| {}).await.unwrap();
    let after = resealer.count(|_| {}).await.unwrap();
    let again = resealer.reseal(|_| {}).await.unwrap();

    let counts = |key: &'static str| {
        [
            (key, "authorizations.sealed", 4),
            (key, "integrations.access", 2),
            (key, "integrations.credentials", 2),
            (key, "push_channels.secret", 2),
            (key, "rejected_records.raw", 2 * rows),
            (key, "suppression_keys.sealed", 2),
        ]
    };
    assert_eq!(before.rows().collect::<Vec<_>>(), counts("k1"));
    assert_eq!(before.others_than("k2"), 2 * rows + 12);
    assert_eq!(outcome, ResealOutcome { resealed: 2 * rows + 12, ..ResealOutcome::default() });
    assert_eq!(after.rows().collect::<Vec<_>>(), counts("k2"));
    assert_eq!(after.others_than("k2"), 0);
    assert_eq!(again, ResealOutcome::default());
    let alone = KeyRing::parse(&format!(r#"{{"primary":"k2","keys":[{NEW}]}}"#)).unwrap();
    for account in &accounts {
        let (mine, nobodys) = (account.integration, Uuid::nil());
        for (column, table, integration, field, text) in [
            ("access", "integrations", mine, "access", "token"),
            ("sealed", "suppression_keys", nobodys, "suppression", "secret"),
            ("secret", "push_channels", mine, "hook", "shared"),
        ] {
            for sealed in account.stored(column, table).await {
                assert_eq!(alone.open(&account.scope(integration, field), &sealed).unwrap().expose_secret(), text);
            }
        }
        for sealed in account.stored("credentials", "integrations").await {
            assert!(alone.open(&account.scope(mine, "credentials"), &sealed).is_ok());
        }
        for sealed in account.stored("sealed", "authorizations").await {
            let opens = |integration| alone.open(&account.scope(integration, "authorization"), &sealed).is_ok();
            assert!(opens(mine) || opens(nobodys));
        }
        let records = account.stored("raw", "rejected_records").await;
        let texts: BTreeSet<String> = records
            .iter()
            .map(|raw| alone.open(&account.scope(mine, "rejected"), raw).unwrap().expose_secret().to_owned())
            .collect();
        assert_eq!((records.len(), texts.len()), (REJECTED as usize, REJECTED as usize));
    }
}

/// A token that the service stores while its old value is sealed anew stays.
#[tokio::test]
async fn value_written_meanwhile_stays() {
    let test = TestApp::start().await;
    let account = SealedAccount::make(&test).await;
    let fresh = account.seal(account.integration, "credentials", "fresh");
    let resealer = resealer(&test, &both());
    let mut service = test.db.pool.begin().await.unwrap();
    sqlx::query("update integrations set credentials = $1").bind(&fresh).execute(&mut *service).await.unwrap();

    let waits = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ '{}'",
        aim_at(&["store::sealed_values::replace"])
    );
    let commit = async {
        eventually("the old value waits for the new one", async || test.db.number(&waits).await > 0).await;
        service.commit().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(resealer.reseal(|_| {}), commit);

    assert_eq!(outcome.unwrap(), ResealOutcome { passed_over: 1, ..ResealOutcome::default() });
    assert_eq!(account.stored("credentials", "integrations").await, [fresh]);
    assert_eq!(resealer.reseal(|_| {}).await.unwrap().resealed, 1, "and is sealed anew the next time");
    assert_eq!(resealer.count(|_| {}).await.unwrap().others_than("k2"), 0);
}

/// A file with a key ring, removed at the end.
struct RingFile(PathBuf);

impl RingFile {
    fn new(test: &TestApp, name: &str, ring: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cs-ring-{}-{}-{name}", std::process::id(), test.address.port()));
        fs::write(&path, ring).unwrap();
        Self(path)
    }

    /// What the command ends with, prints, and says.
    fn reseal(&self, test: &TestApp, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
        command.args(["keys", "reseal"]).args(args).env_clear().env("DATABASE_URL", test.db.url());
        command.env("CONTACT_SYNC_DATA_DIR", "/nonexistent").env("CONTACT_SYNC_VAULT__KEY_RING_FILE", &self.0);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let told = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), told(stdout), told(stderr))
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The command counts, seals anew, and says by how it ends whether the old key may leave.
#[tokio::test]
async fn command_says_whether_old_key_may_leave() {
    let test = TestApp::start().await;
    let (left, moved) = (SealedAccount::make(&test).await, SealedAccount::make(&test).await);
    let ring = RingFile::new(&test, "both.json", &both());
    let alone = RingFile::new(&test, "alone.json", &format!(r#"{{"primary":"k2","keys":[{NEW}]}}"#));

    let (code, out, err) = ring.reseal(&test, &["--dry-run"]);
    assert_eq!((code, out.contains("2 are under other keys than k2")), (Some(3), true), "{out}{err}");
    assert_eq!(left.stored("credentials", "integrations").await[0][2..4], *b"k1");
    // Without its key, and of another row.
    let (code, out, err) = alone.reseal(&test, &[]);
    assert_eq!((code, out.contains("2 do not open")), (Some(3), true), "{out}{err}");
    let foreign = moved.seal(Uuid::nil(), "credentials", "moved");
    let own = moved.stored("credentials", "integrations").await.remove(0);
    let put = async |value: &[u8]| {
        let sql = "update integrations set credentials = $2 where account_id = $1";
        sqlx::query(sql).bind(moved.account).bind(value).execute(&test.db.pool).await.unwrap();
    };
    put(&foreign).await;
    let (code, out, err) = ring.reseal(&test, &[]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("1 were sealed anew by k2") && out.contains("1 do not open"), "{out}{err}");
    put(&own).await;

    let (code, out, err) = ring.reseal(&test, &[]);

    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("every other key may be taken out"), "{out}{err}");
    assert_eq!(alone.reseal(&test, &["--dry-run"]).0, Some(0));
    let (code, _, err) = RingFile::new(&test, "wrong.json", "{}").reseal(&test, &[]);
    assert_eq!((code, err.contains("key ring: not as expected")), (Some(1), true), "{err}");
}

/// Every column of bytes is sealed anew, or known to be no sealed value.
#[tokio::test]
async fn every_column_of_bytes_is_known() {
    const NOT_SEALED: [&str; 2] = ["authorizations.state_hash", "suppressions.mark"];
    let test = TestApp::start().await;
    let account = SealedAccount::make(&test).await;
    account.fill().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select table_name || '.' || column_name from information_schema.columns
        where table_schema = 'public' and data_type = 'bytea' and table_name not like '\\_sqlx%'",
    )
    .fetch_all(&test.db.pool)
    .await
    .unwrap();
    let mut listed: BTreeSet<String> = NOT_SEALED.map(str::to_owned).into();
    let db = resealer(&test, &both()).db;
    for table in SealedTable::ALL {
        let query = SealedQuery { head_bytes: 4, unless_begins: None };
        let account_id = contact_sync::domain::ids::AccountId(account.account);
        let values = sealed_values::list(&db, account_id, table, None, query).await.unwrap();
        listed.extend(values.iter().map(|value| value.place.column().to_owned()));
    }

    assert_eq!(columns.into_iter().collect::<BTreeSet<_>>(), listed);
}
