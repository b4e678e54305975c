//! Between options, as clap has them, and what a variable or a file says: names, keys, and words for the command
//! line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::{NO_SETTINGS, environment};
use crate::cure;

/// Options whose names begin so stand in a table of that name.
const TABLES: [&str; 2] = ["limit", "tls"];

/// What an option is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Values {
    One(OsString),
    Many(Vec<OsString>),
}

/// An option's name without the dashes; of what has none, as PEER, that of its field.
pub(super) fn name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// What an option is called in a file, with the table it's in: `tls.certfile`.
pub(super) fn key(arg: &Arg) -> String {
    let name = name(arg);
    let in_table = name.split_once('-').filter(|(table, _)| TABLES.contains(table));
    in_table.map_or_else(|| name.to_owned(), |(table, rest)| format!("{table}.{rest}"))
}

/// The options that are settings.
pub(super) fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !NO_SETTINGS.contains(&arg.get_id().as_str()))
}

pub(super) fn arg_of_key<'a>(command: &'a Command, sought: &str) -> Option<&'a Arg> {
    settings(command).find(|arg| key(arg) == sought)
}

pub(super) fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A variable has one value, or several with what stands between them on the command line, too, else with line ends.
pub(super) fn of_variable(arg: &Arg, value: OsString) -> Values {
    if !takes_many(arg) {
        return Values::One(value);
    }
    match value.to_str() {
        Some(text) => {
            let parts = text.split(arg.get_value_delimiter().unwrap_or('\n')).map(str::trim);
            Values::Many(parts.filter(|part| !part.is_empty()).map(OsString::from).collect())
        }
        None => Values::Many(vec![value]),
    }
}

/// The words that give an option these values. The error says what is wrong and never what was given.
pub(super) fn words(arg: &Arg, values: Values) -> anyhow::Result<Vec<OsString>> {
    let values = match values {
        Values::One(value) => vec![value],
        Values::Many(values) => {
            anyhow::ensure!(takes_many(arg), "it takes one value, no list");
            values
        }
    };
    let Some(long) = arg.get_long() else { return Ok(values) };
    let word = |value: OsString| {
        let mut word = OsString::from(format!("--{long}="));
        word.push(value);
        word
    };
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return Ok(values.into_iter().map(word).collect());
    }
    // A flag of another command than `join`.
    let [value] = &values[..] else { anyhow::bail!("it takes true or false") };
    match value.to_str().map(str::to_lowercase).as_deref() {
        Some("true" | "yes" | "on" | "1") => Ok(vec![format!("--{long}").into()]),
        Some("false" | "no" | "off" | "0") => Ok(Vec::new()),
        _ => anyhow::bail!("it takes true or false"),
    }
}

/// Whether the option takes these words, whatever else is missing.
pub(super) fn check(command: &Command, words: &[OsString]) -> anyhow::Result<()> {
    let name = OsString::from(command.get_name());
    let line = std::iter::once(&name).chain(words);
    match environment::deaf(command.clone()).try_get_matches_from(line) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            anyhow::bail!(cure::of_usage(&error))
        }
        _ => Ok(()),
    }
}
