//! What the binary says about itself: its version, completions of shells, manual pages; and that a pipe may be closed.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Cli, Folder};

#[tokio::test]
async fn the_version_has_the_revision() -> Result<()> {
    let ended = Cli::run(1, &["--version"]).await?;
    let [line] = &ended.out[..] else { panic!("{ended:?}") };
    let version = concat!("data-publisher ", env!("CARGO_PKG_VERSION"));
    let rest = line.strip_prefix(version).context("it starts with the version")?;
    if rest.is_empty() {
        // Neither a repository nor a package that was made of one.
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(!here.join(".git").exists() && !here.join(".cargo_vcs_info.json").exists());
        return Ok(());
    }
    let revision =
        rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')')).context(line.clone())?;
    let revision = revision.strip_suffix("-modified").unwrap_or(revision);
    assert!(
        revision.len() == 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{line}"
    );
    Ok(())
}

/// Runs a tool, if it's there.
async fn passes(tool: &str, arguments: &[&str]) -> Result<Option<String>> {
    let output = match Command::new(tool).args(arguments).output().await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "{tool} {arguments:?}: {complaints}");
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[tokio::test]
async fn shells_take_their_completions() -> Result<()> {
    let folder = Folder::new("completions")?;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Cli::run(1, &["completions", shell]).await?;
        assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]));
        let script = ended.out.join("\n");
        for word in ["print-config", "limit-hard-mark", "doctor"] {
            assert!(script.contains(word), "no {word} for {shell}");
        }
        let file = folder.file(shell, &script, 0o644)?;
        match shell {
            "bash" => {
                passes("bash", &["-n", &file]).await?.context("a bash")?;
                for (typed, before, offered) in [
                    ("--print", "join", "--print-config"),
                    ("", "--module", "pg kv raw"),
                    ("", "--log-level", "error warn info debug trace off"),
                    // No files of this folder.
                    ("r", "--name", "r"),
                ] {
                    let script = format!(
                        "compopt() {{ :; }}; source {file}; COMP_CWORD=3; \
                         COMP_WORDS=(data-publisher join {before} '{typed}'); \
                         _data__publisher data-publisher '{typed}' {before}; echo \"${{COMPREPLY[@]}}\""
                    );
                    let reply = passes("bash", &["-c", &script]).await?.context("a bash")?;
                    assert_eq!(reply.trim(), offered, "{before} {typed}");
                }
            }
            "zsh" | "fish" => {
                passes(shell, &["-n", &file]).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_manual_can_be_read() -> Result<()> {
    let folder = Folder::new("man")?;
    let pages = folder.path().join("man1");
    let dir = pages.to_str().context("a path in UTF-8")?;
    let ended = Cli::run(1, &["man", dir]).await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    let page = |name: &str| format!("{dir}/{name}.1");
    for name in ["data-publisher", "data-publisher-join", "data-publisher-doctor"] {
        ensure!(std::fs::metadata(page(name))?.len() > 500, "{name} is nearly empty");
    }
    if let Some(text) = passes("man", &["--warnings", "-l", &page("data-publisher-join")]).await? {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in ["--print-config", "DATA_PUBLISHER_NET_TICKTIME", "Commands on stdin"] {
            assert!(text.contains(word), "no {word} in: {text}");
        }
    }
    let ended = Cli::run(1, &["man"]).await?;
    assert!(ended.out.iter().any(|line| line.starts_with(".TH data-publisher")), "{ended:?}");
    Ok(())
}

/// As `| head` does when it has seen enough.
#[tokio::test]
async fn who_stops_reading_hears_nothing_of_it() -> Result<()> {
    // Not a pipe: a process that is just being started elsewhere might still have its other end.
    let (reader, writer) = UnixStream::pair()?;
    reader.shutdown(Shutdown::Both)?;
    let program = env!("CARGO_BIN_EXE_data-publisher");
    let child = Command::new(program)
        .arg("man")
        .stdout(OwnedFd::from(writer))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.wait_with_output().await?;
    assert_eq!((output.status.code(), String::from_utf8(output.stderr)?), (Some(2), String::new()));
    Ok(())
}
