//! Who may ask: no page of somebody else's, in whatever browser.
//!
//! The view has no password; what keeps it private is that only this host reaches it. A browser on this host is a way
//! around that: a page from anywhere may send requests to 127.0.0.1, and read the answers once its own name points
//! there (DNS rebinding). So the name asked for must be one that no stranger can own, an IP address or `localhost`, or
//! one that was allowed; and a request that another site's page has made isn't answered.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Names besides `localhost` and IP addresses, in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    names: Vec<String>,
}

/// Why not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// There isn't exactly one host that is asked for.
    NoHost,
    /// It isn't one of ours.
    OtherHost(String),
    /// Another site's page asks.
    OtherSite,
}

impl Guard {
    pub(super) fn new(names: &[String]) -> anyhow::Result<Self> {
        for name in names {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            anyhow::ensure!(
                !name.is_empty() && name.chars().all(is_name),
                "--http-host {name}: give a host name alone, without a scheme or a port"
            );
        }
        Ok(Self { names: names.iter().map(|name| name.to_lowercase()).collect() })
    }

    /// Looks at the headers of a request.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Refusal::NoHost) };
        let host = host.to_str().map_err(|_| Refusal::NoHost)?;
        if !self.is_ours(host) {
            return Err(Refusal::OtherHost(host.chars().take(100).collect()));
        }
        if let Some(origin) = headers.get(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let from = origin.split_once("://").map(|(_, from)| from);
            if from.is_none_or(|from| !from.eq_ignore_ascii_case(host)) {
                return Err(Refusal::OtherSite);
            }
        }
        let says = |name, value| headers.get(name).is_some_and(|said| said == value);
        // A link from elsewhere may lead here.
        if says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate") {
            return Err(Refusal::OtherSite);
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        // Whatever the port: it may be forwarded.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            return matches!(address.parse(), Ok(IpAddr::V6(_)));
        }
        let name = name.to_lowercase();
        matches!(name.parse(), Ok(IpAddr::V4(_)))
            || name == "localhost"
            || self.names.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Guard::new(&["Our.Name".to_owned()]).unwrap().check(&map)
    }

    #[test]
    fn addresses_localhost_and_allowed_names_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9568",
            "10.0.0.7:80",
            "[::1]:9568",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "our.name:9568",
        ] {
            assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn names_that_a_stranger_can_own_are_not() {
        for host in [
            "evil.example",
            "evil.example:9568",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[evil]",
            "[127.0.0.1]",
            "127.0.0.1:evil",
            "::1",
            "0x7f.1",
            "127.0.0.1:1:2",
            "user@localhost",
        ] {
            assert_eq!(
                check(&[("host", host)]),
                Err(Refusal::OtherHost(host.to_owned())),
                "{host}"
            );
        }
        assert_eq!(check(&[]), Err(Refusal::NoHost));
        assert_eq!(check(&[("host", "localhost"), ("host", "localhost")]), Err(Refusal::NoHost));
    }

    #[test]
    fn a_page_of_another_site_gets_nothing() {
        let ours = ("host", "127.0.0.1:9568");
        assert_eq!(check(&[ours, ("origin", "http://127.0.0.1:9568")]), Ok(()));
        for origin in ["http://evil.example", "http://127.0.0.1:80", "null", "127.0.0.1:9568"] {
            assert_eq!(check(&[ours, ("origin", origin)]), Err(Refusal::OtherSite), "{origin}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(check(&[ours, cross, ("sec-fetch-mode", "no-cors")]), Err(Refusal::OtherSite));
        assert_eq!(check(&[ours, cross, ("sec-fetch-mode", "navigate")]), Ok(()));
    }

    #[test]
    fn an_allowed_name_is_a_name_alone() {
        for bad in ["", "http://name", "name:80", "*"] {
            assert!(Guard::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
