//! contact-sync: see `contact-sync --help`, README.md and ARCHITECTURE.md.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    contact_sync::cli::main()
}
