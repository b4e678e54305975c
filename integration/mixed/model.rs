//! Who ought to be in which group: a plain map for each node, and their sum.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use data_publisher::term::{Pid, Term};

/// A process, by what all nodes print alike.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Member {
    pub(super) node: String,
    pub(super) id: i64,
    pub(super) serial: i64,
}

/// What is in each group, or at each key, by its name in Erlang syntax. Of `pg` it's the members, sorted,
/// each as often as it joined.
pub(super) type View<T = Member> = BTreeMap<String, Vec<T>>;

/// What the groups should be once all is quiet.
#[derive(Default)]
pub(super) struct Model {
    /// For each node the memberships that it publishes.
    nodes: BTreeMap<usize, View>,
}

impl Model {
    pub(super) fn join(&mut self, node: usize, group: &str, members: &[Member]) {
        let groups = self.nodes.entry(node).or_default();
        groups.entry(group.to_owned()).or_default().extend_from_slice(members);
    }

    pub(super) fn leave(&mut self, node: usize, group: &str, members: &[Member]) {
        let Some(joined) = self.nodes.entry(node).or_default().get_mut(group) else { return };
        for member in members {
            if let Some(place) = joined.iter().position(|one| one == member) {
                joined.remove(place);
            }
        }
    }

    /// A process has ended: it leaves all groups, however often it was in them.
    pub(super) fn ended(&mut self, node: usize, member: &Member) {
        for joined in self.nodes.entry(node).or_default().values_mut() {
            joined.retain(|one| one != member);
        }
    }

    /// The scope on a BEAM has ended, or any node. What it published is lost for good: a new `pg`
    /// doesn't know who was a member.
    pub(super) fn scope_ended(&mut self, node: usize) {
        self.nodes.remove(&node);
    }

    pub(super) fn view(&self) -> View {
        let mut all = View::new();
        for groups in self.nodes.values() {
            for (group, members) in groups {
                all.entry(group.clone()).or_default().extend_from_slice(members);
            }
        }
        comparable(all)
    }
}

/// Sorts the bags and leaves out the empty ones, of which OTP 29 lists some.
pub(super) fn comparable<T: Ord>(mut view: View<T>) -> View<T> {
    view.retain(|_, members| !members.is_empty());
    for members in view.values_mut() {
        members.sort_unstable();
    }
    view
}

/// What differs, a group a line; nothing when nothing does.
pub(super) fn difference<T: fmt::Display + PartialEq>(
    expected: &View<T>,
    found: &View<T>,
) -> String {
    let mut lines = Vec::new();
    let groups = expected.keys().chain(found.keys().filter(|group| !expected.contains_key(*group)));
    for group in groups {
        let (expected, found) = (expected.get(group), found.get(group));
        if expected != found {
            let list = |members: Option<&Vec<T>>| {
                let all = members.into_iter().flatten().map(ToString::to_string);
                all.collect::<Vec<_>>().join(" ")
            };
            lines.push(format!("    {group}: {{{}}} not {{{}}}\n", list(found), list(expected)));
        }
    }
    lines.concat()
}

impl Member {
    /// Reads what `probe:plain/1` makes of a pid, `{Node, Id, Serial}`.
    pub(super) fn read(term: &Term) -> Result<Self> {
        let [node, id, serial] = term.tuple::<3>()?;
        Ok(Self {
            node: node.node_name()?.as_str().to_owned(),
            id: id.integer()?,
            serial: serial.integer()?,
        })
    }
}

impl From<&Pid> for Member {
    fn from(pid: &Pid) -> Self {
        let node = pid.node.as_str().to_owned();
        Self { node, id: pid.id.into(), serial: pid.serial.into() }
    }
}

/// `<a.92.0>`: all nodes are on one host.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.node.split('@').next().unwrap_or_default();
        write!(f, "<{short}.{}.{}>", self.id, self.serial)
    }
}
