//! Documents that cannot rot: what ARCHITECTURE.md, the decisions and the other pages name exists.
//! A name of code is a path in backticks, such as `sync::run` or `Gate::pass`; a file is a path
//! with an ending. Decisions that were replaced tell of their time, and are left out.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Crates of others that the documents name.
const CRATES_OF_OTHERS: &[&str] = &["tokio", "tonic", "sqlx", "google", "grpc"];

/// A source file: the modules that lead to it, and its text.
struct SourceFile {
    modules: Vec<String>,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|of| of == ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<SourceFile> {
    let mut found = Vec::new();
    files(&root().join("src"), "rs", &mut found);
    files(&root().join("crates"), "rs", &mut found);
    found.iter().map(|path| source(path)).collect()
}

/// `src/sync/run.rs` is `sync::run`, `crates/phone-key/src/library.rs` is `phone_key::library`.
fn source(path: &Path) -> SourceFile {
    let mut modules: Vec<String> = path
        .strip_prefix(root())
        .unwrap()
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().replace('-', "_"))
        .filter(|part| !["src", "crates", "mod", "lib"].contains(&part.as_str()))
        .collect();
    if modules.is_empty() {
        modules.push("contact_sync".into());
    }
    SourceFile { modules, text: fs::read_to_string(path).unwrap() }
}

/// The pages, without the decisions that were replaced.
fn pages() -> Vec<(String, String)> {
    let mut found = vec![root().join("ARCHITECTURE.md"), root().join("README.md")];
    files(&root().join("docs"), "md", &mut found);
    // What tables and columns mean.
    files(&root().join("migrations"), "sql", &mut found);
    let read = |path: &PathBuf| {
        (path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    found.iter().map(read).filter(|(_, text)| !text.contains("\nStatus: replaced")).collect()
}

/// What stands in backticks, without the blocks of code.
fn quoted(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect()
}

fn is_code_path(text: &str) -> bool {
    let names: Vec<&str> = text.trim_end_matches("()").split("::").collect();
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    names.len() > 1 && names.iter().all(|name| is_name(name)) && !CRATES_OF_OTHERS.contains(&names[0])
}

/// Whether the word stands in the text by itself.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

fn defines(text: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "use"].iter().any(|kind| {
        text.match_indices(&format!("{kind} {name}"))
            .any(|(at, found)| !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    }) || text.contains(&format!("macro_rules! {name}"))
        || text.lines().any(|line| line.starts_with("pub use ") && has_word(line, name))
}

/// Whether a path leads to something: its modules to a file, its type to a definition there, and
/// what stands behind the type into the same file.
fn exists(path: &str, sources: &[SourceFile]) -> bool {
    let names: Vec<&str> = path.trim_end_matches("()").split("::").collect();
    let is_type = |name: &&str| name.starts_with(char::is_uppercase);
    let modules_end = names.iter().position(is_type).unwrap_or(names.len());
    let leads = |source: &SourceFile, modules: &[&str]| {
        source.modules.len() >= modules.len()
            && source.modules[source.modules.len() - modules.len()..].iter().eq(modules.iter())
    };
    // A type may stand in a file below the module that gives it out.
    let is_below = |source: &SourceFile, modules: &[&str]| {
        modules.is_empty() || source.modules.windows(modules.len()).any(|part| part.iter().eq(modules.iter()))
    };
    if modules_end == names.len() {
        let (item, modules) = names.split_last().unwrap();
        return sources.iter().any(|source| leads(source, &names))
            || sources.iter().any(|source| leads(source, modules) && defines(&source.text, item));
    }
    let (modules, rest) = names.split_at(modules_end);
    sources.iter().any(|source| {
        is_below(source, modules)
            && defines(&source.text, rest[0])
            && rest[1..].iter().all(|member| has_word(&source.text, member))
    })
}

#[test]
fn code_that_documents_name_exists() {
    let sources = sources();
    let mut missing = BTreeSet::new();
    for (page, text) in pages() {
        for path in quoted(&text).into_iter().filter(|text| is_code_path(text)) {
            if !exists(path, &sources) {
                missing.insert(format!("{page}: {path}"));
            }
        }
    }

    assert!(missing.is_empty(), "named, and not there:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn files_that_documents_name_exist() {
    let endings = [".rs", ".proto", ".sql", ".toml", ".md"];
    let below = ["", "src", "crates", "tests", "tests/integration", "proto/contactsync/v1", "docs", "docs/decisions"];
    let mut missing = BTreeSet::new();
    for (page, text) in pages() {
        let is_file = |text: &&str| {
            endings.iter().any(|ending| text.ends_with(ending))
                && text.contains('/')
                && !text.starts_with('/')
                && !text.contains([' ', '*', '<', '~', ':'])
        };
        for name in quoted(&text).into_iter().filter(is_file) {
            let leaf = name
                .split_once('/')
                .map(|(leaf, file)| format!("crates/{leaf}/src/{}", file.trim_start_matches("src/")));
            let is_there = below.iter().any(|folder| root().join(folder).join(name).exists())
                || leaf.is_some_and(|leaf| root().join(leaf).exists());
            if !is_there {
                missing.insert(format!("{page}: {name}"));
            }
        }
    }

    assert!(missing.is_empty(), "named, and not there:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Whether a block that begins with one of these words and the name holds the member.
fn block_has(text: &str, beginnings: &[&str], name: &str, member: Option<&str>) -> bool {
    beginnings.iter().any(|beginning| {
        text.match_indices(&format!("{beginning} {name} ")).any(|(at, _)| {
            let block = text[at..].split("\n}").next().unwrap().split("\n);").next().unwrap();
            member.is_none_or(|member| has_word(block, member))
        })
    })
}

#[test]
fn glossary_spells_each_noun_once_and_as_it_stands() {
    let (mut proto, mut sql) = (Vec::new(), Vec::new());
    files(&root().join("proto/contactsync"), "proto", &mut proto);
    files(&root().join("migrations"), "sql", &mut sql);
    let whole = |paths: &[PathBuf]| paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    let (proto, sql, sources) = (whole(&proto), whole(&sql), sources());
    let is_spelled = |column: usize, name: &str| {
        let (first, member) = name.split_once('.').map_or((name, None), |(first, member)| (first, Some(member)));
        match column {
            0 => block_has(&proto, &["message", "enum"], first, member),
            1 if member.is_some_and(|member| sql.contains(&format!("alter table {first} add column {member} "))) => {
                true
            }
            1 => block_has(&sql, &["create table"], first, member),
            _ if name.contains("::") => exists(name, &sources),
            _ => sources.iter().any(|source| defines(&source.text, name)),
        }
    };
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let (mut nouns, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in glossary.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| noun")) {
        let cells: Vec<&str> =
            row.trim_matches('|').split(" |").map(|cell| cell.trim().trim_start_matches('|').trim()).collect();
        if !nouns.insert(cells[0]) {
            wrong.push(format!("{} stands twice", cells[0]));
        }
        for (column, cell) in cells[2..].iter().enumerate() {
            let names = quoted(cell);
            wrong.extend(
                names.iter().filter(|name| !is_spelled(column, name)).map(|name| format!("{}: {name}", cells[0])),
            );
        }
    }

    assert!(nouns.len() > 30 && wrong.is_empty(), "{} nouns; {}", nouns.len(), wrong.join(", "));
}

#[test]
fn every_decision_has_status_and_index_entry() {
    let index = fs::read_to_string(root().join("docs/decisions/README.md")).unwrap();
    let mut decisions = Vec::new();
    files(&root().join("docs/decisions"), "md", &mut decisions);
    for path in decisions.iter().filter(|path| !path.ends_with("README.md")) {
        let (name, text) = (path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(path).unwrap());
        let status = text.lines().nth(2).unwrap_or_default();
        assert!(
            ["Status: accepted", "Status: replaced by ["].iter().any(|start| status.starts_with(start)),
            "{name} says no status in its third line"
        );
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
    }
}

/// Each block of code for clients stands, word for word, where `./dev clients` runs it.
#[test]
fn code_for_clients_is_what_is_run() {
    let page = fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let mut found = Vec::new();
    for ending in ["py", "mjs", "json"] {
        files(&root().join("tests/clients/service"), ending, &mut found);
    }
    let run: Vec<String> = found.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let code: Vec<&str> = blocks.filter(|(language, _)| *language != "sh").map(|(_, code)| code.trim_end()).collect();

    assert!(code.len() > 5, "the page has its blocks");
    for block in code {
        assert!(run.iter().any(|text| text.contains(block)), "no file of tests/clients/service has:\n{block}");
    }
}

/// The labels of each metric of `METRICS`, by name; of a histogram also by the names of its series.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let source = fs::read_to_string(root().join("src/telemetry/metrics.rs")).unwrap();
    let mut found = BTreeMap::new();
    for line in source.lines().filter(|line| line.contains(" = ") && line.contains("\"contact_sync_")) {
        let (head, labels) = line.split_once('[').unwrap();
        let name = head.split('"').nth(1).unwrap();
        let labels = labels.split(']').next().unwrap();
        let mut labels: BTreeSet<String> = labels.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        labels.extend(["instance", "job"].map(str::to_owned));
        if head.contains("= Histogram ") {
            labels.insert("le".to_owned());
            found.extend(["_bucket", "_sum", "_count"].map(|end| (format!("{name}{end}"), labels.clone())));
        } else {
            found.insert(name.to_owned(), labels);
        }
    }
    found
}

/// What a text asks Prometheus for that no metric has: names, and labels that stand in braces,
/// after `by` or `on`, and in legends.
fn unknown_in(text: &str, metrics: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (mut unknown, mut labels) = (Vec::new(), BTreeSet::from(["instance".to_owned(), "job".to_owned()]));
    let names: BTreeSet<String> = words(text).into_iter().filter(|word| word.starts_with("contact_sync_")).collect();
    for name in &names {
        let Some(of_metric) = metrics.get(name) else {
            unknown.push(name.clone());
            continue;
        };
        labels.extend(of_metric.iter().cloned());
        for selector in text.split(&format!("{name}{{")).skip(1) {
            let inner = selector.split('}').next().unwrap();
            // What stands before each value in quotes.
            let selected = inner.split('"').step_by(2).flat_map(words);
            unknown
                .extend(selected.filter(|label| !of_metric.contains(label)).map(|label| format!("{name}{{{label}}}")));
        }
    }
    let lists = ["by (", "on ("].iter().flat_map(|start| text.split(start).skip(1).map(|rest| rest.split(')').next()));
    let legends =
        text.split("{{").skip(1).map(|rest| rest.split("}}").next().filter(|legend| !legend.contains("$value")));
    let grouped: BTreeSet<String> = lists.chain(legends).flatten().flat_map(words).collect();
    unknown.extend(grouped.into_iter().filter(|label| label != "labels" && !labels.contains(label)));
    unknown
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_are_there() {
    let metrics = metrics();
    assert!(metrics.len() > 30, "the list is read");
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let alerts = fs::read_to_string(root().join("deploy/alerts.yaml")).unwrap();
    let mut wrong = Vec::new();
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        wrong.extend(unknown_in(alert, &metrics).into_iter().map(|unknown| format!("{name}: {unknown}")));
        let runbook = format!("runbook: docs/monitoring.md#{}\n", name.to_lowercase());
        let is_whole = ["severity: ", "summary: ", "description: ", &runbook].iter().all(|part| alert.contains(part));
        if !is_whole || !page.contains(&format!("\n### {name}\n")) {
            wrong.push(format!("{name}: has no severity, words, runbook, or heading"));
        }
    }
    let headings = page.lines().filter_map(|line| line.strip_prefix("### ContactSync"));
    for heading in headings.filter(|heading| !alerts.contains(&format!("alert: ContactSync{heading}\n"))) {
        wrong.push(format!("{heading} is no alert"));
    }
    let mut dashboards = Vec::new();
    files(&root().join("deploy/grafana"), "json", &mut dashboards);
    for path in &dashboards {
        let text = fs::read_to_string(path).unwrap().replace("\\\"", "\"");
        let targets = text.split("\"refId\"").skip(1).map(|target| target.split('\n').take(3).collect::<String>());
        for target in targets {
            wrong.extend(unknown_in(&target, &metrics).into_iter().map(|label| format!("{}: {label}", path.display())));
        }
    }

    assert!(!dashboards.is_empty() && wrong.is_empty(), "{wrong:#?}");
    let planted = "sum by (pool, who) (contact_sync_calls_total{code=\"OK\",account=~\"a\"}) + contact_sync_nothing";
    assert_eq!(
        unknown_in(planted, &metrics),
        ["contact_sync_calls_total{account}", "contact_sync_nothing", "pool", "who"]
    );
}

/// Code may be wider, where the formatter puts it; a comment is read.
#[test]
fn comments_have_at_most_100_characters() {
    let mut found = Vec::new();
    for folder in ["src", "crates", "tests", "benches"] {
        files(&root().join(folder), "rs", &mut found);
    }
    let is_too_wide = |line: &&str| line.trim_start().starts_with("//") && line.chars().count() > 100;
    let wide: Vec<String> = found
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().filter(is_too_wide).map(|line| format!("{}: {line}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.len() > 300, "the sources are there");
    assert!(wide.is_empty(), "break these:\n{}", wide.join("\n"));
}

#[test]
fn planted_names_are_told_apart() {
    let sources = [
        SourceFile {
            modules: vec!["sync".into(), "run".into()],
            text: "pub(super) struct RunTurn;\nfn claim_run() {}".into(),
        },
        SourceFile { modules: vec!["store".into()], text: "pub enum StoreError { Busy, }\npub mod leases;".into() },
    ];
    for there in [
        "sync::run",
        "sync::run::claim_run",
        "run::claim_run",
        "StoreError::Busy",
        "store::StoreError",
        "sync::RunTurn",
    ] {
        assert!(is_code_path(there) && exists(there, &sources), "{there}");
    }
    for missing in ["sync::runs", "sync::claim_run", "run::claim", "StoreError::Bus", "crm::StoreError", "Store::Busy"]
    {
        assert!(is_code_path(missing) && !exists(missing, &sources), "{missing}");
    }
    for other in ["tokio::sync", "a::b c", "sync", "grpc::health", "1::2"] {
        assert!(!is_code_path(other), "{other}");
    }
}

/// A bug that `./dev planted` puts in is still put into something: each place that its patch
/// changes stands in the source once.
#[test]
fn planted_bugs_still_fit() {
    let mut patches = Vec::new();
    files(&root().join("tests/planted"), "patch", &mut patches);
    assert!(!patches.is_empty());
    let mut unfit = Vec::new();
    for patch in &patches {
        let text = fs::read_to_string(patch).unwrap();
        assert!(text.lines().any(|line| line.starts_with("tests: ")), "{patch:?} names no tests");
        let mut parts = text.split("\n--- a/");
        parts.next();
        for part in parts {
            let (path, changes) = part.split_once('\n').unwrap();
            let source = fs::read_to_string(root().join(path)).unwrap_or_default();
            for hunk in changes.split("\n@@ ").skip(1) {
                let before: String = hunk
                    .lines()
                    .skip(1)
                    .filter(|line| line.starts_with([' ', '-']))
                    .flat_map(|line| [&line[1..], "\n"])
                    .collect();
                if source.matches(&before).count() != 1 {
                    unfit.push(format!("{}: {path}", patch.display()));
                }
            }
        }
    }
    assert!(unfit.is_empty(), "make these anew: {unfit:#?}");
}
