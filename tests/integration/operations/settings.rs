//! The command line without a server: settings that are checked and printed, completions, and how
//! `serve` begins its log.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// What the program prints and says, with this environment alone.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn contact_sync(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
    command.args(args).env_clear().env("CONTACT_SYNC_DATA_DIR", "/nonexistent").envs(env.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A file that is removed at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cs-settings-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A check tells every problem on a line, and by its exit code.
#[test]
fn check_tells_problems_by_line_and_exit_code() {
    let file = TempFile::new("wrong.toml", "[worker]\npoll_ms = 1\nconcurency = 2\n");
    let wrong = [
        ("CONTACT_SYNC_CONFIG", file.path()),
        ("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/contacts"),
        ("CONTACT_SYNC_LISTEN", "here"),
    ];

    let right = contact_sync(&["config", "check"], &[("CONTACT_SYNC_SERVICE_HOST", "10.0.0.1")]);
    let checked = contact_sync(&["config", "check"], &wrong);
    let printed = contact_sync(&["config", "print"], &wrong);
    let other = contact_sync(&["account", "list"], &wrong);

    assert_eq!((right.code, right.err.as_str()), (Some(0), ""), "{}", right.out);
    assert_eq!((checked.code, checked.out.as_str()), (Some(1), ""), "{}", checked.err);
    for expected in [
        format!("error  worker.poll_ms (in {}, line 2) is 1; it must be 50 to 60000", file.path()),
        format!("error  there is no setting \"worker.concurency\" (in {}, line 3); in worker there are", file.path()),
        "error  listen (from the variable CONTACT_SYNC_LISTEN) cannot be read".to_owned(),
        "error  vault.key_ring_file (by default) is not set".to_owned(),
        "error  auth.jwks_file (by default) is not set".to_owned(),
    ] {
        assert_eq!(checked.err.lines().filter(|line| line.starts_with(&expected)).count(), 1, "{}", checked.err);
    }
    assert_eq!(checked.err.lines().count(), 5, "{}", checked.err);
    assert!(!checked.err.contains("hunter2"));
    assert_eq!((printed.code, printed.out.as_str(), printed.err.lines().count()), (Some(1), "", 3), "{}", printed.err);
    assert_eq!(other.code, Some(1));
    assert!(
        other.err.contains("next   `contact-sync config check` with the same flags tells this and 2 more"),
        "{}",
        other.err
    );
}

/// What the start would read is read.
#[test]
fn check_reads_certificates_of_streams() {
    const CA: &str = "CONTACT_SYNC_PROVIDERS__SALESFORCE_STREAMS_CA_FILE";
    let no_pem = TempFile::new("no.pem", "not a certificate");
    let of = |path: &str| {
        let proxy = ("CONTACT_SYNC_PROVIDERS__SALESFORCE_STREAMS_URL", "https://127.0.0.1:7443");
        contact_sync(&["config", "check"], &[proxy, (CA, path)])
    };
    let right = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/crm-simulator/src/salesforce/eventbus/localhost.pem");

    assert_eq!(of(right).code, Some(0), "{}", of(right).err);
    for path in [no_pem.path(), "/nowhere/ca.pem"] {
        let checked = of(path);
        assert_eq!(checked.code, Some(1));
        assert!(checked.err.contains("providers.salesforce_streams_ca_file"), "{}", checked.err);
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let env = [
        ("CONTACT_SYNC_AUTH__ISSUER", "https://issuer \"of\" #1"),
        ("MIGRATE_DATABASE_URL", "postgres://a:hunter2@h/d"),
    ];
    let set = ["--set", "worker.concurrency=9", "--listen", "127.0.0.1:7"];

    let printed = contact_sync(&[&["config", "print"], &set[..]].concat(), &env);
    let file = TempFile::new("printed.toml", &printed.out);
    let again = contact_sync(&["config", "print", "--json", "--config", file.path()], &[]);

    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    assert!(
        printed.out.contains("worker.concurrency = 9  # from the flag --set worker.concurrency\n"),
        "{}",
        printed.out
    );
    assert!(!printed.out.contains("hunter2"));
    let again: Value = serde_json::from_str(&again.out).unwrap();
    let value = |name: &str| {
        again["settings"].as_array().unwrap().iter().find(|of| of["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(value("auth.issuer"), "https://issuer \"of\" #1");
    assert_eq!((value("worker.concurrency"), value("listen")), (9.into(), "127.0.0.1:7".into()));
    assert_eq!(value("migrate_database_url"), Value::Null, "a secret has to be set again");
}

/// The first line of the log, a refusal to start aside.
fn start_line(args: &[&str], env: &[(&str, &str)]) -> Value {
    let json = ["serve", "--set", "log.format=json", "--set", "admin.listen=127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let ended = contact_sync(&[&json[..], args].concat(), env);
    assert_eq!(ended.code, Some(1), "without keys it does not start: {}", ended.err);
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    serde_json::from_str(ended.err.lines().next().unwrap()).unwrap()
}

/// The log begins with version, schema and the settings that differ.
#[test]
fn log_begins_with_version_schema_and_changes() {
    let database = ("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/contacts");

    let line = start_line(&["--set", "worker.concurrency=4", "--set", "worker.poll_ms=500"], &[database]);

    assert_eq!((&line["message"], &line["version"]), (&"starting".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(line["schema"], contact_sync::store::schema::ProgramSchema::own().newest_version());
    assert_eq!(
        line["settings"],
        "admin.listen = \"127.0.0.1:0\", data_dir = \"/nonexistent\", database_url = \"postgres://app:***@127.0.0.1:1/contacts\", listen = \"127.0.0.1:0\", \
         log.format = \"json\", worker.poll_ms = 500"
    );
}

/// What the image, the chart, the compose file and the unit set are settings; a name that is not
/// would stop the start.
#[test]
fn variables_of_deployments_are_settings() {
    let printed = contact_sync(&["config", "print", "--json"], &[]);
    let printed: Value = serde_json::from_str(&printed.out).unwrap();
    let variable = |setting: &Value| {
        format!("CONTACT_SYNC_{}", setting["name"].as_str().unwrap().replace('.', "__").to_uppercase())
    };
    let mut known: BTreeSet<String> = printed["settings"].as_array().unwrap().iter().map(variable).collect();
    // The settings' file, and the compose file's own.
    known.extend(["CONTACT_SYNC_CONFIG".to_owned(), "CONTACT_SYNC_VERSION".to_owned()]);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let chart = "helm/contact-sync/templates/deployment.yaml";
    for file in [chart, "compose/compose.yaml", "systemd/contact-sync.service", "image.sh"] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        let set: BTreeSet<&str> = words.filter(|word| word.starts_with("CONTACT_SYNC_")).collect();

        let unknown: Vec<_> = set.iter().filter(|name| !known.contains(**name)).collect();
        assert!(!set.is_empty() && unknown.is_empty(), "{file}: {unknown:?} of {set:?}");
    }
}

/// Every shell gets completions, and bash completes by them.
#[test]
fn shells_get_completions_and_bash_uses_them() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = contact_sync(&["completions", shell], &[("CONTACT_SYNC_LISTEN", "nowhere")]);
        assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""), "{shell}");
        assert!(printed.out.contains("confirm-deletions"), "{shell}");
    }
    let file = TempFile::new("completions.bash", &contact_sync(&["completions", "bash"], &[]).out);

    // As bash asks: the function that the script names for the program.
    let ask = format!(
        "set -e; source {}; named=$(complete -p contact-sync); named=${{named##*-F }}; COMP_CWORD=2; \
         COMP_WORDS=(contact-sync sync conf); ${{named%% *}} contact-sync conf sync; echo \"${{COMPREPLY[*]}}\"",
        file.path()
    );
    let completed = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();

    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "confirm-deletions", "{completed:?}");
}
