//! Ends what a test process started, should that process end without doing so itself.
//!
//! A shell that is told of each process and kills those left when it's told no more: when the pipe to it
//! closes, for whatever reason. An Erlang node halts by itself when its control channel closes, but not
//! while it is suspended; and an EPMD has no such channel.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock},
};

const SCRIPT: &str = r#"
pids=' '
while read -r what pid; do
    case $what in
        watch) pids="$pids$pid " ;;
        forget) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    esac
done
for pid in $pids; do kill -KILL "$pid"; done
"#;

/// From now on until [`forget`], the process ends with this one.
pub(super) fn watch(pid: u32) {
    say("watch", pid);
}

/// To be called before the process is waited for: afterwards its id may be another one's.
pub(super) fn forget(pid: u32) {
    say("forget", pid);
}

fn say(what: &str, pid: u32) {
    static SHELL: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let shell = SHELL.get_or_init(|| {
        #[expect(clippy::zombie_processes, reason = "it outlives us, by a moment")]
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in our process group, which Ctrl-C ends as a whole.
            .process_group(0)
            .spawn()
            .expect("there is a /bin/sh");
        Mutex::new(shell.stdin.expect("stdin was said to be a pipe"))
    });
    let mut shell = shell.lock().expect("nothing panics while it holds the lock");
    writeln!(shell, "{what} {pid}").expect("the watchdog ends after us only");
}
