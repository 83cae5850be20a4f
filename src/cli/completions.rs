//! `contact-sync completions`: what a shell needs to complete this command line.

use clap::Command;
use clap_complete::{Shell, generate};

/// Print a script with which a shell completes this command line
///
/// bash: source <(contact-sync completions bash). zsh: write it to a file _contact-sync in a
/// directory of $fpath. fish: write it to ~/.config/fish/completions/contact-sync.fish.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The script.
pub(super) fn script(args: &CompletionsArgs, mut command: Command) -> String {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "contact-sync", &mut script);
    // clap_complete 4.6 writes the dash of the program's name in two ways, so that bash completes
    // no subcommand's arguments.
    String::from_utf8_lossy(&script).replace("contact__subcmd__sync", "contact__sync")
}
