//! Sentences that have numbers in them: one is one node, not one nodes.

/// What can be counted: its name for one, and for any other number.
pub(crate) type Counted = [&'static str; 2];

pub(crate) const GROUPS: Counted = ["group", "groups"];
pub(crate) const KEYS: Counted = ["key", "keys"];
pub(crate) const NODES: Counted = ["node", "nodes"];
pub(crate) const NODES_DATA: Counted = ["node's data", "nodes' data"];
pub(crate) const PEERS: Counted = ["peer", "peers"];

/// `1 group`, `2 groups`
pub(crate) fn count(number: usize, [one, many]: Counted) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let told = [0, 1, 2].map(|number| count(number, GROUPS));
        assert_eq!(told, ["0 groups", "1 group", "2 groups"]);
    }
}
