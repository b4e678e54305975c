//! The page of the live view in a real browser: it draws itself, finds groups, tells what happens, and runs nothing but
//! itself, whatever the names in the cluster are.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Folder;
use super::browser::{self, Page};
use super::live::{erl_with_scope, join};
use crate::support::{Epmd, Otp};

/// Widths of a phone, a tablet and a desk, with a height that goes with each.
const SIZES: [(u32, u32); 3] = [(400, 860), (800, 1000), (1600, 1000)];

/// A name that would be a script if it were ever markup.
const EVIL: &str = "<<\"<img src=x onerror=document.title='owned'>\">>";

#[tokio::test]
async fn a_browser_shows_what_there_is_at_every_size() -> Result<()> {
    let Some(chromium) = browser::find() else { return Ok(()) };
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    erl.eval(&format!(
        "M = probe:member(s, {{room, 7}}), ok = pg:join(s, {EVIL}, M), \
         [ok = pg:join(s, {{group, N}}, M) || N <- lists:seq(1, 500)], ok"
    ))
    .await?;
    let (_cli, address) = join(&epmd, &["--group", "mine"]).await?;
    let folder = Folder::new("browser")?;
    let mut page = Page::open(&chromium, folder.path()).await?;
    page.resize(1600, 1000, "light").await?;
    page.go(&format!("http://{address}/")).await?;

    // What there is.
    page.until("document.getElementById('ready').textContent === 'ready'").await?;
    page.until("document.getElementById('node-rows').innerText.includes('a@127.0.0.1')").await?;
    page.until("document.getElementById('n-entries').textContent === '503'").await?;
    page.until("document.querySelectorAll('#ring circle').length === 2").await?;
    page.until("document.getElementById('found').textContent.startsWith('100 of 503 shown')")
        .await?;
    page.until("document.querySelector('#plots path.one').getAttribute('d').length > 10").await?;

    // The keyboard alone.
    page.type_in("/").await?;
    page.type_in("ONERROR").await?;
    page.until("document.querySelectorAll('#rows li').length === 1").await?;
    page.until("document.querySelector('#rows .name').textContent.includes('<img src=x')").await?;
    ensure!(page.eval("document.images.length").await? == 0, "a name became markup");
    ensure!(page.eval("document.title").await? != "owned", "a name was run");

    // What happens.
    erl.eval("ok = pg:join(s, {room, 8}, M)").await?;
    page.until("document.getElementById('log').innerText.includes('{room,8}')").await?;

    // For those who don't see it.
    let unnamed = "[...document.querySelectorAll('svg, input, table, section, [role]')].filter((it) => \
        !it.getAttribute('aria-label') && !it.getAttribute('aria-labelledby') && !it.querySelector('title') && \
        !(it.labels && it.labels.length) && !it.textContent.trim() && it.id !== 'found').length";
    ensure!(page.eval(unnamed).await? == 0, "something has no name");

    // At every size, all is within the page.
    for scheme in ["light", "dark"] {
        for (width, height) in SIZES {
            page.resize(width, height, scheme).await?;
            page.until(&format!("innerWidth === {width}")).await?;
            let wide = page.eval("document.documentElement.scrollWidth").await?;
            ensure!(wide.as_u64() <= Some(width.into()), "{wide} at {width}");
            let back = page.eval("getComputedStyle(document.body).backgroundColor").await?;
            let expected = if scheme == "dark" { "rgb(15, 18, 23)" } else { "rgb(246, 247, 249)" };
            ensure!(back == expected, "{scheme}: {back}");
            picture(&mut page, &format!("{scheme}-{width}")).await?;
        }
    }
    assert_eq!(json!(page.complaints), json!([]), "what the page complained of");
    erl.finish().await
}

/// With `PICTURES=FOLDER` one is left there, to be looked at.
async fn picture(page: &mut Page, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("PICTURES") else { return Ok(()) };
    let picture = page.picture().await?;
    ensure!(picture.len() > 10_000, "an empty picture");
    let path = Path::new(&folder).join(format!("{name}.png.base64"));
    std::fs::write(&path, picture).with_context(|| format!("{}", path.display()))
}
