//! A client of our EPMD says anything: it gets the answer its request asks for, or none.

use data_publisher::epmd::protocol::{
    Request, lookup_reply, names_reply, read_request, register_reply,
};
use data_publisher::fuzzing::epmd::serve_alone;
use data_publisher::wire::MAX_MESSAGE;

use super::peer::{self, Peer};
use super::script::{Script, Splits};

thread_local! {
    /// For its clock: the server has deadlines.
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let from_this_host = script.byte() & 1 == 0;
    let splits = Splits::new(script.byte());
    let stream = script.0;

    let request = read_request(stream);
    if let Ok(Some((_, used))) = &request {
        assert!(*used <= stream.len());
        // Neither more bytes nor fewer make another request of it.
        assert_eq!(read_request(&stream[..*used]), request);
        for len in [used - 1, used / 2, 0] {
            assert_eq!(read_request(&stream[..len]), Ok(None));
        }
    }
    let mut said = Some(stream.to_vec());
    let mut peer = Peer::new(splits, |_| said.take());
    RUNTIME.with(|runtime| {
        // Its deadlines are far away: nothing here waits for anything but the peer.
        let _clock = runtime.enter();
        peer::run(serve_alone(&mut peer, from_this_host));
    });

    let told = std::mem::take(&mut peer.told);
    match request {
        Ok(Some((Request::Names, _))) => assert_eq!(told, names_reply(4369, [])),
        Ok(Some((Request::Lookup { .. }, _))) => assert_eq!(told, lookup_reply(None)),
        Ok(Some((Request::Register(node), _))) if from_this_host => {
            let like = register_reply(node.highest_version, Some(1));
            assert_eq!((told.len(), &told[..2]), (like.len(), &like[..2]));
            assert_eq!(lookup_reply(Some(&node)).len(), 14 + node.name.len() + node.extra.len());
        }
        Ok(Some((Request::RegisterBadName { highest_version }, _))) if from_this_host => {
            assert_eq!(told, register_reply(highest_version, None));
        }
        Ok(Some(_) | None) | Err(_) => assert!(told.is_empty(), "an answer to nothing"),
    }
    assert!(peer.read.len() < MAX_MESSAGE);
}
