//! The variables of options, and the command line with what is the same for many of them.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Args as _, Command, CommandFactory as _};

use super::{NO_SETTINGS, values};
use crate::args::{Access, Args};

/// The command line, before clap has built it. Each option of `join`, and those of other commands about
/// the access to nodes, can be given by a variable; each flag of `join` can be taken back, as in
/// `--hidden=false`.
pub(crate) fn command() -> Command {
    let access = Access::augment_args(Command::new("access"));
    let access: BTreeSet<String> =
        access.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    let names: Vec<String> =
        Args::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let mut command = Args::command().mut_args(with_variable);
    for name in names {
        command = command.mut_subcommand(&name, |sub| {
            sub.mut_args(|arg| match name.as_str() {
                "join" => flag_with_value(with_variable(arg)),
                _ if access.contains(arg.get_id().as_str()) => with_variable(arg),
                _ => arg,
            })
        });
    }
    command
}

/// A flag that takes a value, if it's given as `--flag=false`.
fn flag_with_value(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue)
        || NO_SETTINGS.contains(&arg.get_id().as_str())
    {
        return arg;
    }
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).value_name("BOOL");
    let arg = arg.value_parser(clap::builder::BoolishValueParser::new());
    arg.default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
}

fn with_variable(arg: Arg) -> Arg {
    if arg.get_env().is_some() || arg.get_id() == "print_config" {
        return arg;
    }
    let variable = variable(&arg);
    arg.env(variable).hide_env_values(true)
}

/// The same, deaf to the environment.
pub(super) fn without(command: Command) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.iter().fold(deaf(command), |command, name| command.mut_subcommand(name, deaf))
}

pub(super) fn deaf(command: Command) -> Command {
    command.mut_args(|arg| arg.env(None::<&'static str>))
}

/// `DATA_PUBLISHER_NET_TICKTIME`
pub(super) fn variable(arg: &Arg) -> String {
    format!("DATA_PUBLISHER_{}", values::name(arg).to_uppercase().replace('-', "_"))
}

/// The variables that an option can be given by, the first that is set counting.
///
/// Its own goes before one that the help shows instead, which is other programs', too: `RUST_LOG`.
pub(super) fn variables_of(arg: &Arg) -> impl Iterator<Item = String> {
    let shown = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned);
    let own = shown.as_ref().map(|_| variable(arg));
    own.clone().into_iter().chain(shown.filter(|shown| own.as_ref() != Some(shown)))
}

/// An empty variable is one that isn't set: it's the only way to unset one in many places.
pub(super) fn is_set(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}
