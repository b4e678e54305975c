//! The command line: data on stdout, the log on stderr, exit code 0 for done, 1 for "the answer is
//! no", 2 for bad usage or failure.

mod args;
mod commands;
mod cure;
mod live;
mod output;
#[cfg(feature = "tls")]
mod tls;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// What a command ended with, when it didn't fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// Done, or yes.
    Yes,
    /// The question was answered by no: exit code 1.
    No,
}

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(asked) if !asked.use_stderr() => {
            // An error means that nobody reads the help.
            let _ = asked.print();
            return ExitCode::SUCCESS;
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        Err(error) => {
            output::complain(&cure::of_usage(&error));
            return ExitCode::from(2);
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("can't start: {error}"));
            return ExitCode::from(2);
        }
    };
    let result = runtime.block_on(commands::run(args.command));
    // A thread that still reads stdin must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            output::complain(&cure::sentence(&error));
            ExitCode::from(2)
        }
    }
}
