//! The keys of the service: where they come from at the start, and the key set's file, which is
//! looked at for as long as the service runs. Local mode makes its own.

use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::Config,
    domain::{clock::Clock, ids::IdSource},
    rpc::{auth::TokenVerifier, jwks::JWKS_BYTES_MAX, local_token::ensure_local_keys},
    vault::KeyRing,
};

/// How often the key set's file is read.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The keys that a service starts with.
pub(super) struct ServiceKeys {
    pub(super) key_ring: KeyRing,
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) key_set: KeySetFile,
}

impl ServiceKeys {
    /// Configured keys; only local mode (no `DATABASE_URL`) makes its own.
    pub(super) fn load(config: &Config, ids: &IdSource, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let is_local = config.database_url.is_none();
        let key_ring = match &config.vault.key_ring_file {
            Some(path) => read(path)?,
            None if is_local => local_key_ring(config, ids)?,
            None => bail!(
                "vault.key_ring_file is not set: without a key ring no credentials can be sealed; see docs/operating.md, \"Keys\""
            ),
        };
        let path = match &config.auth.jwks_file {
            Some(path) => path.clone(),
            None if is_local => {
                make_private_dir(&config.data_dir)?;
                let seed = ids.with_rng(rand::RngExt::random);
                let keys = ensure_local_keys(&config.local_auth_dir(), &seed).context("the local signing keys")?;
                keys.jwks_file
            }
            None => bail!(
                "auth.jwks_file is not set: without public keys no caller can be verified; see docs/operating.md, \"Keys\""
            ),
        };
        let jwks = read(&path)?;
        let verifier = TokenVerifier::new(&jwks, (&config.auth).into(), Arc::clone(clock)).context("auth.jwks_file")?;
        Ok(Self {
            key_ring: KeyRing::parse(&key_ring).context("vault.key_ring_file")?,
            verifier: Arc::new(verifier),
            key_set: KeySetFile { path, read: jwks },
        })
    }
}

/// The file with the public keys of who signs tokens, and what was last read from it.
pub(super) struct KeySetFile {
    path: PathBuf,
    read: String,
}

impl KeySetFile {
    /// Reads the file again and again, and gives the verifier what has changed, until the stop. A
    /// file that is missing, half written or wrong is said once for each fault, and the keys of
    /// before stay.
    pub(super) async fn watch(mut self, verifier: Arc<TokenVerifier>, stop: CancellationToken) {
        let mut wrong = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let path = self.path.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            match read.and_then(|text| self.take(text, &verifier)) {
                Ok(is_new) => {
                    let was_wrong = wrong.take().is_some();
                    if is_new || was_wrong {
                        info!(file = %self.path.display(), "the key set was read again");
                    }
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if wrong.as_ref() != Some(&error) {
                        warn!(file = %self.path.display(), error, "the key set cannot be used; its last keys stay");
                    }
                    wrong = Some(error);
                }
            }
        }
    }

    /// Whether it is another one than before.
    fn take(&mut self, text: String, verifier: &TokenVerifier) -> anyhow::Result<bool> {
        if text == self.read {
            return Ok(false);
        }
        verifier.replace_keys(&text)?;
        self.read = text;
        Ok(true)
    }
}

/// No more than a byte above what is taken for a key set, which is more than a key ring may have.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(JWKS_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

/// The local key ring, made once, for its owner only. Lost, it takes the stored credentials with
/// it.
fn local_key_ring(config: &Config, ids: &IdSource) -> anyhow::Result<String> {
    make_private_dir(&config.data_dir)?;
    let path = config.data_dir.join("key-ring.json");
    let ring = ids.with_rng(KeyRing::generate).to_json();
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match created {
        Ok(mut file) => {
            file.write_all(ring.expose_secret().as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {}", path.display()))?;
            info!(file = %path.display(), "made a local key ring; keep a copy of it with your backups");
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
    read(&path)
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

    use super::*;
    use crate::{
        domain::clock::ManualClock,
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
            let file = KeySetFile { path: path.clone(), read: keys.jwks_json.clone() };
            let watch = file.watch(Arc::clone(&verifier), stop.clone());
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

    /// A new key set is in force without a restart; one that is broken, missing or huge changes
    /// nothing.
    #[tokio::test(start_paused = true)]
    async fn key_set_is_read_again_when_it_changes() {
        let (old, new) = (generate(&[1; 32]), generate(&[2; 32]));
        let (f, watch) = Fixture::watched("changes", &old);
        let look = async || sleep(LOOK_EVERY * 2).await;
        let story = async {
            for broken in [Some(String::new()), Some("{".into()), Some(" ".repeat(JWKS_BYTES_MAX + 1)), None] {
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
