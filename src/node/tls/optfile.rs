//! OTP's option file: one Erlang term, a list of `{server, Options}` and `{client, Options}`.
//!
//! OTP takes any expression there; we take constants, and no `fun`s. An option we don't know is an
//! error, and so is one we know and can't honour, if the connection were weaker without it.

use std::path::{Path, PathBuf};

use super::files::{self, bad, bad_file};
use super::options::{NameCheck, Side, TlsConfigError, TlsOptions, TlsVersion, Verify};
use crate::term::{Excerpt, Term};

/// The options of server and client.
pub(super) fn read(file: &Path) -> Result<(TlsOptions, TlsOptions), TlsConfigError> {
    let text =
        String::from_utf8(files::read(file)?).map_err(|_| bad_file(file, "it isn't in UTF-8"))?;
    let term: Term = text.parse().map_err(|source: crate::term::ParseError| {
        let before = text.chars().take(source.column.saturating_sub(1));
        let line = 1 + before.filter(|c| *c == '\n').count();
        TlsConfigError::Syntax { file: file.into(), line, source }
    })?;
    let shape = |found: &Term| {
        let found = Excerpt(found);
        bad_file(file, format!("[{{server, [...]}}, {{client, [...]}}] is wanted, not {found}"))
    };
    let (mut server, mut client) = (None, None);
    for side in term.list().map_err(|_| shape(&term))?.iter() {
        let (place, side, options) = match side.tuple_elements() {
            Ok([tag, options]) if tag.is_atom("server") => (&mut server, Side::Server, options),
            Ok([tag, options]) if tag.is_atom("client") => (&mut client, Side::Client, options),
            _ => return Err(shape(side)),
        };
        let options = options.list().map_err(|_| shape(options))?;
        *place = Some(read_options(side, options)?);
    }
    let missing = |side| TlsConfigError::Missing { side, option: "certfile", why: "" };
    Ok((server.ok_or(missing(Side::Server))?, client.unwrap_or_default()))
}

/// As in a property list, the first of several counts.
fn read_options(side: Side, list: &[Term]) -> Result<TlsOptions, TlsConfigError> {
    let mut options = TlsOptions::default();
    for option in list.iter().rev() {
        let (name, value) = match (option, option.tuple_elements()) {
            (Term::Atom(name), _) => (name.as_str(), &Term::from(true)),
            (_, Ok([Term::Atom(name), value])) => (name.as_str(), value),
            _ => return Err(bad(side, Excerpt(option).to_string(), "not {Option, Value}")),
        };
        read_option(&mut options, name, value)
            .map_err(|what| bad(side, Excerpt(option).to_string(), what))?;
    }
    Ok(options)
}

fn read_option(options: &mut TlsOptions, name: &str, value: &Term) -> Result<(), String> {
    match name {
        "cacertfile" => options.cacertfile = Some(path(value)?),
        "certfile" => options.certfile = Some(path(value)?),
        "keyfile" => options.keyfile = Some(path(value)?),
        "verify" => {
            options.verify = Some(match atom(value)? {
                "verify_peer" => Verify::Peer,
                "verify_none" => Verify::None,
                _ => return Err(String::from("verify_peer or verify_none is wanted")),
            });
        }
        "fail_if_no_peer_cert" => options.fail_if_no_peer_cert = boolean(value)?,
        "versions" => options.versions = Some(versions(value)?),
        "server_name_indication" => {
            options.server_name = Some(match value {
                value if value.is_atom("disable") => NameCheck::Off,
                value => NameCheck::Is(text(value)?),
            });
        }
        "ciphers" => options.ciphers = Some(ciphers(value)?),
        "honor_cipher_order" => options.honor_cipher_order = boolean(value)?,
        // Never more than six certificates are between the peer's and the CA's.
        "depth" if matches!(value, Term::Integer(6..)) => {}
        "depth" => return Err(String::from("fewer than 6 can't be demanded")),
        "crl_check" if value.is_atom("false") => {}
        "crl_check" => return Err(String::from("lists of revoked certificates aren't read")),
        "password" => return Err(String::from("encrypted keys aren't read; decrypt the keyfile")),
        "cacerts" | "cert" | "key" | "certs_keys" => {
            return Err(String::from("only files are read: cacertfile, certfile, keyfile"));
        }
        "verify_fun" | "partial_chain" | "customize_hostname_check" => {
            return Err(String::from("it needs Erlang code; leave it out, or use verify_peer"));
        }
        // Each makes the connection no weaker when it's left out: renegotiation is refused and no
        // session resumed anyway, key exchange is by elliptic curves only.
        "secure_renegotiate"
        | "client_renegotiation"
        | "reuse_sessions"
        | "reuse_session"
        | "session_tickets"
        | "hibernate_after"
        | "ktls"
        | "dh"
        | "dhfile"
        | "log_level"
        | "log_alert"
        | "crl_cache"
        | "key_update_at"
        | "sender_spawn_opts"
        | "receiver_spawn_opts" => {
            log::debug!("TLS: the option {name} changes nothing here");
        }
        _ => return Err(String::from("an option that isn't known here")),
    }
    Ok(())
}

/// Older ones than we have are left out: the peer then takes a newer one, or none.
fn versions(value: &Term) -> Result<Vec<TlsVersion>, String> {
    let mut versions = Vec::new();
    for version in elements(value)? {
        match atom(version)? {
            "tlsv1.3" => versions.push(TlsVersion::V1_3),
            "tlsv1.2" => versions.push(TlsVersion::V1_2),
            "tlsv1.1" | "tlsv1" => {}
            _ => return Err(String::from("'tlsv1.3' and 'tlsv1.2' are known")),
        }
    }
    Ok(versions)
}

/// A list of names, or OpenSSL's names in one string with colons between them.
fn ciphers(value: &Term) -> Result<Vec<String>, String> {
    if let Ok(names) = text(value) {
        return Ok(names.split(':').map(str::to_owned).collect());
    }
    let name = |term| text(term).map_err(|_| String::from("cipher suites are given as strings"));
    elements(value)?.iter().map(name).collect()
}

fn elements(value: &Term) -> Result<&[Term], String> {
    value.list().map(|list| &**list).map_err(|error| error.to_string())
}

fn atom(value: &Term) -> Result<&str, String> {
    value.atom().map(crate::term::Atom::as_str).map_err(|error| error.to_string())
}

fn boolean(value: &Term) -> Result<bool, String> {
    match value {
        value if value.is_atom("true") => Ok(true),
        value if value.is_atom("false") => Ok(false),
        _ => Err(String::from("true or false is wanted")),
    }
}

fn path(value: &Term) -> Result<PathBuf, String> {
    text(value).map(PathBuf::from)
}

/// Of a string or a binary in UTF-8.
fn text(value: &Term) -> Result<String, String> {
    let wanted = || String::from("a string is wanted");
    if let Ok(bytes) = value.binary() {
        return String::from_utf8(bytes.to_vec()).map_err(|_| wanted());
    }
    let character = |term: &Term| {
        let code = u32::try_from(term.integer().ok()?).ok()?;
        char::from_u32(code)
    };
    let list = value.list().map_err(|_| wanted())?;
    if list.is_empty() {
        return Err(wanted());
    }
    list.iter().map(character).collect::<Option<_>>().ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(side: Side, text: &str) -> Result<TlsOptions, String> {
        let term: Term = text.parse().unwrap();
        read_options(side, term.list().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_options_of_the_guide_are_read() {
        let read = options(
            Side::Server,
            r#"[{certfile, "/home/me/ssl/erlserver.pem"}, {cacertfile, <<"ca.pem">>},
                {verify, verify_peer}, {fail_if_no_peer_cert, true}, {secure_renegotiate, true},
                {versions, ['tlsv1.3', 'tlsv1.2', 'tlsv1.1']}, {depth, 10}]"#,
        );
        let expected = TlsOptions::new()
            .certfile("/home/me/ssl/erlserver.pem")
            .cacertfile("ca.pem")
            .verify(Verify::Peer)
            .fail_if_no_peer_cert(true)
            .versions([TlsVersion::V1_3, TlsVersion::V1_2]);
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn the_first_of_two_counts() {
        let read = options(Side::Client, "[{verify, verify_none}, {verify, verify_peer}]");
        assert_eq!(read, Ok(TlsOptions::new().verify(Verify::None)));
    }

    #[test]
    fn a_name_can_be_given_or_left_unchecked() {
        let name = |text| options(Side::Client, text).map(|options| options.server_name);
        assert_eq!(name("[{server_name_indication, disable}]"), Ok(Some(NameCheck::Off)));
        let given = Ok(Some(NameCheck::Is(String::from("c.example"))));
        assert_eq!(name(r#"[{server_name_indication, "c.example"}]"#), given);
    }

    #[test]
    fn what_would_weaken_the_connection_is_never_left_out() {
        for (text, what) in [
            ("[{depth, 1}]", "server: {depth,1}: fewer than 6 can't be demanded"),
            ("[{crl_check, true}]", "lists of revoked certificates aren't read"),
            ("[{password, \"x\"}]", "encrypted keys aren't read"),
            ("[{verify_fun, {inet_tls_dist, verify_client, []}}]", "it needs Erlang code"),
            (
                "[{verfy, verify_peer}]",
                "server: {verfy,verify_peer}: an option that isn't known here",
            ),
            ("[{verify, 1}]", "expected an atom"),
            ("[{versions, [sslv3]}]", "'tlsv1.3' and 'tlsv1.2' are known"),
            ("[17]", "server: 17: not {Option, Value}"),
            ("[{keyfile, key}]", "a string is wanted"),
            ("[{fail_if_no_peer_cert, yes}]", "true or false is wanted"),
        ] {
            let error = options(Side::Server, text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
