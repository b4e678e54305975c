//! The terminal: taken over as a whole, and given back as it was.
//!
//! A panic gives it back before it's reported, in whatever task it is; [`Screen::next`] then ends. So does a signal, by
//! the loop that draws.

use std::io::{IsTerminal, Stdout, stdout};

use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::app::App;
use super::draw;

/// Events of the terminal that wait to be looked at.
const WAITING: usize = 64;

pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    input: mpsc::Receiver<std::io::Result<Event>>,
    panicked: CancellationToken,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        // What the log says would be written over what is drawn; nodes and peers are among the events.
        if std::io::stderr().is_terminal() {
            log::set_max_level(log::LevelFilter::Off);
        }
        let panicked = CancellationToken::new();
        let (told, report) = (panicked.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            told.cancel();
            report(panic);
        }));
        enable_raw_mode().context("the terminal")?;
        if let Err(error) = execute!(stdout(), EnterAlternateScreen, cursor::Hide) {
            give_back();
            return Err(error).context("the terminal");
        }
        let terminal =
            Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| give_back())?;
        let (sender, input) = mpsc::channel(WAITING);
        // Ends with the process, or with the terminal: a read can't be called off.
        std::thread::spawn(move || {
            loop {
                let event = event::read();
                let is_over = event.is_err();
                if sender.blocking_send(event).is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Self { terminal, input, panicked })
    }

    pub(super) fn draw(&mut self, app: &mut App) -> anyhow::Result<()> {
        self.terminal.draw(|frame| draw::all(frame, app))?;
        Ok(())
    }

    /// What the user does next. Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        tokio::select! {
            event = self.input.recv() => Ok(event.context("the terminal has closed")??),
            () = self.panicked.cancelled() => anyhow::bail!("a task has panicked"),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Nothing is to be done about a terminal that is gone.
fn give_back() {
    let _ = execute!(stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}
