//! The options, as `--help` shows them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args as Group, Parser, Subcommand};
use data_publisher::discovery::Dns;
use data_publisher::term::{Atom, NodeName, Term};
use data_publisher::{Cookie, NodeConfig};

use crate::commands::pages::{Completions, Man};
use crate::config::{ConfigArgs, LimitArgs};
use crate::live::HttpOptions;
use crate::logging::LogArgs;

/// With the revision it's built of, if that is known: `0.1.0 (0123456789ab)`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("DATA_PUBLISHER_REVISION"));

/// A member of Erlang clusters that isn't Erlang: joins through EPMD and the distribution protocol,
/// takes part in `pg`.
#[derive(Debug, Parser)]
#[command(name = "data-publisher", version = VERSION, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the whole thing: nodes find each other, a scope fills, one dies, one returns
    Demo(Demo),
    /// Joins a cluster and a scope of it, shows the view and each change, takes commands on stdin
    Join(Box<Join>),
    /// Runs an EPMD in the foreground
    Epmd(EpmdArgs),
    /// Lists the nodes an EPMD knows, `name<TAB>port` a line
    Names(Names),
    /// Asks a node whether it is there: `pong 0.8 ms`, or `pang` and exit code 1
    Ping(Ping),
    /// Finds out why there's no connection to a node, or who sees something else than others in a scope
    Doctor(Doctor),
    /// Shows the nodes, the scope, rates and events of a cluster in the terminal, as they change
    Top(Top),
    /// Calls a server on a node, as `gen_server:call/2`, and prints its reply as an Erlang term
    Call(Call),
    /// Tells a server on a node something, as `gen_server:cast/2`; nothing comes back
    Cast(Cast),
    /// Calls a function on a node, as `erpc:call/4`, and prints its result as an Erlang term
    Rpc(Rpc),
    /// Shows what is broadcast on a topic of a Phoenix.PubSub, or broadcasts on it
    Pubsub(PubsubArgs),
    /// Prints the completions of a shell
    Completions(Completions),
    /// Prints the manual page, or writes one for each command to a folder
    Man(Man),
}

#[derive(Debug, Group)]
pub(crate) struct Demo {
    /// How many nodes to start in this process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub(crate) nodes: u8,
    /// Keep running at the end, for joining by hand
    #[arg(long)]
    pub(crate) stay: bool,
    /// The port of EPMD
    #[arg(long, value_name = "PORT", env = "ERL_EPMD_PORT", default_value_t = 4369)]
    pub(crate) epmd_port: u16,
    /// The `erl` to start a real Erlang node with; `none` for none [default: the one in the PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) erl: Option<String>,
}

#[derive(Debug, Group)]
#[command(after_help = JOIN_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Join {
    /// Nodes to connect to, and to connect to again whenever they are lost. Without any we wait to
    /// be dialled
    #[arg(value_name = "PEER", value_delimiter = ',')]
    pub(crate) peers: Vec<NodeName>,
    #[command(flatten)]
    pub(crate) identity: Identity,
    /// What runs in the scope
    #[arg(long, value_enum, default_value_t = Module::Pg)]
    pub(crate) module: Module,
    /// The scope to take part in [default: pg with --module pg; else it has to be given]
    #[arg(long, required_if_eq_any([("module", "kv"), ("module", "raw")]))]
    pub(crate) scope: Option<String>,
    /// With --module pg, be a member of this group (Erlang syntax); may be given several times
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<Term>,
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The TCP port other nodes dial [default: that of --dist-port, or any free one]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The address to listen at [default: all, or the name's host part if it is a loopback address]
    #[arg(long)]
    pub(crate) listen: Option<IpAddr>,
    /// Seconds of silence until a node counts as gone, give or take a quarter; best what the others have
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) net_ticktime: u64,
    /// Go on when none of the PEERs can be reached at the start, and try again and again
    #[arg(long)]
    pub(crate) keep_trying: bool,
    /// Run no EPMD of our own where nothing answers on its port
    #[arg(long)]
    pub(crate) no_embedded_epmd: bool,
    /// Connect only to the nodes named, not to those they know
    #[arg(long)]
    pub(crate) no_mesh: bool,
    /// Hosts whose nodes to connect to, all that are registered in their EPMDs, now and later
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    pub(crate) epmd_hosts: Vec<String>,
    /// A name in the DNS whose addresses are nodes, `BASENAME@address` each, now and later; may be given
    /// several times [BASENAME: our own name's]
    #[arg(long, value_name = "[BASENAME@]NAME", value_delimiter = ',')]
    pub(crate) dns: Vec<String>,
    /// As --dns, with the targets of the name's SRV records
    #[arg(long, value_name = "[BASENAME@]NAME", value_delimiter = ',')]
    pub(crate) dns_srv: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) http: HttpOptions,
}

/// Which publisher.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Module {
    /// Process groups, as OTP's pg
    Pg,
    /// Keys and values, as `dp_kv`: each node owns its keys
    Kv,
    /// Any publisher's, only watched: what its peers say, as terms. Publishes nothing
    Raw,
}

/// A publisher whose views can be compared from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Comparable {
    /// Process groups, as OTP's pg
    Pg,
    /// Keys and values, as `dp_kv`
    Kv,
}

/// Who we are, and the secret of the cluster.
#[derive(Debug, Group)]
pub(crate) struct Identity {
    /// Our name, `name@host`; it decides what peers dial
    #[arg(long, value_name = "NAME@HOST")]
    pub(crate) name: NodeName,
    #[command(flatten)]
    pub(crate) access: Access,
}

#[derive(Debug, Group)]
pub(crate) struct Access {
    /// The cluster's cookie [default: `DATA_PUBLISHER_COOKIE`, else the file `.erlang.cookie` at home]
    #[arg(long, conflicts_with = "cookie_file", hide_env_values = true)]
    pub(crate) cookie: Option<Secret>,
    /// A file with the cookie; other users can't see it there, as they can an option
    #[arg(long, value_name = "FILE")]
    pub(crate) cookie_file: Option<PathBuf>,
    /// Be a hidden node: not in `nodes()`, and as good a member
    #[arg(long)]
    pub(crate) hidden: bool,
    /// The port of EPMD, on all hosts
    #[arg(long, value_name = "PORT", env = "ERL_EPMD_PORT", default_value_t = 4369)]
    pub(crate) epmd_port: u16,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: crate::tls::TlsArgs,
    /// The TCP port of every node: there's no EPMD. As `erl -erl_epmd_port`, and `ERL_DIST_PORT` of
    /// Elixir's releases
    #[arg(long, value_name = "PORT")]
    pub(crate) dist_port: Option<u16>,
}

/// A text that nothing prints.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Debug, Group)]
pub(crate) struct EpmdArgs {
    /// The port to listen at
    #[arg(long, env = "ERL_EPMD_PORT", default_value_t = 4369)]
    pub(crate) port: u16,
    /// An address to listen at, besides loopback; may be given several times
    #[arg(long)]
    pub(crate) address: Vec<IpAddr>,
}

#[derive(Debug, Group)]
pub(crate) struct Names {
    /// The host whose EPMD is asked
    #[arg(default_value = "localhost")]
    pub(crate) host: String,
    /// The port of EPMD
    #[arg(long, value_name = "PORT", env = "ERL_EPMD_PORT", default_value_t = 4369)]
    pub(crate) epmd_port: u16,
}

#[derive(Debug, Group)]
pub(crate) struct Ping {
    /// The node
    pub(crate) node: NodeName,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

#[derive(Debug, Group)]
#[command(after_help = "\
Each step is told when it's done, and a failed one with its cure.
Exit code: 0 when all is well, 1 when a step failed, 2 for any failure here.")]
pub(crate) struct Doctor {
    /// The node
    pub(crate) node: NodeName,
    /// What runs in the scope
    #[arg(long, value_enum, default_value_t = Comparable::Pg)]
    pub(crate) module: Comparable,
    /// The scope to look at [default: pg with --module pg; else it has to be given]
    #[arg(long, required_if_eq("module", "kv"))]
    pub(crate) scope: Option<String>,
    /// One JSON object a step instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

#[derive(Debug, Group)]
pub(crate) struct Top {
    /// Nodes to connect to; the others are found through them
    #[arg(value_name = "NODE", required = true)]
    pub(crate) nodes: Vec<NodeName>,
    /// What runs in the scope
    #[arg(long, value_enum, default_value_t = Module::Pg)]
    pub(crate) module: Module,
    /// The scope to look at [default: pg with --module pg; else it has to be given]
    #[arg(long, required_if_eq_any([("module", "kv"), ("module", "raw")]))]
    pub(crate) scope: Option<String>,
    /// Connect only to the nodes named, not to those they know
    #[arg(long)]
    pub(crate) no_mesh: bool,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

#[derive(Debug, Group)]
#[command(after_help = "\
Example: call a@127.0.0.1 counter '{add, 1}'
Exit code: 0 for a reply, 1 when there is no such process or it ended instead, 2 for any failure.")]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Seconds to wait for the reply
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) timeout: f64,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

#[derive(Debug, Group)]
pub(crate) struct Cast {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

/// Whom to ask, and what.
#[derive(Debug, Group)]
pub(crate) struct Server {
    /// The node
    pub(crate) node: NodeName,
    /// The server's registered name: `counter`, `Elixir.MyApp.Counter`
    #[arg(value_name = "NAME", value_parser = atom)]
    pub(crate) to: Atom,
    /// The request, in Erlang syntax
    pub(crate) term: Term,
}

#[derive(Debug, Group)]
#[command(after_help = "\
Example: rpc a@127.0.0.1 lists reverse '[[1, 2, 3]]'
Exit code: 0 for a result, 1 for an exception of the function, 2 for any failure.")]
pub(crate) struct Rpc {
    /// The node
    pub(crate) node: NodeName,
    /// The function's module
    #[arg(value_parser = atom)]
    pub(crate) module: Atom,
    /// The function
    #[arg(value_parser = atom)]
    pub(crate) function: Atom,
    /// Its arguments, an Erlang list
    #[arg(default_value = "[]")]
    pub(crate) args: Term,
    /// Seconds to wait for the result
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) timeout: f64,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

/// Who we are while we ask something.
#[derive(Debug, Group)]
pub(crate) struct Guest {
    /// Our name while we ask [default: one that nobody has, at the node's host if that is loopback]
    #[arg(long, value_name = "NAME@HOST")]
    pub(crate) name: Option<NodeName>,
    #[command(flatten)]
    pub(crate) access: Access,
}

#[derive(Debug, Group)]
#[command(after_help = PUBSUB_HELP)]
pub(crate) struct PubsubArgs {
    /// A node of the cluster that has the pubsub; the others are found through it
    pub(crate) node: NodeName,
    /// The pubsub's name as Elixir writes it: `MyApp.PubSub`, or `:my_pubsub`
    #[arg(value_name = "NAME")]
    pub(crate) pubsub: String,
    /// The topic, a text
    pub(crate) topic: String,
    /// Broadcast this once, in Erlang syntax, to all nodes, and end
    #[arg(long, value_name = "TERM")]
    pub(crate) publish: Option<Term>,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

/// An atom, with or without quotes.
fn atom(text: &str) -> Result<Atom, String> {
    if text.starts_with('\'') {
        let term: Term = text.parse().map_err(|error| format!("{error}"))?;
        return term.atom().cloned().map_err(|error| error.to_string());
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// Up to a day: longer waits are mistakes.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it takes seconds, up to 86400".to_owned()),
    }
}

impl Access {
    /// The settings of a node of this name.
    pub(crate) fn config(&self, name: &NodeName) -> anyhow::Result<NodeConfig> {
        let cookie = match (&self.cookie, &self.cookie_file) {
            (Some(cookie), _) => Cookie::new(&cookie.0)?,
            (None, Some(file)) => Cookie::from_file(file)?,
            (None, None) => Cookie::find()?,
        };
        let mut config = NodeConfig::new(name)?.cookie(cookie).epmd_port(self.epmd_port);
        if let Some(port) = self.dist_port {
            config = config.dist_port(port);
        }
        #[cfg(feature = "tls")]
        let config = self.tls.apply(config)?;
        Ok(if self.hidden { config.hidden() } else { config })
    }
}

impl Join {
    /// The scope's name.
    pub(crate) fn scope(&self) -> anyhow::Result<Atom> {
        self.scope.as_deref().unwrap_or("pg").parse().map_err(|error| anyhow!("--scope: {error}"))
    }

    /// The node's settings.
    pub(crate) fn config(&self) -> anyhow::Result<NodeConfig> {
        let mut config = self.identity.access.config(&self.identity.name)?;
        let limits = self.limits.limits(Duration::from_secs(self.net_ticktime));
        config = config.mesh(!self.no_mesh).limits(limits).embedded_epmd(!self.no_embedded_epmd);
        if let Some(port) = self.port {
            config = config.port(port);
        }
        for host in &self.epmd_hosts {
            config = config.epmd_host(host);
        }
        let own = self.identity.name.short();
        for name in &self.dns {
            let (basename, query) = name.split_once('@').unwrap_or((own, name));
            config = config.discovery(Dns::addresses(query, basename));
        }
        for name in &self.dns_srv {
            let (basename, query) = name.split_once('@').unwrap_or((own, name));
            config = config.discovery(Dns::services(query, basename));
        }
        if let Some(address) = self.listen {
            config = config.listen(address);
        }
        for peer in &self.peers {
            if *peer == self.identity.name {
                return Err(anyhow!(
                    "PEER {peer} is our own name. Give another node, or another --name"
                ));
            }
            config = config.seed(peer.clone());
        }
        Ok(config)
    }
}

/// The contract of `join`: commands in, events out.
const JOIN_HELP: &str = "\
Commands on stdin, one a line; GROUP, KEY and TERM in Erlang syntax. With --module pg:
  join GROUP [COUNT]   make COUNT (default 1) new member processes
  leave GROUP [COUNT]  end the newest COUNT of them
  members GROUP        all members, of all nodes
  local GROUP          the members of this node
  groups               all groups that have members
  send GROUP TERM      send TERM to all members
With --module kv:
  put KEY TERM         our value of KEY from now on
  delete KEY           we have none any more
  get KEY              its values, by the nodes that own them
  all                  all keys with all values
With --module raw:
  data                 what each node said last, and how many updates came after it
With all:
  peers                the scope's processes on other nodes
  nodes                the nodes connected
  help                 these commands
  quit                 leave the cluster and end
The end of input does not end it; quit, SIGINT and SIGTERM do, politely.

With --json each line is one object whose field `event` says what it is:
  up         {node, port, creation}    we are ready to be dialled
  http       {address}                 with --http: the live view is served there
  node_up    {node, visible, flags}    a node is connected; what both ends agreed on
  node_down  {node, reason}            it no longer is
  peer_up    {node, pid, version}      a process runs the same scope there
  peer_down  {node, pid, reason}       it no longer does
  join       {group, pids}             members have come
  leave      {group, pids}             members have gone
  message    {pid, term}               one of our members got a message
  put        {node, key, value}        a node has put a key
  delete     {node, key}               it has deleted it, or is gone
  local_data {node, data}              raw: all a node has to say
  update     {node, update}            raw: what changes in it
  lagged     {}                        raw: this output is read too slowly, updates were left out
  reply      {command, ok | error}     the answer to a line of input; empty lines get none
Nodes are strings (\"a@127.0.0.1\"), terms are strings in Erlang syntax, pids are \"<node.id.serial>\",
ports and creations are numbers. What a reply has as `ok`: of members, local, groups and nodes an
array of strings; of peers an array of {node, pid, version}; of join and leave the array of the pids
they made or ended; of send the number of members it was sent to; of put and delete whether that
changed anything; of get an array of {node, value}, of all one of {key, node, value}, of data one of
{node, updates, data}; of help a string; of quit null.
A line that can't be obeyed gets `error`, a sentence; the next ones are read as ever.

Exit code: 0 after quit or a signal, 2 when it can't start or none of the PEERs can be reached, unless
--keep-trying is given.";

const PUBSUB_HELP: &str = "\
Prints each message as an Erlang term, one a line, until SIGINT or SIGTERM. What a channel broadcasts is
the map that its struct is, #{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast', ...}.

With --publish nothing is printed; it ends when all nodes that have the pubsub have got the message. An
Elixir string is a binary here: --publish '{user_left, <<\"ann\">>}'.

Exit code: 0 after a signal, or when the message was sent; 2 when NODE can't be reached or hasn't the pubsub.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_fit_together() {
        Args::command().debug_assert();
        crate::config::command().debug_assert();
    }
}
