//! Values of types only the user knows: whether they are equal, and where they differ.

use std::any::Any;
use std::fmt::{Debug, Write as _};

/// Most lines of a difference.
const MOST: usize = 20;

/// What a user makes of a view: anything that can be compared and shown.
pub(super) trait Picture: Debug {
    fn equals(&self, other: &dyn Picture) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Debug + PartialEq + 'static> Picture for T {
    fn equals(&self, other: &dyn Picture) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The lines that only one of the two has, each behind the name of who has it and after the lines it
/// lies in: `only a: "dark": { b@test: Flag { enabled: true`.
pub(super) fn difference(of: [&str; 2], values: [&dyn Debug; 2]) -> String {
    let [mut left, mut right] = values.map(paths);
    left.retain(|path| match right.iter().position(|other| other == path) {
        Some(place) => {
            right.remove(place);
            false
        }
        None => true,
    });
    let width = of[0].len().max(of[1].len());
    let mut text = String::new();
    let all = left.iter().map(|path| (of[0], path)).chain(right.iter().map(|path| (of[1], path)));
    let count = left.len() + right.len();
    for (name, path) in all.take(MOST) {
        let _ = write!(text, "\n  only {name:width$}  {path}");
    }
    if count > MOST {
        let _ = write!(text, "\n  and {} more", count - MOST);
    }
    text
}

/// Each line that holds a value, led by the lines it lies in.
fn paths(value: &dyn Debug) -> Vec<String> {
    let text = format!("{value:#?}");
    let mut around: Vec<&str> = Vec::new();
    let mut paths = Vec::new();
    for line in text.lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let line = line.trim().trim_end_matches(',');
        let is_empty = depth == 0 && matches!(line, "{}" | "[]");
        if is_empty || matches!(line, "}" | "]" | ")" | "})") {
            continue;
        }
        around.truncate(depth);
        if line.ends_with(['{', '[', '(']) {
            // The outermost line says no more than what is compared.
            around.push(if depth == 0 { "" } else { line });
        } else {
            let path = around.iter().chain([&line]).filter(|part| !part.is_empty());
            paths.push(path.copied().collect::<Vec<_>>().join(" "));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_difference_says_who_has_what_and_where() {
        let left = BTreeMap::from([("k", BTreeMap::from([("a", 1), ("b", 2)]))]);
        let right =
            BTreeMap::from([("k", BTreeMap::from([("a", 1), ("b", 3)])), ("l", BTreeMap::new())]);
        assert_eq!(
            difference(["one", "other"], [&left, &right]),
            "\n  only one    \"k\": { \"b\": 2\n  only other  \"k\": { \"b\": 3\n  only other  \"l\": {}"
        );
        assert_eq!(difference(["one", "other"], [&left, &left]), "");
        let none: [i32; 0] = [];
        assert_eq!(difference(["one", "other"], [&none, &[7]]), "\n  only other  7");
    }

    #[test]
    fn pictures_of_one_type_are_compared_and_those_of_two_differ() {
        assert!(1_i64.equals(&1_i64) && !1_i64.equals(&2_i64) && !1_i64.equals(&1_i32));
    }
}
