//! Settings that are never shown: they print, and serialize, masked.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// How to reach a database. Prints, and serializes, without its password.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// The whole URL, for the driver alone.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    fn masked(&self) -> String {
        let url = self.expose();
        let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
        // The last @ ends the user's part: an unescaped one in a password must not show its tail.
        let (user, place) = match rest.rsplit_once('@') {
            None => (String::new(), rest),
            Some((user, place)) => match user.split_once(':') {
                None => (format!("{user}@"), place),
                Some((name, _)) => (format!("{name}:***@"), place),
            },
        };
        // A parameter may hold a password, too.
        let (place, parameters) = place.split_once('?').map_or((place, ""), |(place, _)| (place, "?***"));
        format!("{scheme}://{user}{place}{parameters}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

/// A text that is never shown: prints, and serializes, as stars.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub SecretString);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
