//! Old and new releases in one scope: each is told everything, and only in words it knows. A scope on the
//! BEAM crashes on any other.

use anyhow::{Context, Result, ensure};
use data_publisher::term::{NodeName, Term};

use super::{
    cluster::Host,
    model::{Member, Model, difference},
};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_eval, wait_until};

#[tokio::test]
async fn each_of_27_and_29_gets_only_what_it_understands() -> Result<()> {
    every_way_to_meet([Otp::R27, Otp::R29]).await
}

#[tokio::test]
async fn each_of_25_and_27_gets_only_what_it_understands() -> Result<()> {
    every_way_to_meet([Otp::R25, Otp::R27]).await
}

/// Who starts its scope first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum First {
    Beam,
    Rust,
}

/// When the Rust node connects: before any scope runs, or when all have members already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Connect {
    Early,
    Late,
}

async fn every_way_to_meet(releases: [Otp; 2]) -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut beam = Vec::new();
    for (place, otp) in releases.into_iter().enumerate() {
        let node = ErlNode::options(otp, &format!("b{place}"), epmd.port());
        beam.push(Host::beam(node.connect_all_false().start().await?));
    }
    let to = beam[1].name().to_owned();
    beam[0].connect(&to).await?;

    let mut count = 0;
    for hidden in [false, true] {
        for first in [First::Beam, First::Rust] {
            for connect in [Connect::Early, Connect::Late] {
                count += 1;
                let name = NodeName::new(&format!("r{count}@127.0.0.1"))?;
                let rust = Host::rust(name, epmd.port(), hidden).await?;
                let mut meeting = Meeting {
                    hosts: [rust].into_iter().chain(beam).collect(),
                    scope: format!("s{count}"),
                    model: Model::default(),
                };
                let met = meeting.take_place(first, connect).await;
                met.with_context(|| format!("hidden {hidden}, {first:?} first, {connect:?}"))?;
                let mut hosts = meeting.hosts.into_iter();
                hosts.next().context("the Rust node")?.finish().await?;
                beam = hosts.collect();
            }
        }
    }
    for host in beam {
        host.finish().await?;
    }
    Ok(())
}

/// A Rust node, then two BEAM nodes, in one scope.
struct Meeting {
    hosts: Vec<Host>,
    scope: String,
    model: Model,
}

impl Meeting {
    async fn take_place(&mut self, first: First, connect: Connect) -> Result<()> {
        if connect == Connect::Early {
            self.connect().await?;
        }
        let order = if first == First::Rust { [0, 1, 2] } else { [1, 2, 0] };
        for node in order {
            match &mut self.hosts[node] {
                Host::Beam(beam) => beam.start_traced_scope(&self.scope).await?,
                host @ Host::Rust(_) => host.start_scope(&self.scope).await?,
            }
        }
        // Some of it may be done before they have met, when they have the time for it.
        let mut members = Vec::new();
        for node in 0..self.hosts.len() {
            let own = self.hosts[node].spawn(3).await?;
            self.join(node, "g", &[&own[0], &own[0]]).await?;
            self.join(node, "{h,1}", &[&own[0], &own[1]]).await?;
            self.join(node, "gone", &[&own[1]]).await?;
            self.leave(node, "gone", &[&own[1]]).await?;
            members.push(own);
        }
        if connect == Connect::Late {
            self.connect().await?;
        }
        self.equal_views("before").await?;

        for (node, own) in members.iter().enumerate() {
            self.join(node, "g", &[&own[1]]).await?;
            self.join(node, "new", &[&own[2], &own[2], &own[1]]).await?;
            self.leave(node, "new", &[&own[2], &own[1]]).await?;
            // One that isn't in it, and one from which nothing is left.
            self.leave(node, "g", &[&own[2]]).await?;
            self.leave(node, "{h,1}", &[&own[0], &own[1], &own[1]]).await?;
            self.join(node, "{h,1}", &[&own[1]]).await?;
            self.model.ended(node, &own[0]);
            self.hosts[node].kill(std::slice::from_ref(&own[0])).await?;
        }
        self.equal_views("after").await?;

        let us = self.hosts[0].name().to_owned();
        for host in &self.hosts {
            if let Host::Beam(beam) = host {
                let heard = beam.heard_from(&us).await?;
                let new = beam.node.otp() == Otp::R29;
                let (needed, possible): (&[_], &[_]) = if new {
                    (&["{local_data,1}", "update"], &["discover", "{discover,1}"])
                } else {
                    (&["join", "leave", "sync"], &["discover"])
                };
                let known = |word: &&String| {
                    needed.contains(&word.as_str()) || possible.contains(&word.as_str())
                };
                let all = needed.iter().all(|word| heard.iter().any(|one| one == word));
                ensure!(
                    all && heard.iter().all(|word| known(&word)),
                    "{} heard {heard:?}",
                    beam.node
                );
            }
        }
        for (node, own) in members.iter().enumerate() {
            self.hosts[node].kill(&own[1..]).await?;
            self.hosts[node].stop_scope().await?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        for node in 1..self.hosts.len() {
            let to = self.hosts[node].name().to_owned();
            self.hosts[0].connect(&to).await?;
            if let Host::Beam(beam) = &self.hosts[node] {
                let us = self.hosts[0].name();
                let is_here = format!("lists:member('{us}', nodes(connected))");
                wait_eval(&beam.node, &is_here, "true", SOON).await?;
            }
        }
        Ok(())
    }

    async fn join(&mut self, node: usize, group: &str, members: &[&Member]) -> Result<()> {
        let members: Vec<_> = members.iter().copied().cloned().collect();
        self.model.join(node, group, &members);
        self.hosts[node].join(group, &members).await
    }

    async fn leave(&mut self, node: usize, group: &str, members: &[&Member]) -> Result<()> {
        let members: Vec<_> = members.iter().copied().cloned().collect();
        self.model.leave(node, group, &members);
        self.hosts[node].leave(group, &members).await.map(drop)
    }

    async fn equal_views(&mut self, when: &str) -> Result<()> {
        let expected = self.model.view();
        let hosts = &mut self.hosts;
        wait_until(&format!("equal views {when}"), SOON, async || {
            let mut differences = Vec::new();
            for host in hosts.iter_mut() {
                let sight = host.look().await.map_err(|error| format!("{error:#}"))?;
                let difference = difference(&expected, &sight.view);
                if !difference.is_empty() {
                    differences.push(format!("\n  {}:\n{difference}", host.name()));
                }
            }
            if differences.is_empty() { Ok(()) } else { Err(differences.concat()) }
        })
        .await
    }
}

impl super::cluster::BeamNode {
    /// Starts a scope of which every message is noted, from the first on.
    async fn start_traced_scope(&mut self, scope: &str) -> Result<()> {
        scope.clone_into(&mut self.scope);
        self.say(&format!(
            "register({scope}_trace, probe:collector()),
             erlang:trace(self(), true, ['receive', set_on_spawn, {{tracer, whereis({scope}_trace)}}]),
             probe:start_scope({scope})"
        ))
        .await
    }

    /// The words that the scope got from the scope of another node, each once.
    async fn heard_from(&self, peer: &str) -> Result<Vec<String>> {
        let scope = &self.scope;
        let words = self
            .ask(&format!(
                "Word = fun({{discover, _}}) -> discover;
                           ({{discover, _, Version}}) -> {{discover, Version}};
                           ({{'$gen_cast', {{sync, _, Groups}}}}) when is_list(Groups) -> sync;
                           ({{join, _, _, [_ | _]}}) -> join;
                           ({{leave, _, Pid, [_ | _]}}) when is_pid(Pid) -> leave;
                           ({{'$gen_cast', {{local_data, _, Version, #{{}}}}}}) -> {{local_data, Version}};
                           ({{update, _, [_ | _]}}) -> update;
                           (_) -> unknown
                        end,
                 From = fun({{'$gen_cast', Cast}}) -> element(2, Cast); (Plain) -> element(2, Plain) end,
                 lists:usort([Word(Message) ||
                     {{trace, Pid, 'receive', Message}} <- probe:messages({scope}_trace),
                     Pid =:= whereis({scope}), is_tuple(Message), tuple_size(Message) > 1,
                     is_pid(From(Message)), node(From(Message)) =:= '{peer}'])"
            ))
            .await?;
        Ok(words.list()?.iter().map(Term::to_string).collect())
    }
}
