//! What `sys` shows of our processes, and that it can hold them.

use anyhow::{Result, ensure};
use data_publisher::pg::Pg;
use data_publisher::{atom, gen_server};

use super::{AT_ONCE, Counter, Pair};
use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Otp, SOON, wait_eval, wait_until};

on_each_release! {
    sys_shows_scopes_servers_and_services
    a_suspended_scope_goes_on_where_it_was
}

async fn sys_shows_scopes_servers_and_services(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    pair.erl.eval("{ok, P} = pg:start(s), ok").await?;
    let pg = Pg::start(&pair.rust, atom!("s"))?;
    let worker = pair.rust.spawn();
    pg.join(atom!("g"), worker.pid()).await?;
    gen_server::start_registered(&pair.rust, atom!("counter"), Counter::default())?;
    wait_eval(&pair.erl, "length(pg:get_members(s, g))", "1", SOON).await?;
    wait_until("the peer is known", SOON, async || {
        let state = pair.erl.peek("maps:size(maps:get(peers, sys:get_state({s, 'r@127.0.0.1'})))");
        match state.await {
            Ok(count) if count == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;

    let pid = erlang_pid(worker.pid());
    let version = if otp == Otp::R29 { "1" } else { "0" };
    let state = format!(
        "State = sys:get_state({{s, 'r@127.0.0.1'}}, 900), \
         State =:= #{{scope => s, version => 1, local_data => #{{g => [{pid}]}}, \
         subscriptions => 0, peers => #{{P => #{{version => {version}, synced => true}}}}}}"
    );
    let seen = pair.erl.eval_within(&state, AT_ONCE * 3).await?;
    ensure!(seen == "true", "{}", pair.erl.eval("State").await?);
    pair.assert_each(&[
        (
            "{status, Scope, {module, gen_server}, [[], running, Scope, [], Items]} = \
             sys:get_status({s, 'r@127.0.0.1'}, 900), \
             {proplists:get_value(header, Items), \
              [{\"State\", State}] =:= lists:last(proplists:get_all_values(data, Items))}",
            "{\"Status for scope s\",true}",
        ),
        ("sys:get_state({counter, 'r@127.0.0.1'}, 900)", "#{count => 0}"),
        ("element(1, sys:get_status({net_kernel, 'r@127.0.0.1'}, 900))", "status"),
        ("{error, {unknown_system_msg, _}} = sys:log({counter, 'r@127.0.0.1'}, true), ok", "ok"),
        (
            "{'EXIT', {{callback_failed, _, _}, _}} = \
             (catch sys:replace_state({counter, 'r@127.0.0.1'}, fun(S) -> S end)), ok",
            "ok",
        ),
        ("sys:suspend({counter, 'r@127.0.0.1'})", "ok"),
        (
            "Q = gen_server:send_request({counter, 'r@127.0.0.1'}, get), \
          gen_server:wait_response(Q, 50)",
            "timeout",
        ),
        ("sys:get_state({counter, 'r@127.0.0.1'}, 900)", "#{count => 0}"),
    ])
    .await?;
    // The request was abandoned with the process that made it; a new one is answered.
    pair.assert_each(&[
        ("sys:resume({counter, 'r@127.0.0.1'})", "ok"),
        ("gen_server:call({counter, 'r@127.0.0.1'}, get)", "0"),
    ])
    .await?;
    pair.erl.finish().await
}

async fn a_suspended_scope_goes_on_where_it_was(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    pair.erl
        .eval("{ok, _} = pg:start(s), G = spawn(fun() -> receive stop -> ok end end), ok")
        .await?;
    let pg = Pg::start(&pair.rust, atom!("s"))?;
    pg.ready().await?;
    pair.assert_each(&[("sys:suspend({s, 'r@127.0.0.1'})", "ok")]).await?;
    pair.erl.eval("[ok = pg:join(s, {g, N}, G) || N <- lists:seq(1, 1000)], ok").await?;
    let worker = pair.rust.spawn();
    let join = tokio::spawn({
        let (pg, pid) = (pg.clone(), worker.pid().clone());
        async move { pg.join(atom!("mine"), &pid).await }
    });
    // All that was sent before this answer is here, and waits.
    let status = "{status, _, _, [_, S, _, _, _]} = sys:get_status({s, 'r@127.0.0.1'}), S";
    pair.assert_each(&[(status, "suspended")]).await?;
    assert_eq!(pg.which_groups().len(), 0);
    pair.assert_each(&[("sys:resume({s, 'r@127.0.0.1'})", "ok")]).await?;
    join.await??;
    wait_until("all groups", SOON, async || match pg.which_groups().len() {
        1001 => Ok(()),
        n => Err(n.to_string()),
    })
    .await?;
    wait_eval(&pair.erl, "length(pg:get_members(s, mine))", "1", SOON).await?;
    pair.erl.finish().await
}
