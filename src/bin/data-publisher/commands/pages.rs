//! `completions` and `man`: what shells and readers of manuals want, made of the options themselves.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Args as Group, Command, ValueHint};
use clap_complete::Shell;

use crate::{Answer, config};

const NAME: &str = "data-publisher";

/// Of the log.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[derive(Debug, Group)]
#[command(after_help = "\
Examples: data-publisher completions bash > /usr/share/bash-completion/completions/data-publisher
          data-publisher completions zsh > /usr/local/share/zsh/site-functions/_data-publisher")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Group)]
#[command(after_help = "\
Examples: data-publisher man | man -l -
          data-publisher man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// A folder, made if there is none: `data-publisher.1`, `data-publisher-join.1`, ... are written there
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> anyhow::Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut offering(config::command()), NAME, &mut script);
    let mut script = String::from_utf8(script)?;
    if args.shell == Shell::Bash {
        // With a hyphen in the program's name clap_complete looks for a subcommand's options under another name than
        // it has them under: https://github.com/clap-rs/clap/issues/6421. Where that is mended this finds nothing.
        script = script.replace("data__subcmd__publisher", "data__publisher");
    }
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(Answer::Yes)
}

/// The command line with what shells offer for each value: a file only where one is meant.
fn offering(command: Command) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.iter().fold(command.mut_args(offered), |command, name| {
        command.mut_subcommand(name, |sub| sub.mut_args(offered))
    })
}

fn offered(arg: Arg) -> Arg {
    let hint = match arg.get_id().as_str() {
        _ if !arg.get_action().takes_values() => return arg,
        // It takes more, level by target, which nobody would want completed.
        "log_level" => return arg.value_parser(PossibleValuesParser::new(LEVELS)),
        "host" | "epmd_hosts" => ValueHint::Hostname,
        "dir" => ValueHint::DirPath,
        "erl" => ValueHint::ExecutablePath,
        // Values that are known, and paths, are offered as such anyway.
        _ if !arg.get_possible_values().is_empty() => return arg,
        _ if arg.get_value_hint() != ValueHint::Unknown => return arg,
        _ => ValueHint::Other,
    };
    arg.value_hint(hint)
}

pub(super) fn man(args: &Man) -> anyhow::Result<Answer> {
    if let Some(dir) = &args.dir {
        let failed = || format!("can't write manual pages to {}", dir.display());
        std::fs::create_dir_all(dir).with_context(failed)?;
        clap_mangen::generate_to(config::command(), dir).with_context(failed)?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(config::command()).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
    }
    Ok(Answer::Yes)
}
