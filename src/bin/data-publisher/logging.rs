//! The log on stderr: a line of text or, with `--log json`, an object a line.

use std::io::Write as _;
use std::sync::OnceLock;

use clap::Args as Group;
use log::kv::{self, Key, VisitSource};
use log::{Level, Record};
use serde_json::{Map, Value, json};

use crate::progress;

/// Of lines that aren't logged by the library but said by a command.
pub(crate) const CLI: &str = "data_publisher::cli";

#[derive(Debug, Group)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// How the log on stderr looks
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
    /// What is logged: error, warn, info, debug, trace or off, also by target, as in
    /// `warn,data_publisher::node=debug`; docs/configuration.md lists the targets
    #[arg(
        long, global = true, value_name = "LEVEL", default_value = "warn", env = "RUST_LOG",
        value_parser = filter
    )]
    pub(crate) log_level: String,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text
    Text,
    /// One object a line: `ts`, `level`, `target`, `message`, and what else there is to it
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    let mut builder = env_filter::Builder::new();
    builder.try_parse(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// From now on it is logged. Panics of tasks are, too, where a program reads the log.
pub(crate) fn start(args: &LogArgs) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&args.log_level);
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    if args.log == LogFormat::Json {
        builder.format(|out, record| writeln!(out, "{}", object(record)));
        std::panic::set_hook(Box::new(|panic| complain_as_json(&panic.to_string())));
    } else {
        builder.format(|out, record| {
            progress::erase();
            let (time, level) = (out.timestamp_millis(), record.level());
            let style = out.default_level_style(level);
            let (target, text) = (record.target(), record.args());
            writeln!(out, "[{time} {style}{level:<5}{style:#} {target}] {text}")
        });
    }
    builder.init();
    let _ = FORMAT.set(args.log);
}

/// Says that all that goes to stderr is JSON, if that is what a command line asks for that can't be read.
pub(crate) fn guess(line: &[std::ffi::OsString]) {
    let by_variable = std::env::var("DATA_PUBLISHER_LOG").is_ok_and(|format| format == "json");
    let typed = line.windows(2).any(|two| two[0] == "--log" && two[1] == "json");
    if by_variable || typed || line.iter().any(|word| word == "--log=json") {
        let _ = FORMAT.set(LogFormat::Json);
    }
}

/// One line on stderr that nobody can switch off.
pub(crate) fn complain(text: &str) {
    if is_json() {
        complain_as_json(text);
    } else {
        progress::erase();
        let _ = writeln!(std::io::stderr(), "data-publisher: {text}");
    }
}

/// Whether all on stderr is JSON.
pub(crate) fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

fn complain_as_json(text: &str) {
    let message = format_args!("{text}");
    let record = Record::builder().level(Level::Error).target(CLI).args(message).build();
    let _ = writeln!(std::io::stderr(), "{}", object(&record));
}

fn object(record: &Record<'_>) -> Value {
    let mut fields = Map::new();
    fields.insert("ts".to_owned(), json!(now()));
    fields.insert("level".to_owned(), json!(record.level().as_str().to_lowercase()));
    fields.insert("target".to_owned(), json!(record.target()));
    fields.insert("message".to_owned(), json!(record.args().to_string()));
    // What has a field's name already is left out.
    let _ = record.key_values().visit(&mut Pairs(&mut fields));
    Value::Object(fields)
}

/// RFC 3339, UTC, milliseconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

struct Pairs<'a>(&'a mut Map<String, Value>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let value = if let Some(number) = value.to_u64() {
            json!(number)
        } else if let Some(number) = value.to_i64() {
            json!(number)
        } else if let Some(truth) = value.to_bool() {
            json!(truth)
        } else {
            json!(value.to_string())
        };
        self.0.entry(key.as_str()).or_insert(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_with_its_time_and_all_it_says() {
        let kvs = [("node", kv::Value::from("a@h")), ("bytes", 7.into()), ("level", 1.into())];
        let record = Record::builder()
            .level(Level::Info)
            .target("data_publisher::node")
            .args(format_args!("a@h: \"up\"\nand so on"))
            .key_values(&kvs)
            .build();
        let line = object(&record).to_string();
        assert!(!line.contains('\n'), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        let names: Vec<_> = read.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["ts", "level", "target", "message", "node", "bytes"]);
        assert_eq!((&read["level"], &read["bytes"]), (&json!("info"), &json!(7)));
        let ts = read["ts"].as_str().unwrap();
        assert_eq!((ts.len(), &ts[10..11], &ts[23..]), (24, "T", "Z"), "{ts}");
        assert!(ts.parse::<jiff::Timestamp>().is_ok(), "{ts}");
    }

    #[test]
    fn the_targets_are_those_of_the_documentation() {
        fn files(folder: &std::path::Path, all: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { files(&path, all) } else { all.push(path) }
            }
        }
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut all = Vec::new();
        files(&src, &mut all);
        let mut logging = std::collections::BTreeSet::from([CLI.to_owned()]);
        for path in all {
            let inside = path.strip_prefix(&src).unwrap();
            let module = inside.iter().next().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let logs = ["error", "warn", "info", "debug", "trace", "log"]
                .iter()
                .any(|level| text.contains(&format!("log::{level}!(")))
                || text.contains("\nuse log::");
            if logs && module != "bin" {
                logging.insert(format!("data_publisher::{module}"));
            }
        }
        let page = include_str!("../../../docs/configuration.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `data_publisher::"));
        let documented = rows.filter_map(|row| row.split('`').next());
        let documented = documented.map(|module| format!("data_publisher::{module}")).collect();
        assert_eq!(logging, documented);
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_target() {
        for good in ["info", "off", "warn,data_publisher::node=debug", "data_publisher=trace/x"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["data_publisher=loud", "a=b=c", "info/a/b"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
