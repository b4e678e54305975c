//! What is said to an EPMD and what it answers, as bytes.
//!
//! A request is a 16-bit length and that many bytes, the first one its kind. An answer has no
//! length: its end is the end of the connection, but for the answer to a registration, whose
//! connection stays open. All integers are big-endian.
//!
//! [`read_request`] trusts nothing: a length is refused before the bytes behind it are waited for,
//! and what it returns is bounded by [`MAX_REQUEST`].
//!
//! Source: `erts/epmd/src/epmd_srv.c` and the chapter "Distribution Protocol" of OTP's ERTS guide.

use bytes::Buf as _;

/// Most bytes of a request after its length. OTP's nodes send less than 300.
pub const MAX_REQUEST: usize = 2048;

/// Most bytes of a registered name, as in OTP's `epmd`.
pub const MAX_NAME: usize = 255;

/// What an answer to a registration carries where the creation would stand when it was refused.
const NO_CREATION: u8 = 99;

/// From this highest version on, a node understands the 32-bit creation of `ALIVE2_X_RESP`.
const VERSION_WITH_LONG_CREATION: u16 = 6;

mod tag {
    pub(super) const DUMP: u8 = 100;
    pub(super) const KILL: u8 = 107;
    pub(super) const NAMES: u8 = 110;
    pub(super) const STOP: u8 = 115;
    pub(super) const ALIVE2_X_RESP: u8 = 118;
    pub(super) const PORT2_RESP: u8 = 119;
    pub(super) const ALIVE2_REQ: u8 = 120;
    pub(super) const ALIVE2_RESP: u8 = 121;
    pub(super) const PORT_PLEASE2_REQ: u8 = 122;
}

/// What EPMD knows of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeInfo {
    /// The part of the node's name before the `@`.
    pub name: String,
    /// The port on which the node takes connections of other nodes.
    pub port: u16,
    /// What the node says it is.
    pub kind: NodeKind,
    /// The transport; 0 is TCP.
    pub protocol: u8,
    /// The highest version of the distribution protocol it speaks: 6 from OTP 23 on.
    pub highest_version: u16,
    /// The lowest version of the distribution protocol it speaks: 5, or 6 from OTP 25 on.
    pub lowest_version: u16,
    /// Nothing anybody uses.
    pub extra: Vec<u8>,
}

impl NodeInfo {
    /// A node of today: TCP, versions 6 to 5 as OTP's nodes say.
    pub fn new(name: &str, port: u16, kind: NodeKind) -> Self {
        Self {
            name: name.to_owned(),
            port,
            kind,
            protocol: 0,
            highest_version: 6,
            lowest_version: 5,
            extra: Vec::new(),
        }
    }
}

/// What a node tells EPMD it is. Only for people to read: whether a node is hidden is settled by
/// the flags of each connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeKind {
    /// 77: a normal node.
    Visible,
    /// 72: a hidden node, or one that isn't Erlang.
    Hidden,
    /// Any other number.
    Other(u8),
}

impl From<u8> for NodeKind {
    fn from(byte: u8) -> Self {
        match byte {
            77 => Self::Visible,
            72 => Self::Hidden,
            other => Self::Other(other),
        }
    }
}

impl From<NodeKind> for u8 {
    fn from(kind: NodeKind) -> Self {
        match kind {
            NodeKind::Visible => 77,
            NodeKind::Hidden => 72,
            NodeKind::Other(other) => other,
        }
    }
}

/// A request that is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// `ALIVE2_REQ`: register this node for as long as the connection lives.
    Register(NodeInfo),
    /// `ALIVE2_REQ` with a name that can't be registered: empty, over [`MAX_NAME`] bytes, not
    /// UTF-8, or with a control character, which would forge lines in the list of names.
    RegisterBadName {
        /// Decides, as for a good name, which answer the node understands.
        highest_version: u16,
    },
    /// `PORT_PLEASE2_REQ`: what is known of the node of this name?
    Lookup {
        /// The part before the `@`; without the NUL some clients add.
        name: String,
    },
    /// `NAMES_REQ`: which nodes are registered?
    Names,
}

/// Why a request gets no answer but a closed connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadRequest {
    /// The announced length is over [`MAX_REQUEST`].
    #[error("a request of {length} bytes; the most is {MAX_REQUEST}")]
    TooLong {
        /// The announced length.
        length: usize,
    },
    /// A command to end EPMD, to unregister another node, or to show its inside.
    #[error("the command {command}, which this EPMD takes from nobody")]
    Forbidden {
        /// `KILL`, `STOP` or `DUMP`.
        command: &'static str,
    },
    /// No request starts with this byte, or the request is empty.
    #[error("a request of an unknown kind")]
    UnknownKind,
    /// A field is cut off or no text.
    #[error("a request whose {field} can't be read")]
    Malformed {
        /// The first field that couldn't be read.
        field: &'static str,
    },
}

/// Takes the request at the start of `bytes` apart; with it, how many of the bytes it took.
/// `None` when more bytes are needed.
///
/// # Errors
///
/// [`BadRequest`], as soon as the bytes show it: the only fit answer is to close.
pub fn read_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, BadRequest> {
    let mut rest = bytes;
    let Ok(length) = rest.try_get_u16() else {
        return Ok(None);
    };
    let length = usize::from(length);
    if length > MAX_REQUEST {
        return Err(BadRequest::TooLong { length });
    }
    let Some((body, _)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    Ok(Some((read_body(body)?, 2 + length)))
}

fn read_body(mut body: &[u8]) -> Result<Request, BadRequest> {
    match body.try_get_u8() {
        Ok(tag::ALIVE2_REQ) => read_register(body),
        Ok(tag::PORT_PLEASE2_REQ) => {
            let name = body.strip_suffix(&[0]).unwrap_or(body);
            match std::str::from_utf8(name) {
                Ok(name) => Ok(Request::Lookup { name: name.to_owned() }),
                Err(_) => Err(BadRequest::Malformed { field: "name" }),
            }
        }
        Ok(tag::NAMES) => Ok(Request::Names),
        Ok(tag::KILL) => Err(BadRequest::Forbidden { command: "KILL" }),
        Ok(tag::STOP) => Err(BadRequest::Forbidden { command: "STOP" }),
        Ok(tag::DUMP) => Err(BadRequest::Forbidden { command: "DUMP" }),
        _ => Err(BadRequest::UnknownKind),
    }
}

fn read_register(mut body: &[u8]) -> Result<Request, BadRequest> {
    let cut = |field| move |_| BadRequest::Malformed { field };
    let port = body.try_get_u16().map_err(cut("port"))?;
    let kind = body.try_get_u8().map_err(cut("node type"))?.into();
    let protocol = body.try_get_u8().map_err(cut("protocol"))?;
    let highest_version = body.try_get_u16().map_err(cut("highest version"))?;
    let lowest_version = body.try_get_u16().map_err(cut("lowest version"))?;
    let name = read_counted(&mut body, "name")?;
    let extra = read_counted(&mut body, "extra field")?.to_vec();
    let name = match std::str::from_utf8(name) {
        Ok(name) if (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control) => {
            name.to_owned()
        }
        _ => return Ok(Request::RegisterBadName { highest_version }),
    };
    Ok(Request::Register(NodeInfo {
        name,
        port,
        kind,
        protocol,
        highest_version,
        lowest_version,
        extra,
    }))
}

/// A 16-bit length and that many bytes.
fn read_counted<'a>(body: &mut &'a [u8], field: &'static str) -> Result<&'a [u8], BadRequest> {
    let cut = BadRequest::Malformed { field };
    let length = body.try_get_u16().map_err(|_| cut)?;
    let (counted, rest) = body.split_at_checked(usize::from(length)).ok_or(cut)?;
    *body = rest;
    Ok(counted)
}

/// The answer to a registration: the new node's creation, or `None` when it is refused.
///
/// A node whose highest version is below 6 gets the old answer, whose creation is 1, 2 or 3.
pub fn register_reply(highest_version: u16, creation: Option<u32>) -> Vec<u8> {
    let result = u8::from(creation.is_none());
    if highest_version >= VERSION_WITH_LONG_CREATION {
        let creation = creation.unwrap_or(u32::from(NO_CREATION));
        [&[tag::ALIVE2_X_RESP, result][..], &creation.to_be_bytes()].concat()
    } else {
        let creation = creation.map_or(u16::from(NO_CREATION), |long| (long % 3) as u16 + 1);
        [&[tag::ALIVE2_RESP, result][..], &creation.to_be_bytes()].concat()
    }
}

/// The answer to a look-up; `None`: no node of this name.
pub fn lookup_reply(node: Option<&NodeInfo>) -> Vec<u8> {
    let Some(node) = node else {
        return vec![tag::PORT2_RESP, 1];
    };
    let mut reply = vec![tag::PORT2_RESP, 0];
    reply.extend(node.port.to_be_bytes());
    reply.extend([node.kind.into(), node.protocol]);
    reply.extend(node.highest_version.to_be_bytes());
    reply.extend(node.lowest_version.to_be_bytes());
    for counted in [node.name.as_bytes(), &node.extra] {
        // Both came in a request, so their lengths fit.
        reply.extend((counted.len() as u16).to_be_bytes());
        reply.extend(counted);
    }
    reply
}

/// The answer to a question for all names.
///
/// `epmd_port` must be the port that was asked; OTP's `erl_epmd:names/1` fails on any other.
pub fn names_reply<'a>(epmd_port: u16, nodes: impl IntoIterator<Item = &'a NodeInfo>) -> Vec<u8> {
    let mut reply = u32::from(epmd_port).to_be_bytes().to_vec();
    for node in nodes {
        reply.extend(format!("name {} at port {}\n", node.name, node.port).into_bytes());
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `erl -sname ab` sends.
    const REGISTER: [u8; 17] = [
        0, 15,  // length
        120, // ALIVE2_REQ
        0x12, 0x34, // port
        77,   // normal node
        0,    // TCP
        0, 6, // highest version
        0, 5, // lowest version
        0, 2, b'a', b'b', // name
        0, 0, // extra
    ];

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u16).to_be_bytes(), body].concat()
    }

    #[test]
    fn a_registration_is_read_field_by_field() {
        let node = NodeInfo::new("ab", 0x1234, NodeKind::Visible);
        assert_eq!(read_request(&REGISTER), Ok(Some((Request::Register(node), REGISTER.len()))));
    }

    #[test]
    fn a_request_is_waited_for_until_its_last_byte_and_no_further() {
        for end in 0..REGISTER.len() {
            assert_eq!(read_request(&REGISTER[..end]), Ok(None), "{end} bytes");
        }
        let longer = [&REGISTER[..], b"more"].concat();
        let (_, used) = read_request(&longer).unwrap().unwrap();
        assert_eq!(used, REGISTER.len());
    }

    #[test]
    fn a_registration_cut_inside_its_own_length_names_the_field() {
        for (length, field) in [
            (2, "port"),
            (3, "node type"),
            (4, "protocol"),
            (5, "highest version"),
            (7, "lowest version"),
            (9, "name"),
            (12, "name"),
            (13, "extra field"),
        ] {
            let cut = frame(&REGISTER[2..2 + length]);
            assert_eq!(read_request(&cut), Err(BadRequest::Malformed { field }), "{length}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_registered_is_told_from_junk() {
        let register = |name: &[u8]| {
            let mut body = REGISTER[2..11].to_vec();
            body.extend((name.len() as u16).to_be_bytes());
            body.extend(name);
            body.extend([0, 0]);
            read_request(&frame(&body)).map(|request| request.unwrap().0)
        };
        let bad = Ok(Request::RegisterBadName { highest_version: 6 });
        assert_eq!(register(b""), bad);
        assert_eq!(register(&[b'a'; 256]), bad);
        assert_eq!(register(b"a\xff"), bad);
        assert_eq!(register(b"a at port 1\nname b"), bad);
        assert!(matches!(register(&[b'a'; 255]), Ok(Request::Register(_))));
        assert!(matches!(register("é".as_bytes()), Ok(Request::Register(_))));
    }

    #[test]
    fn a_look_up_may_end_with_a_nul() {
        let wanted = Request::Lookup { name: "ab".to_owned() };
        assert_eq!(read_request(&[0, 3, 122, b'a', b'b']), Ok(Some((wanted.clone(), 5))));
        assert_eq!(read_request(&[0, 4, 122, b'a', b'b', 0]), Ok(Some((wanted, 6))));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_came() {
        assert_eq!(read_request(&[0x08, 0x00]), Ok(None));
        assert_eq!(read_request(&[0x08, 0x01]), Err(BadRequest::TooLong { length: 2049 }));
        assert_eq!(read_request(&[0xff, 0xff]), Err(BadRequest::TooLong { length: 65_535 }));
    }

    #[test]
    fn commands_against_the_server_and_junk_are_errors() {
        for (tag, command) in [(107, "KILL"), (115, "STOP"), (100, "DUMP")] {
            assert_eq!(read_request(&[0, 1, tag]), Err(BadRequest::Forbidden { command }));
        }
        assert_eq!(read_request(&[0, 0]), Err(BadRequest::UnknownKind));
        assert_eq!(read_request(b"\0\x03abc"), Err(BadRequest::UnknownKind));
    }

    #[test]
    fn the_answer_to_a_registration_has_the_form_the_node_understands() {
        let granted = [
            118, // ALIVE2_X_RESP
            0,   // done
            0, 1, 0, 2, // creation
        ];
        assert_eq!(register_reply(6, Some(0x0001_0002)), granted);
        assert_eq!(register_reply(6, None), [118, 1, 0, 0, 0, 99]);
        assert_eq!(register_reply(5, Some(7)), [121, 0, 0, 2]);
        assert_eq!(register_reply(5, None), [121, 1, 0, 99]);
    }

    #[test]
    fn the_answer_to_a_look_up_repeats_the_registration() {
        let mut node = NodeInfo::new("ab", 0x1234, NodeKind::Hidden);
        node.extra = vec![9];
        let found = [
            119, // PORT2_RESP
            0,   // found
            0x12, 0x34, // port
            72,   // hidden
            0,    // TCP
            0, 6, // highest version
            0, 5, // lowest version
            0, 2, b'a', b'b', // name
            0, 1, 9, // extra
        ];
        assert_eq!(lookup_reply(Some(&node)), found);
        assert_eq!(lookup_reply(None), [119, 1]);
    }

    #[test]
    fn the_list_of_names_begins_with_the_port_that_was_asked() {
        let nodes = [
            NodeInfo::new("a", 1, NodeKind::Visible),
            NodeInfo::new("b", 65_535, NodeKind::Hidden),
        ];
        assert_eq!(
            names_reply(4369, &nodes),
            b"\x00\x00\x11\x11name a at port 1\nname b at port 65535\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_a_request_panic(bytes: Vec<u8>) {
            let _ = read_request(&bytes);
        }

        #[test]
        fn what_is_read_was_within_its_length(body: Vec<u8>) {
            if let Ok(Some((_, used))) = read_request(&frame(&body)) {
                proptest::prop_assert_eq!(used, body.len() + 2);
            }
        }
    }
}
