//! The OTP releases the tests run against, and their compilers.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    sync::{Mutex, OnceCell},
};

/// A release of OTP: the oldest we support, one of the years between, the one `data_publisher` came with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Otp {
    R25,
    R27,
    R29,
}

impl Otp {
    pub(crate) const ALL: [Self; 3] = [Self::R25, Self::R27, Self::R29];

    /// As `erlang:system_info(otp_release)` has it.
    pub(crate) fn release(self) -> &'static str {
        match self {
            Self::R25 => "25",
            Self::R27 => "27",
            Self::R29 => "29",
        }
    }

    /// The path of an executable that becomes the VM (same process id); `scripts/otp` makes it.
    pub(crate) async fn erl(self) -> Result<&'static Path> {
        static PATHS: [OnceCell<PathBuf>; 3] = [const { OnceCell::const_new() }; 3];
        let path = PATHS[self as usize].get_or_try_init(|| self.make("otp")).await?;
        Ok(path)
    }

    /// The path of an executable that becomes the release's EPMD.
    pub(crate) async fn epmd(self) -> Result<PathBuf> {
        Ok(self.erl().await?.with_file_name("epmd"))
    }

    /// The folder of Elixir's applications, as the release's VM sees it; `scripts/elixir` makes it.
    pub(crate) async fn elixir(self) -> Result<&'static str> {
        static PATHS: [OnceCell<PathBuf>; 3] = [const { OnceCell::const_new() }; 3];
        self.erl().await?;
        let path = PATHS[self as usize].get_or_try_init(|| self.make("elixir")).await?;
        path.to_str().context("a path in UTF-8")
    }

    /// A module of this repository, compiled by the release's own compiler; `source` is a path in it.
    ///
    /// Kept next to the release until the source changes.
    pub(crate) async fn beam(self, source: &str) -> Result<Vec<u8>> {
        // The first one compiles, the others wait for it.
        static COMPILER: Mutex<()> = Mutex::const_new(());
        let _guard = COMPILER.lock().await;

        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let text =
            std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        let module = path.file_stem().and_then(|stem| stem.to_str()).context("no module name")?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let kept = format!("{module}-{:016x}.beam", hasher.finish());
        let kept = self.erl().await?.with_file_name(kept);
        if let Ok(beam) = std::fs::read(&kept) {
            return Ok(beam);
        }

        let compile = self.compile(module, &text);
        let beam = tokio::time::timeout(COMPILE_TIME, compile)
            .await
            .with_context(|| format!("OTP {self} didn't compile {source} in {COMPILE_TIME:?}"))?
            .with_context(|| format!("OTP {self} can't compile {source}"))?;
        // Renamed into place: another test process may be reading.
        let unfinished = kept.with_extension(std::process::id().to_string());
        std::fs::write(&unfinished, &beam)?;
        std::fs::rename(&unfinished, &kept)?;
        Ok(beam)
    }

    /// Runs a script that makes something of the release runnable and prints its path.
    async fn make(self, script: &str) -> Result<PathBuf> {
        let path = format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(&path)
            .arg(self.release())
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("can't run {path}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`scripts/{script} {self}` failed:\n{said}");
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
    }

    /// Source and result go over a socket: the release may have a file system of its own.
    async fn compile(self, module: &str, text: &[u8]) -> Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let directory = format!("/tmp/data-publisher-{}-{port}", std::process::id());
        let program = format!(
            r#"{{ok, S}} = gen_tcp:connect({{127,0,0,1}}, {port}, [binary, {{packet, 4}}, {{active, false}}]),
               {{ok, Text}} = gen_tcp:recv(S, 0),
               File = "{directory}/{module}.erl",
               ok = filelib:ensure_dir(File),
               ok = file:write_file(File, Text),
               Result = compile:file(File, [binary, return, debug_info]),
               ok = file:delete(File), ok = file:del_dir("{directory}"),
               Answer = case Result of
                   {{ok, _, Beam, _}} -> [$k, Beam];
                   _ -> [$e, unicode:characters_to_binary(io_lib:format("~tp", [Result]))]
               end,
               ok = gen_tcp:send(S, Answer), halt()."#
        );
        let mut erl = Command::new(self.erl().await?)
            .args(["-noinput", "-eval", &program])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (mut socket, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            status = erl.wait() => bail!("erl ended: {}", status?),
        };
        socket.write_u32(text.len() as u32).await?;
        socket.write_all(text).await?;
        let mut answer = vec![0; socket.read_u32().await? as usize];
        socket.read_exact(&mut answer).await?;
        erl.wait().await?;
        match answer.split_first() {
            Some((b'k', beam)) => Ok(beam.to_vec()),
            Some((_, error)) => bail!("{}", String::from_utf8_lossy(error)),
            None => bail!("an empty answer"),
        }
    }
}

/// A VM's start and the compiler's, on a busy machine.
const COMPILE_TIME: Duration = Duration::from_secs(60);

impl fmt::Display for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.release())
    }
}
