//! `completions` and `man`: what shells and readers of manuals want, made of the options themselves.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as Group;
use clap_complete::Shell;

use crate::{Answer, config};

const NAME: &str = "data-publisher";

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
    clap_complete::generate(args.shell, &mut config::command(), NAME, &mut script);
    let mut script = String::from_utf8(script)?;
    if args.shell == Shell::Bash {
        // With a hyphen in the program's name clap_complete looks for a subcommand's options under another name than
        // it has them under: https://github.com/clap-rs/clap/issues/6421. Where that is mended this finds nothing.
        script = script.replace("data__subcmd__publisher", "data__publisher");
    }
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(Answer::Yes)
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
