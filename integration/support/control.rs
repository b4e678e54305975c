//! The harness's side of the channel to `probe`, which runs on each node (see `erlang/test/probe.erl`).
//!
//! Threads, not tasks: it has to work in `Drop`, and while a test keeps its runtime busy.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::oneshot;

/// A connection to a node's probe. Dropping it halts the node.
pub(super) struct Control {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// `$k`, `$e` or `$t`, and the text.
type Answer = (u8, String);

/// What becomes of the variables that an expression binds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Variables {
    /// They're there for the next one.
    Keep,
    /// They're not, so that the expression can be evaluated any number of times.
    Forget,
}

impl Control {
    /// Takes a connection over after its hello, which must be that of the expected node.
    pub(super) fn new(mut stream: TcpStream, expected_hello: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        let hello = read_frame(&mut stream).context("no hello from the probe")?;
        let hello = String::from_utf8_lossy(&hello);
        ensure!(hello == expected_hello, "the node says it is `{hello}`, not `{expected_hello}`");
        stream.set_read_timeout(None)?;

        let state = Arc::<Mutex<State>>::default();
        let (mut reader, readers_state) = (stream.try_clone()?, Arc::clone(&state));
        // Ends when the connection does; whoever waits for an answer then sees its sender dropped.
        std::thread::spawn(move || {
            while let Ok(frame) = read_frame(&mut reader) {
                let Some((id, [status, text @ ..])) = frame.split_first_chunk() else { break };
                let answer = (*status, String::from_utf8_lossy(text).into_owned());
                let waiting = lock(&readers_state).waiting.remove(&u64::from_be_bytes(*id));
                // Nobody waits for an answer that comes too late.
                let _ = waiting.map(|sender| sender.send(answer));
            }
            let mut state = lock(&readers_state);
            state.closed = true;
            state.waiting.clear();
        });
        Ok(Self { stream, state })
    }

    /// Evaluates an expression; the error says why there's no value, not what was asked.
    pub(super) async fn eval(
        &self,
        expression: &str,
        variables: Variables,
        deadline: Duration,
    ) -> Result<String> {
        let kind = match variables {
            Variables::Keep => b'e',
            Variables::Forget => b'p',
        };
        let milliseconds = deadline.as_millis() as u32;
        let body = [&milliseconds.to_be_bytes(), expression.as_bytes()].concat();
        match self.ask(kind, &body, deadline + ANSWER_TIME).await? {
            (b'k', value) => Ok(value),
            (b't', place) => bail!("no value within {deadline:?}, hangs in {place}"),
            (_, error) => bail!("{error}"),
        }
    }

    /// Loads a compiled module.
    pub(super) async fn load(&self, beam: &[u8]) -> Result<()> {
        match self.ask(b'l', beam, ANSWER_TIME).await? {
            (b'k', _) => Ok(()),
            (_, error) => bail!("{error}"),
        }
    }

    /// Asks the node to write a line to its log after all that it logs now; returns that line.
    pub(super) fn mark_log(&self) -> Result<String> {
        let id = self.send(b'f', &[], None)?;
        Ok(format!("probe: all logged, {id}"))
    }

    /// Whether the node closed the connection, which it does only by ending.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    async fn ask(&self, kind: u8, body: &[u8], deadline: Duration) -> Result<Answer> {
        let (sender, receiver) = oneshot::channel();
        let id = self.send(kind, body, Some(sender))?;
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => bail!("the node ended"),
            Err(_) => {
                lock(&self.state).waiting.remove(&id);
                bail!("the node itself didn't answer within {deadline:?}")
            }
        }
    }

    fn send(&self, kind: u8, body: &[u8], answer: Option<oneshot::Sender<Answer>>) -> Result<u64> {
        // Held while writing, so that frames don't mix.
        let mut state = lock(&self.state);
        ensure!(!state.closed, "the node ended");
        state.last_id += 1;
        let id = state.last_id;
        if let Some(sender) = answer {
            state.waiting.insert(id, sender);
        }
        let length = (8 + 1 + body.len()) as u32;
        let frame = [&length.to_be_bytes(), &id.to_be_bytes()[..], &[kind], body].concat();
        (&self.stream).write_all(&frame).context("can't reach the node")?;
        Ok(id)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The reader has a clone, so closing ours wouldn't be enough. Fails when it's closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// For an answer that takes the node no time, on a busy machine.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Sends what the node's start waits for, the compiled probe.
pub(super) fn send_probe(stream: &mut TcpStream, beam: &[u8]) -> Result<()> {
    stream.write_all(&[&(beam.len() as u32).to_be_bytes(), beam].concat())?;
    Ok(())
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().expect("nothing panics while it holds the lock")
}
