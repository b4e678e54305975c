//! What is served where.
//!
//! | path | |
//! | --- | --- |
//! | `/` | the page |
//! | `/events` | what happens, and how it is every second: a stream |
//! | `/state` | how it is, as JSON |
//! | `/search?q=TEXT&n=MOST` | groups or keys, as JSON |
//! | `/metrics` | for Prometheus |
//! | `/healthz`, `/readyz` | 200 or 503, and why |

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::guard::{Guard, Refusal};
use super::ready::Readiness;
use super::search::MOST;
use super::server::Visit;
use super::sse::Streams;
use super::state::Model;
use super::{json, metrics, page};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nothing but the page itself runs anything.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

#[derive(Debug)]
pub(super) struct Site {
    model: Arc<Model>,
    guard: Guard,
    streams: Streams,
}

impl Site {
    pub(super) fn new(model: Arc<Model>, guard: Guard) -> Self {
        Self { model, guard, streams: Streams::default() }
    }

    /// Answers a request. Its body isn't read.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        visit: Visit,
    ) -> Result<Answer, Infallible> {
        let mut answer = match self.guard.check(request.headers()) {
            Ok(()) if [Method::GET, Method::HEAD].contains(request.method()) => {
                self.page(&request, visit).await
            }
            Ok(()) => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
                set(&mut answer, header::ALLOW, "GET, HEAD");
                answer
            }
            Err(refusal) => refused(&refusal),
        };
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            set(&mut answer, name, value);
        }
        set(&mut answer, "cross-origin-resource-policy", "same-origin");
        answer
            .headers_mut()
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static(NOTHING));
        Ok(answer)
    }

    async fn page(&self, request: &Request<Incoming>, visit: Visit) -> Answer {
        let is_head = request.method() == Method::HEAD;
        match request.uri().path() {
            "/" => {
                let (page, policy) = page::page();
                let mut answer = full(StatusCode::OK, HTML, page);
                set(&mut answer, header::CONTENT_SECURITY_POLICY, &policy);
                answer
            }
            "/events" if !is_head => match self.streams.start(&self.model, visit) {
                Some(pieces) => {
                    let mut answer = Response::new(pieces.boxed_unsync());
                    set(&mut answer, header::CONTENT_TYPE, "text/event-stream");
                    // For proxies that would gather it.
                    set(&mut answer, "x-accel-buffering", "no");
                    answer
                }
                None => text(StatusCode::SERVICE_UNAVAILABLE, "too many streams of events\n"),
            },
            "/state" => full(StatusCode::OK, JSON, json::state(&self.model.snapshot()).to_string()),
            "/search" => {
                let (text, most) = asked(request.uri().query().unwrap_or_default());
                let found = self.model.find(&text, most).await;
                full(StatusCode::OK, JSON, json::found(&found).to_string())
            }
            "/metrics" => full(StatusCode::OK, PROMETHEUS, metrics::text(&self.model.snapshot())),
            "/healthz" => self.health(),
            "/readyz" => self.ready(),
            _ => text(StatusCode::NOT_FOUND, "there is no such page\n"),
        }
    }

    /// Whether the scope's process does something at all. The model asks it each second; were each visitor to ask,
    /// nobody would bound what waits for a suspended scope.
    fn health(&self) -> Answer {
        if self.model.readiness() == Readiness::Stopped {
            unavailable("the scope has ended")
        } else if self.model.snapshot().scope.answers {
            text(StatusCode::OK, "ok\n")
        } else {
            unavailable("the scope doesn't answer: it's suspended, or hangs")
        }
    }

    /// Whether every connected peer has answered.
    fn ready(&self) -> Answer {
        match self.model.readiness() {
            Readiness::Ready => text(StatusCode::OK, "ready\n"),
            Readiness::Stopped => unavailable("the scope has ended"),
            Readiness::Waiting => {
                let snapshot = self.model.snapshot();
                let names = snapshot.scope.awaited.iter().map(ToString::to_string);
                let names: Vec<_> = names.take(10).collect();
                unavailable(&match &names[..] {
                    [] => "a node has just come up and hasn't answered yet".to_owned(),
                    names => format!("no answer yet from {}", names.join(", ")),
                })
            }
        }
    }
}

/// The text and the number of entries that `/search` is asked for.
fn asked(query: &str) -> (String, usize) {
    let (mut text, mut most) = (String::new(), MOST);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "q" => text = value.into_owned(),
            "n" => most = value.parse().unwrap_or(MOST),
            _ => {}
        }
    }
    (text, most)
}

fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::NoHost => text(StatusCode::BAD_REQUEST, "there must be one Host header\n"),
        Refusal::OtherHost(host) => text(
            StatusCode::MISDIRECTED_REQUEST,
            &format!(
                "`{host}` is no name of this page: those are IP addresses, localhost, and what --http-host allows. \
                 (Any page in a browser could point a name of its own here.)\n"
            ),
        ),
        Refusal::OtherSite => text(StatusCode::FORBIDDEN, "another site's page doesn't get this\n"),
    }
}

fn unavailable(why: &str) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n"))
}

fn text(status: StatusCode, body: &str) -> Answer {
    full(status, TEXT, body.to_owned())
}

fn full(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, kind);
    answer
}

/// Values are ours and are legal; one that isn't is left out.
fn set(answer: &mut Answer, name: impl header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whatever_it_says() {
        assert_eq!(asked("q=a%7Bb+c&n=7"), ("a{b c".to_owned(), 7));
        assert_eq!(asked("n=x&&=&q=%ff%"), ("\u{fffd}%".to_owned(), MOST));
        assert_eq!(asked(""), (String::new(), MOST));
    }
}
