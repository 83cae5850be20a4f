//! Names of types: two words, said once. Prints its share and its list: `cargo test --test names --
//! --nocapture`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Words of the product, which docs/glossary.md explains; one of them may name a type by itself.
const PRODUCT_WORDS: &[&str] = &[
    "Account",
    "Call",
    "Contact",
    "Integration",
    "Lease",
    "Organization",
    "Provider",
    "Record",
    "Region",
    "Requester",
    "Sweep",
];

/// Endings that say nothing.
const EMPTY_ENDINGS: &[&str] = &["Data", "Info", "Item", "Object", "Manager", "Helper", "Util"];

/// Per cent of the types that others can see.
const ONE_WORD_MAX: usize = 20;

/// Layers of ARCHITECTURE.md. What is not here is a layer of its own, and so is each vendor's
/// folder and each leaf.
const LAYERS: &[&[&str]] = &[
    &["main", "cli", "app", "config", "lifecycle"],
    &["rpc", "listeners"],
    &["matching", "click_to_call", "integrations", "sync", "erasure", "feed", "retention"],
    &["audit", "identity", "credentials"],
    &["store", "crm", "vault", "key_source"],
];

struct TypeName {
    name: String,
    file: String,
    layer: String,
    /// `pub` or `pub(crate)`.
    is_shared: bool,
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name.ends_with("_tests") || name == "benches" {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn layer_of(file: &str) -> String {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let vendor =
        parts.iter().find(|part| ["zendesk", "salesforce", "pipedrive"].contains(*part)).copied().unwrap_or_default();
    let top = if parts[0] == "src" { parts[1] } else { parts[1..].first().unwrap() };
    let layer = LAYERS.iter().find(|layer| layer.contains(&top)).map_or(top, |layer| layer[0]);
    format!("{layer}{vendor}")
}

/// The types that a text defines, up to its tests, and whether others can see each.
fn defined(text: &str) -> Vec<(String, bool)> {
    let code = text.split("#[cfg(test)]\nmod").next().unwrap();
    code.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let is_shared = ["pub ", "pub(crate) "].iter().any(|visible| line.starts_with(visible));
            let line = match line.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
                Some(rest) => rest.trim_start(),
                None => line,
            };
            let rest =
                ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| line.strip_prefix(kind))?;
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // What a trait of others asks for is no name of ours.
            let is_associated = line.starts_with("type ") && !is_shared;
            (name.starts_with(char::is_uppercase) && !is_associated).then_some((name, is_shared))
        })
        .collect()
}

fn types() -> Vec<TypeName> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    collect(&root.join("crates"), &mut files);
    files
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let layer = layer_of(&file);
            defined(&fs::read_to_string(path).unwrap()).into_iter().map(move |(name, is_shared)| TypeName {
                name,
                file: file.clone(),
                layer: layer.clone(),
                is_shared,
            })
        })
        .collect()
}

fn words(name: &str) -> usize {
    name.chars().filter(char::is_ascii_uppercase).count()
}

#[test]
fn shared_types_have_names_of_two_words() {
    let types = types();
    let shared: Vec<&TypeName> = types.iter().filter(|a_type| a_type.is_shared).collect();
    let one_word: Vec<String> = shared
        .iter()
        .filter(|a_type| words(&a_type.name) == 1 && !PRODUCT_WORDS.contains(&a_type.name.as_str()))
        .map(|a_type| format!("{} ({})", a_type.name, a_type.file))
        .collect();
    let share = 100 * one_word.len() / shared.len();
    println!("{} of {} shared types have one word, {share} %: {}", one_word.len(), shared.len(), one_word.join(", "));

    assert!(share < ONE_WORD_MAX, "{share} % of the shared types have one word: {}", one_word.join(", "));
}

#[test]
fn no_type_has_empty_ending() {
    let empty: Vec<String> = types()
        .into_iter()
        .filter(|a_type| EMPTY_ENDINGS.iter().any(|ending| a_type.name.ends_with(ending)))
        .map(|a_type| format!("{} ({})", a_type.name, a_type.file))
        .collect();

    assert!(empty.is_empty(), "{}", empty.join(", "));
}

#[test]
fn no_type_name_stands_twice_in_one_layer() {
    let mut places: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for TypeName { name, file, layer, .. } in types() {
        places.entry((layer, name)).or_default().insert(file);
    }
    let twice: Vec<String> = places
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|((_, name), files)| format!("{name}: {files:?}"))
        .collect();

    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

#[test]
fn planted_types_are_found() {
    let text = "pub struct One;\n    pub(super) enum Two {}\npub(crate) type Three = u8;\nstruct Four(u8);\ntype Output = u8;\n\
        // struct Five;\n#[cfg(test)]\nmod tests { struct Six; }";
    let found = defined(text);

    let expected = [("One", true), ("Two", false), ("Three", true), ("Four", false)];
    assert_eq!(found, expected.map(|(name, is_shared)| (name.to_owned(), is_shared)));
    assert_eq!((layer_of("src/rpc/gate.rs"), layer_of("src/listeners/mod.rs")), ("rpc".into(), "rpc".into()));
    assert_eq!(
        (layer_of("src/crm/zendesk/map.rs"), layer_of("src/feed.rs")),
        ("storezendesk".into(), "matching".into())
    );
}
