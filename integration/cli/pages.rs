//! What the binary says about itself: its version, completions of shells, manual pages.

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
                let script = format!(
                    "source {file}; COMP_WORDS=(data-publisher join --print); COMP_CWORD=2; \
                     _data__publisher data-publisher --print join; echo \"${{COMPREPLY[@]}}\""
                );
                let reply = passes("bash", &["-c", &script]).await?.context("a bash")?;
                assert_eq!(reply.trim(), "--print-config");
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
