//! The publisher of two formats, in Rust and in Erlang: what one owns the other one reads.

use anyhow::Result;
use data_publisher::atom;
use data_publisher::engine::Version;
use data_publisher::node::NodeConfig;
use data_publisher::term::{NodeName, Term};
use data_publisher::{Cookie, Scope};

use crate::publishers::names::{Format, Names, Op};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

#[tokio::test]
async fn each_format_reads_what_the_other_one_owns() -> Result<()> {
    let formats = [(1, Format::One), (2, Format::Two)];
    for (beam, _) in formats {
        for (ours, format) in formats {
            let epmd = Epmd::start_of(Otp::R29).await?;
            let a = ErlNode::start(Otp::R29, "a", &epmd).await?;
            a.load("erlang/test/dp_names.erl").await?;
            a.eval(&format!("dp_names:start(names, #{{format => {beam}, version => {beam}}})"))
                .await?;
            a.eval("dp_names:add(names, early), dp_names:add(names, gone)").await?;

            let config = NodeConfig::new("r@127.0.0.1")?.cookie(Cookie::new(cookie())?);
            let node = data_publisher::start(config.epmd_port(epmd.port())).await?;
            let names = Names::new(format, Version::from(ours));
            let (view, unreadable) = (names.view(), names.unreadable());
            let scope = Scope::start(&node, atom!("names"), names)?;
            scope.update(Op::set(1, 7)).await?;
            node.connect("a@127.0.0.1").await?;
            wait_eval(
                &a,
                "maps:get('r@127.0.0.1', dp_names:weights(names), none)",
                if (beam, ours) == (2, 2) { "#{1 => 7}" } else { "#{1 => 1}" },
                SOON,
            )
            .await?;

            a.eval("dp_names:add(names, late), dp_names:remove(names, gone)").await?;
            scope.update(Op::add(2)).await?;
            scope.update(Op::remove(1)).await?;
            wait_eval(&a, "maps:get('r@127.0.0.1', dp_names:all(names), none)", "[2]", SOON)
                .await?;
            let expected = [Term::from(atom!("early")), atom!("late").into()];
            wait_until("the names of a", SOON, async || {
                let seen = view.names();
                let of_a = seen.get(&NodeName::new("a@127.0.0.1").expect("a name"));
                let seen_all = of_a.is_some_and(|names| names.iter().eq(&expected));
                seen_all.then_some(()).ok_or_else(|| format!("{seen:?}"))
            })
            .await?;
            assert_eq!(a.eval("dp_names:untranslated()").await?, "[]");
            assert_eq!(unreadable.load(std::sync::atomic::Ordering::Relaxed), 0);
            scope.stop().await;
            assert!(view.names().is_empty());
            a.finish().await?;
        }
    }
    Ok(())
}
