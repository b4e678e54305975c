//! Where the options of a command come from: the command line, else the environment, else a file, else the
//! default.
//!
//! There is one table of options, clap's. What the environment and the file of `join` add to it is put on the
//! command line as if it had been typed there, so that types, defaults and what excludes what are told once, where
//! the option is. An option that is new in `Join` has its variable and its key by itself: `--net-ticktime` is
//! `DATA_PUBLISHER_NET_TICKTIME` and `net-ticktime`, `--tls-certfile` is `certfile` in the table `[tls]`.

mod environment;
mod file;
mod limits;
mod print;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as Group, Command, FromArgMatches};

pub(crate) use self::environment::command;
use self::environment::is_set;
pub(crate) use self::limits::LimitArgs;
pub(crate) use self::print::print;
use self::values::words;
use crate::args::Args;

/// Where a configuration comes from, and whether it's only to be shown.
#[derive(Debug, Group)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct ConfigArgs {
    /// A file in TOML with any of these options; docs/configuration.md has them all
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration as such a file, without the cookie, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// These choose a configuration and are no part of it.
const NO_SETTINGS: [&str; 4] = ["config", "print_config", "help", "version"];

/// What to do, and how that was found.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) args: Args,
    pub(crate) settings: Settings,
}

/// The options of the command in force.
#[derive(Debug)]
pub(crate) struct Settings {
    command: Command,
    matches: ArgMatches,
    /// Of those that stand on the command line only because we put them there.
    origins: BTreeMap<String, Origin>,
}

/// Where the value of an option comes from, if not from the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Origin {
    Variable(String),
    File { path: PathBuf, line: usize },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// Why there's nothing to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage, or the help was asked for.
    Usage(clap::Error),
    /// What is wrong with the environment or the file; one line.
    Settings(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Settings(error)
    }
}

/// Reads the command line and whatever stands behind it.
pub(crate) fn read(line: Vec<OsString>) -> Result<Read, Failure> {
    read_with(line, &|name| std::env::var_os(name))
}

/// Gives the value of a variable of the environment.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn read_with(mut line: Vec<OsString>, variables: Variables<'_>) -> Result<Read, Failure> {
    let (mut full, deaf) = (command(), environment::without(command()));
    let lenient = deaf.clone().ignore_errors(true);
    let Ok(typed) = lenient.try_get_matches_from(&line) else {
        // The help, which shows variables, too.
        return Err(full.try_get_matches_from(&line).err().map_or_else(unsaid, Failure::Usage));
    };
    full.build();
    let mut origins = BTreeMap::new();
    if let Some((name, typed)) = typed.subcommand()
        && let Some(sub) = full.find_subcommand(name)
    {
        let mut layers = Layers::new(sub, typed);
        layers.add_variables(variables)?;
        if let Some(path) = layers.config_file(typed, variables) {
            layers.add_file(&path)?;
        }
        let place = place_of(name, &line);
        line.splice(place..place, layers.words);
        origins = layers.origins;
    }
    let matches = deaf.try_get_matches_from(&line).map_err(Failure::Usage)?;
    let args = Args::from_arg_matches(&matches).map_err(Failure::Usage)?;
    let (name, matches) = matches.subcommand().ok_or_else(unsaid)?;
    let command = full.find_subcommand(name).ok_or_else(unsaid)?.clone();
    let settings = Settings { command, matches: matches.clone(), origins };
    Ok(Read { args, settings })
}

/// For what clap has refused once and takes a second time.
fn unsaid() -> Failure {
    Failure::Settings(anyhow::anyhow!("the command line can't be read"))
}

/// Right after the subcommand's name: behind it options end where `--` stands.
fn place_of(name: &str, line: &[OsString]) -> usize {
    let is_value = |place: usize| {
        let before = line.get(place - 1).and_then(|word| word.to_str());
        matches!(before, Some("--log" | "--log-level"))
    };
    let is_it = |&place: &usize| line[place] == name && !is_value(place);
    (1..line.len()).find(is_it).map_or(line.len(), |place| place + 1)
}

/// What is put on the command line.
struct Layers<'a> {
    /// Built, with its variables.
    command: &'a Command,
    /// The options that have a value from where it counts more.
    given: BTreeSet<String>,
    words: Vec<OsString>,
    origins: BTreeMap<String, Origin>,
}

impl<'a> Layers<'a> {
    fn new(command: &'a Command, typed: &ArgMatches) -> Self {
        let is_typed = |id: &str| {
            typed.try_contains_id(id).is_ok()
                && typed.value_source(id) == Some(ValueSource::CommandLine)
        };
        let ids = command.get_arguments().map(|arg| arg.get_id().to_string());
        let given = ids.filter(|id| is_typed(id)).collect();
        Self { command, given, words: Vec::new(), origins: BTreeMap::new() }
    }

    fn add_variables(&mut self, variables: Variables<'_>) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for arg in self.command.get_arguments() {
            let of_arg = environment::variables_of(arg);
            let mut set = of_arg.filter_map(|name| Some((is_set(variables(&name))?, name)));
            if let Some((value, name)) = set.next()
                && !NO_SETTINGS.contains(&arg.get_id().as_str())
            {
                found.push((arg, values::of_variable(arg, value), Origin::Variable(name)));
            }
        }
        self.add(found)
    }

    /// The file named on the command line or by a variable, for a command that has one.
    fn config_file(&self, typed: &ArgMatches, variables: Variables<'_>) -> Option<PathBuf> {
        let arg = self.command.get_arguments().find(|arg| arg.get_id() == "config")?;
        let variable = environment::variable(arg);
        let typed = typed.try_get_one::<PathBuf>("config").ok().flatten().cloned();
        typed.or_else(|| Some(is_set(variables(&variable))?.into()))
    }

    fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for entry in file::read(path)? {
            let origin = Origin::File { path: path.to_owned(), line: entry.line };
            let arg = values::arg_of_key(self.command, &entry.key)
                .ok_or_else(|| file::unknown(self.command, &origin, &entry.key))?;
            found.push((arg, entry.values, origin));
        }
        self.add(found)
    }

    /// Adds what doesn't stand higher up already, nor is excluded by what stands there.
    fn add(&mut self, found: Vec<(&clap::Arg, values::Values, Origin)>) -> anyhow::Result<()> {
        let mut added = Vec::new();
        for (arg, values, origin) in found {
            let id = arg.get_id().to_string();
            let words = words(arg, values).and_then(|words| {
                values::check(self.command, &words)?;
                Ok(words)
            });
            let words =
                words.map_err(|why| anyhow::anyhow!("{origin}: {}: {why}", values::key(arg)))?;
            if self.given.contains(&id) || self.is_excluded(arg) {
                continue;
            }
            self.words.extend(words);
            self.origins.insert(id.clone(), origin);
            added.push(id);
        }
        self.given.extend(added);
        Ok(())
    }

    /// Whether something that counts more excludes it: a `--cookie` the `cookie-file` of a file.
    fn is_excluded(&self, arg: &clap::Arg) -> bool {
        let excludes = |one: &clap::Arg, other: &clap::Arg| {
            let others = self.command.get_arg_conflicts_with(one);
            others.iter().any(|excluded| excluded.get_id() == other.get_id())
        };
        let given = |other: &&clap::Arg| self.given.contains(other.get_id().as_str());
        let mut others = self.command.get_arguments().filter(given);
        others.any(|other| excludes(other, arg) || excludes(arg, other))
    }
}
