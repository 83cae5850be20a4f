//! `--set` at each level of the command line. Of an argument that clap calls global it keeps the
//! values of the innermost level alone, so that `contact-sync --set a=1 serve --set b=2` would lose
//! the first without a word.

use clap::{Arg, ArgMatches, Command};

const SET: &str = "set";

/// The outermost level's `--set` at every other one, too.
pub(super) fn at_every_level(command: Command) -> Command {
    let set = command.get_arguments().find(|arg| arg.get_id() == SET).cloned();
    set.iter().fold(command, within)
}

fn within(command: Command, set: &Arg) -> Command {
    command.mut_subcommands(|inner| within(inner.arg(set.clone()), set))
}

/// All that were given, the outer ones first.
pub(super) fn settings(matches: &ArgMatches) -> Vec<String> {
    let of_level = matches.try_get_many::<String>(SET).ok().flatten().into_iter().flatten().cloned();
    let inner = matches.subcommand().map(|(_, inner)| settings(inner)).unwrap_or_default();
    of_level.chain(inner).collect()
}
