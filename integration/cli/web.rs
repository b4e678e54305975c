//! A client for the live view that does nothing by itself: each request is written as it's given.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Cli;
use crate::support::{SOON, wait_until};

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// Without those that a stranger's request needs.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Where a `join --http 127.0.0.1:0` listens.
pub(super) async fn address_of(cli: &Cli) -> Result<SocketAddr> {
    let event = cli.event("http", |event| event["event"] == "http").await?;
    Ok(event["address"].as_str().context("an address")?.parse()?)
}

/// Sends a request, as it is, and reads until the other side closes.
pub(super) async fn send(address: SocketAddr, request: &str) -> Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8(answer)?)
    };
    let text = tokio::time::timeout(SOON, exchange).await.context("no answer")??;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head: {text:?}"))?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    ensure!(!chunked, "only streams are chunked: {head}");
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await
}

pub(super) async fn get_json(address: SocketAddr, path: &str) -> Result<Value> {
    let answer = get(address, path).await?;
    ensure!(answer.status == 200, "{path}: {answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

/// Asks until the answer is as it should be.
pub(super) async fn wait_for(
    address: SocketAddr,
    path: &str,
    limit: Duration,
    is_it: impl Fn(&Answer) -> bool,
) -> Result<Answer> {
    wait_until(&format!("what {path} should be"), limit, async || {
        let answer = get(address, path).await.map_err(|error| format!("{error:#}"))?;
        if is_it(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await
}

/// An open stream of events, read by a task that ends with it or when this is dropped.
pub(super) struct Stream {
    events: mpsc::Receiver<(String, Value)>,
}

impl Stream {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (sender, events) = mpsc::channel(1024);
        tokio::spawn(read(stream, sender));
        Ok(Self { events })
    }

    /// The first that is meant of those that come from now on.
    pub(super) async fn event(
        &mut self,
        what: &str,
        is_it: impl Fn(&str, &Value) -> bool,
    ) -> Result<Value> {
        let found = async {
            let mut seen = Vec::new();
            while let Some((kind, data)) = self.events.recv().await {
                if is_it(&kind, &data) {
                    return Ok(data);
                }
                seen.push(kind);
            }
            anyhow::bail!("the stream has ended after {seen:?}")
        };
        tokio::time::timeout(SOON, found).await.with_context(|| format!("no {what}"))?
    }
}

async fn read(stream: TcpStream, sender: mpsc::Sender<(String, Value)>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).await?;
        ensure!(count > 0, "it has ended");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
        while let Some((event, rest)) = text.split_once("\n\n") {
            // The sizes of chunks are on lines of their own, and are no field.
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
                sender.send((kind, serde_json::from_str(&data)?)).await?;
            }
            text = rest.to_owned();
        }
    }
}
