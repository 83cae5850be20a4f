//! Reads the settings from all their sources, and tells everything that is wrong with them. The
//! environment comes in as an iterator, so that nothing here depends on the process.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::Serialized,
    value::{Dict, Map, Value as FigmentValue},
};
use serde_json::Value;

use super::{
    Config,
    checks::{self, is_secret, range_of},
    setting::{ConfigError, SettingOrigin, WrittenSetting, flatten},
    sources::{SettingFlags, read_all},
};

/// The settings in force, each with where it was written.
#[derive(Debug, Clone)]
pub struct LoadedSettings {
    /// All of them.
    pub config: Config,
    /// Of those that were written.
    origins: BTreeMap<String, SettingOrigin>,
    defaults: BTreeMap<String, Value>,
}

/// One of the settings in force.
#[derive(Debug, Clone)]
pub struct SettingEntry<'a> {
    /// Such as `worker.lease_seconds`.
    pub name: String,
    /// Null: not set. A secret is masked.
    pub value: Value,
    /// Where it was written.
    pub origin: &'a SettingOrigin,
    /// It has another value than by default.
    pub is_changed: bool,
    /// It is a secret, or holds one, and is masked.
    pub is_masked: bool,
}

impl LoadedSettings {
    /// Defaults, then the file, then the environment, then flags. `env` is all of the environment;
    /// a name that starts with `CONTACT_SYNC_` and is no setting is an error, but for those of a
    /// Kubernetes Service; other names are left alone.
    ///
    /// # Errors
    /// Everything that is wrong, at least one.
    pub fn read(flags: &SettingFlags, env: impl Iterator<Item = (String, String)>) -> Result<Self, Vec<ConfigError>> {
        match Self::inspect(flags, env) {
            (Some(settings), problems) if problems.is_empty() => Ok(settings),
            (_, problems) => Err(problems),
        }
    }

    /// As [`LoadedSettings::read`], but goes on where something is wrong: a setting that cannot be
    /// read is as by default then.
    pub fn inspect(
        flags: &SettingFlags,
        env: impl Iterator<Item = (String, String)>,
    ) -> (Option<Self>, Vec<ConfigError>) {
        let env: BTreeMap<String, String> = env.collect();
        let is_root = nix::unistd::geteuid().is_root();
        let default_dir = default_data_dir(is_root, env.get("XDG_DATA_HOME"), env.get("HOME"));
        let defaults = Config::with_defaults(default_dir.clone().unwrap_or_default());
        let known = flatten(&defaults);
        let (written, mut problems) = read_all(flags, &env, &known);

        let mut figment = Figment::from(Serialized::defaults(&defaults));
        let mut origins = BTreeMap::new();
        for WrittenSetting { name, value, origin } in written {
            if known.contains_key(&name) {
                origins.insert(name.clone(), origin);
                figment = figment.merge(Setting { name, value });
            } else {
                problems.push(unknown(&name, &origin, &known));
            }
        }
        let config: Config = loop {
            let error = match figment.extract() {
                Ok(config) => break config,
                Err(error) => error,
            };
            let name = error.path.join(".");
            problems.push(unfit(&name, origins.get(&name).unwrap_or(&SettingOrigin::Default), &error));
            match (known.get(&name), origins.remove(&name)) {
                (Some(default), Some(_)) => figment = figment.merge(Setting { name, value: default.clone() }),
                _ => return (None, problems),
            }
        };
        problems.extend(checks::check(&config, &origins, default_dir.is_some()));
        (Some(Self { config, origins, defaults: known }), problems)
    }

    /// Every setting by name.
    pub fn entries(&self) -> impl Iterator<Item = SettingEntry<'_>> {
        flatten(&self.config).into_iter().map(|(name, value)| SettingEntry {
            is_changed: self.defaults.get(&name) != Some(&value),
            // Only what is masked has stars where a secret stands.
            is_masked: is_secret(&name) && value.as_str().is_some_and(|text| text.contains("***")),
            origin: self.origin(&name),
            name,
            value,
        })
    }

    /// Something is wrong with this setting that shows only beyond the settings, such as in a file
    /// that it names.
    pub fn wrong(&self, name: &str, problem: impl fmt::Display, expected: impl fmt::Display) -> ConfigError {
        ConfigError::wrong(name, self.origin(name), problem, expected)
    }

    fn origin(&self, name: &str) -> &SettingOrigin {
        self.origins.get(name).unwrap_or(&SettingOrigin::Default)
    }
}

/// One setting, for figment.
struct Setting {
    name: String,
    value: Value,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named("a setting")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.name, FigmentValue::serialize(&self.value)?);
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn unknown(name: &str, origin: &SettingOrigin, known: &BTreeMap<String, Value>) -> ConfigError {
    let section = name.split('.').next().unwrap_or_default();
    let mut near: Vec<&str> =
        known.keys().filter(|key| key.split('.').next() == Some(section)).map(String::as_str).collect();
    let mut what = format!("in {section} there are");
    if near.is_empty() {
        near = known.keys().filter_map(|key| key.split('.').next()).collect();
        near.dedup();
        "there are".clone_into(&mut what);
    }
    ConfigError::Unknown {
        name: name.to_owned(),
        origin: origin.to_string(),
        known: format!("{what} {}", near.join(", ")),
    }
}

/// A value of another kind than its setting.
fn unfit(name: &str, origin: &SettingOrigin, error: &figment::Error) -> ConfigError {
    let expected = match name {
        "listen" => "an address and a port, such as 127.0.0.1:50051".to_owned(),
        "http.listen" => "an address and a port, such as 127.0.0.1:8080".to_owned(),
        "admin.listen" => "an address and a port, such as 127.0.0.1:9464, or nothing".to_owned(),
        "log.format" => "text or json".to_owned(),
        "database.plan_cache_mode" => "generic or custom".to_owned(),
        "reflection" => "true or false".to_owned(),
        _ => range_of(name).map_or("a text".to_owned(), |(min, max)| format!("a whole number from {min} to {max}")),
    };
    let problem =
        if is_secret(name) { "cannot be read".to_owned() } else { format!("cannot be read ({})", error.kind) };
    ConfigError::wrong(name, origin, problem, expected)
}

/// As root the service is the machine's, else it is its user's.
pub(super) fn default_data_dir(is_root: bool, xdg: Option<&String>, home: Option<&String>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/contact-sync"));
    }
    let dir = |text: &&String| Path::new(text).is_absolute();
    let share = xdg.filter(dir).map(PathBuf::from);
    let share = share.or_else(|| home.filter(dir).map(|home| Path::new(home).join(".local/share")));
    share.map(|share| share.join("contact-sync"))
}
