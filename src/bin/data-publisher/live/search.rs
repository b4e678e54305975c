//! Entries of the scope by a part of their name. The search is done here, not in a browser: of a hundred thousand
//! groups some are shown, and how many there are.
//!
//! One search runs at a time, off the tasks that serve the node, and the sorted names are kept for a moment: however
//! often somebody asks, at most a tenth of one processor goes into making that list.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_publisher::term::Term;
use tokio::sync::Mutex;

use super::event::cut;
use super::source::Source;

/// The list of names is at least so old before it's made anew.
const KEPT: Duration = Duration::from_millis(500);

/// And so many times as old as it took to make.
const TIMES: u32 = 10;

/// Entries that are given at most.
pub(crate) const MOST: usize = 100;

/// Characters of a text that are looked for.
const LONGEST: usize = 200;

/// An entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Members of a group, values of a key.
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) detail: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Found {
    /// The first of those that match, in term order.
    pub(crate) rows: Vec<Row>,
    pub(crate) matching: usize,
    /// Of how many.
    pub(crate) total: usize,
}

#[derive(Debug)]
pub(super) struct Search {
    source: Source,
    names: Arc<Mutex<Option<Names>>>,
}

#[derive(Debug)]
struct Names {
    all: Vec<(String, Term)>,
    made: Instant,
    took: Duration,
}

impl Names {
    fn of(source: &Source) -> Self {
        let made = Instant::now();
        let names = source.names().into_iter().map(|name| (cut(&name), name));
        Self { all: names.collect(), made, took: made.elapsed() }
    }

    fn is_fresh(&self) -> bool {
        self.made.elapsed() < KEPT.max(self.took * TIMES)
    }
}

impl Search {
    pub(super) fn new(source: Source) -> Self {
        Self { source, names: Arc::default() }
    }

    /// The entries whose names have this text in them, in whatever case; at most `most` and [`MOST`].
    pub(super) async fn find(&self, text: &str, most: usize) -> Found {
        // The search itself holds it: who asked may hang up, and the next one still waits for its end.
        let mut names = self.names.clone().lock_owned().await;
        let source = self.source.clone();
        let text = text.chars().take(LONGEST).collect::<String>().trim().to_lowercase();
        let searched = tokio::task::spawn_blocking(move || {
            let kept = names.take().filter(Names::is_fresh);
            let kept = kept.unwrap_or_else(|| Names::of(&source));
            let found = find(&source, &kept.all, &text, most.min(MOST));
            *names = Some(kept);
            found
        });
        // An error means that the runtime ends.
        searched.await.unwrap_or_default()
    }

    /// Gives the memory back when nobody searches any more.
    pub(super) fn forget_old(&self) {
        if let Ok(mut names) = self.names.try_lock() {
            *names = names.take().filter(Names::is_fresh);
        }
    }
}

fn find(source: &Source, names: &[(String, Term)], text: &str, most: usize) -> Found {
    let matches = |name: &str| text.is_empty() || name.to_lowercase().contains(text);
    let (mut rows, mut matching) = (Vec::new(), 0);
    for (name, term) in names.iter().filter(|(name, _)| matches(name)) {
        matching += 1;
        if rows.len() < most {
            rows.extend(source.row(term, name));
        }
    }
    Found { rows, matching, total: names.len() }
}
