//! Processes on the BEAM that use the scope of a Rust node, as they would one of their own.

use anyhow::Result;
use data_publisher::atom;
use data_publisher::kv::Kv;
use data_publisher::term::Term;

use super::{beam_node, next, rust_node};
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, wait_eval, wait_until};

on_each_release! {
    beam_processes_update_and_subscribe_to_a_rust_scope
}

async fn beam_processes_update_and_subscribe_to_a_rust_scope(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_node(otp, "a", &epmd).await?;
    let rust = rust_node("r", &epmd, false).await?;
    let kv = Kv::start(&rust, atom!("settings"))?;
    rust.connect("a@127.0.0.1").await?;

    // By the behaviour's own functions, and by bare calls.
    a.eval("S = {settings, 'r@127.0.0.1'}, ok = data_publisher:update(S, [{put, k, 1}])").await?;
    assert_eq!(kv.get_of(rust.name(), atom!("k")), Some(Term::from(1)));
    a.eval("ok = gen_server:call(S, {update, [{put, k, 2}, {put, l, 3}, {delete, none}]})").await?;
    assert_eq!(kv.get_of(rust.name(), atom!("k")), Some(Term::from(2)));

    let mut watcher = rust.spawn();
    rust.register(atom!("watcher"), watcher.pid())?;
    a.eval(
        "Watch = fun(Key) -> Self = self(), spawn(fun() -> \
            {Ref, Initial} = data_publisher:subscribe(S, Key), Self ! {self(), Ref, Initial}, \
            (fun F() -> receive \
                {unsubscribe, From} -> From ! data_publisher:unsubscribe(S, Ref), F(); \
                Event when element(1, Event) =:= Ref -> \
                    {watcher, 'r@127.0.0.1'} ! {Key, erlang:delete_element(1, Event)}, F() \
            end end)() end) end, ok",
    )
    .await?;
    a.eval("AllPid = Watch(all), receive {AllPid, _, All} -> All end").await?;
    assert_eq!(
        a.eval("All =:= #{k => #{'r@127.0.0.1' => 2}, l => #{'r@127.0.0.1' => 3}}").await?,
        "true"
    );
    a.eval("KeyPid = Watch({key, m}), receive {KeyPid, KeyRef, Of} -> Of end").await?;
    assert_eq!(a.eval("{is_reference(KeyRef), Of}").await?, "{true,#{}}");

    let told = |key: &str, event: &str| -> Result<Term> {
        Ok(format!("{{{key}, {event}}}").parse::<Term>()?)
    };
    kv.put(atom!("m"), 4).await?;
    let mut both = [next(&mut watcher).await?, next(&mut watcher).await?];
    both.sort();
    let put = "{put, 'r@127.0.0.1', m, 4}";
    assert_eq!(both, [told("all", put)?, told("{key, m}", put)?]);
    // After unsubscribing, none.
    assert_eq!(a.eval("KeyPid ! {unsubscribe, self()}, receive ok -> ok end").await?, "ok");
    kv.delete(atom!("m")).await?;
    assert_eq!(next(&mut watcher).await?, told("all", "{delete, 'r@127.0.0.1', m}")?);

    // The death of a subscriber ends it: no message to a dead process, nothing left to grow.
    let subscriptions = "maps:get(subscriptions, sys:get_state(S))";
    let before: u64 = a.eval(subscriptions).await?.parse()?;
    a.eval("exit(AllPid, kill)").await?;
    wait_eval(&a, subscriptions, &(before - 1).to_string(), SOON).await?;
    kv.put(atom!("m"), 5).await?;
    // Another one is told, and is the only one.
    a.eval("LastPid = Watch(all), receive {LastPid, _, _} -> ok end").await?;
    kv.put(atom!("m"), 6).await?;
    assert_eq!(next(&mut watcher).await?, told("all", "{put, 'r@127.0.0.1', m, 6}")?);

    // What can't be read is refused, and harms neither.
    for bad in ["{update, [{put, k}]}", "{subscribe, what}", "{unsubscribe, what}", "what"] {
        assert_eq!(a.eval(&format!("gen_server:call(S, {bad})")).await?, "{error,badarg}");
    }
    wait_until("the scope still runs", SOON, async || {
        kv.peers().await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    a.finish().await
}
