//! Inputs written by hand: a term of each tag, a signal of each number, bytes that crashed other
//! decoders, scripts that take each target to its end.

use std::io::Write as _;

use anyhow::Result;
use data_publisher::term::{Creation, NodeName, Pid, Term};
use data_publisher::wire::encode;
use data_publisher::{atom, list, map, tuple};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::Corpus;

const PID: &[u8] = b"Xw\x03a@h\0\0\0\x05\0\0\0\0\0\0\0\x01";
const OLD_PID: &[u8] = b"gw\x03a@h\0\0\0\x05\0\0\0\0\x01";
const REFERENCE: &[u8] = b"Z\0\x03w\x03a@h\0\0\0\x01\0\0\0\x07\0\0\0\x08\0\0\0\x09";
const NAME: &[u8] = b"w\x02pg";
const TOKEN: &[u8] = b"h\x05a\x01a\0a\x01ja\0";

pub(crate) fn write(corpus: &Corpus) -> Result<()> {
    terms(corpus)?;
    hostile_terms(corpus)?;
    signals(corpus)?;
    streams(corpus)?;
    engines(corpus)?;
    handshakes(corpus)?;
    epmds(corpus)?;
    texts(corpus)
}

fn terms(corpus: &Corpus) -> Result<()> {
    let long = b"a".repeat(300);
    for (tag, bytes) in [
        (67, b"\0\0\0\x01\0w\x01mw\x01rw\x01aa\x07".to_vec()),
        (70, 1.5_f64.to_be_bytes().to_vec()),
        (77, b"\0\0\0\x02\x03\x01\xa0".to_vec()),
        (88, PID[1..].to_vec()),
        (89, b"w\x03a@h\0\0\0\x05\0\0\0\x01".to_vec()),
        (90, REFERENCE[1..].to_vec()),
        (97, vec![255]),
        (98, vec![0x80, 0, 0, 0]),
        (99, [&b"1.50000000000000000000e+00"[..], &[0; 5]].concat()),
        (100, b"\0\x02\xe9a".to_vec()),
        (101, b"w\x03a@h\0\0\0\x05\x01".to_vec()),
        (102, b"w\x03a@h\0\0\0\x05\x01".to_vec()),
        (103, OLD_PID[1..].to_vec()),
        (104, b"\x02a\x01j".to_vec()),
        (105, b"\0\0\0\x02a\x01h\0".to_vec()),
        (106, vec![]),
        (107, b"\0\x04text".to_vec()),
        (108, b"\0\0\0\x02a\x01b\0\0\x01\0a\x02".to_vec()),
        (109, b"\0\0\0\x05bytes".to_vec()),
        (110, b"\x09\x01123456789".to_vec()),
        (111, [&[0, 0, 1, 44, 0], &long[..]].concat()),
        (
            112,
            [
                b"\0\0\0\x30\x01",
                &[7; 16][..],
                b"\0\0\0\0\0\0\0\x01w\x01aa\0b\x01\x02\x03\x04",
                PID,
                b"a\x09",
            ]
            .concat(),
        ),
        (113, b"w\x05listsw\x03mapa\x02".to_vec()),
        (114, b"\0\x01w\x03a@h\x01\0\0\0\x07".to_vec()),
        (115, b"\x01\xe9".to_vec()),
        (116, b"\0\0\0\x02a\x01a\x02F\x3f\xf0\0\0\0\0\0\0j".to_vec()),
        (118, "\0\x02ß".as_bytes().to_vec()),
        (119, b"\x05hello".to_vec()),
        (120, b"w\x03a@h\0\0\0\x01\0\0\0\x05\0\0\0\x01".to_vec()),
    ] {
        let bytes = [&[131, tag], &bytes[..]].concat();
        corpus.put_term(&format!("tag_{tag}"), &bytes)?;
        corpus.put("text", &format!("tag_{tag}"), &bytes)?;
    }
    let inner = b"h\x03a\x01m\0\0\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaj";
    corpus.put_term("tag_80", &compressed(inner.len() as u32, inner))
}

fn compressed(size: u32, term: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(term).expect("memory");
    [&[131, 80], &size.to_be_bytes()[..], &zlib.finish().expect("memory")].concat()
}

/// Bytes that other decoders die of, numbered as in the tests of `wire::codec`.
fn hostile_terms(corpus: &Corpus) -> Result<()> {
    let fun = [
        &b"\x83p\0\0\0\0\0"[..],
        &[0; 16],
        &[0; 4],
        &[0xff; 4],
        b"w\x01aa\0a\0gw\x01a\0\0\0\0\0\0\0\0\0",
    ];
    let all: [(&str, Vec<u8>); 20] = [
        ("c01", b"\x83D".to_vec()),
        ("c02", b"\x83R".to_vec()),
        ("c03", b"\x83l\xff\xff\xff\xff".to_vec()),
        ("c04", b"\x83i\xff\xff\xff\xff".to_vec()),
        ("c05", b"\x83m\xff\xff\xff\xff".to_vec()),
        ("c06", b"\x83M\xff\xff\xff\xff\x01".to_vec()),
        ("c07", b"\x83M\0\0\0\x01\0\xff".to_vec()),
        ("c08", b"\x83M\0\0\0\x01\x09\xff".to_vec()),
        ("c09", b"\x83o\x40\0\0\0\0".to_vec()),
        ("c10", b"\x83u\xff\xff\xff\xffgw\x01a\0\0\0\0\0\0\0\0\0w\x01aa\0a\0".to_vec()),
        ("c11", fun.concat()),
        ("c12", [b"\x83", &b"h\x01".repeat(300)[..], b"j"].concat()),
        ("c13", [b"\x83", &b"g".repeat(300)[..]].concat()),
        ("c14", [b"\x83", &b"l\0\0\0\x01".repeat(300)[..]].concat()),
        ("c15", [b"\x83", &b"t\0\0\0\x01".repeat(300)[..]].concat()),
        ("c16", compressed(200_001, &[&b"h\x01".repeat(100_000)[..], b"j"].concat())),
        ("c17", compressed(10, &[b"i\0\0\x27\x10", &b"j".repeat(10_000)[..]].concat())),
        ("c18", compressed(500_000_005, &[b"m\x1d\xcd\x65\0", &[0; 10_000][..]].concat())),
        ("c19", [b"\x83", &b"l\0\xff\xff\xff".repeat(40)[..]].concat()),
        ("c20", [b"\x83i\0\0\x01\0", &b"j".repeat(256)[..]].concat()),
    ];
    for (name, bytes) in all {
        corpus.put_term(name, &bytes)?;
    }
    Ok(())
}

/// The fields of a control tuple and the payload, by the signal's number.
fn controls() -> Vec<(u8, Vec<&'static [u8]>, bool)> {
    let (p, r, none, nil) = (PID, REFERENCE, b"w\0" as &[u8], b"j" as &[u8]);
    let mfa = b"h\x03w\x02pgw\x02pga\x04" as &[u8];
    let id = b"n\x08\0\x01\0\0\0\0\0\0\x80" as &[u8];
    vec![
        (1, vec![p, p], false),
        (2, vec![none, p], true),
        (3, vec![p, OLD_PID, nil], false),
        (6, vec![p, none, NAME], true),
        (7, vec![p, p], false),
        (8, vec![p, p, nil], false),
        (12, vec![none, p, TOKEN], true),
        (13, vec![p, p, TOKEN, nil], false),
        (16, vec![p, none, NAME, TOKEN], true),
        (18, vec![p, p, TOKEN, nil], false),
        (19, vec![p, NAME, r], false),
        (20, vec![p, p, r], false),
        (21, vec![p, p, r, nil], false),
        (22, vec![p, p], true),
        (23, vec![p, p, TOKEN], true),
        (24, vec![p, p], true),
        (25, vec![p, p, TOKEN], true),
        (26, vec![p, p], true),
        (27, vec![p, p, TOKEN], true),
        (28, vec![NAME, p, r], true),
        (29, vec![r, p, p, mfa, nil], true),
        (30, vec![r, p, p, mfa, nil, TOKEN], true),
        (31, vec![r, p, b"a\x02", NAME], false),
        (32, vec![r, p, b"a\x02", p, TOKEN], false),
        (33, vec![p, r], true),
        (34, vec![p, r, TOKEN], true),
        (35, vec![b"a\x09", p, p], false),
        (36, vec![id, p, p], false),
        (37, vec![b"a\x04", p, r], true),
        (37, vec![b"a\x0b", p, NAME, TOKEN], true),
        (37, vec![b"a\x14", p, r], true),
        (37, vec![id, p, p, TOKEN, nil], true),
    ]
}

fn signals(corpus: &Corpus) -> Result<()> {
    for (index, (op, fields, has_payload)) in controls().into_iter().enumerate() {
        let control = [&[b'h', fields.len() as u8 + 1, b'a', op], &fields.concat()[..]].concat();
        let payload = if has_payload { &b"\x83w\x02hi"[..] } else { b"" };
        let plain = [b"p\x83", &control[..], payload].concat();
        corpus.put("signal", &format!("op_{op}_{index}_plain"), &plain)?;
        let payload = payload.strip_prefix(b"\x83").unwrap_or_default();
        let listed = [b"\x83D\0", &control[..], payload].concat();
        corpus.put("signal", &format!("op_{op}_{index}_listed"), &listed)?;
    }
    corpus.put("signal", "d2_cache", &[b"p\x83h\x04a\x06", PID, b"w\0w\x02pg\x83R\0"].concat())?;
    corpus.put("signal", "d2_header", &[b"p\x83h\x04a\x06", PID, b"w\0w\x02pg\x83D\0"].concat())?;
    corpus.put("signal", "d3", b"\x83D\0\0")
}

fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    let framed =
        frames.iter().map(|frame| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat());
    framed.collect::<Vec<_>>().concat()
}

fn streams(corpus: &Corpus) -> Result<()> {
    corpus.put("deframer", "d1", b"\x03\0\0\xff\xff\xff\xffp")?;
    corpus.put(
        "deframer",
        "d4",
        b"\x01\x01\x01\0\0\0\x0ap\x83\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0",
    )?;
    corpus.put("deframer", "ticks", &[&[0, 3, 0][..], &[0; 40]].concat())?;
    let long = framed(&[vec![1; 255], vec![], vec![2; 17], vec![3; 300], vec![4; 301]]);
    corpus.put("deframer", "too_long", &[&[1, 9, 1][..], &long].concat())?;

    // {6, Pid, '', svc}, the atoms listed; a message in three pieces, another between them.
    let pid = b"X\x52\0\0\0\0\x05\0\0\0\0\0\0\0\x01";
    let control = [b"h\x04a\x06", &pid[..], b"w\0R\x01"].concat();
    let first = |sequence: u8, count: u8, atoms: &[u8], start: &[u8]| {
        let ids = [&[131, 69, 0, 0, 0, 0, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0], &[count][..]];
        [&ids.concat(), atoms, &control, start].concat()
    };
    let more = |sequence: u8, number: u8, part: &[u8]| {
        let ids = [&[131, 70, 0, 0, 0, 0, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0], &[number][..]];
        [&ids.concat(), part].concat()
    };
    let new = b"\x02\x88\x08\0\x03a@h\x01\x03svc";
    let old = b"\x02\0\0\0\x01";
    let whole = |atoms: &[u8]| [b"\x83D", atoms, &control, b"l\0\0\0\x02R\x01R\0j"].concat();
    let frames = [
        first(1, 3, new, b"h\x03m\0\0\0"),
        whole(old),
        whole(old),
        more(1, 2, b"\x04ab"),
        first(2, 2, old, b"R"),
        vec![],
        more(1, 1, b"cda\x01R\x01"),
        more(2, 1, b"\0"),
        whole(old),
    ];
    corpus.put("fragments", "crossing", &[&[0], &framed(&frames)[..]].concat())?;
    let repeated: Vec<_> = [whole(new), whole(old), whole(old), whole(new), whole(old)].into();
    corpus.put("fragments", "alike", &[&[0], &framed(&repeated)[..]].concat())?;
    corpus.put("fragments", "without_fragments", &[&[1], &framed(&repeated)[..]].concat())?;
    let all: Vec<Vec<u8>> = controls()
        .into_iter()
        .map(|(op, fields, has_payload)| {
            let payload = if has_payload { &b"\x83w\x02hi"[..] } else { b"" };
            [&[b'p', 131, b'h', fields.len() as u8 + 1, b'a', op], &fields.concat()[..], payload]
                .concat()
        })
        .collect();
    corpus.put("fragments", "plain", &[&[2], &framed(&all)[..]].concat())
}

fn engines(corpus: &Corpus) -> Result<()> {
    let pid = |node: &str, id: u32| Pid {
        node: NodeName::new(node).expect("a name"),
        id,
        serial: 0,
        creation: Creation(1),
    };
    let (a, b) = (&pid("a@h", 1), &pid("b@h", 2));
    let reference = data_publisher::term::Reference::new(a.node.clone(), Creation(1), &[1, 2, 3]);
    let reference = Term::from(reference.expect("three words"));
    let cast = |message: Term| tuple![atom!("$gen_cast"), message];
    let call = |request: Term| tuple![atom!("$gen_call"), tuple![a, reference.clone()], request];
    let script = |kind: u8, parts: &[Part]| {
        let mut bytes = vec![kind];
        for part in parts {
            match part {
                Part::Hears(message) => {
                    let mut term = Vec::new();
                    encode(message, &mut term).expect("small");
                    bytes.extend([0, 0]);
                    bytes.extend((term.len() as u16 - 1).to_be_bytes());
                    bytes.extend_from_slice(&term[1..]);
                }
                Part::Does(input) => bytes.extend_from_slice(input),
            }
        }
        bytes
    };
    let hears = Part::Hears;
    let group = |add: Term, remove: Term| list![tuple![1, add, remove]];
    let data = map! { 1 => list![a, a], atom!("g") => list![a] };
    for (name, kind, parts) in [
        (
            "pg_29",
            0,
            vec![
                Part::Does(&[9, 13, 0x20, 1, 1, 2, 14, 0, 7]),
                hears(tuple![atom!("discover"), a, 1]),
                hears(cast(tuple![atom!("local_data"), a, 1, data.clone()])),
                hears(tuple![atom!("update"), a, group(list![a], list![])]),
                hears(tuple![atom!("update"), a, group(list![], list![a, a])]),
                Part::Does(&[13, 0x10, 1, 1, 13, 0x11, 1, 1, 12, 0, 11, 0, 10, 0, 15, 7]),
            ],
        ),
        (
            "pg_27",
            0,
            vec![
                hears(tuple![atom!("discover"), b]),
                hears(cast(tuple![
                    atom!("sync"),
                    b,
                    list![tuple![1, list![b, b]], tuple![2, list![b]]]
                ])),
                hears(tuple![atom!("join"), b, 1, b]),
                hears(tuple![atom!("join"), b, 1, list![b, b]]),
                hears(tuple![atom!("leave"), b, b, list![1, 2]]),
                Part::Does(&[13, 0x20, 1, 1, 2, 11, 0]),
            ],
        ),
        (
            "pg_label_first",
            0,
            vec![
                hears(cast(tuple![atom!("local_data"), a, 0, data.clone()])),
                Part::Does(&[12, 0, 13, 0x10, 2, 0]),
                hears(tuple![atom!("update"), a, atom!("unreadable")]),
                Part::Does(&[12, 1]),
                hears(cast(tuple![atom!("local_data"), a, 7, data])),
            ],
        ),
        (
            "pg_calls",
            0,
            vec![
                hears(call(tuple![atom!("subscribe"), atom!("scope")])),
                hears(call(tuple![atom!("subscribe"), tuple![atom!("group"), 1]])),
                hears(call(tuple![atom!("update"), group(list![a], list![])])),
                hears(call(tuple![atom!("unsubscribe"), reference.clone()])),
                hears(call(atom!("which_groups").into())),
                Part::Does(&[11, 0]),
            ],
        ),
        (
            "pg_standalone",
            2,
            vec![
                Part::Does(&[9]),
                hears(tuple![atom!("discover"), a, 1]),
                hears(cast(tuple![atom!("local_data"), a, 1, map! {}])),
            ],
        ),
        (
            "kv",
            1,
            vec![
                Part::Does(&[9, 13, 0, 1, 14, 0, 7]),
                hears(tuple![atom!("discover"), a, 1]),
                hears(cast(tuple![
                    atom!("local_data"),
                    a,
                    1,
                    map! { 1 => 2, atom!("k") => Term::binary_of("v") }
                ])),
                hears(tuple![
                    atom!("update"),
                    a,
                    list![tuple![atom!("put"), 1, 3], tuple![atom!("delete"), atom!("k")]]
                ]),
                hears(call(tuple![atom!("subscribe"), tuple![atom!("key"), 1]])),
                hears(call(tuple![atom!("update"), list![tuple![atom!("put"), 1, 4]]])),
                Part::Does(&[13, 1, 1, 10, 0]),
            ],
        ),
    ] {
        corpus.put("engine", name, &script(kind, &parts))?;
    }
    Ok(())
}

enum Part {
    Hears(Term),
    Does(&'static [u8]),
}

fn handshakes(corpus: &Corpus) -> Result<()> {
    for target in ["handshake_server", "handshake_client"] {
        // All verdicts and statuses, in TCP and TLS, with the cookie and without, said as is right.
        for options in 0..32 {
            corpus.put(target, &format!("right_{options:02}"), &[options, 3, 0, 0, 0, 0])?;
        }
        for how in 1..6 {
            corpus.put(
                target,
                &format!("wrong_{how}"),
                &[0, 1, 0, how, 0, 4, b's', b'o', b'k', 7, 0],
            )?;
        }
        corpus.put(target, "other_name", &[0x20, 0, 0, 0, 0])?;
        corpus.put(
            target,
            "d5_alive",
            &[0, 0, 2, 0, 6, b's', b'a', b'l', b'i', b'v', b'e', 0, 0],
        )?;
        corpus.put(target, "d6_true", &[12, 0, 0, 2, 0, 5, b's', b't', b'r', b'u', b'e', 0])?;
        corpus.put(target, "too_long", &[0, 0, 3, 0, 2, 0xff, 0xff])?;
        corpus.put(target, "tls_record", &[0, 0, 3, 0, 5, 0x16, 0x03, 0x01, 0, 0])?;
    }
    Ok(())
}

fn epmds(corpus: &Corpus) -> Result<()> {
    let long_name =
        [&[1, 12, 120, 0x12, 0x34, 77, 0, 0, 6, 0, 5, 1, 0][..], &[b'a'; 256], &[0, 0]].concat();
    for (name, bytes) in [
        ("register_visible", b"\0\x0fx\x12\x34\x4d\0\0\x06\0\x05\0\x02ab\0\0".to_vec()),
        ("register_old", b"\0\x10x\x12\x34\x48\0\0\x05\0\x05\0\x02ab\0\x01\x09".to_vec()),
        ("register_long", long_name),
        ("lookup", b"\0\x03zab".to_vec()),
        ("lookup_nul", b"\0\x04zab\0".to_vec()),
        ("names", b"\0\x01n".to_vec()),
        ("kill", b"\0\x01k".to_vec()),
        ("dump", b"\0\x01d".to_vec()),
        ("stop", b"\0\x03sab".to_vec()),
        ("too_long", b"\x08\x01n".to_vec()),
    ] {
        corpus.put("epmd_server", name, &[&[0, 1], &bytes[..]].concat())?;
        corpus.put("epmd_server", &format!("{name}_elsewhere"), &[&[1, 5], &bytes[..]].concat())?;
    }
    for (name, bytes) in [
        ("registered", b"\0\x01v\0\0\0\0\x07".to_vec()),
        ("registered_old", b"\0\0y\0\0\x02".to_vec()),
        ("refused", b"\0\x02v\x01\0\0\0\x63".to_vec()),
        ("found", b"\x01\x01w\0\x12\x34\x4d\0\0\x06\0\x05\0\x01a\0\x01\x09".to_vec()),
        ("not_found", b"\x01\0w\x01".to_vec()),
        ("long_extra", b"\x01\0w\0\x12\x34\x4d\0\0\x06\0\x05\0\x01a\xff\xff\x09".to_vec()),
        ("names", b"\x02\x04\0\0\x11\x11name a at port 1\nname b at port 65535\n".to_vec()),
        (
            "names_without_end",
            [b"\x03\x07\0\0\x11\x11", &b"name a at port 1\n".repeat(20)[..]].concat(),
        ),
        ("names_one_line", b"\x03\0name a at port 1 name a at port 1 name a at port 1".to_vec()),
    ] {
        corpus.put("epmd_client", name, &bytes)?;
    }
    Ok(())
}

fn texts(corpus: &Corpus) -> Result<()> {
    for (index, text) in [
        "{add, [16#ff, $a, -1.5e-3, +7]}.",
        "#{a => 'b c', \"key\" => <<\"text\"/utf8>>, 1.0 => [x | y]}",
        "<<1, 2:4, \"abc\", 300:16, -1:8>>",
        "\"one\" \"two\\n\\x{e9}\\101\\^a\" % comment\n",
        "fun lists:map/2",
        "'\\'quoted\\''",
        "[$\\n, $\\s, $\\x41, 36#zz, 1_000_000]",
        "{[{[{[{}]}]}]}",
        "-123456789012345678901234567890",
        "1.7976931348623157e308",
        "<<>>",
        "\"\"",
        "<0.1.0>",
        "\"\"\"\ntriple\n\"\"\"",
        "~\"sigil\"",
    ]
    .into_iter()
    .enumerate()
    {
        corpus.put("text", &format!("hand_{index:02}"), text.as_bytes())?;
    }
    Ok(())
}
