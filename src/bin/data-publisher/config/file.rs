//! The file: TOML, taken apart into keys with their lines.
//!
//! What is wrong is told with file, line and key, and never with the text of the line: it may be the cookie's.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::values::{self, Values};
use super::{Origin, values::key};

/// Far more than all options take.
const LARGEST: u64 = 1 << 20;

/// A key with what it is given.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// With the table it's in: `tls.certfile`.
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) values: Values,
}

/// Reads the file. With a cookie in it, others must not be able to read it, as OTP demands of `.erlang.cookie`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let shown = path.display();
    let unreadable = || format!("can't read the configuration file {shown}");
    let mut file = std::fs::File::open(path).with_context(unreadable)?;
    let mut text = String::new();
    file.by_ref().take(LARGEST).read_to_string(&mut text).with_context(unreadable)?;
    let entries = entries(path, &text)?;
    if entries.iter().any(|entry| entry.key == "cookie") && is_exposed(&file) {
        anyhow::bail!(
            "others can read the configuration file {shown}, and there's a cookie in it; \
             run: chmod 600 {shown}, or name a file with `cookie-file` instead"
        );
    }
    Ok(entries)
}

fn entries(path: &Path, text: &str) -> anyhow::Result<Vec<Entry>> {
    let line_of = |place: usize| 1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count();
    let document = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        anyhow::anyhow!("{}:{line}: not TOML: {}", path.display(), error.message())
    })?;
    let mut entries = Vec::new();
    collect(path, &line_of, "", document.get_ref(), &mut entries)?;
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn collect(
    path: &Path,
    line_of: &dyn Fn(usize) -> usize,
    within: &str,
    table: &DeTable<'_>,
    entries: &mut Vec<Entry>,
) -> anyhow::Result<()> {
    for (key, value) in table {
        let line = line_of(key.span().start);
        let key = format!("{within}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect(path, line_of, &format!("{key}."), table, entries)?,
            value => {
                let values = read_values(value)
                    .with_context(|| format!("{}:{line}: {key}", path.display()))?;
                entries.push(Entry { key, line, values });
            }
        }
    }
    Ok(())
}

fn read_values(value: &DeValue<'_>) -> anyhow::Result<Values> {
    match value {
        DeValue::Array(array) => {
            let all = array.iter().map(|value: &Spanned<DeValue<'_>>| one(value.get_ref()));
            Ok(Values::Many(all.collect::<anyhow::Result<_>>()?))
        }
        value => one(value).map(Values::One),
    }
}

fn one(value: &DeValue<'_>) -> anyhow::Result<OsString> {
    Ok(match value {
        DeValue::String(text) => OsString::from(text.as_ref()),
        DeValue::Boolean(value) => value.to_string().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .context("the number is too large")?
            .to_string()
            .into(),
        DeValue::Float(number) => number.as_str().into(),
        _ => anyhow::bail!("it takes a text, a number, true or false, or a list of these"),
    })
}

/// A key that is no option's.
pub(super) fn unknown(command: &Command, origin: &Origin, sought: &str) -> anyhow::Error {
    let distance = |known: &String| strsim::osa_distance(known, sought);
    let nearest = values::settings(command).map(key).min_by_key(distance).unwrap_or_default();
    anyhow::anyhow!("{origin}: unknown key `{sought}`; the nearest one is `{nearest}`")
}

/// Whether others than its owner may read or write it.
#[cfg(unix)]
fn is_exposed(file: &std::fs::File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &std::fs::File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<Entry>> {
        entries(Path::new("x.toml"), text)
    }

    #[test]
    fn keys_come_with_their_tables_and_lines() {
        let text =
            "# first\nname = \"a@h\"\nport = 0x10\n\n[tls]\ncertfile = 'c'\n[limit]\nwatches = 7\n";
        let entries = read(text).unwrap();
        let seen: Vec<_> = entries.iter().map(|entry| (&entry.key[..], entry.line)).collect();
        assert_eq!(seen, [("name", 2), ("port", 3), ("tls.certfile", 6), ("limit.watches", 8)]);
        assert_eq!(entries[1].values, Values::One("16".into()));
    }

    #[test]
    fn lists_numbers_and_truths_are_as_on_the_command_line() {
        let entries = read("a = [\"x\", 1, 2.5]\nb = true\n").unwrap();
        let many = ["x", "1", "2.5"].map(OsString::from).to_vec();
        assert_eq!(entries[0].values, Values::Many(many));
        assert_eq!(entries[1].values, Values::One("true".into()));
    }

    #[test]
    fn what_is_no_toml_is_told_by_its_line_and_not_by_its_text() {
        for text in ["a = 1\ncookie = \"s3cret\n", "cookie = s3cret", "a=1\ncookie = s3cret s3cret"]
        {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.starts_with("x.toml:"), "{error}");
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
        let error = read("a = 1\na = 2\n").unwrap_err().to_string();
        assert!(error.starts_with("x.toml:2: "), "{error}");
        let error = format!("{:#}", read("x = 1\nwhen = 1979-05-27\n").unwrap_err());
        assert!(error.starts_with("x.toml:2: when: it takes"), "{error}");
    }
}
