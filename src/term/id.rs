//! Who is who in a cluster: node names, pids, references, ports, and where a message goes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Atom;

/// A node's full name, `name@host`: both parts non-empty, one `@`, at most 255 characters.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeName(Atom);

impl NodeName {
    /// A node name from its text.
    ///
    /// # Errors
    ///
    /// [`BadNodeName`] unless the text is `name@host`.
    pub fn new(text: &str) -> Result<Self, BadNodeName> {
        let bad = || BadNodeName { name: text.chars().take(80).collect() };
        Atom::new(text).map_err(|_| bad())?.try_into()
    }

    /// The part before the `@`, the one EPMD knows.
    pub fn short(&self) -> &str {
        self.parts().0
    }

    /// The part after the `@`.
    pub fn host(&self) -> &str {
        self.parts().1
    }

    /// Whether the host part has a dot or colon: a node started by `-name`, not by `-sname`.
    pub fn is_long(&self) -> bool {
        self.host().contains(['.', ':'])
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as an atom, as it stands in terms.
    pub fn atom(&self) -> &Atom {
        &self.0
    }

    /// The name that is this atom, of which [`is_name`](Self::is_name) was true.
    pub(crate) fn of_name(atom: Atom) -> Self {
        Self(atom)
    }

    /// Whether an atom is a node name.
    pub(crate) fn is_name(atom: &Atom) -> bool {
        atom.as_str().split_once('@').is_some_and(|(name, host)| {
            !name.is_empty()
                && !host.is_empty()
                && !host.contains('@')
                && !atom.as_str().contains(|c: char| c.is_control() || c == ' ')
        })
    }

    fn parts(&self) -> (&str, &str) {
        self.0.as_str().split_once('@').expect("checked when the name was made")
    }
}

/// A text isn't `name@host`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` is no node name: it takes the form name@host, for example rust1@127.0.0.1")]
pub struct BadNodeName {
    /// The text, cut to 80 characters.
    pub name: String,
}

/// A name that is one already can't be bad.
impl From<std::convert::Infallible> for BadNodeName {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl TryFrom<Atom> for NodeName {
    type Error = BadNodeName;

    fn try_from(atom: Atom) -> Result<Self, BadNodeName> {
        if Self::is_name(&atom) {
            return Ok(Self(atom));
        }
        Err(BadNodeName { name: atom.as_str().chars().take(80).collect() })
    }
}

impl TryFrom<&str> for NodeName {
    type Error = BadNodeName;

    fn try_from(text: &str) -> Result<Self, BadNodeName> {
        Self::new(text)
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadNodeName;

    fn try_from(text: String) -> Result<Self, BadNodeName> {
        Self::new(&text)
    }
}

impl TryFrom<&String> for NodeName {
    type Error = BadNodeName;

    fn try_from(text: &String) -> Result<Self, BadNodeName> {
        Self::new(text)
    }
}

impl From<&NodeName> for NodeName {
    fn from(name: &NodeName) -> Self {
        name.clone()
    }
}

impl std::str::FromStr for NodeName {
    type Err = BadNodeName;

    fn from_str(text: &str) -> Result<Self, BadNodeName> {
        Self::new(text)
    }
}

/// The bare text, without the quotes of an atom: `a@127.0.0.1`.
impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tells one start of a node from the next: part of every pid, reference and port.
///
/// A pid of an earlier start with the same name has another creation, so it never looks alive.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Creation(pub u32);

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process of the cluster.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Pid {
    /// The node it lives on.
    pub node: NodeName,
    /// Its number on the node.
    pub id: u32,
    /// Counts how often the numbers went round.
    pub serial: u32,
    /// The start of the node it belongs to.
    pub creation: Creation,
}

/// `<node.id.serial>`, for example `<a@127.0.0.1.92.0>`.
impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}.{}.{}>", self.node, self.id, self.serial)
    }
}

/// As [`Display`](fmt::Display), with the creation: `<a@127.0.0.1.92.0/1795>`.
impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}.{}.{}/{}>", self.node, self.id, self.serial, self.creation)
    }
}

/// A unique mark, made by `make_ref/0`, a monitor, a call or an alias.
///
/// Equal, as on the BEAM, also to one that has more words, if those are 0.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Reference(Arc<ReferenceData>);

#[derive(Clone)]
struct ReferenceData {
    node: NodeName,
    creation: Creation,
    len: u8,
    words: [u32; Reference::MAX_WORDS],
}

impl Reference {
    /// Most 32-bit words of a reference; call aliases have 5 from OTP 27 on, others 3.
    pub const MAX_WORDS: usize = 5;

    /// A reference of 1 to 5 words, the least significant first as on the wire; `None` for any
    /// other count.
    pub fn new(node: NodeName, creation: Creation, words: &[u32]) -> Option<Self> {
        if words.is_empty() || words.len() > Self::MAX_WORDS {
            return None;
        }
        let mut all = [0; Self::MAX_WORDS];
        all[..words.len()].copy_from_slice(words);
        Some(Self(Arc::new(ReferenceData { node, creation, len: words.len() as u8, words: all })))
    }

    /// The node that made it.
    pub fn node(&self) -> &NodeName {
        &self.0.node
    }

    /// The start of that node.
    pub fn creation(&self) -> Creation {
        self.0.creation
    }

    /// Its words, the least significant first.
    pub fn words(&self) -> &[u32] {
        &self.0.words[..usize::from(self.0.len)]
    }
}

impl ReferenceData {
    /// All that tells references apart: not how many words there are, as missing ones are 0.
    fn identity(&self) -> (&NodeName, Creation, &[u32]) {
        (&self.node, self.creation, &self.words)
    }
}

impl PartialEq for ReferenceData {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for ReferenceData {}

impl Hash for ReferenceData {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// As on the BEAM: the node, then the words from the most significant down.
impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((node, creation, words), (other_node, other_creation, other_words)) =
            (self.0.identity(), other.0.identity());
        (node, creation)
            .cmp(&(other_node, other_creation))
            .then_with(|| words.iter().rev().cmp(other_words.iter().rev()))
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `#Ref<node.w2.w1.w0>`: like the BEAM, the most significant word first.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#Ref<{}", self.node())?;
        for word in self.words().iter().rev() {
            write!(f, ".{word}")?;
        }
        f.write_str(">")
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A port (an open file or socket) of a BEAM node.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Port {
    /// The node it belongs to.
    pub node: NodeName,
    /// The start of that node.
    pub creation: Creation,
    /// Its number.
    pub id: u64,
}

/// `#Port<node.id>`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#Port<{}.{}>", self.node, self.id)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a message goes: what may stand left of Erlang's `!`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Destination {
    /// A process.
    Pid(Pid),
    /// `{Name, Node}`: whoever is registered under the name there.
    Name(Atom, NodeName),
    /// A process alias: whoever made the reference, as long as the alias is active.
    Alias(Reference),
}

impl Destination {
    /// The node the message goes to.
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Pid(pid) => &pid.node,
            Self::Name(_, node) => node,
            Self::Alias(reference) => reference.node(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => pid.fmt(f),
            Self::Name(name, node) => write!(f, "{{{name},{}}}", node.atom()),
            Self::Alias(reference) => reference.fmt(f),
        }
    }
}

impl From<Pid> for Destination {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl From<&Pid> for Destination {
    fn from(pid: &Pid) -> Self {
        Self::Pid(pid.clone())
    }
}

impl From<Reference> for Destination {
    fn from(alias: Reference) -> Self {
        Self::Alias(alias)
    }
}

impl From<(Atom, NodeName)> for Destination {
    fn from((name, node): (Atom, NodeName)) -> Self {
        Self::Name(name, node)
    }
}

impl From<(&Atom, &NodeName)> for Destination {
    fn from((name, node): (&Atom, &NodeName)) -> Self {
        Self::Name(name.clone(), node.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_has_two_parts_and_one_at() {
        let name = NodeName::new("a@127.0.0.1").unwrap();
        assert_eq!((name.short(), name.host(), name.is_long()), ("a", "127.0.0.1", true));
        assert!(!NodeName::new("a@host").unwrap().is_long());
        for bad in ["", "a", "@h", "a@", "a@b@c", "a b@c", &format!("a@{}", "h".repeat(255))] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_has_one_to_five_words() {
        let node = NodeName::new("a@b").unwrap();
        assert!(Reference::new(node.clone(), Creation(1), &[]).is_none());
        assert!(Reference::new(node.clone(), Creation(1), &[0; 6]).is_none());
        let reference = Reference::new(node, Creation(1), &[1, 2, 3]).unwrap();
        assert_eq!(reference.words(), [1, 2, 3]);
        assert_eq!(reference.to_string(), "#Ref<a@b.3.2.1>");
    }

    #[test]
    fn missing_words_of_a_reference_are_zero() {
        let reference = |words: &[u32]| {
            Reference::new(NodeName::new("a@b").unwrap(), Creation(1), words).unwrap()
        };
        assert_eq!(reference(&[1]), reference(&[1, 0, 0]));
        assert_ne!(reference(&[1]), reference(&[1, 0, 1]));
        assert!(reference(&[1, 2, 3, 0, 0]) < reference(&[9, 9, 9]));
        assert!(reference(&[9, 9, 9]) < reference(&[0, 0, 0, 0, 1]));
    }
}
