//! The keys of the service: where they come from at the start, and that they are read again for as
//! long as it runs: the issuer's key set from a file or an address, the key ring from its file.
//! Local mode makes its own.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    config::Config,
    domain::{clock::Clock, ids::IdSource},
    key_source::{KeyAddress, KeySource, KeyWatch, read_at_start},
    rpc::{auth::TokenVerifier, local_token::ensure_local_keys},
    vault::{KeyRing, VaultError},
};

/// How often files with keys are read.
const FILES_EVERY: Duration = Duration::from_secs(10);

/// The keys that a service starts with.
pub(super) struct ServiceKeys {
    pub(super) key_ring: Arc<KeyRing>,
    pub(super) verifier: Arc<TokenVerifier>,
    key_ring_watch: KeyWatch,
    key_set_watch: KeyWatch,
}

impl ServiceKeys {
    /// Configured keys; only local mode (no `DATABASE_URL`) makes its own. Those of an address are
    /// tried for up to a minute.
    pub(super) async fn load(config: &Config, ids: &Arc<IdSource>, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let ring_file = KeySource::File(key_ring_file(config, ids)?);
        let key_ring = read_at_start("key ring", ring_file, FILES_EVERY, Arc::clone(ids), KeyRing::parse);
        let (key_ring, key_ring_watch) = key_ring.await.context("vault.key_ring_file")?;
        let (key_set, every) = key_set(config, ids)?;
        let what = match key_set {
            KeySource::File(_) => "auth.jwks_file",
            KeySource::Address(_) => {
                "no key set can be had from auth.jwks_url: is the address right, can it be reached from here, and is its \
                 certificate of an authority that this machine knows, or auth.jwks_ca_file?"
            }
        };
        let verifier = |text: &str| TokenVerifier::new(text, (&config.auth).into(), Arc::clone(clock));
        let verifier = read_at_start("key set", key_set, every, Arc::clone(ids), verifier);
        let (verifier, key_set_watch) = verifier.await.context(what)?;
        let verifier = verifier.looking_early(key_set_watch.early.clone());
        Ok(Self { key_ring: Arc::new(key_ring), verifier: Arc::new(verifier), key_ring_watch, key_set_watch })
    }

    /// Reads both again and again until the stop.
    pub(super) fn watch(self, tasks: &TaskTracker, stop: CancellationToken) {
        let (key_ring, verifier) = (self.key_ring, self.verifier);
        let take_ring = move |text: &str| replace_ring(&key_ring, text);
        tasks.spawn(self.key_ring_watch.watch_until(take_ring, stop.clone()));
        tasks.spawn(self.key_set_watch.watch_until(move |text: &str| verifier.replace_keys(text), stop));
    }
}

/// Where the key ring is.
pub(super) fn key_ring_file(config: &Config, ids: &IdSource) -> anyhow::Result<PathBuf> {
    match &config.vault.key_ring_file {
        Some(path) => Ok(path.clone()),
        None if config.database_url.is_none() => local_key_ring(config, ids),
        None => bail!(
            "vault.key_ring_file is not set: without a key ring no credentials can be sealed; see docs/operating.md, \"Keys\""
        ),
    }
}

/// Where the issuer's public keys are, and how often they are read.
fn key_set(config: &Config, ids: &IdSource) -> anyhow::Result<(KeySource, Duration)> {
    let auth = &config.auth;
    if let Some(url) = &auth.jwks_url {
        let address = KeyAddress::new(url, auth.jwks_ca_file.clone());
        let address = address.map_err(|problem| anyhow::anyhow!("auth.jwks_url {problem}"))?;
        return Ok((KeySource::Address(address), Duration::from_secs(auth.jwks_refresh_seconds)));
    }
    let path = match &auth.jwks_file {
        Some(path) => path.clone(),
        None if config.database_url.is_none() => {
            make_private_dir(&config.data_dir)?;
            let seed = ids.with_rng(rand::RngExt::random);
            let keys = ensure_local_keys(&config.local_auth_dir(), &seed).context("the local signing keys")?;
            keys.jwks_file
        }
        None => bail!(
            "neither auth.jwks_file nor auth.jwks_url is set: without public keys no caller can be verified; see docs/operating.md, \"Keys\""
        ),
    };
    Ok((KeySource::File(path), FILES_EVERY))
}

/// Says which keys are in force: an operator who rotates them waits for it from each process.
fn replace_ring(key_ring: &KeyRing, text: &str) -> Result<(), VaultError> {
    let change = key_ring.replace(text)?;
    info!(seals_with = change.primary, opens_with = change.ids.join(", "), "the key ring has other keys now");
    if !change.removed.is_empty() {
        warn!(
            keys = change.removed.join(", "),
            "keys were taken out of the key ring: what they have sealed does not open any more; `contact-sync keys reseal --dry-run` counts it"
        );
    }
    Ok(())
}

/// The local key ring, made once, for its owner only. Lost, it takes the stored credentials with
/// it.
fn local_key_ring(config: &Config, ids: &IdSource) -> anyhow::Result<PathBuf> {
    make_private_dir(&config.data_dir)?;
    let path = config.data_dir.join("key-ring.json");
    let ring = ids.with_rng(KeyRing::generate).to_json();
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match created {
        Ok(mut file) => {
            file.write_all(ring.expose_secret().as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {}", path.display()))?;
            info!(file = %path.display(), "made a local key ring; keep a copy of it, apart from the database's backups");
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let bits =
                fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
            if bits & 0o077 != 0 {
                bail!("{} can be read by others (mode {:04o}); run chmod 600 on it", path.display(), bits & 0o7777);
            }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
    Ok(path)
}

/// The data directory; others may pass through it (the private PostgreSQL runs as another user),
/// and read nothing in it.
pub(super) fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use tokio::time::sleep;

    use super::*;
    use crate::{
        domain::clock::ManualClock,
        key_source::KEYS_BYTES_MAX,
        rpc::{
            claims::{TokenAccounts, TokenRules},
            local_token::{KeyPair, LocalClaims, generate, issue},
            methods::TokenScope,
        },
    };

    struct Fixture {
        path: PathBuf,
        clock: Arc<ManualClock>,
        verifier: Arc<TokenVerifier>,
        stop: CancellationToken,
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }

    impl Fixture {
        fn watched(name: &str, keys: &KeyPair) -> (Self, impl Future<Output = ()>) {
            let path = std::env::temp_dir().join(format!("contact-sync-keys-{name}-{}.json", std::process::id()));
            fs::write(&path, &keys.jwks_json).unwrap();
            let clock = Arc::new(ManualClock::new(chrono::DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000)));
            let rules = TokenRules::new("contact-sync", "contact-sync");
            let same_clock: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
            let verifier = Arc::new(TokenVerifier::new(&keys.jwks_json, rules, same_clock).unwrap());
            let stop = CancellationToken::new();
            let (file, ids) = (KeySource::File(path.clone()), Arc::new(IdSource::seeded(1)));
            let watch = KeyWatch::new("key set", file, &keys.jwks_json, FILES_EVERY, ids);
            let taking = Arc::clone(&verifier);
            let watch = watch.watch_until(move |text: &str| taking.replace_keys(text), stop.clone());
            (Self { path, clock, verifier, stop }, watch)
        }

        fn takes(&self, keys: &KeyPair) -> bool {
            let claims = LocalClaims {
                issuer: "contact-sync",
                audience: "contact-sync",
                subject: "router",
                accounts: &TokenAccounts::All,
                scopes: &TokenScope::ALL,
                now: self.clock.now(),
                valid_for: TimeDelta::hours(1),
            };
            self.verifier.verify(&issue(&keys.signing_key_pem, &claims).unwrap()).is_ok()
        }
    }

    /// A key ring that is written again is in force without a restart: the new key opens, then
    /// seals, and one that is broken changes nothing.
    #[tokio::test(start_paused = true)]
    async fn key_ring_is_read_again_when_it_changes() {
        let ring = |primary: &str, ids: &[&str]| {
            let key = |id: &&str| {
                format!(r#"{{"id":"{id}","key":"{}"}}"#, format!("{id}AA").repeat(11)[..43].to_owned() + "=")
            };
            format!(r#"{{"primary":"{primary}","keys":[{}]}}"#, ids.iter().map(key).collect::<Vec<_>>().join(","))
        };
        let path = std::env::temp_dir().join(format!("contact-sync-ring-{}.json", std::process::id()));
        fs::write(&path, ring("k1", &["k1"])).unwrap();
        let source = KeySource::File(path.clone());
        let ids = Arc::new(IdSource::seeded(1));
        let read = read_at_start("key ring", source, FILES_EVERY, ids, KeyRing::parse).await.unwrap();
        let (live, stop) = (Arc::new(read.0), CancellationToken::new());
        let taking = Arc::clone(&live);
        let watch = read.1.watch_until(move |text: &str| replace_ring(&taking, text), stop.clone());
        let story = async {
            for (text, shown) in [
                ("{".to_owned(), r#"KeyRing { primary: "k1", ids: ["k1"], .. }"#),
                (ring("k1", &["k1", "k2"]), r#"KeyRing { primary: "k1", ids: ["k1", "k2"], .. }"#),
                (String::new(), r#"KeyRing { primary: "k1", ids: ["k1", "k2"], .. }"#),
                (ring("k2", &["k1", "k2"]), r#"KeyRing { primary: "k2", ids: ["k1", "k2"], .. }"#),
                (ring("k2", &["k2"]), r#"KeyRing { primary: "k2", ids: ["k2"], .. }"#),
            ] {
                fs::write(&path, &text).unwrap();
                sleep(FILES_EVERY * 2).await;
                assert_eq!(format!("{live:?}"), shown);
            }
            stop.cancel();
        };

        tokio::join!(watch, story);
        fs::remove_file(&path).unwrap();
    }

    /// A new key set is in force without a restart; one that is broken, missing or huge changes
    /// nothing.
    #[tokio::test(start_paused = true)]
    async fn key_set_is_read_again_when_it_changes() {
        let (old, new) = (generate(&[1; 32]), generate(&[2; 32]));
        let (f, watch) = Fixture::watched("changes", &old);
        let look = async || sleep(FILES_EVERY * 2).await;
        let story = async {
            for broken in [Some(String::new()), Some("{".into()), Some(" ".repeat(KEYS_BYTES_MAX + 1)), None] {
                match broken {
                    Some(text) => fs::write(&f.path, text).unwrap(),
                    None => fs::remove_file(&f.path).unwrap(),
                }
                look().await;
                assert!(f.takes(&old) && !f.takes(&new));
            }
            fs::write(&f.path, &new.jwks_json).unwrap();
            look().await;
            assert!(f.takes(&new) && !f.takes(&old));
            f.stop.cancel();
        };

        tokio::join!(watch, story);
    }
}
