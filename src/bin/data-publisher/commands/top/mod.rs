//! `top`: the live view in a terminal.
//!
//! A hidden node of ours takes part in the scope without members. One loop has the keys, the snapshots, the events and
//! the answers to searches, and draws when something has changed. The terminal is given back as it was, however this
//! ends: by a key, a signal, an error or a panic.

#![expect(clippy::cast_precision_loss, reason = "figures for people, and 2^53 bytes are far away")]

mod app;
mod draw;
mod screen;
mod units;

use std::io::IsTerminal;
use std::sync::Arc;

use data_publisher::Kv;
use data_publisher::node::Node;
use data_publisher::pg::Pg;
use data_publisher::scope::Scope;
use data_publisher::term::Atom;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use self::app::{App, Next};
use self::screen::Screen;
use super::asked_to_end;
use super::guest::own_name;
use super::join::raw::Raw;
use crate::Answer;
use crate::args::{Module, Top};
use crate::live::{Found, Model, Readiness, Source};

pub(super) async fn run(mut args: Top) -> anyhow::Result<Answer> {
    anyhow::ensure!(
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "top draws on a terminal, and this is none; `join --json` is for pipes"
    );
    // A visible node would be told to all others, by `global`.
    args.guest.access.hidden = true;
    let name = match &args.guest.name {
        Some(name) => name.clone(),
        None => own_name("top", &args.nodes[0])?,
    };
    let mut config = args.guest.access.config(&name)?.mesh(!args.no_mesh).port(0);
    for node in &args.nodes {
        config = config.seed(node.clone());
    }
    let node = data_publisher::start(config).await?;
    let shown = show(&node, &args).await;
    node.stop().await;
    shown.map(|()| Answer::Yes)
}

async fn show(node: &Node, args: &Top) -> anyhow::Result<()> {
    let scope: Atom = args.scope.as_deref().unwrap_or("pg").parse()?;
    let source = match args.module {
        Module::Pg => Source::Pg(Pg::start(node, scope)?),
        Module::Kv => Source::Kv(Kv::start(node, scope)?),
        Module::Raw => Source::Raw(Scope::start(node, scope, Raw)?),
    };
    let model = Arc::new(Model::start(node, source).await?);
    let mut screen = Screen::open()?;
    watch(&model, &mut screen).await
}

/// Until it shall end.
async fn watch(model: &Arc<Model>, screen: &mut Screen) -> anyhow::Result<()> {
    let mut app = App::new(model.snapshot());
    let mut end = std::pin::pin!(asked_to_end());
    let (recent, mut events) = model.events();
    for event in recent {
        app.happened(event);
    }
    let mut snapshots = model.snapshots();
    let (answers, mut found) = mpsc::channel(1);
    let mut searching = Searching { model: model.clone(), answers, is_running: false, again: true };
    loop {
        searching.go_on(app.sought());
        screen.draw(&mut app)?;
        tokio::select! {
            () = &mut end => return Ok(()),
            input = screen.next() => match app.input(&input?) {
                Next::Nothing => {}
                Next::Search => searching.again = true,
                Next::Quit => return Ok(()),
            },
            changed = snapshots.changed() => {
                changed?;
                let snapshot = snapshots.borrow_and_update().clone();
                anyhow::ensure!(snapshot.ready != Readiness::Stopped, "the scope has ended");
                app.snapshot(snapshot);
                searching.again = true;
            }
            event = events.recv() => match event {
                Ok(event) => {
                    app.happened(event);
                    // All that have come meanwhile are drawn at once.
                    while let Ok(event) = events.try_recv() {
                        app.happened(event);
                    }
                }
                // They are many, and the newest come next. There is a sender as long as there is a model.
                Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            },
            Some(answer) = found.recv() => {
                searching.is_running = false;
                app.found(answer);
            }
        }
    }
}

/// One search at a time; what is sought may change meanwhile.
struct Searching {
    model: Arc<Model>,
    answers: mpsc::Sender<Found>,
    is_running: bool,
    again: bool,
}

impl Searching {
    fn go_on(&mut self, text: &str) {
        if self.is_running || !std::mem::take(&mut self.again) {
            return;
        }
        self.is_running = true;
        let (model, answers, text) = (self.model.clone(), self.answers.clone(), text.to_owned());
        // Ends with its search.
        tokio::spawn(async move {
            let _ = answers.send(model.find(&text, usize::MAX).await).await;
        });
    }
}
