//! What a user of Erlang or Elixir types in the first ten minutes: one list, on each release, to a
//! visible node, a hidden one, and both again over TLS.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::gen_server::{self, Caller, GenServer, Reply};
use data_publisher::node::{NodeConfig, Process, Received};
use data_publisher::pg::Pg;
use data_publisher::rpc::Exception;
use data_publisher::term::{Atom, List, Pid, Term};
use data_publisher::wire::Flags;
use data_publisher::{Cookie, Node, atom, tuple};

use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Certificates, Epmd, ErlNode, Otp, SOON, Security, cookie, wait_until};
use crate::tls::allow_ends;

on_each_release! {
    a_visible_node_answers_all_of_it
    a_hidden_node_answers_all_of_it
    a_visible_node_answers_all_of_it_over_tls
    a_hidden_node_answers_all_of_it_over_tls
    elixir_gets_all_the_answers
}

/// So long may take what a user types.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Messages to a process that sleeps.
const FLOOD: i64 = 1_000_000;

/// Any source will do: it's Elixir itself that is wanted.
const ELIXIR: &str = "integration/elixir/pubsub.ex";

#[derive(Clone, Copy, PartialEq)]
struct Way {
    hidden: bool,
    tls: bool,
}

async fn a_visible_node_answers_all_of_it(otp: Otp) -> Result<()> {
    in_erlang(otp, Way { hidden: false, tls: false }).await
}

async fn a_hidden_node_answers_all_of_it(otp: Otp) -> Result<()> {
    in_erlang(otp, Way { hidden: true, tls: false }).await
}

async fn a_visible_node_answers_all_of_it_over_tls(otp: Otp) -> Result<()> {
    in_erlang(otp, Way { hidden: false, tls: true }).await
}

async fn a_hidden_node_answers_all_of_it_over_tls(otp: Otp) -> Result<()> {
    in_erlang(otp, Way { hidden: true, tls: true }).await
}

/// Both nodes and what runs on ours.
struct Pair {
    beam: ErlNode,
    rust: Node,
    sleeper: Process,
    /// Two to be killed.
    victims: [Process; 2],
    _pg: Pg,
    _certificates: Option<Certificates>,
    _epmd: Epmd,
}

struct Counter;

impl GenServer for Counter {
    async fn handle_call(
        &mut self,
        request: Term,
        caller: Caller,
        _: &gen_server::Context,
    ) -> Reply {
        if request.is_atom("later") {
            tokio::spawn(async move { caller.reply(atom!("later")) });
            return Reply::Later;
        }
        Reply::Now(7.into())
    }
}

async fn pair(otp: Otp, way: Way, elixir: bool) -> Result<Pair> {
    let epmd = Epmd::start_of(otp).await?;
    let config = NodeConfig::new("r@127.0.0.1")?.cookie(Cookie::new(cookie())?);
    let mut config = config.epmd_port(epmd.port());
    let mut options = ErlNode::options(otp, "a", epmd.port());
    let mut certificates = None;
    if way.tls {
        let all = Certificates::new(otp).await?;
        options = options.tls(&all, &Security::good())?;
        config = config.tls(all.tls(&Security::good())?);
        certificates = Some(all);
    }
    if way.hidden {
        config = config.hidden();
    }
    let beam = if elixir { options.start_elixir(ELIXIR).await? } else { options.start().await? };
    if way.tls {
        allow_ends(&beam);
    }
    beam.eval(
        "R = 'r@127.0.0.1', Watch = spawn(fun() -> \
         ok = net_kernel:monitor_nodes(true, [{node_type, all}]), \
         F = fun F(Seen) -> receive {seen, P} -> P ! {seen, lists:reverse(Seen)}, F(Seen); \
         {nodeup, N, _} -> F([{up, N} | Seen]); {nodedown, N, _} -> F([{down, N} | Seen]) end end, \
         F([]) end), \
         Seen = fun() -> Watch ! {seen, self()}, receive {seen, S} -> S end end, []= Seen(), ok",
    )
    .await?;

    let rust = data_publisher::start(config).await?;
    echo(&rust)?;
    gen_server::start_registered(&rust, atom!("counter"), Counter)?;
    rust.rpc().allow(atom!("my_app"), atom!("double"), 1, async |args: List| {
        let [Term::Integer(number)] = &args[..] else { return Err(Exception::badarg()) };
        Ok(Term::from(2 * number))
    });
    let pg = Pg::start(&rust, atom!("s"))?;
    let sleeper = rust.spawn();
    rust.register(atom!("sleeper"), sleeper.pid())?;
    let victims = [rust.spawn(), rust.spawn()];
    rust.connect("a@127.0.0.1").await?;
    Ok(Pair { beam, rust, sleeper, victims, _pg: pg, _certificates: certificates, _epmd: epmd })
}

/// A process that returns `{echo, What}` to who sends `{Pid, What}`.
fn echo(node: &Node) -> Result<()> {
    let mut process = node.spawn();
    node.register(Atom::new("echo")?, process.pid())?;
    tokio::spawn(async move {
        while let Some(received) = process.receive().await {
            if let Ok([Term::Pid(from), what]) = received.into_term().tuple::<2>() {
                process.send(from.clone(), tuple![atom!("echo"), what]);
            }
        }
    });
    Ok(())
}

impl Pair {
    async fn assert(&self, erlang: &str, expected: &str) -> Result<()> {
        let start = Instant::now();
        let value = self.beam.eval(erlang).await?;
        judge(erlang, start, &value, expected)
    }

    async fn assert_elixir(&self, elixir: &str, expected: &str) -> Result<()> {
        let start = Instant::now();
        let value = self.beam.elixir(&format!("r = :\"r@127.0.0.1\"; {elixir}")).await?;
        judge(elixir, start, &value, expected)
    }

    /// The BEAM says goodbye to us once, and we end.
    async fn finish(self) -> Result<()> {
        self.rust.stop().await;
        let once = "[{up,'r@127.0.0.1'},{down,'r@127.0.0.1'}]";
        wait_until("nodeup once and nodedown once", SOON, async || {
            match self.beam.peek("Seen()").await {
                Ok(seen) if seen == once => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        self.beam.finish().await
    }
}

fn judge(what: &str, start: Instant, value: &str, expected: &str) -> Result<()> {
    let took = start.elapsed();
    ensure!(value == expected, "`{what}` is {value}, not {expected}");
    ensure!(took < AT_ONCE, "`{what}` took {took:?}");
    Ok(())
}

async fn in_erlang(otp: Otp, way: Way) -> Result<()> {
    let mut pair = pair(otp, way, false).await?;
    let nodes = if way.hidden {
        "{[],['r@127.0.0.1'],['r@127.0.0.1']}"
    } else {
        "{['r@127.0.0.1'],[],['r@127.0.0.1']}"
    };
    let [monitored, linked] = &pair.victims;
    let (monitored, linked) = (erlang_pid(monitored.pid()), erlang_pid(linked.pid()));
    let kill_monitored = format!(
        "V = {monitored}, M = monitor(process, V), exit(V, kill), \
         receive {{'DOWN', M, process, V, Why}} -> Why end"
    );
    let kill_linked = format!(
        "process_flag(trap_exit, true), W = {linked}, link(W), exit(W, kill), \
         receive {{'EXIT', W, Reason}} -> Reason end"
    );
    for (erlang, expected) in [
        ("net_adm:ping(R)", "pong"),
        ("{nodes(), nodes(hidden), nodes(connected)}", nodes),
        ("Seen()", "[{up,'r@127.0.0.1'}]"),
        (
            "{echo, R} ! {self(), B = binary:copy(<<7>>, 10485760)}, receive {echo, B} -> ok end",
            "ok",
        ),
        ("gen_server:call({counter, R}, get)", "7"),
        ("gen_server:call({counter, R}, later)", "later"),
        (
            "catch gen_server:call({missing, R}, x)",
            "{'EXIT',{noproc,{gen_server,call,[{missing,'r@127.0.0.1'},x]}}}",
        ),
        ("gen_server:multi_call([R], counter, get)", "{[{'r@127.0.0.1',7}],[]}"),
        ("gen_server:multi_call([R], missing, get)", "{[],['r@127.0.0.1']}"),
        (
            "N = monitor(process, {missing, R}), receive {'DOWN', N, process, _, No} -> No end",
            "noproc",
        ),
        (&kill_monitored, "killed"),
        (&kill_linked, "killed"),
        ("rpc:call(R, my_app, double, [21])", "42"),
        ("erpc:call(R, my_app, double, [21])", "42"),
        ("rpc:multicall([R], my_app, double, [-21])", "{[-42],[]}"),
        ("{badrpc, {'EXIT', {undef, _}}} = rpc:call(R, os, cmd, [\"id\"]), no", "no"),
        ("try erpc:call(R, os, cmd, [\"id\"]) catch error:{exception, undef, _} -> no end", "no"),
        (
            "{[{badrpc, {'EXIT', {undef, _}}}], []} = rpc:multicall([R], os, cmd, [\"id\"]), no",
            "no",
        ),
        ("global:sync()", "ok"),
        ("maps:get(scope, sys:get_state({s, R}))", "s"),
        ("element(1, sys:get_status({s, R}))", "status"),
        // What a remote shell begins with.
        (
            "process_flag(trap_exit, true), Shell = spawn_link(R, shell, start, []), \
             receive {'EXIT', Shell, {undef, _}} -> no end",
            "no",
        ),
    ] {
        pair.assert(erlang, expected).await?;
    }

    pair.beam.load("erlang/test/flood.erl").await?;
    let flood = format!("flood:send({{sleeper, R}}, {FLOOD})");
    let longest: u64 = pair.beam.eval_within(&flood, 6 * SOON).await?.parse()?;
    ensure!(longest < 1_000_000, "a send took {longest} us");
    for number in 1..=FLOOD {
        let message = tokio::time::timeout(SOON, pair.sleeper.receive()).await?;
        let message = message.map(Received::into_term).context("the sleeper has ended")?;
        ensure!(message == tuple![atom!("msg"), number], "{message} instead of {number}");
    }
    pair.finish().await
}

/// A pid of ours in Elixir.
fn elixir_pid(pid: &Pid) -> String {
    let (node, id, serial, creation) = (&pid.node, pid.id, pid.serial, pid.creation);
    format!(
        ":erlang.binary_to_term(<<131, 88, 119, {}, \"{node}\", {id}::32, {serial}::32, \
         {creation}::32>>)",
        node.as_str().len()
    )
}

async fn elixir_gets_all_the_answers(otp: Otp) -> Result<()> {
    for tls in [false, true] {
        let pair = pair(otp, Way { hidden: false, tls }, true).await?;
        let [monitored, linked] = &pair.victims;
        let kill_monitored = format!(
            "pid = {}; ref = Process.monitor(pid); Process.exit(pid, :kill); \
             receive do {{:DOWN, ^ref, :process, ^pid, why}} -> why end",
            elixir_pid(monitored.pid())
        );
        let kill_linked = format!(
            "Process.flag(:trap_exit, true); pid = {}; Process.link(pid); \
             Process.exit(pid, :kill); receive do {{:EXIT, ^pid, why}} -> why end",
            elixir_pid(linked.pid())
        );
        for (elixir, expected) in [
            ("Node.ping(r)", "pong"),
            (
                "{Node.list(), Node.list(:hidden), Node.list(:connected)}",
                "{['r@127.0.0.1'],[],['r@127.0.0.1']}",
            ),
            (
                "b = :binary.copy(<<7>>, 10_485_760); send({:echo, r}, {self(), b}); \
                 receive do {:echo, ^b} -> :ok end",
                "ok",
            ),
            ("GenServer.call({:counter, r}, :get)", "7"),
            ("GenServer.call({:counter, r}, :later)", "later"),
            ("try do GenServer.call({:missing, r}, :x) catch :exit, {why, _} -> why end", "noproc"),
            ("GenServer.multi_call([r], :counter, :get)", "{[{'r@127.0.0.1',7}],[]}"),
            (
                "ref = Process.monitor({:missing, r}); \
                 receive do {:DOWN, ^ref, :process, _, why} -> why end",
                "noproc",
            ),
            (&kill_monitored, "killed"),
            (&kill_linked, "killed"),
            (":rpc.call(r, :my_app, :double, [21])", "42"),
            (":erpc.call(r, :my_app, :double, [21])", "42"),
            (":rpc.multicall([r], :my_app, :double, [-21])", "{[-42],[]}"),
            ("{:badrpc, {:EXIT, {:undef, _}}} = :rpc.call(r, System, :halt, []); :no", "no"),
            (":global.sync()", "ok"),
            (":sys.get_state({:s, r}).scope", "s"),
            ("elem(:sys.get_status({:s, r}), 0)", "status"),
        ] {
            pair.assert_elixir(elixir, expected).await?;
        }
        pair.finish().await?;
    }
    Ok(())
}

/// The list is worth something only with what the BEAM negotiates by itself.
#[test]
fn fragments_the_atom_cache_and_spawn_requests_are_offered() {
    let all = Flags::FRAGMENTS.with(Flags::DIST_HDR_ATOM_CACHE).with(Flags::SPAWN);
    assert!(Flags::OFFERED.contains(all.with(Flags::ALTACT_SIG)));
}
