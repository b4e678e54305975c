//! The configuration in force, as a file that gives the same.

use std::fmt::Write as _;

use clap::Arg;
use clap::parser::ValueSource;
use toml::Value;

use super::{Settings, values};

/// The file. Each value that isn't a default says where it's from; the cookie is left out.
pub(crate) fn print(settings: &Settings) -> String {
    let mut text = String::new();
    let (mut tables, mut plain) = (Vec::new(), Vec::new());
    for arg in values::settings(&settings.command) {
        match values::key(arg).split_once('.') {
            Some((table, key)) => tables.push((table.to_owned(), key.to_owned(), arg)),
            None => plain.push((values::key(arg), arg)),
        }
    }
    for (key, arg) in plain {
        line(settings, &mut text, &key, arg);
    }
    tables.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut within = "";
    for (table, key, arg) in &tables {
        let mut lines = String::new();
        line(settings, &mut lines, key, arg);
        if !lines.is_empty() && table != within {
            let _ = writeln!(text, "\n[{table}]");
            within = table;
        }
        text.push_str(&lines);
    }
    text
}

/// `key = value  # origin`, or nothing for what has no value.
fn line(settings: &Settings, text: &mut String, key: &str, arg: &Arg) {
    let id = arg.get_id().as_str();
    let origin = match (settings.origins.get(id), settings.matches.value_source(id)) {
        (Some(origin), _) => format!("  # {origin}"),
        (None, Some(ValueSource::CommandLine)) => "  # command line".to_owned(),
        _ => String::new(),
    };
    let Some(raw) = settings.matches.get_raw(id) else {
        if id == "cookie_file" && settings.matches.get_raw("cookie").is_none() {
            text.push_str("# cookie-file: the .erlang.cookie at home\n");
        }
        return;
    };
    if id == "cookie" {
        let _ =
            writeln!(text, "# the cookie isn't shown; put it in a file for cookie-file{origin}");
        return;
    }
    let mut all = raw.map(|value| typed(&value.to_string_lossy()));
    let value = if values::takes_many(arg) {
        Value::Array(all.collect())
    } else {
        all.next().unwrap_or_else(|| Value::String(String::new()))
    };
    let _ = writeln!(text, "{key} = {value}{origin}");
}

/// A number or a truth if it's written as TOML writes that, else a text.
fn typed(raw: &str) -> Value {
    let whole = raw.parse().ok().map(Value::Integer);
    let truth = || raw.parse().ok().map(Value::Boolean);
    let same = |value: &Value| value.to_string() == raw;
    whole.or_else(truth).filter(same).unwrap_or_else(|| Value::String(raw.to_owned()))
}
