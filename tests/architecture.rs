//! Who may use whom: reads every file under `src` and holds what it imports against the layers of
//! ARCHITECTURE.md. Tests inside the sources are left out: they may reach across. Of the leaves in
//! `crates/` the compiler sees to it that they use nothing of ours.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

#[path = "architecture/vendors.rs"]
mod vendors;

/// The modules that a module may use besides itself. Who is not here may use everything: it joins
/// the parts.
const MAY_USE: &[(&str, &[&str])] = &[
    // Nouns.
    ("domain", &[]),
    // Edges out; not each other.
    ("store", &["domain", "telemetry"]),
    ("crm", &["domain", "jwt", "telemetry"]),
    ("vault", &["domain"]),
    ("key_source", &["domain", "telemetry"]),
    // Shared rules.
    ("identity", &["domain", "store", "telemetry"]),
    ("credentials", &["domain", "store", "vault", "crm", "telemetry"]),
    ("audit", &["domain", "store", "telemetry"]),
    // Features; not each other.
    ("matching", &["domain", "store", "identity", "telemetry"]),
    ("click_to_call", &["domain", "store", "identity", "credentials", "telemetry"]),
    ("erasure", &["domain", "store", "identity", "credentials", "telemetry"]),
    ("feed", &["domain", "store", "identity"]),
    ("integrations", &["domain", "store", "crm", "vault", "audit", "identity", "credentials", "telemetry"]),
    ("sync", &["domain", "store", "crm", "vault", "identity", "credentials", "telemetry"]),
    ("retention", &["domain", "store", "telemetry"]),
    // Edge in: features, plain reads of the store, and the types and errors of what is below.
    (
        "rpc",
        &[
            "domain",
            "store",
            "crm",
            "audit",
            "identity",
            "matching",
            "click_to_call",
            "erasure",
            "feed",
            "integrations",
            "jwt",
            "key_source",
            "sync",
            "telemetry",
            "tls",
        ],
    ),
    ("listeners", &["domain", "store", "integrations", "telemetry", "tls"]),
    // What they are bound to.
    ("tls", &["telemetry"]),
    // Counts for everybody, and prints chains of errors for everybody above the edges out.
    ("telemetry", &[]),
    ("jwt", &[]),
    ("lifecycle", &["telemetry"]),
];

/// Those that join the parts.
const JOINS: &[&str] = &["main", "lib", "app", "cli", "config"];

/// A crate, and the modules that own it.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("reqwest", &["crm", "key_source"]),
    ("tonic", &["rpc", "app", "cli", "crm"]),
    ("tonic_types", &["rpc", "cli"]),
    ("tonic_reflection", &["rpc"]),
    ("prost", &["rpc", "cli", "crm"]),
    ("prost_types", &["rpc", "cli"]),
    ("jsonwebtoken", &["rpc", "crm", "jwt"]),
    ("ring", &["jwt"]),
    ("oauth2", &["crm"]),
    ("axum", &["listeners"]),
    ("hyper_util", &["listeners", "cli", "crm"]),
    ("tokio_rustls", &["tls"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("crm_simulator", &["cli"]),
    ("private_postgres", &["cli"]),
    ("hmac", &["domain"]),
    ("aes_gcm_siv", &["vault"]),
    ("clap", &["cli", "config"]),
    ("figment", &["config"]),
    ("indicatif", &["cli"]),
    ("strum", &["domain"]),
    ("anyhow", &["main", "cli"]),
];

/// What the nouns never see.
const NOT_IN_DOMAIN: &[&str] = &["tokio", "tokio_util", "futures_util", "tower", "http", "tracing", "moka"];

/// What of the store only `identity` may use: contacts, refs and numbers are written there and
/// nowhere else, which `tests/integration/operations/statements/` reads in the statements
/// themselves.
const WRITERS_OF_CONTACTS: &[&str] = &["store::contact_writes"];

/// What may be asked of all accounts at once, and why. Everything else is asked of the database of
/// one account.
const ACROSS_ACCOUNTS: &[(&str, &str)] = &[
    ("store::accounts::list", "an operator's list; the token's accounts are its filter"),
    ("store::database::ping", "whether the service is ready is asked of all of it"),
    ("store::database::time", "processes follow one clock, whosever work they do"),
    ("store::figures::read", "figures of the whole service, without a word of whose they are"),
    ("store::figures::read_channels", "figures of the whole service, without a word of whose they are"),
    ("store::hint_drains::find_due", "whose records may have changed; the claim that follows is of one account"),
    ("store::push_streams::find_due", "streams that nobody follows; the claim that follows is of one account"),
    (
        "store::integrations::find_installed",
        "an uninstall names a company, not whose it is; the transactions that follow are each of one account",
    ),
    ("store::lease::find_due", "what is due is due for whom it may; the claim that follows is of one account"),
    ("store::reparse::find_due", "whose numbers are to be read again; the lock that follows is of one account"),
];

/// A source file: its module path below the crate, and its text without comments, literals and
/// tests.
struct Source {
    module: Vec<String>,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "the sources are under src");
    files
        .iter()
        .map(|file| {
            let module = module_of(file.strip_prefix(&root).unwrap());
            Source { module, code: code_of(&fs::read_to_string(file).unwrap()) }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `sync/mod.rs` is `sync`, `sync/run.rs` is `sync::run`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// Without comments, the contents of literals, and everything from the first `#[cfg(test)]` on:
/// tests stand last.
fn code_of(text: &str) -> String {
    without_comments(text, false)
}

/// The same with the contents of literals.
fn text_of(text: &str) -> String {
    without_comments(text, true)
}

fn without_comments(text: &str, keeps_literals: bool) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let comment = if rest.starts_with("//") {
            Some(rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            Some(rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else {
            None
        };
        let quoted =
            || ["'\"'", "'\\\"'", "'\\''"].iter().find(|quoted| rest.starts_with(**quoted)).map(|quoted| quoted.len());
        let literal = || raw_literal(rest).or_else(|| (first == '"').then(|| literal(rest))).or_else(quoted);
        let skipped =
            comment.map_or_else(|| literal().map(|length| (length, keeps_literals)), |length| Some((length, false)));
        if let Some((length, is_kept)) = skipped {
            code.push_str(if is_kept { &rest[..length] } else { " " });
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    let end = code.find("#[cfg(test)]").unwrap_or(code.len());
    code.truncate(end);
    code
}

fn raw_literal(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(2 + hashes + body.find(&end)? + end.len())
}

fn literal(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path that the code names from the crate's root, such as `store::calls::find`, with groups
/// taken apart; `super` is followed.
fn crate_paths(source: &Source) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (prefix, is_super) in [("crate::", false), ("super::", true)] {
        let mut from = 0;
        while let Some(found) = source.code[from..].find(prefix) {
            let at = from + found;
            from = at + prefix.len();
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let (base, rest) =
                if is_super { climb(&source.module, &source.code[at..]) } else { (Vec::new(), &source.code[from..]) };
            expand(&base, rest, &mut paths);
        }
    }
    paths
}

/// Where `super::super::x` leads from this module.
fn climb<'t>(module: &[String], mut text: &'t str) -> (Vec<String>, &'t str) {
    let mut base = module.to_vec();
    while let Some(rest) = text.strip_prefix("super::") {
        base.pop();
        text = rest;
    }
    (base, text)
}

/// Reads a path or a group at the beginning of the text.
fn expand(base: &[String], text: &str, paths: &mut BTreeSet<String>) -> usize {
    let start = text.len();
    let mut path = base.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.starts_with('}') && !rest.is_empty() {
                let read = expand(&path, rest, paths);
                rest = rest[read.max(1)..].trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            return start - rest.strip_prefix('}').unwrap_or(rest).len();
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            break;
        }
        rest = &rest[name.len()..];
        path.push(name);
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    if path.len() > base.len() || !path.is_empty() {
        paths.insert(path.join("::"));
    }
    // `x as y` within a group.
    if let Some(alias) = rest.strip_prefix(" as ") {
        rest = alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    }
    start - rest.len()
}

/// Whether the code names a crate: as `name::` or in `use name`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
        let is_use = code[..at].trim_end().ends_with("use") && after.trim_start().starts_with([';', ' ']);
        is_word && (after.starts_with("::") || is_use)
    })
}

/// What a file does that its layer may not.
fn violations(source: &Source) -> Vec<String> {
    let own = source.module[0].as_str();
    let file = source.module.join("::");
    let mut found = Vec::new();
    let allowed = MAY_USE.iter().find(|(module, _)| *module == own).map(|(_, allowed)| *allowed);
    if allowed.is_none() && !JOINS.contains(&own) {
        found.push(format!("{file} is in no layer: say in this test what {own} may use"));
    }
    for path in crate_paths(source) {
        let used = path.split("::").next().unwrap();
        if used == own || !is_module(used) {
            continue;
        }
        if let Some(allowed) = allowed
            && !allowed.contains(&used)
        {
            found.push(format!("{file} uses {path}"));
        }
        // A type is no write.
        let is_type = path.rsplit("::").next().unwrap().starts_with(char::is_uppercase);
        let is_writer = !is_type
            && WRITERS_OF_CONTACTS.iter().any(|writer| path == *writer || path.starts_with(&format!("{writer}::")));
        if is_writer && own != "identity" {
            found.push(format!("{file} writes contacts by {path}; only identity does"));
        }
    }
    // Past a store that was brought in as a whole.
    let is_short = |at: usize| !source.code[..at].ends_with("crate::");
    for writer in WRITERS_OF_CONTACTS.iter().filter(|_| !["identity", "store"].contains(&own)) {
        if source.code.match_indices(&format!("{writer}::")).any(|(at, _)| is_short(at)) {
            found.push(format!("{file} writes contacts by {writer}; only identity does"));
        }
    }
    for (name, owners) in OWNERS {
        if names_crate(&source.code, name) && !owners.contains(&own) {
            found.push(format!("{file} uses the crate {name}"));
        }
    }
    if own == "domain" {
        let seen = NOT_IN_DOMAIN.iter().filter(|name| names_crate(&source.code, name));
        found.extend(seen.map(|name| format!("{file} uses the crate {name}")));
        found.extend(source.code.contains("async ").then(|| format!("{file} is async")));
    }
    found
}

fn is_module(name: &str) -> bool {
    MAY_USE.iter().any(|(module, _)| *module == name) || JOINS.contains(&name)
}

#[test]
fn every_module_uses_only_what_its_layer_may() {
    let found: Vec<String> = sources().iter().flat_map(violations).collect();

    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The functions that say `.all()`, with their modules.
fn across_accounts(source: &Source) -> Vec<String> {
    let asks = source.code.match_indices(".all()").map(|(at, _)| {
        let function = source.code[..at].rsplit(" fn ").next().unwrap_or_default();
        let name: String = function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        format!("{}::{name}", source.module.join("::"))
    });
    asks.collect()
}

/// All accounts are asked by the listed functions alone.
#[test]
fn only_listed_functions_ask_all_accounts() {
    let found: BTreeSet<String> = sources().iter().flat_map(across_accounts).collect();
    let listed: BTreeSet<String> = ACROSS_ACCOUNTS.iter().map(|(function, _)| (*function).to_owned()).collect();

    assert_eq!(found, listed);
    let planted = source("sync::run", "async fn first() {} async fn claim() { db.all().await; }");
    assert_eq!(across_accounts(&planted), ["sync::run::claim"]);
}

/// `ApplyPage` is `apply_page`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// Every transaction is named like its type, and like no other one.
#[test]
fn transactions_are_named_uniquely_after_their_types() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut names = BTreeSet::new();
    for text in files.iter().map(|file| fs::read_to_string(file).unwrap()) {
        for implementation in text.split("\nimpl Transaction for ").skip(1) {
            let of = implementation.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let name = implementation.split("const NAME: &'static str = \"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!(name, snake_case(of));
            assert!(names.insert(name.to_owned()), "two transactions are called {name}");
        }
    }
    assert!(names.len() >= 10, "{names:?}");
}

#[test]
fn every_module_of_the_table_exists() {
    let there: BTreeSet<String> = sources().into_iter().map(|source| source.module[0].clone()).collect();

    for module in MAY_USE.iter().map(|(module, _)| *module).chain(JOINS.iter().copied()) {
        assert!(there.contains(module), "there is no module {module} any more");
    }
}

fn source(module: &str, text: &str) -> Source {
    Source { module: module.split("::").map(str::to_owned).collect(), code: code_of(text) }
}

#[test]
fn planted_violations_are_found() {
    for (module, text) in [
        ("domain::call", "use crate::store::calls;"),
        ("sync::apply", "use crate::store::{self, Tx}; fn f() { store::contact_writes::refs::end() }"),
        ("domain::call", "use tokio::time;"),
        ("domain::call", "pub async fn look() {}"),
        ("store::calls", "use crate::{domain::ids::AccountId, crm::{CrmError, http}};"),
        ("store::calls", "use crate::{domain::{ids::AccountId, clock}, identity};"),
        ("store::calls", "fn f() { crate::matching::select_match::x() }"),
        ("store::calls", "use super::super::matching::MatchContext;"),
        ("identity::records", "use crate::crm::Page;"),
        ("matching::select_match", "use crate::{\n    store::{calls, contacts},\n    sync::Control,\n};"),
        ("matching::select_match", "use crate::store::contact_writes;"),
        ("click_to_call", "use crate::{identity::{adoption, records}, store::{self, contact_writes::refs}};"),
        ("matching", "use sqlx::PgPool;"),
        ("matching", "fn f() -> Result<(), tonic::Status> { todo() }"),
        ("sync::run", "let client = reqwest::Client::builder();"),
        ("rpc::caller", "use sqlx::query;"),
        ("rpc::caller", "use crate::vault::KeyRing;"),
        ("crm::http", "use crate::store as s;"),
        ("sync::run", "use crm_simulator::faults::Fault;"),
        ("vault", "use crate::config::Config;"),
        ("somewhere", "fn f() {}"),
    ] {
        assert!(!violations(&source(module, text)).is_empty(), "{module}: {text}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (module, text) in [
        (
            "matching::select_match",
            "use crate::{domain::{contact::Contact, ids::{AccountId, ContactId}}, store::{calls, contacts}};",
        ),
        ("matching::select_match", "use super::{MatchContext, MatchError};"),
        (
            "matching::select_match",
            "// use crate::sync::Control;\n/* sqlx::query */ let text = \"tonic::Status\"; let c = '\"';",
        ),
        ("store::calls", "let sql = r#\"use crate::rpc::x \"quoted\" \"#; let b = r\"crate::sync\";"),
        ("store::mod", "#[cfg(test)]\nmod tests { use crate::rpc::Server; }"),
        ("identity::records", "use crate::store::contact_writes::aliases::{self, MergeAlias};"),
        ("app", "use crate::{rpc::server, sync::SyncWorker, vault::KeyRing};"),
        ("rpc::caller", "let retry = self.axum_like::tonic(); use tonic::Status;"),
        ("crm::http", "let x = self.sqlx; let sqlx_like = 1;"),
    ] {
        assert_eq!(violations(&source(module, text)), Vec::<String>::new(), "{module}: {text}");
    }
}

/// Which files each file uses: by `crate::`, by `super::`, or as its own child. A name that a file
/// only passes on is used where it stands.
fn file_uses(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.join("::")).collect();
    let passed_on: BTreeMap<String, String> = sources.iter().flat_map(|source| split_exports(source).1).collect();
    let mut uses = BTreeMap::new();
    for source in sources {
        let own = source.module.join("::");
        let code = Source { module: source.module.clone(), code: split_exports(source).0 };
        let mut paths = crate_paths(&code);
        paths.extend(child_paths(&code, &modules));
        let owners = paths.iter().filter_map(|path| owner_of(path, &modules, &passed_on));
        uses.insert(own.clone(), owners.filter(|owner| *owner != own).collect());
    }
    uses
}

/// The code without `pub use child::..`, and what these pass on: the name as others say it, and
/// where it stands.
fn split_exports(source: &Source) -> (String, Vec<(String, String)>) {
    let (mut code, mut exports, mut rest) = (String::new(), Vec::new(), source.code.as_str());
    while let Some(at) = rest.find("pub") {
        let after = &rest[at + 3..];
        // `pub(in crate::x)` uses nothing.
        let after = if after.starts_with('(') { after.split_once(')').map_or("", |(_, after)| after) } else { after };
        let path = after.trim_start().strip_prefix("use ").map(str::trim_start);
        let Some(path) = path.filter(|path| !path.starts_with("crate::") && !path.starts_with("super::")) else {
            code.push_str(&rest[..at + 3]);
            rest = after;
            continue;
        };
        code.push_str(&rest[..at]);
        let path = path.strip_prefix("self::").unwrap_or(path);
        let mut paths = BTreeSet::new();
        rest = &path[expand(&source.module, path, &mut paths)..];
        let own = source.module.join("::");
        let exported = paths.into_iter().map(|path| {
            let name = path.rsplit("::").next().unwrap();
            (format!("{own}::{name}"), path.clone())
        });
        // A macro is passed on by its bare name.
        exports.extend(exported.filter(|(name, path)| name != path));
    }
    code.push_str(rest);
    (code, exports)
}

/// What a file names of its children by their bare names.
fn child_paths(source: &Source, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let own = format!("{}::", source.module.join("::"));
    let children = modules.iter().filter_map(|module| module.strip_prefix(&own)).filter(|name| !name.contains("::"));
    for child in children {
        for (at, _) in source.code.match_indices(child) {
            let before = source.code[..at].chars().next_back();
            let is_word = !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '$'));
            if is_word && source.code[at + child.len()..].starts_with("::") {
                expand(&source.module, &source.code[at..], &mut paths);
            }
        }
    }
    paths
}

/// The file where the thing stands that a path names.
fn owner_of(path: &str, modules: &BTreeSet<String>, passed_on: &BTreeMap<String, String>) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    let length = (1..=parts.len()).rev().find(|length| modules.contains(&parts[..*length].join("::")))?;
    let export = parts.get(length).and_then(|_| passed_on.get(&parts[..=length].join("::")));
    let Some(export) = export else { return Some(parts[..length].join("::")) };
    let path = [&[export.as_str()], &parts[length + 1..]].concat().join("::");
    owner_of(&path, modules, passed_on)
}

/// The uses that lie on a circle.
fn circle_edges(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<(String, String)> {
    let edges = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from.clone(), to.clone())));
    edges.filter(|(from, to)| reaches(uses, to, from)).collect()
}

fn reaches(uses: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(uses.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

/// No circle of files: whoever reads one needs those below it, and never comes back.
#[test]
fn files_use_each_other_in_one_direction() {
    let found: Vec<String> =
        circle_edges(&file_uses(&sources())).iter().map(|(from, to)| format!("{from} uses {to}")).collect();

    assert!(found.is_empty(), "these close circles:\n{}", found.join("\n"));
}

#[test]
fn planted_circles_are_found_and_straight_uses_are_not() {
    let circles = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(module, text)| source(module, text)).collect();
        circle_edges(&file_uses(&sources)).into_iter().map(|(from, to)| format!("{from}>{to}")).collect::<Vec<_>>()
    };

    // By the two prefixes, in groups, and over three files.
    assert_eq!(
        circles(&[("a::b", "use super::c::C;"), ("a::c", "use crate::a::b::B;"), ("a", "")]),
        ["a::b>a::c", "a::c>a::b"]
    );
    let three = [
        ("a", "use crate::{b::B, d};"),
        ("b", "use crate::c::{self, C};"),
        ("c", "fn f() { crate::a::g() }"),
        ("d", ""),
    ];
    assert_eq!(circles(&three), ["a>b", "b>c", "c>a"]);
    // A parent that uses its child, which uses it.
    assert_eq!(circles(&[("a", "mod b; fn f() { b::g() }"), ("a::b", "use super::T;")]), ["a>a::b", "a::b>a"]);
    // A name that the parent passes on is its owner's.
    let passed = [
        ("a", "mod b; mod c; pub use b::{B, b2}; pub(crate) use self::c::C;"),
        ("a::b", "use super::C;"),
        ("a::c", ""),
    ];
    assert_eq!(circles(&passed), [""; 0]);
    let passed_in_a_circle = [passed[0], passed[1], ("a::c", "use crate::a::B;")];
    assert_eq!(circles(&passed_in_a_circle), ["a::b>a::c", "a::c>a::b"]);
    let seen_within = [("a", "use b::B; mod b;"), ("a::b", "pub(in crate::a) struct B;")];
    assert_eq!(circles(&seen_within), [""; 0]);
    // Tests and comments may look back.
    let looks_back =
        [("a", "use crate::b::B;"), ("b", "// use crate::a::A;\n#[cfg(test)]\nmod tests { use crate::a::A; }")];
    assert_eq!(circles(&looks_back), [""; 0]);
}
