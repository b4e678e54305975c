//! `top` in a terminal: what is seen, what keys do, and how the terminal is afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};

use super::live::erl_with_scope;
use super::{Cli, NO_HANG};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

/// A terminal with a `top` in it.
struct Terminal {
    child: Child,
    keys: File,
    /// The side that `top` has, held to see how it's left.
    inside: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(epmd: &Epmd, columns: u16, lines: u16, arguments: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size)?;
        let path = ptsname(&master, Vec::new())?;
        let inside = open(path.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let pipe = || anyhow::Ok(Stdio::from(inside.try_clone()?));
        let child = Command::new(env!("CARGO_BIN_EXE_data-publisher"))
            .args(["top", "a@127.0.0.1", "--scope", "s", "--cookie", cookie()])
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .env("ERL_EPMD_PORT", epmd.port().to_string())
            .stdin(pipe()?)
            .stdout(pipe()?)
            .stderr(pipe()?)
            .kill_on_drop(true)
            .spawn()?;
        let length = |cells| NonZero::new(cells).context("an empty terminal");
        let screen = vt100::Parser::new(length(lines)?, length(columns)?, 0);
        let screen = Arc::new(Mutex::new(screen));
        let (keys, seen) = (File::from(master), screen.clone());
        let mut output = keys.try_clone()?;
        // Ends when nobody has the terminal any more.
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).process(&piece[..count]);
            }
        });
        Ok(Self { child, keys, inside, screen })
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    fn contents(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    async fn sees(&self, words: &str) -> Result<()> {
        wait_until(&format!("`{words}` on the screen"), SOON, async || {
            let contents = self.contents();
            if contents.contains(words) { Ok(()) } else { Err(contents) }
        })
        .await
    }

    async fn sees_no(&self, words: &str) -> Result<()> {
        wait_until(&format!("no `{words}` on the screen"), SOON, async || {
            let contents = self.contents();
            if contents.contains(words) { Err(contents) } else { Ok(()) }
        })
        .await
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("it has ended")?;
        Ok(kill_process(Pid::from_raw(pid.cast_signed()).context("no process id")?, signal)?)
    }

    /// Waits for its end; the terminal must be as it was.
    async fn ends(mut self, code: i32, limit: Duration) -> Result<String> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await.context("no end")??;
        ensure!(ended.code() == Some(code), "{ended}: {}", self.contents());
        let modes = tcgetattr(&self.inside)?.local_modes;
        ensure!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "still raw: {modes:?}");
        wait_until("the screen is given back", SOON, async || {
            let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
            let screen = screen.screen();
            if screen.alternate_screen() || screen.hide_cursor() {
                return Err(screen.contents());
            }
            Ok(screen.contents())
        })
        .await
    }
}

async fn cluster() -> Result<(Epmd, ErlNode)> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    erl.eval("M = probe:member(s, {room, 7}), ok = pg:join(s, kitchen, M)").await?;
    Ok((epmd, erl))
}

#[tokio::test]
async fn nodes_groups_and_events_are_on_the_screen_and_keys_work() -> Result<()> {
    let (epmd, erl) = cluster().await?;
    let mut top = Terminal::start(&epmd, 80, 24, &[])?;
    for words in
        ["pg s: 1 node, 1 peer, 2 groups", "a@127.0.0.1", "version 1", "{room,7} 1 <a@127.0.0.1."]
    {
        top.sees(words).await?;
    }
    top.sees("kitchen").await?;
    top.sees(" ready ").await?;
    wait_eval(&erl, "{nodes(), length(nodes(hidden))}", "{[],1}", SOON).await?;

    top.press("/ROO")?;
    top.sees("(1 of 1 shown, 2 in a").await?;
    top.press("\r")?;
    top.sees("/ ROO").await?;
    erl.eval("ok = pg:join(s, {room, 8}, M)").await?;
    top.sees("join       {room,8} <a@127").await?;
    top.sees("(2 of 2 shown, 3 in a").await?;
    top.press("?")?;
    top.sees("hold events back").await?;
    top.press(" ")?;
    top.sees_no("hold events back").await?;
    top.press("q")?;
    top.ends(0, NO_HANG).await?;
    wait_eval(&erl, "nodes(hidden)", "[]", SOON).await?;
    erl.finish().await
}

#[tokio::test]
async fn a_signal_leaves_a_clean_terminal() -> Result<()> {
    let (epmd, erl) = cluster().await?;
    for signal in [Signal::TERM, Signal::INT] {
        let top = Terminal::start(&epmd, 200, 60, &[])?;
        top.sees("kitchen").await?;
        top.signal(signal)?;
        top.ends(0, NO_HANG).await?;
    }
    erl.finish().await
}

#[tokio::test]
async fn an_error_is_told_on_a_clean_terminal() -> Result<()> {
    let (epmd, erl) = cluster().await?;
    let top = Terminal::start(&epmd, 80, 24, &["--name", "t@127.0.0.1"])?;
    top.sees("kitchen").await?;
    erl.eval("ok = sys:terminate({s, 't@127.0.0.1'}, normal)").await?;
    let told = top.ends(2, NO_HANG).await?;
    ensure!(told.contains("data-publisher: the scope has ended"), "{told}");
    erl.finish().await
}

#[tokio::test]
async fn without_a_terminal_it_says_what_else_there_is() -> Result<()> {
    let ended = Cli::run(1, &["top", "a@127.0.0.1", "--cookie", cookie()]).await?;
    ended.assert_failed(&["terminal", "join --json"]);
    Ok(())
}
