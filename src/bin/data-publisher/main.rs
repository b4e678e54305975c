//! The command line: data on stdout, the log on stderr, exit code 0 for done, 1 for "the answer is
//! no", 2 for bad usage or failure.

mod args;
mod commands;
mod config;
mod cure;
mod live;
mod logging;
mod output;
mod progress;
#[cfg(feature = "tls")]
mod tls;
mod words;

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::config::Failure;

/// What a command ended with, when it didn't fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// Done, or yes.
    Yes,
    /// The question was answered by no: exit code 1.
    No,
}

fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let config::Read { args, settings } = match config::read(line.clone()) {
        Ok(read) => read,
        Err(failure) => return refuse(&line, &failure),
    };
    logging::start(&args.log);
    if let args::Command::Join(join) = &args.command
        && join.config.print_config
    {
        // An error means that nobody reads it.
        let _ = output::say(config::print(&settings).trim_end());
        return ExitCode::SUCCESS;
    }
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
            if !is_unread(&error) {
                output::complain(&cure::sentence(&error));
            }
            ExitCode::from(2)
        }
    }
}

/// Whether nobody reads what we print any more: `doctor NODE | head -3`. That is no news to whoever stopped.
fn is_unread(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// For a command line that can't be obeyed, or only asks how to write one.
fn refuse(line: &[std::ffi::OsString], failure: &Failure) -> ExitCode {
    match failure {
        Failure::Usage(asked) if !asked.use_stderr() => {
            // An error means that nobody reads the help.
            let _ = asked.print();
            return ExitCode::SUCCESS;
        }
        Failure::Usage(error)
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            let _ = error.print();
        }
        Failure::Usage(error) => {
            logging::guess(line);
            output::complain(&cure::of_usage(error));
        }
        Failure::Settings(error) => {
            logging::guess(line);
            output::complain(&cure::sentence(error));
        }
    }
    ExitCode::from(2)
}
