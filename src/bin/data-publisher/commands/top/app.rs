//! What is seen and what the user has done: which pane has the keys, how far each is scrolled, what is sought.

use std::collections::VecDeque;
use std::sync::Arc;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::{ListState, TableState};

use crate::live::{Found, Happened, Snapshot};

/// Events that are kept.
const MOST_EVENTS: usize = 500;

/// The longest text that can be sought.
const LONGEST: usize = 60;

/// Lines that a page key moves.
const PAGE: isize = 10;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pane {
    Nodes,
    Entries,
    Events,
}

/// What the user wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    Nothing,
    /// The text has changed.
    Search,
    Quit,
}

pub(super) struct App {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) found: Found,
    /// The newest last.
    pub(super) events: VecDeque<Arc<Happened>>,
    /// Those that came while the events were paused.
    held: VecDeque<Arc<Happened>>,
    pub(super) is_paused: bool,
    pub(super) pane: Pane,
    pub(super) text: String,
    /// Whether keys go into the text.
    pub(super) is_typing: bool,
    pub(super) shows_help: bool,
    pub(super) nodes: TableState,
    pub(super) entries: ListState,
    /// Lines back from the newest event.
    pub(super) back: usize,
}

impl App {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            found: Found::default(),
            events: VecDeque::new(),
            held: VecDeque::new(),
            is_paused: false,
            pane: Pane::Nodes,
            text: String::new(),
            is_typing: false,
            shows_help: false,
            nodes: TableState::default(),
            entries: ListState::default(),
            back: 0,
        }
    }

    pub(super) fn snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
    }

    pub(super) fn found(&mut self, found: Found) {
        self.found = found;
    }

    pub(super) fn happened(&mut self, event: Arc<Happened>) {
        let events = if self.is_paused { &mut self.held } else { &mut self.events };
        events.push_back(event);
        if events.len() > MOST_EVENTS {
            events.pop_front();
        }
        // Who reads older ones keeps them in place.
        if !self.is_paused && self.back > 0 {
            self.back = (self.back + 1).min(self.events.len().saturating_sub(1));
        }
    }

    /// What is sought.
    pub(super) fn sought(&self) -> &str {
        &self.text
    }

    /// How many events are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn input(&mut self, event: &Event) -> Next {
        let Event::Key(key) = *event else { return Next::Nothing };
        if key.kind == KeyEventKind::Release {
            return Next::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Next::Quit,
                KeyCode::Char('u') if self.is_typing => self.seek(String::new()),
                _ => Next::Nothing,
            };
        }
        if self.shows_help {
            self.shows_help = false;
            return if key.code == KeyCode::Char('q') { Next::Quit } else { Next::Nothing };
        }
        if self.is_typing { self.type_in(key) } else { self.command(key.code) }
    }

    fn type_in(&mut self, key: KeyEvent) -> Next {
        match key.code {
            KeyCode::Enter | KeyCode::Tab | KeyCode::Down => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                return self.seek(String::new());
            }
            KeyCode::Backspace => {
                let mut text = self.text.clone();
                text.pop();
                return self.seek(text);
            }
            KeyCode::Char(character) if self.text.chars().count() < LONGEST => {
                let text = format!("{}{character}", self.text);
                return self.seek(text);
            }
            _ => {}
        }
        Next::Nothing
    }

    fn seek(&mut self, text: String) -> Next {
        self.text = text;
        self.entries.select(None);
        *self.entries.offset_mut() = 0;
        Next::Search
    }

    fn command(&mut self, key: KeyCode) -> Next {
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('/') => {
                self.pane = Pane::Entries;
                self.is_typing = true;
            }
            KeyCode::Esc if !self.text.is_empty() => return self.seek(String::new()),
            KeyCode::Char('p') => self.pause(),
            KeyCode::Tab => self.pane = self.pane.next(),
            KeyCode::BackTab => self.pane = self.pane.next().next(),
            KeyCode::Char('1') => self.pane = Pane::Nodes,
            KeyCode::Char('2') => self.pane = Pane::Entries,
            KeyCode::Char('3') => self.pane = Pane::Events,
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::PageUp => self.scroll(-PAGE),
            KeyCode::PageDown => self.scroll(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.scroll(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.scroll(isize::MAX),
            _ => {}
        }
        Next::Nothing
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        for event in std::mem::take(&mut self.held) {
            self.happened(event);
        }
    }

    fn scroll(&mut self, lines: isize) {
        let moved = |from: Option<usize>, count: usize| match (from, count) {
            (_, 0) => None,
            (None, _) if lines < 0 => Some(0),
            (None, _) => Some(0_usize.saturating_add_signed(lines - 1).min(count - 1)),
            (Some(from), _) => Some(from.saturating_add_signed(lines).min(count - 1)),
        };
        match self.pane {
            Pane::Nodes => {
                let to = moved(self.nodes.selected(), self.snapshot.nodes.len());
                self.nodes.select(to);
            }
            Pane::Entries => {
                let to = moved(self.entries.selected(), self.found.rows.len());
                self.entries.select(to);
            }
            // The newest is at the top.
            Pane::Events => {
                let most = self.events.len().saturating_sub(1);
                self.back = self.back.saturating_add_signed(lines).min(most);
            }
        }
    }
}

impl Pane {
    fn next(self) -> Self {
        match self {
            Self::Nodes => Self::Entries,
            Self::Entries => Self::Events,
            Self::Events => Self::Nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing;

    fn app() -> App {
        App::new(Arc::new(testing::snapshot()))
    }

    fn press(app: &mut App, keys: &[KeyCode]) -> Next {
        let mut next = Next::Nothing;
        for key in keys {
            next = app.input(&Event::Key((*key).into()));
        }
        next
    }

    fn event(number: usize) -> Arc<Happened> {
        Arc::new(Happened {
            at: std::time::SystemTime::UNIX_EPOCH,
            event: "join",
            node: None,
            subject: format!("g{number}"),
            detail: String::new(),
        })
    }

    #[test]
    fn letters_are_commands_but_while_one_types() {
        let mut app = app();
        assert_eq!(press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('q')]), Next::Search);
        assert_eq!(app.sought(), "q");
        assert_eq!(press(&mut app, &[KeyCode::Enter, KeyCode::Char('q')]), Next::Quit);
        assert_eq!(press(&mut app, &[KeyCode::Esc]), Next::Search);
        assert_eq!(app.sought(), "");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut app, &[KeyCode::Char('/')]);
        assert_eq!(app.input(&Event::Key(interrupt)), Next::Quit);
    }

    #[test]
    fn no_key_leaves_the_list() {
        let mut app = app();
        for key in [KeyCode::Up, KeyCode::Down, KeyCode::End, KeyCode::PageDown, KeyCode::Home] {
            for pane in ['1', '2', '3'] {
                press(&mut app, &[KeyCode::Char(pane), key]);
            }
        }
        press(&mut app, &[KeyCode::Char('1'), KeyCode::End]);
        assert_eq!(app.nodes.selected(), Some(1));
        press(&mut app, &[KeyCode::PageUp]);
        assert_eq!(app.nodes.selected(), Some(0));
        assert_eq!((app.entries.selected(), app.back), (None, 0));
    }

    #[test]
    fn paused_events_are_held_and_come_when_it_goes_on() {
        let mut app = app();
        app.happened(event(1));
        press(&mut app, &[KeyCode::Char('p')]);
        app.happened(event(2));
        assert_eq!((app.events.len(), app.held()), (1, 1));
        press(&mut app, &[KeyCode::Char('p')]);
        assert_eq!((app.events.len(), app.held()), (2, 0));
        for number in 0..2 * MOST_EVENTS {
            app.happened(event(number));
        }
        assert_eq!(app.events.len(), MOST_EVENTS);
    }
}
