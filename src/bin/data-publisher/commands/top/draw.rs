//! One picture of the terminal, from what is seen. From 80 columns and 24 lines on all panes have room; below that
//! they get smaller and nothing breaks.

use std::time::{Duration, SystemTime};

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, BorderType, Cell, Clear, List, ListItem, Paragraph, Row, Sparkline, Table, Wrap,
};

use super::app::{App, Pane};
use super::units::{bytes, long, short, time};
use crate::live::{Happened, NodeRow, Readiness, Sample};
use crate::words;

/// So wide that panes stand side by side.
const WIDE: u16 = 150;

const HELP: &str = "\
q, ctrl-c     end
tab, 1 2 3    go to the next pane, or to nodes, groups, events
j k, arrows   up and down; page up, page down, home, end
/             search by a part of the name; enter: done; esc: all
p             hold events back, and go on
?             this";

/// Draws all of it.
pub(super) fn all(frame: &mut Frame<'_>, app: &mut App) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    head(frame, top, app);
    keys(frame, bottom, app);
    let lines = app.snapshot.nodes.len().max(1) as u16 + 3;
    if middle.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(56), Constraint::Percentage(44)])
                .areas(middle);
        let [one, two] = Layout::vertical([
            Constraint::Length(lines.min(middle.height / 2)),
            Constraint::Fill(1),
        ])
        .areas(left);
        let [three, four] =
            Layout::vertical([Constraint::Length(14.min(middle.height / 2)), Constraint::Fill(1)])
                .areas(right);
        nodes(frame, one, app);
        entries(frame, two, app);
        rates(frame, three, app);
        events(frame, four, app);
    } else {
        let [one, two, three] = Layout::vertical([
            Constraint::Length(lines.min((middle.height * 2 / 5).max(4))),
            Constraint::Length(8.max(middle.height / 3)),
            Constraint::Fill(1),
        ])
        .areas(middle);
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(two);
        nodes(frame, one, app);
        entries(frame, left, app);
        rates(frame, right, app);
        events(frame, three, app);
    }
    if app.shows_help {
        help(frame);
    }
}

fn head(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let snapshot = &app.snapshot;
    let scope = &snapshot.scope;
    let state = match snapshot.ready {
        _ if !scope.answers => " the scope doesn't answer ".black().on_red(),
        Readiness::Ready => " ready ".black().on_green(),
        Readiness::Waiting => " waiting ".black().on_yellow(),
        Readiness::Stopped => " the scope has ended ".black().on_red(),
    };
    let up = snapshot.at.duration_since(snapshot.started).unwrap_or_default();
    let line = Line::from(vec![
        format!(" {} ", snapshot.name).bold(),
        state,
        format!(
            "  {} {}: {}, {}, {}",
            scope.module,
            scope.name,
            words::count(snapshot.nodes.len(), words::NODES),
            words::count(scope.synced, words::PEERS),
            words::count(scope.count, scope.entries),
        )
        .into(),
    ]);
    let right = Line::from(format!("up {} ", long(up))).dim();
    let [left, end] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(right.width() as u16)])
            .areas(area);
    frame.render_widget(line, left);
    frame.render_widget(right, end);
}

fn keys(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let mut line = Line::default();
    let all: &[(&str, &str)] = if app.is_typing {
        &[("type", "a part of the name"), ("enter", "done"), ("esc", "all")]
    } else {
        &[
            ("q", "quit"),
            ("tab", "pane"),
            ("j k", "scroll"),
            ("/", "search"),
            ("p", if app.is_paused { "go on" } else { "pause" }),
            ("?", "help"),
        ]
    };
    for (key, what) in all {
        line.push_span(format!(" {key} ").reversed());
        line.push_span(format!(" {what}  "));
    }
    frame.render_widget(line, area);
}

/// A frame around a pane; the one that has the keys stands out.
fn block<'a>(app: &App, pane: Option<Pane>, title: impl Into<Line<'a>>) -> Block<'a> {
    let block = Block::bordered().border_type(BorderType::Rounded).title(title);
    if pane == Some(app.pane) {
        block.border_style(Style::new().cyan()).title_style(Style::new().bold())
    } else {
        block.border_style(Style::new().dim())
    }
}

fn nodes(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let snapshot = app.snapshot.clone();
    let block = block(app, Some(Pane::Nodes), format!(" 1 Nodes ({}) ", snapshot.nodes.len()));
    if snapshot.nodes.is_empty() {
        let none = Paragraph::new("No node is connected yet.").dim().block(block);
        return frame.render_widget(none, area);
    }
    let head = ["NODE", "PEER", "ROUND TRIP", "IN/s", "OUT/s", "QUEUED", "UP"];
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let head = head
        .into_iter()
        .enumerate()
        .map(|(column, name)| if column < 2 { Cell::from(name) } else { right(name.to_owned()) });
    let rows = snapshot.nodes.iter().map(|node| {
        Row::new([
            Cell::from(node.name.to_string()),
            peer(node),
            right(time(node.round_trip)),
            right(bytes(node.rates.bytes_in)),
            right(bytes(node.rates.bytes_out)),
            right(bytes(node.queued_bytes as f64)),
            right(long(node.up_for)),
        ])
    });
    let table = Table::new(rows, widths)
        .header(Row::new(head).dim())
        .row_highlight_style(Style::new().reversed())
        .block(block);
    frame.render_stateful_widget(table, area, &mut app.nodes);
}

fn peer(node: &NodeRow) -> Cell<'static> {
    let Some(peer) = &node.peer else { return Cell::from("none".dim()) };
    let version = format!("version {}", peer.version.as_deref().unwrap_or("?"));
    if peer.synced {
        Cell::from(version)
    } else {
        Cell::from(format!("{version}, unsynced").yellow())
    }
}

fn entries(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let (scope, found) = (&app.snapshot.scope, &app.found);
    let mut name = scope.entries[1].to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let title = match (found.rows.len(), found.matching, found.total) {
        (shown, matching, total) if matching < total => {
            format!(" 2 {name} ({shown} of {matching} shown, {total} in all) ")
        }
        (shown, _, total) if shown < total => format!(" 2 {name} ({shown} of {total} shown) "),
        (_, _, total) => format!(" 2 {name} ({total}) "),
    };
    let block = block(app, Some(Pane::Entries), title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [line, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(inner);
    let text = match (&*app.text, app.is_typing) {
        ("", false) => Line::from("press / to search".dim()),
        (text, is_typing) => {
            let cursor = if is_typing { " ".reversed() } else { "".into() };
            Line::from(vec!["/ ".cyan(), Span::from(text.to_owned()), cursor])
        }
    };
    frame.render_widget(text, line);
    if found.rows.is_empty() {
        let none =
            if found.total == 0 { "There are none yet." } else { "None has that in its name." };
        return frame.render_widget(Paragraph::new(none).dim(), rest);
    }
    let width = usize::from(rest.width);
    let items = found.rows.iter().map(|row| {
        let count = format!(" {} ", row.count);
        let name = Span::from(row.name.clone());
        let used = name.width() + count.len();
        let detail: String = row.detail.chars().take(width.saturating_sub(used)).collect();
        ListItem::new(Line::from(vec![name, count.cyan(), detail.dim()]))
    });
    let list = List::new(items).highlight_style(Style::new().reversed());
    frame.render_stateful_widget(list, rest, &mut app.entries);
}

fn rates(frame: &mut Frame<'_>, area: Rect, app: &App) {
    type Value = fn(&Sample) -> f64;
    type Unit = fn(f64) -> String;
    let per_second: (Unit, Unit) = (|v| short(v) + "/s", |v| bytes(v) + "/s");
    let seconds: Unit =
        |v| if v > 0.0 { time(Some(Duration::from_secs_f64(v))) } else { time(None) };
    let all: [(&str, Color, Value, Unit); 6] = [
        ("updates in", Color::Blue, |s| s.updates_in, per_second.0),
        ("updates out", Color::Yellow, |s| s.updates_out, per_second.0),
        ("bytes in", Color::Blue, |s| s.bytes_in, per_second.1),
        ("bytes out", Color::Yellow, |s| s.bytes_out, per_second.1),
        ("round trip", Color::Magenta, |s| s.slowest.unwrap_or_default().as_secs_f64(), seconds),
        ("queued", Color::Red, |s| s.queued_bytes as f64, bytes),
    ];
    let block = block(app, None, " The last two minutes ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = Layout::vertical(all.map(|_| Constraint::Fill(1))).split(inner);
    for ((name, color, value, unit), area) in all.into_iter().zip(lines.iter()) {
        let now = app.snapshot.history.back().map(value).unwrap_or_default();
        let [label, plot] =
            Layout::horizontal([Constraint::Length(23), Constraint::Fill(1)]).areas(*area);
        let text =
            Line::from(vec![format!("{name:<12}").dim(), format!("{:>10}", unit(now)).into()]);
        frame.render_widget(text, label);
        let values = samples(app, value, usize::from(plot.width));
        frame.render_widget(Sparkline::default().data(&values).style(Style::new().fg(color)), plot);
    }
}

/// The last of them, at the right end, scaled so that small numbers are seen, too.
fn samples(app: &App, value: impl Fn(&Sample) -> f64, width: usize) -> Vec<u64> {
    let history = &app.snapshot.history;
    let last = history.iter().skip(history.len().saturating_sub(width));
    let micros = |sample: &Sample| Duration::try_from_secs_f64(value(sample)).unwrap_or_default();
    let values: Vec<_> = last.map(|sample| micros(sample).as_micros() as u64).collect();
    let mut all = vec![0; width - values.len()];
    all.extend(values);
    all
}

fn events(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let title = match (app.is_paused, app.back) {
        (true, _) => format!(" 3 Events, paused, {} held back ", app.held()),
        (false, 0) => " 3 Events ".to_owned(),
        (false, back) => format!(" 3 Events, {back} newer "),
    };
    let block = block(app, Some(Pane::Events), title);
    let items = app.events.iter().rev().skip(app.back).take(usize::from(area.height));
    let list = List::new(items.map(|event| ListItem::new(line(event)))).block(block);
    frame.render_widget(list, area);
}

fn line(event: &Happened) -> Line<'static> {
    let seconds = event.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let kind = format!("{:<10} ", event.event);
    let kind = match event.event {
        "node_up" | "peer_up" => kind.green(),
        "node_down" | "peer_down" => kind.red(),
        "skipped" | "lagged" => kind.yellow(),
        _ => kind.into(),
    };
    Line::from(vec![
        format!("{hours:02}:{minutes:02}:{seconds:02}Z ").dim(),
        kind,
        format!("{} ", event.subject).into(),
        event.detail.clone().dim(),
    ])
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (72.min(area.width), 8.min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().border_type(BorderType::Rounded).title(" Keys ");
    frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }).block(block), place);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{Event, KeyCode};

    use super::*;
    use crate::live::{Found, Row as Entry, testing};

    fn app() -> App {
        let mut app = App::new(Arc::new(testing::snapshot()));
        let row = |number| Entry {
            name: format!("group_{number}"),
            count: number,
            detail: "<a@127.0.0.1.92.0>".to_owned(),
        };
        app.found(Found { rows: (1..=9).map(row).collect(), matching: 9, total: 12 });
        for number in 0..30 {
            app.happened(Arc::new(Happened {
                at: SystemTime::UNIX_EPOCH,
                event: "join",
                node: None,
                subject: format!("group_{number}"),
                detail: "<a@127.0.0.1.92.0>".to_owned(),
            }));
        }
        app
    }

    fn drawn(app: &mut App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| all(frame, app)).unwrap();
        let lines = terminal.backend().buffer().content.chunks(width.into());
        lines
            .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn at_80x24_and_200x60_all_is_there() {
        for (width, height) in [(80, 24), (200, 60)] {
            let seen = drawn(&mut app(), width, height);
            for words in [
                "rust1@127.0.0.1",
                "waiting",
                "pg pg: 2 nodes, 1 peer, 12 groups",
                "a@127.0.0.1",
                "version 1",
                "250 µs",
                "2.0 kB",
                "1 h 1 min",
                "Groups (9 of 9 shown",
                "group_1 1 <a@127",
                "updates in",
                "round trip",
                "3 Events",
                "00:00:00Z join       group_29",
                " q ",
            ] {
                assert!(seen.contains(words), "{width}x{height}: no `{words}` in\n{seen}");
            }
        }
    }

    #[test]
    fn no_size_breaks_it() {
        for (width, height) in [(1, 1), (10, 3), (40, 10), (79, 23), (120, 5), (300, 100)] {
            let mut app = app();
            drawn(&mut app, width, height);
            app.input(&Event::Key(KeyCode::Char('?').into()));
            drawn(&mut app, width, height);
        }
    }

    #[test]
    fn what_is_sought_is_seen_and_so_is_the_help() {
        let mut app = app();
        for key in ['/', 'x', 'y'] {
            app.input(&Event::Key(KeyCode::Char(key).into()));
        }
        let seen = drawn(&mut app, 80, 24);
        assert!(seen.contains("/ xy") && seen.contains(" enter "), "{seen}");
        app.input(&Event::Key(KeyCode::Esc.into()));
        app.input(&Event::Key(KeyCode::Char('?').into()));
        assert!(drawn(&mut app, 80, 24).contains("hold events back"));
    }
}
