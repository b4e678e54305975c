//! A small model of `data_publisher` on the BEAM with any callback module: OTP 29's own, and ours for
//! the releases before.
//!
//! The two differ in what they believe of a peer's version. Both take it from its `discover`. OTP 29
//! then labels its local data with the version of the *receiver*, and whoever gets it takes that
//! label for the version of the *sender*: so a newer one ends up writing its own format to an older
//! one. Ours labels with the lower of both versions and believes the `discover` alone.
//!
//! Source: `data_publisher`, OTP 29: `handle_info/2`, `translate_local_data/3`; `erlang/otp25`.

use std::collections::BTreeMap;

use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{atom, tuple};

use crate::subject::{Beam, Out};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rules {
    Otp29,
    Ours,
}

/// The callback module, for what isn't the same in all of them. An error is a crash.
pub(crate) trait Callbacks {
    type Update;
    type Data: Clone + Default;

    /// `version/0`.
    fn version(&self) -> Term;
    /// An update as the module's own users write it.
    fn update_term(&self, update: &Self::Update) -> Term;
    /// `update_local_data/2`.
    fn update_local_data(&self, update: &Term, data: &mut Self::Data) -> Result<(), String>;
    /// `translate_update/3`, from our version.
    fn translate_update(&self, theirs: &Term, update: &Term) -> Term;
    /// `translate_local_data/3`, from our version.
    fn translate_local_data(&self, theirs: &Term, data: &Self::Data) -> Term;
    /// What `data_diff/2` makes of a peer's local data.
    fn read_local_data(&self, data: &Term) -> Result<Self::Data, String>;
    /// Whether the next scope of the node still has the data.
    fn keeps(&self) -> bool;
}

struct Remote<D> {
    reference: u64,
    version: Term,
    data: D,
    /// Counts up with each peer; the view shows the youngest of a node.
    since: u64,
    is_synced: bool,
}

pub(crate) struct Behaviour<C: Callbacks> {
    rules: Rules,
    module: C,
    me: Pid,
    version: Term,
    local: C::Data,
    remote: BTreeMap<Pid, Remote<C::Data>>,
    references: u64,
    out: Vec<Out>,
}

impl<C: Callbacks> Behaviour<C> {
    pub(crate) fn new(rules: Rules, module: C, me: Pid, left: Option<C::Data>) -> Self {
        Self {
            version: module.version(),
            rules,
            module,
            me,
            local: left.unwrap_or_default(),
            remote: BTreeMap::new(),
            references: 0,
            out: Vec::new(),
        }
    }

    fn discover(&mut self, peer: &Pid, version: &Term) {
        self.send_local_data(peer, version);
        if !self.remote.contains_key(peer) {
            self.add_peer(peer, version);
            self.out.push(Out::Send(peer.clone(), self.hello()));
        }
        if self.rules == Rules::Ours
            && let Some(remote) = self.remote.get_mut(peer)
        {
            remote.version = version.clone();
        }
    }

    fn send_local_data(&mut self, peer: &Pid, version: &Term) {
        let label = match self.rules {
            Rules::Otp29 => version,
            Rules::Ours => version.min(&self.version),
        };
        let data = self.module.translate_local_data(label, &self.local);
        let message = tuple![atom!("local_data"), &self.me, label, data];
        self.out.push(Out::Send(peer.clone(), tuple![atom!("$gen_cast"), message]));
    }

    fn local_data(&mut self, peer: &Pid, label: &Term, data: &Term) -> Result<(), String> {
        if !self.remote.contains_key(peer) {
            self.add_peer(peer, label);
        }
        let data = self.module.read_local_data(data)?;
        if let Some(remote) = self.remote.get_mut(peer) {
            remote.data = data;
            remote.is_synced = true;
            if self.rules == Rules::Otp29 {
                remote.version = label.clone();
            }
        }
        Ok(())
    }

    fn update_of(&mut self, peer: &Pid, update: &Term) -> Result<(), String> {
        match self.remote.get_mut(peer) {
            // OTP 29 applies what came too early.
            Some(remote) if remote.is_synced || self.rules == Rules::Otp29 => {
                self.module.update_local_data(update, &mut remote.data)
            }
            _ => Ok(()),
        }
    }

    fn add_peer(&mut self, peer: &Pid, version: &Term) {
        self.references += 1;
        self.out.push(Out::Monitor(self.references, peer.clone()));
        let remote = Remote {
            reference: self.references,
            version: version.clone(),
            data: C::Data::default(),
            since: self.references,
            is_synced: false,
        };
        self.remote.insert(peer.clone(), remote);
    }
}

impl<C: Callbacks> Beam for Behaviour<C> {
    type Update = C::Update;
    type Data = C::Data;

    fn me(&self) -> &Pid {
        &self.me
    }

    fn hello(&self) -> Term {
        tuple![atom!("discover"), &self.me, &self.version]
    }

    fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    fn message(&mut self, message: &Term) -> Result<(), String> {
        let body = match message.tagged("$gen_cast") {
            Some([body]) => body,
            _ => message,
        };
        let Some((Term::Atom(word), rest)) =
            body.tuple_elements().ok().and_then(<[_]>::split_first)
        else {
            return Ok(());
        };
        match (word.as_str(), rest) {
            ("discover", [Term::Pid(peer), version]) => self.discover(peer, version),
            ("local_data", [Term::Pid(peer), label, data]) => {
                self.local_data(peer, label, data)?;
            }
            ("update", [Term::Pid(peer), update]) => self.update_of(peer, update)?,
            _ => {}
        }
        Ok(())
    }

    fn down(&mut self, reference: u64, pid: &Pid) {
        if self.remote.get(pid).is_some_and(|remote| remote.reference == reference) {
            self.remote.remove(pid);
        }
    }

    fn update(&mut self, update: &C::Update) {
        let update = self.module.update_term(update);
        let applied = self.module.update_local_data(&update, &mut self.local);
        assert_eq!(applied, Ok(()), "can't read its own update");
        for (peer, remote) in &self.remote {
            let theirs = match self.rules {
                Rules::Otp29 => &remote.version,
                Rules::Ours => (&remote.version).min(&self.version),
            };
            let translated = self.module.translate_update(theirs, &update);
            let message = tuple![atom!("update"), &self.me, translated];
            self.out.push(Out::Send(peer.clone(), message));
        }
    }

    fn peers(&self) -> impl Iterator<Item = &Pid> {
        self.remote.keys()
    }

    fn local(&self) -> C::Data {
        self.local.clone()
    }

    fn view(&self) -> Vec<(NodeName, C::Data)> {
        let mut youngest: BTreeMap<&NodeName, &Remote<C::Data>> = BTreeMap::new();
        for (pid, remote) in &self.remote {
            let shown = youngest.entry(&pid.node).or_insert(remote);
            if shown.since < remote.since {
                *shown = remote;
            }
        }
        let others = youngest.into_iter().map(|(node, remote)| (node.clone(), remote.data.clone()));
        others.chain([(self.me.node.clone(), self.local.clone())]).collect()
    }

    fn leave(&self) -> Option<C::Data> {
        self.module.keeps().then(|| self.local.clone())
    }
}
