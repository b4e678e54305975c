//! The task of a scope: its mailbox and the commands of its handles, one after the other, into what
//! [runs](super::running).
//!
//! It ends when its process does, when the last handle is dropped, when `sys:terminate/2` asks for it,
//! or when the node stops; dropping the process then tells all peers.
//!
//! While `sys:suspend/1` holds, nothing is handled: messages, news of nodes and commands wait in their
//! order, and what a peer sends counts against its connection until then, as ever.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Command;
use super::running::{End, Shared};
use crate::engine::{DataPublisher, SharedView};
use crate::node::router::Router;
use crate::node::{Leaving, Legacy, Mailbox};

/// How long we look for the data of a scope that had our name and still lives: somebody took the name
/// from it.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// What a scope leaves to the next of its name.
struct Left<P: DataPublisher>(P::LocalData);

/// However a scope ends, by a publisher's panic too: its readers see that it has, and its process
/// ends.
struct Ending<P: DataPublisher> {
    view: SharedView<P::GlobalView>,
    shared: Arc<Shared<P>>,
}

impl<P: DataPublisher> Drop for Ending<P> {
    fn drop(&mut self) {
        self.view.take();
        self.shared.lock().take();
    }
}

/// What the one before has left. A scope whose process has ended ends, too, as soon as the callback
/// it's in returns; so it's waited for, or its data would be nobody's.
async fn last_word(router: Arc<Router>, (pid, mut left): Leaving) -> Option<Legacy> {
    loop {
        match tokio::time::timeout(LAST_WORD, &mut left).await {
            Ok(legacy) => return legacy.ok(),
            Err(_) if router.is_alive(&pid) => return None,
            Err(_) => log::debug!("{pid} hasn't left its data yet"),
        }
    }
}

pub(super) struct Task<P: DataPublisher> {
    pub(super) mailbox: Mailbox,
    pub(super) commands: mpsc::UnboundedReceiver<Command<P>>,
    pub(super) shared: Arc<Shared<P>>,
}

impl<P: DataPublisher> Task<P> {
    /// From what the one before has left to what is left to the next.
    pub(super) async fn run(
        mut self,
        view: SharedView<P::GlobalView>,
        before: Option<(Arc<Router>, Leaving)>,
        after: oneshot::Sender<Legacy>,
    ) {
        let _ending = Ending { view, shared: self.shared.clone() };
        let legacy = match before {
            Some((router, leaving)) => last_word(router, leaving).await,
            None => None,
        };
        let left = legacy.and_then(|legacy| legacy.downcast::<Left<P>>().ok());
        if let Some(running) = self.shared.lock().as_mut() {
            running.begin(left.as_ref().map(|left| &left.0));
        }
        let stopped = self.serve().await;
        let Some(running) = self.shared.lock().take() else { return };
        // Readers see that it's over before peers hear that the scope is gone.
        let (process, data) = running.end();
        let _ = after.send(Box::new(Left::<P>(data)));
        match stopped {
            None => drop(process),
            Some(End::Stopped(done)) => {
                drop(process);
                let _ = done.send(());
            }
            Some(End::Terminated(reason)) => process.exit(reason),
        }
    }

    /// Until the scope ends; says who asked for it, if somebody did.
    async fn serve(&mut self) -> Option<End> {
        let Self { mailbox, commands, shared } = self;
        loop {
            let (next_timer, has_next) = {
                let mut running = shared.lock();
                let running = running.as_mut()?;
                running.turn(mailbox);
                if let Some(end) = running.ending() {
                    return Some(end);
                }
                (running.next_timer(), running.has_next())
            };
            let timer = async {
                match next_timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What waited while the scope was suspended comes before what is in the mailbox.
                () = std::future::ready(()), if has_next => {}
                mail = mailbox.receive(), if !has_next => {
                    let mail = mail?;
                    shared.lock().as_mut()?.take(mail);
                }
                command = commands.recv() => match command? {
                    Command::Stop(done) => return Some(End::Stopped(done)),
                    Command::Panicked(panic) => resume_unwind(panic),
                    command => shared.lock().as_mut()?.command(command, mailbox),
                },
                () = timer => shared.lock().as_mut()?.ring(),
            }
        }
    }
}
