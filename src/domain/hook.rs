//! The address to which a CRM sends an integration's events, and the secret by which it shows that
//! they are its own. Owns how both are made and compared; must not know any CRM's form of them.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::{
    credentials::is_same_secret,
    ids::{AccountId, IntegrationId},
    notice::Notice,
    provider::Provider,
    push_losses::PushLosses,
};

/// Keeps what is made of a key here apart from what else is made of it.
const LABEL: &[u8] = b"contact-sync hook address, version 1";
/// An account, a number, a tag.
const ADDRESS_BYTES: usize = 16 + 8 + TAG_BYTES;
const TAG_BYTES: usize = 8;
/// Characters of an address as it is written.
pub const ADDRESS_CHARS: usize = 43;

/// Where the events of one integration go. It proves by itself that this service has given it out,
/// so that a stranger's guess costs the database nothing; it is no credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookAddress {
    /// Whose.
    pub account_id: AccountId,
    /// Random; of one integration of the account.
    pub number: i64,
}

/// The number is for the CRM alone.
impl fmt::Debug for HookAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookAddress({})", self.account_id)
    }
}

/// Makes and reads addresses. Prints nothing of itself.
#[derive(Clone)]
pub struct HookAddressKey(Hmac<Sha256>);

impl HookAddressKey {
    /// Of a secret, which cannot be learned from it.
    pub fn derive(secret: &[u8; 32]) -> Self {
        let derived = keyed(secret).chain_update(LABEL).finalize().into_bytes();
        Self(keyed(&derived))
    }

    /// As it stands in a URL; of one CRM, and of no other.
    pub fn write(&self, provider: Provider, address: HookAddress) -> String {
        let tag = self.tag(provider, address).finalize().into_bytes();
        let mut bytes = Vec::with_capacity(ADDRESS_BYTES);
        bytes.extend(address.account_id.0.as_bytes());
        bytes.extend(address.number.to_be_bytes());
        bytes.extend(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads one; `None`: it was not made by this key for this CRM. Takes as long for every tag.
    pub fn read(&self, provider: Provider, text: &str) -> Option<HookAddress> {
        if text.len() != ADDRESS_CHARS {
            return None;
        }
        let bytes: [u8; ADDRESS_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (account, rest) = bytes.split_at(16);
        let (number, tag) = rest.split_at(8);
        let address = HookAddress {
            account_id: AccountId(Uuid::from_slice(account).ok()?),
            number: i64::from_be_bytes(number.try_into().ok()?),
        };
        self.tag(provider, address).verify_truncated_left(tag).ok()?;
        Some(address)
    }

    fn tag(&self, provider: Provider, address: HookAddress) -> Hmac<Sha256> {
        self.0
            .clone()
            .chain_update(provider.as_str())
            .chain_update([0])
            .chain_update(address.account_id.0.as_bytes())
            .chain_update(address.number.to_be_bytes())
    }
}

impl fmt::Debug for HookAddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookAddressKey(..)")
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    let Ok(keyed) = Hmac::new_from_slice(secret) else { unreachable!("HMAC takes keys of every length") };
    keyed
}

/// What an integration's hook is called in the CRM: two deployments on one organisation, or a copy
/// of a database, do not take each other's for their own. `base`: where the deployment is found.
pub fn hook_name(base: &str, integration_id: IntegrationId) -> String {
    let host = base.split_once("://").map_or(base, |(_, host)| host);
    format!("contact-sync {host} {integration_id}")
}

/// Where a CRM sends events to.
pub fn hook_url(base: &str, key: &HookAddressKey, provider: Provider, address: HookAddress) -> String {
    format!("{base}/hooks/{}/{}", provider.setting_name(), key.write(provider, address))
}

/// How long the secret of before a change is good, too: for events that were signed by it.
const PREVIOUS_GOOD_FOR: TimeDelta = TimeDelta::minutes(10);

/// By what a CRM shows that an event is its own. Never printed.
#[derive(Debug, Clone)]
pub struct HookSecret {
    current: SecretString,
    /// The one before, and until when it is good.
    previous: Option<(SecretString, DateTime<Utc>)>,
}

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct StoredSecret {
    current: String,
    #[serde(default)]
    previous: Option<(String, DateTime<Utc>)>,
}

impl HookSecret {
    /// The text that the CRM and this service share.
    pub const fn new(text: SecretString) -> Self {
        Self { current: text, previous: None }
    }

    /// None yet: the CRM says it, once it has the hook.
    pub fn unknown() -> Self {
        Self::new(String::new().into())
    }

    /// A user's name and a password, of random bytes.
    pub fn of_bytes(user: &[u8; 16], password: &[u8; 32]) -> Self {
        Self::new(format!("{}:{}", URL_SAFE_NO_PAD.encode(user), URL_SAFE_NO_PAD.encode(password)).into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        self.current.expose_secret()
    }

    /// There is one.
    pub fn is_known(&self) -> bool {
        !self.expose().is_empty()
    }

    /// This one from now on, and the one before for a while; `None`: it is the same.
    pub fn replaced_by(&self, new: &Self, now: DateTime<Utc>) -> Option<Self> {
        if is_same_secret(self.expose(), new.expose()) {
            return None;
        }
        let previous = self.is_known().then(|| (self.current.clone(), now + PREVIOUS_GOOD_FOR));
        Some(Self { current: new.current.clone(), previous })
    }

    /// Whether this is what was shown. Takes as long for whatever is shown.
    pub fn is(&self, shown: &str) -> bool {
        self.is_known() && is_same_secret(self.expose(), shown)
    }

    /// Whether the signature is HMAC-SHA256 by this, or for a while by the one before, of these
    /// parts one after the other. Takes as long for every signature.
    pub fn signs(&self, parts: &[&[u8]], signature: &[u8], now: DateTime<Utc>) -> bool {
        let before = self.previous.iter().filter(|(_, until)| now < *until).map(|(text, _)| text);
        self.is_known()
            && [&self.current].into_iter().chain(before).any(|text| {
                let signed = parts.iter().fold(keyed(text.expose_secret().as_bytes()), Mac::chain_update);
                signed.verify_slice(signature).is_ok()
            })
    }

    /// As it is sealed.
    pub fn to_json(&self) -> Option<SecretString> {
        let previous = self.previous.as_ref().map(|(text, until)| (text.expose_secret().to_owned(), *until));
        serde_json::to_string(&StoredSecret { current: self.expose().to_owned(), previous }).ok().map(Into::into)
    }

    /// Reads what was sealed.
    pub fn from_json(json: &str) -> Option<Self> {
        let stored = serde_json::from_str::<StoredSecret>(json).ok()?;
        let previous = stored.previous.map(|(text, until)| (text.into(), until));
        Some(Self { current: stored.current.into(), previous })
    }
}

/// Whether the CRM pushes its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum PushState {
    /// Events come.
    Active,
    /// It is set up, and some events do not come.
    Degraded,
    /// It is wished, and cannot be set up.
    Unavailable,
}

impl PushState {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Active, Self::Degraded, Self::Unavailable];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How pushed changes arrive, as administrators see it. Polling goes on whatever this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStatus {
    /// As the last look at it found.
    pub state: PushState,
    /// Why it is so, and what to do.
    pub notice: Option<Notice>,
    /// When the CRM was last asked about it; `None`: not yet.
    pub checked_at: Option<DateTime<Utc>>,
    /// The time of the newest event, by the CRM's clock.
    pub last_event_at: Option<DateTime<Utc>>,
    /// From that event's time to its arrival, in milliseconds.
    pub last_lag_ms: Option<i64>,
    /// Events that were lost, as far as it is known.
    pub suspected_losses: i64,
}

/// Of one integration: what is stored of its hook.
#[derive(Debug, Clone)]
pub struct PushChannel {
    /// As the last look at it found.
    pub state: PushState,
    /// Why it is so, and what to do.
    pub notice: Option<Notice>,
    /// Of the address.
    pub number: i64,
    /// The CRM's id of the hook; `None`: not made yet.
    pub hook_id: Option<String>,
    /// Sealed by the vault.
    pub secret: Vec<u8>,
    /// When the CRM was last asked about it.
    pub checked_at: Option<DateTime<Utc>>,
    /// Since when it is as it is to be.
    pub registered_at: Option<DateTime<Utc>>,
    /// When it was made anew because events were missed.
    pub renewed_at: Option<DateTime<Utc>>,
    /// How changes came of late.
    pub losses: PushLosses,
}

/// Of a hook that is there: what changes are compared with.
#[derive(Debug, Clone, Copy)]
pub struct PushWatch {
    /// Since when it is as it is to be.
    pub registered_at: DateTime<Utc>,
    /// When a poll was begun in the place of many events.
    pub storm_at: Option<DateTime<Utc>>,
    /// How changes came of late.
    pub losses: PushLosses,
}

/// Whose events a known address is for.
#[derive(Debug, Clone)]
pub struct HookOwner {
    /// Which.
    pub integration_id: IntegrationId,
    /// Its CRM.
    pub provider: Provider,
    /// Sealed by the vault.
    pub secret: Vec<u8>,
    /// It is linked and copies contacts.
    pub is_on: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> HookAddress {
        HookAddress { account_id: AccountId(Uuid::from_u128(7)), number: -3 }
    }

    fn key(byte: u8) -> HookAddressKey {
        HookAddressKey::derive(&[byte; 32])
    }

    #[test]
    fn address_is_read_back_by_its_own_key_for_its_own_crm() {
        let text = key(1).write(Provider::Pipedrive, address());

        assert_eq!(text.len(), ADDRESS_CHARS);
        assert_eq!(key(1).read(Provider::Pipedrive, &text), Some(address()));
        assert_eq!(key(1).read(Provider::Zendesk, &text), None);
        assert_eq!(key(2).read(Provider::Pipedrive, &text), None);
        assert!(!format!("{:?}{:?}", address(), key(1)).contains("-3"));
    }

    #[test]
    fn address_with_any_other_bit_is_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(key(1).write(Provider::Pipedrive, address())).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let text = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key(1).read(Provider::Pipedrive, &text), None, "bit {bit}");
        }
        for text in ["", "x", &"x".repeat(ADDRESS_CHARS), &"!".repeat(ADDRESS_CHARS), &"é".repeat(21)] {
            assert_eq!(key(1).read(Provider::Pipedrive, text), None, "{text}");
        }
    }

    #[test]
    fn secret_is_compared_whole_and_never_printed() {
        let secret = HookSecret::new("user:word".to_owned().into());

        assert!(secret.is("user:word"));
        for other in ["", "user:wor", "user:words", "USER:word"] {
            assert!(!secret.is(other), "{other}");
        }
        assert!(!format!("{secret:?}").contains("word"));
        assert!(HookSecret::from_json(secret.to_json().unwrap().expose_secret()).unwrap().is("user:word"));
        assert!(HookSecret::from_json("{}").is_none());
    }

    #[test]
    fn two_secrets_are_good_for_ten_minutes() {
        let now = DateTime::from_timestamp(1_796_000_000, 0).unwrap();
        let signed =
            |text: &str| keyed(text.as_bytes()).chain_update("time").chain_update("body").finalize().into_bytes();
        let parts: [&[u8]; 2] = [b"time", b"body"];
        let old = HookSecret::new("old".to_owned().into());
        let both = old.replaced_by(&HookSecret::new("new".to_owned().into()), now).unwrap();
        let both = HookSecret::from_json(both.to_json().unwrap().expose_secret()).unwrap();

        assert!(old.replaced_by(&old, now).is_none());
        for (minutes, is_old_good) in [(0, true), (9, true), (10, false)] {
            let at = now + TimeDelta::minutes(minutes);
            assert!(both.signs(&parts, &signed("new"), at));
            assert_eq!(both.signs(&parts, &signed("old"), at), is_old_good, "{minutes}");
            assert!(!both.signs(&parts, &signed("other"), at) && !both.signs(&parts, &signed("new")[..31], at));
        }
        assert!(!HookSecret::unknown().signs(&parts, &signed(""), now) && !HookSecret::unknown().is(""));
        let first = HookSecret::unknown().replaced_by(&old, now).unwrap();
        assert!(first.previous.is_none(), "there was none before");
    }
}
