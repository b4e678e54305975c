//! Two real nodes of a release that talk to each other, and all they say on the way.
//!
//! They have an EPMD each, so that the one that dials finds the other at the port of a proxy.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::epmd::{Epmd, NodeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// All that both sides of a connection said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talk {
    /// By the one that connected.
    pub(crate) asked: Vec<u8>,
    pub(crate) answered: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) epmd: Vec<Talk>,
    /// The messages of the handshake that hold a name, without their lengths.
    pub(crate) name: Vec<u8>,
    pub(crate) challenge: Vec<u8>,
    /// What follows the handshake.
    pub(crate) frames: Talk,
}

/// The node that is dialled.
const CALLED: &str = r#"
    {ok, _} = pg:start(pg),
    Sleeper = spawn(fun() -> timer:sleep(infinity) end),
    pg:join(waiting, [Sleeper, Sleeper]),
    [pg:join({group, N}, Sleeper) || N <- lists:seq(1, 40)],
    register(svc, spawn(fun Loop() ->
        receive
            {From, Tag, Term} -> From ! {Tag, Term};
            {die, Reason} -> exit(Reason);
            _ -> ok
        end,
        Loop()
    end))."#;

/// The node that dials, does all a node can do, and ends.
const CALLER: &str = r#"
    A = 'a@127.0.0.1',
    Self = self(),
    {ok, _} = pg:start(pg),
    Sleep = fun() -> timer:sleep(infinity) end,
    P = spawn(Sleep), Q = spawn(Sleep),
    pg:join(workers, [P, Q, P]),
    true = net_kernel:connect_node(A),
    Eventually = fun Eventually(0, _) -> halt(1);
                     Eventually(N, F) -> F() orelse (timer:sleep(20) == ok andalso Eventually(N - 1, F)) end,
    Eventually(200, fun() -> pg:get_members(waiting) =/= [] end),
    Ask = fun(Term) ->
        Tag = make_ref(),
        {svc, A} ! {Self, Tag, Term},
        receive {Tag, Same} -> Same after 5000 -> halt(2) end
    end,
    pg:join({workers, 1.5, "two", <<3>>}, [P, Q]),
    pg:leave(workers, [P, Q]),
    pg:join(#{map => [1 | 2]}, P),
    exit(Q, kill),
    [Ask(Term) || Term <- [
        [], {}, 255, -1, 1 bsl 31, -(1 bsl 80), 1.5, -0.0, a, 'Ä b', 'é', "text", [1, 300, -5], [a | b],
        <<>>, <<"bytes">>, <<1, 5:3>>, #{}, #{a => 1, {b} => #{1.0 => "c"}}, self(), make_ref(),
        hd(erlang:ports()), fun lists:map/2, fun(X) -> {X, P} end, list_to_tuple(lists:seq(1, 300)),
        lists:seq(1, 200), lists:duplicate(300, $x), {error, {badarg, [{m, f, [1], []}]}}]],
    [R] = pg:get_members({group, 1}),
    M1 = erlang:monitor(process, {svc, A}), erlang:demonitor(M1),
    M2 = erlang:monitor(process, {none, A}),
    receive {'DOWN', M2, _, _, _} -> ok end,
    link(R), unlink(R), Ask(unlinked),
    S = spawn(A, timer, sleep, [infinity]),
    M3 = erlang:monitor(process, S),
    exit(S, {shutdown, [because]}),
    receive {'DOWN', M3, _, _, _} -> ok end,
    process_flag(trap_exit, true),
    T = spawn_link(A, timer, sleep, [infinity]),
    group_leader(self(), T),
    exit(T, kill),
    receive {'EXIT', T, _} -> ok end,
    U = spawn_link(A, timer, sleep, [infinity]),
    V = spawn(fun() -> link(U), exit(bye) end),
    receive {'EXIT', U, bye} -> ok after 1000 -> V end,
    A = rpc:call(A, erlang, node, []),
    A = erpc:call(A, erlang, node, []),
    pong = net_adm:ping(A),
    _ = (catch gen_server:call(R, nothing, 50)),
    _ = sys:get_status({pg, A}),
    Alias = erlang:alias(),
    {svc, A} ! {Alias, by, alias},
    receive {by, alias} -> ok end,
    seq_trace:set_token(label, 17),
    {svc, A} ! {Self, traced, 1},
    R ! traced,
    receive {traced, 1} -> ok end,
    seq_trace:set_token([]),
    Big = binary:copy(<<"b">>, 70000),
    Big = Ask(Big),
    M4 = erlang:monitor(process, {svc, A}),
    {svc, A} ! {die, {reason, Big}},
    receive {'DOWN', M4, _, _, _} -> ok end,
    net_adm:names('127.0.0.1'),
    timer:sleep(200),
    halt(0)."#;

/// Has two nodes of a release talk.
pub(crate) async fn record(erl: &Path) -> Result<Recording> {
    let epmd = erl.with_file_name("epmd");
    let [port_a, port_b] = [free_port().await?, free_port().await?];
    let _epmds = [port_a, port_b].map(|port| {
        Killed(
            Command::new(&epmd)
                .args(["-port", &port.to_string(), "-address", "127.0.0.1"])
                .stdin(Stdio::null())
                .spawn(),
        )
    });
    for port in [port_a, port_b] {
        eventually(async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()).await?;
    }
    let _called = Killed(node(erl, "a", port_a, CALLED).spawn());
    let a = eventually(async || Epmd::new(port_a).lookup("127.0.0.1", "a").await.ok()?).await?;

    let proxy = Proxy::start(a.port).await?;
    let _registration = Epmd::new(port_b).register("a", proxy.port, NodeKind::Visible).await?;
    let epmd = Proxy::start(port_b).await?;
    let mut caller = node(erl, "b", epmd.port, CALLER).spawn()?;
    let status = timeout(Duration::from_secs(60), async {
        loop {
            if let Some(status) = caller.try_wait()? {
                return std::io::Result::Ok(status);
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    if status.is_err() {
        caller.kill()?;
    }
    let status = status.context("the node that dials doesn't end")??;
    ensure!(status.success(), "the node that dials ended with {status}");

    let Some(mut talk) = proxy.talks().into_iter().next() else { anyhow::bail!("nobody dialled") };
    let name = message(&mut talk.asked)?;
    message(&mut talk.asked)?; // The reply.
    message(&mut talk.answered)?; // The status.
    let challenge = message(&mut talk.answered)?;
    message(&mut talk.answered)?; // The acknowledgement.
    Ok(Recording { epmd: epmd.talks(), name, challenge, frames: talk })
}

fn node(erl: &Path, name: &str, epmd: u16, script: &str) -> Command {
    let mut command = Command::new(erl);
    command
        .args(["-noinput", "-start_epmd", "false", "-setcookie", "fuzz", "-connect_all", "false"])
        .args(["-name", &format!("{name}@127.0.0.1")])
        .args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
        .args(["-kernel", "logger_level", "critical", "-eval", script])
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        .stdin(Stdio::null());
    command
}

/// A process that ends with this.
struct Killed(std::io::Result<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Ok(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes the first message of a handshake off.
fn message(bytes: &mut Vec<u8>) -> Result<Vec<u8>> {
    let length = bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
    let end = 2 + length.context("no handshake")?;
    ensure!(bytes.len() >= end, "no whole handshake");
    Ok(bytes.drain(..end).skip(2).collect())
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn eventually<T>(mut get: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    for _ in 0..500 {
        if let Some(value) = get().await {
            return Ok(value);
        }
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("it doesn't start")
}

/// Hands on what comes to another port, and keeps it.
struct Proxy {
    port: u16,
    talks: Arc<Mutex<Vec<Talk>>>,
}

impl Proxy {
    async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let talks = Arc::<Mutex<Vec<Talk>>>::default();
        let all = Arc::clone(&talks);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { break };
                let index = {
                    let mut talks = all.lock().unwrap_or_else(PoisonError::into_inner);
                    talks.push(Talk::default());
                    talks.len() - 1
                };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                let keep = |is_asked: bool| {
                    let all = Arc::clone(&all);
                    move |bytes: &[u8]| {
                        let mut talks = all.lock().unwrap_or_else(PoisonError::into_inner);
                        let Talk { asked, answered } = &mut talks[index];
                        if is_asked { asked } else { answered }.extend_from_slice(bytes);
                    }
                };
                tokio::spawn(hand_on(near_in, far_out, keep(true)));
                tokio::spawn(hand_on(far_in, near_out, keep(false)));
            }
        });
        Ok(Self { port, talks })
    }

    fn talks(&self) -> Vec<Talk> {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn hand_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    keep: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        keep(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
