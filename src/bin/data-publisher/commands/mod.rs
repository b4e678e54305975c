//! One file a command.

mod call;
mod demo;
mod doctor;
mod epmd;
mod guest;
mod input;
pub(crate) mod join;
mod names;
pub(crate) mod pages;
mod ping;
mod pubsub;
mod rpc;
mod top;

use crate::Answer;
use crate::args::Command;

pub(crate) async fn run(command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Join(args) => join::run(&args).await,
        Command::Epmd(args) => epmd::run(args).await,
        Command::Names(args) => names::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Ping(args) => ping::run(args).await,
        Command::Call(args) => call::call(args).await,
        Command::Cast(args) => call::cast(args).await,
        Command::Rpc(args) => rpc::run(args).await,
        Command::Pubsub(args) => pubsub::run(args).await,
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    }
}

/// Resolves when the user or the system asks us to end: SIGINT, and SIGTERM where there is one.
async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
