//! The lines `join` reads: where they come from, and what they are made of.

use std::io::IsTerminal;

use anyhow::Context;
use data_publisher::term::Term;
use tokio::sync::mpsc;

/// The command of a line, and the rest.
pub(crate) fn word(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim())
}

/// For a command that takes nothing.
pub(crate) fn alone(word: &str, rest: &str) -> anyhow::Result<()> {
    anyhow::ensure!(rest.is_empty(), "{word} stands alone");
    Ok(())
}

/// For a command that takes one term; `what` it's called in the help.
pub(crate) fn one_term(text: &str, what: &'static str) -> anyhow::Result<Term> {
    text.trim().parse().context(what)
}

/// A line of input, or its end.
#[derive(Debug)]
pub(crate) enum Line {
    Text(String),
    End,
}

/// The lines of stdin; never resolves again after their end.
pub(crate) struct Lines(mpsc::Receiver<Line>);

impl Lines {
    pub(crate) async fn next(&mut self) -> Option<Line> {
        match self.0.recv().await {
            Some(line) => Some(line),
            None => std::future::pending().await,
        }
    }
}

/// Starts the thread that reads stdin: with line editing at a terminal, plain otherwise. It ends
/// with the input, or with the process.
pub(crate) fn lines(json: bool) -> Lines {
    let (sender, receiver) = mpsc::channel(64);
    let edit = !json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    std::thread::spawn(move || if edit { edited(&sender) } else { plain(&sender) });
    Lines(receiver)
}

fn plain(sender: &mpsc::Sender<Line>) {
    for line in std::io::stdin().lines() {
        let line = match line {
            Ok(line) => line,
            // Bytes that aren't UTF-8 are a bad line, not the end.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => "\u{fffd}".to_owned(),
            Err(_) => break,
        };
        if sender.blocking_send(Line::Text(line)).is_err() {
            return;
        }
    }
    let _ = sender.blocking_send(Line::End);
}

fn edited(sender: &mpsc::Sender<Line>) {
    let Ok(mut editor) = rustyline::DefaultEditor::new() else { return plain(sender) };
    loop {
        match editor.readline("") {
            Ok(line) => {
                let _ = editor.add_history_entry(&line);
                if sender.blocking_send(Line::Text(line)).is_err() {
                    return;
                }
            }
            Err(rustyline::error::ReadlineError::Interrupted) => {
                let _ = sender.blocking_send(Line::Text("quit".to_owned()));
                return;
            }
            Err(_) => {
                let _ = sender.blocking_send(Line::End);
                return;
            }
        }
    }
}
