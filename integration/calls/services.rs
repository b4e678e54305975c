//! The services of our node outlive whoever wants to end them: a node that lives without them would
//! hold up every node that is connected.

use anyhow::Result;

use super::{AT_ONCE, Pair};
use crate::otp::on_each_release;
use crate::support::{ErlNode, Otp};

on_each_release! { services_outlive_whatever_is_done_to_them }

async fn services_outlive_whatever_is_done_to_them(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    pair.erl.eval("N = 'r@127.0.0.1', ok").await?;
    let still_there = [
        ("net_adm:ping(N)", "pong"),
        ("global:sync()", "ok"),
        ("global:trans({lock, self()}, fun() -> done end)", "done"),
        ("rpc:call(N, erlang, node, [])", "'r@127.0.0.1'"),
        ("rpc:block_call(N, erlang, node, [])", "'r@127.0.0.1'"),
        ("nodes()", "['r@127.0.0.1']"),
    ];
    for name in ["net_kernel", "global_name_server", "rex"] {
        let server = format!("{{{name}, N}}");
        let pid = format!("element(2, sys:get_status({server}))");
        let unknown = |request: &str| format!("{{error,{{unknown_system_msg,{request}}}}}");
        pair.assert_each(&[
            (&format!("[exit({pid}, Why) || Why <- [normal, no, kill, killed]], ok"), "ok"),
            // A link that breaks, by a reason that goes through where it's sent.
            (&format!("spawn(fun() -> link({pid}), exit(kill) end), ok"), "ok"),
            (&format!("sys:terminate({server}, x)"), &unknown("{terminate,x}")),
            (&format!("sys:suspend({server})"), &unknown("suspend")),
        ])
        .await?;
        pair.assert_each(&still_there).await?;
    }
    // Who connects now waits for nobody.
    let later = ErlNode::start(otp, "b", &pair.epmd).await?;
    assert_eq!(later.eval("net_adm:ping('r@127.0.0.1')").await?, "pong");
    assert_eq!(later.eval_within("global:sync()", AT_ONCE * 3).await?, "ok");
    later.finish().await?;
    pair.erl.finish().await
}
