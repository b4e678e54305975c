//! Inputs and words on disk.

use std::path::PathBuf;

pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// A target's first inputs, in the order of their names.
pub(crate) struct Corpus {
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    /// Tags, numbers, words: what mutation alone would take long to find.
    pub(crate) words: Vec<Vec<u8>>,
}

impl Corpus {
    pub(crate) fn read(target: &str) -> Self {
        let folder = PathBuf::from(FOLDER).join("corpus").join(target);
        let entries = std::fs::read_dir(&folder).expect("a corpus for each target");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "nothing in {}", folder.display());
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path).expect("a file of the corpus");
            (path, bytes)
        };
        Self { files: paths.into_iter().map(read).collect(), words: words() }
    }
}

/// The words of the dictionary, which has the form libFuzzer reads: `name="text"` a line, with `\xHH`.
fn words() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(PathBuf::from(FOLDER).join("dictionary"));
    let text = text.expect("a dictionary");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let quoted = line.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"'));
            unescaped(quoted.unwrap_or_else(|| panic!("no word: {line}")))
        })
        .collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        rest = if let Some(hex) = after.strip_prefix('x') {
            bytes.extend(given(&hex[..2]));
            &hex[2..]
        } else {
            bytes.extend(after.bytes().take(1));
            &after[1..]
        };
    }
    bytes.extend(rest.bytes());
    bytes
}

/// Bytes in hexadecimal, or those of a file after `@`.
pub(crate) fn given(text: &str) -> Vec<u8> {
    if let Some(path) = text.strip_prefix('@') {
        return std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let byte = |at: usize| text.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let bytes = (0..text.len()).step_by(2).map(|at| byte(at).expect("bytes in hexadecimal"));
    bytes.collect()
}
