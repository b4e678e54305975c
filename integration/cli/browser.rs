//! Headless Chromium, driven by its own protocol over a pair of pipes: messages are JSON and end with a zero byte.
//!
//! `scripts/test` installs it on Debian; `CHROMIUM` names another. Where there's none a test says so and does nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::wait_until;

/// A browser needs its time, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One page in a browser of its own; both end when this is dropped.
pub(super) struct Page {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    /// What the page has complained of: errors, warnings, what its policy forbade.
    pub(super) complaints: Vec<Value>,
}

/// The browser, if there's one; says so if there isn't.
pub(super) fn find() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("CHROMIUM") {
        return Some(given.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        // Not `println!`, which nobody sees of a test that passes.
        let text = "SKIPPED: no Chromium here; scripts/test installs it on Debian as root, or set CHROMIUM\n";
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    found
}

impl Page {
    /// An empty page; `folder` is the browser's own.
    pub(super) async fn open(chromium: &Path, folder: &Path) -> Result<Self> {
        // It wants the pipes as files 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#])
            .arg(chromium)
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-quic", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--hide-scrollbars"])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", folder.display()))
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut page = Self {
            _child: child,
            input,
            output,
            session: None,
            last_id: 0,
            complaints: Vec::new(),
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await?;
        page.session = Some(attached["sessionId"].as_str().context("a session")?.to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(page)
    }

    pub(super) async fn go(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({"url": url})).await?;
        ensure!(gone.get("errorText").is_none(), "{gone}");
        Ok(())
    }

    /// As on a screen of this size, dark or light.
    pub(super) async fn resize(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await?;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await?;
        Ok(())
    }

    /// Types text into whatever has the focus.
    pub(super) async fn type_in(&mut self, text: &str) -> Result<()> {
        for character in text.chars() {
            for kind in ["keyDown", "keyUp"] {
                let key = json!({"type": kind, "text": character.to_string(), "key": character.to_string()});
                self.call("Input.dispatchKeyEvent", key).await?;
            }
        }
        Ok(())
    }

    /// The value of an expression.
    pub(super) async fn eval(&mut self, expression: &str) -> Result<Value> {
        let evaluate =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let evaluated = self.call("Runtime.evaluate", evaluate).await?;
        ensure!(evaluated.get("exceptionDetails").is_none(), "`{expression}`: {evaluated}");
        Ok(evaluated["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub(super) async fn until(&mut self, expression: &str) -> Result<()> {
        let page = tokio::sync::Mutex::new(self);
        wait_until(&format!("`{expression}`"), PATIENCE, async || {
            let mut page = page.lock().await;
            match page.eval(expression).await {
                Ok(Value::Bool(true)) => Ok(()),
                Ok(_) => Err(format!("{:?}", page.eval("document.body.innerText").await)),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// A picture of all of the page, a PNG in base 64.
    pub(super) async fn picture(&mut self) -> Result<String> {
        let whole = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", whole).await?;
        Ok(picture["data"].as_str().context("a picture")?.to_owned())
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).await?;
        self.input.flush().await?;
        let answer = async {
            loop {
                let mut bytes = Vec::new();
                let count = self.output.read_until(0, &mut bytes).await?;
                ensure!(count > 0, "the browser has ended");
                bytes.pop();
                let mut told: Value = serde_json::from_slice(&bytes)?;
                if told["id"] == id {
                    if let Some(error) = told.get("error") {
                        bail!("{method}: {error}");
                    }
                    return Ok(told["result"].take());
                }
                let complains =
                    ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
                if complains.iter().any(|method| told["method"] == *method) {
                    self.complaints.push(told);
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .with_context(|| format!("{method}: no answer"))?
    }
}
