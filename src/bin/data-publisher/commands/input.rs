//! The lines `join` reads: where they come from, and what they mean.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use data_publisher::term::Term;
use tokio::sync::mpsc;

pub(crate) const HELP: &str = "join GROUP [COUNT] | leave GROUP [COUNT] | members GROUP | \
     local GROUP | groups | peers | nodes | send GROUP TERM | help | quit";

/// What a line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Join(Term, usize),
    Leave(Term, usize),
    Members(Term),
    Local(Term),
    Groups,
    Peers,
    Nodes,
    Send(Term, Term),
    Help,
    Quit,
}

/// Reads a line.
///
/// # Errors
///
/// The sentence to answer with.
pub(crate) fn command(line: &str) -> anyhow::Result<Command> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let alone = |command| if rest.is_empty() { Ok(command) } else { bail!("{word} stands alone") };
    Ok(match word {
        "join" => group_and_count(rest).map(|(group, count)| Command::Join(group, count))?,
        "leave" => group_and_count(rest).map(|(group, count)| Command::Leave(group, count))?,
        "members" => Command::Members(one_term(rest)?),
        "local" => Command::Local(one_term(rest)?),
        "groups" => alone(Command::Groups)?,
        "peers" => alone(Command::Peers)?,
        "nodes" => alone(Command::Nodes)?,
        "send" => {
            let (group, rest) = Term::parse_prefix(rest).context("GROUP")?;
            Command::Send(group, rest.parse().context("TERM")?)
        }
        "help" => alone(Command::Help)?,
        "quit" => alone(Command::Quit)?,
        _ => bail!("no command `{word}`; there are: {HELP}"),
    })
}

fn one_term(text: &str) -> anyhow::Result<Term> {
    text.parse().context("GROUP")
}

fn group_and_count(text: &str) -> anyhow::Result<(Term, usize)> {
    let (group, rest) = Term::parse_prefix(text).context("GROUP")?;
    let count = match rest.trim() {
        "" => 1,
        count => match count.parse() {
            Ok(count) if count > 0 => count,
            _ => bail!("COUNT must be a number above 0, not `{count}`"),
        },
    };
    Ok((group, count))
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

#[cfg(test)]
mod tests {
    use super::*;
    use data_publisher::{atom, tuple};

    #[test]
    fn a_group_is_any_term_and_a_count_is_optional() {
        let group: Term = tuple![atom!("room"), 1];
        assert_eq!(command("join {room, 1}").unwrap(), Command::Join(group.clone(), 1));
        assert_eq!(command("leave {room, 1} 3").unwrap(), Command::Leave(group.clone(), 3));
        let hello = Term::from(atom!("hello"));
        assert_eq!(command("send {room,1} hello").unwrap(), Command::Send(group, hello));
        assert_eq!(command("groups").unwrap(), Command::Groups);
    }

    #[test]
    fn a_bad_line_gets_a_sentence() {
        for line in ["jion a", "join", "join {a", "join a 0", "join a -1", "groups a", "send a"] {
            assert!(command(line).is_err(), "{line}");
        }
    }
}
