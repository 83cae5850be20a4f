//! What is known of a vendor stands in its folder, `src/crm/<vendor>`. Outside of these folders a
//! vendor, or a kind of its objects, is named in the places of this list only: the lines that a new
//! CRM needs beside its folder in `src`. Beside it: the proto, both checks of providers in a new
//! migration, `tests/names.rs`, `tests/integration/sync/three_crms/` and its simulator in
//! `crates/`. Names are read from the two enums that have them, so that a new one is looked for at
//! once.

use std::{collections::BTreeMap, fs, path::Path};

use super::{collect, text_of};

/// Where a vendor may be named, and why. A folder ends with a slash.
const PLACES: &[(&str, &str)] = &[
    ("domain/provider.rs", "the list of CRMs: one line for each"),
    ("domain/record.rs", "the list of kinds of objects, and whose they are"),
    ("crm/mod.rs", "the module of each vendor's folder"),
    ("crm/vendors.rs", "one line for each: its vendor"),
    ("crm/error.rs", "refusals of logins that one vendor alone tells apart, in words that help there"),
    ("rpc/convert.rs", "the values and options of the API: one arm for each"),
    ("rpc/parse.rs", "the fields of connections and options: one arm for each"),
    ("rpc/parse_credentials.rs", "the fields of credentials: one arm for each kind"),
    ("rpc/sync_requests.rs", "the API's field for a login host is named after the one CRM that has such hosts"),
    ("rpc/rejected.rs", "says in words what the one option leads to by which a record is left out"),
    ("cli/mod.rs", "an example in the help"),
    ("cli/sync/", "the flags of connections, credentials and options: one arm for each"),
    ("cli/client/show.rs", "the options of an integration as they are shown: one line for each"),
    ("cli/client/advice.rs", "what the flags are called, and what helps at the CRM"),
    ("cli/demo/", "the story that the demo tells"),
    ("config/providers.rs", "the one setting that one vendor alone knows"),
    ("config/checks.rs", "the range of that setting"),
    ("cli/config.rs", "looks at that setting's file"),
    ("app.rs", "hands that setting on"),
];

/// Words that are a vendor's: its name in any spelling, and its kinds of objects as the code names
/// them.
struct VendorWords {
    vendors: Vec<String>,
    objects: Vec<String>,
}

impl VendorWords {
    fn read(root: &Path) -> Self {
        let vendors = variants(&root.join("domain/provider.rs"), "pub enum Provider {");
        let objects = variants(&root.join("domain/record.rs"), "pub enum ObjectType {");
        assert!(vendors.contains(&"Zendesk".to_owned()) && objects.contains(&"Lead".to_owned()), "they are read");
        Self {
            vendors: vendors.iter().map(|name| name.to_lowercase()).collect(),
            objects: objects.iter().map(|name| format!("ObjectType::{name}")).collect(),
        }
    }

    /// The lines of a source that name a vendor, without comments and tests.
    fn lines_in(&self, source: &str) -> Vec<String> {
        let names_one = |line: &&str| {
            let lower = line.to_lowercase();
            self.vendors.iter().any(|name| lower.contains(name)) || self.objects.iter().any(|name| line.contains(name))
        };
        text_of(source).lines().filter(names_one).map(|line| line.trim().to_owned()).collect()
    }

    fn is_own_folder(&self, file: &str) -> bool {
        self.vendors.iter().any(|name| file.starts_with(&format!("crm/{name}/")))
    }
}

/// The variants of an enum.
fn variants(file: &Path, head: &str) -> Vec<String> {
    let text = text_of(&fs::read_to_string(file).unwrap());
    let (_, body) = text.split_once(head).unwrap();
    let (body, _) = body.split_once('}').unwrap();
    let of_line = |line: &str| line.trim().strip_suffix(',').map(str::to_owned);
    body.lines().filter_map(of_line).filter(|name| name.chars().all(char::is_alphanumeric)).collect()
}

fn place_of(file: &str) -> Option<&'static str> {
    let is_it = |place: &str| file == place || (place.ends_with('/') && file.starts_with(place));
    PLACES.iter().map(|(place, _)| *place).find(|place| is_it(place))
}

/// Lines that name a vendor, by file.
fn named_outside(words: &VendorWords, root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    collect(root, &mut files);
    let mut named = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let lines = words.lines_in(&fs::read_to_string(&file).unwrap());
        if !words.is_own_folder(&name) && !lines.is_empty() {
            named.insert(name, lines);
        }
    }
    named
}

#[test]
fn a_vendor_is_named_in_its_folder_and_in_the_places_of_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = named_outside(&VendorWords::read(&root), &root);

    let misplaced: Vec<String> = named
        .iter()
        .filter(|(file, _)| place_of(file).is_none())
        .flat_map(|(file, lines)| lines.iter().map(move |line| format!("src/{file}: {line}")))
        .collect();
    assert!(
        misplaced.is_empty(),
        "move it into the vendor's folder (a descriptor's value?):\n{}",
        misplaced.join("\n")
    );
    for (place, _) in PLACES {
        assert!(named.keys().any(|file| place_of(file) == Some(place)), "{place} names no vendor any more: strike it");
    }
}

#[test]
fn planted_vendor_names_are_found() {
    let words = VendorWords::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));

    for source in [
        "match provider { Provider::Zendesk => 1, _ => 2 }",
        "let text = \"see salesforce.com\";",
        "let text = r#\"PIPEDRIVE\"#;",
        "fn of_pipedrive() {}",
        "use crate::crm::zendesk::ZendeskVendor;",
        "if kind == ObjectType::Lead {}",
        "let quote = '\"'; let host = \"acme.zendesk.com\"; // fine",
    ] {
        assert_eq!(words.lines_in(source).len(), 1, "{source}");
    }
    for source in [
        "// Zendesk says so.\nlet x = 1; // as Salesforce does",
        "/* Pipedrive */ fn f() {}",
        "let url = \"https://example.com\";\n#[cfg(test)]\nmod tests { use crate::crm::zendesk; }",
        "struct Lead; let user = ObjectKind::Lead;",
    ] {
        assert_eq!(words.lines_in(source), Vec::<String>::new(), "{source}");
    }
    for file in ["store/contacts.rs", "sync/session.rs", "crm/oauth/mod.rs", "domain/host.rs", "cli/serve.rs"] {
        assert_eq!(place_of(file), None, "{file}");
    }
    assert!(words.is_own_folder("crm/zendesk/client.rs") && !words.is_own_folder("crm/zendesk.rs"));
}
