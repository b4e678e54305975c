//! The layers, and what is printed of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::args::{self, Join};

/// A file of a test's own, removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        Self::with_mode(name, text, 0o600)
    }

    fn with_mode(name: &str, text: &str, mode: u32) -> Self {
        let name = format!("dp-config-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let _ = mode;
        Self(path)
    }

    fn option(&self) -> String {
        format!("--config={}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read_line(line: &[&str], variables: &[(&str, &str)]) -> Result<Read, Failure> {
    let line = ["data-publisher"].iter().chain(line).map(OsString::from).collect();
    read_with(line, &|name| {
        let set = variables.iter().find(|(variable, _)| *variable == name);
        set.map(|(_, value)| OsString::from(value))
    })
}

fn join(line: &[&str], variables: &[(&str, &str)]) -> (Join, Settings) {
    let line = [&["join"], line].concat();
    match read_line(&line, variables) {
        Ok(Read { args: Args { command: args::Command::Join(join), .. }, settings }) => {
            (*join, settings)
        }
        other => panic!("{other:?}"),
    }
}

fn complaint(line: &[&str], variables: &[(&str, &str)]) -> String {
    match read_line(line, variables).unwrap_err() {
        Failure::Usage(error) => crate::cure::of_usage(&error),
        Failure::Settings(error) => crate::cure::sentence(&error),
    }
}

fn names(all: &[data_publisher::term::NodeName]) -> Vec<&str> {
    all.iter().map(data_publisher::term::NodeName::as_str).collect()
}

#[test]
fn the_command_line_counts_most_then_the_environment_then_the_file() {
    let file = File::new(
        "layers",
        "name = 'file@h'\nport = 1\nnet-ticktime = 11\npeers = ['f@h']\nhidden = true\n",
    );
    let variables = [("DATA_PUBLISHER_PORT", "2"), ("DATA_PUBLISHER_NAME", "env@h")];
    let (join, settings) = join(&["--name", "typed@h", "t@h", &file.option()], &variables);
    assert_eq!(join.identity.name.as_str(), "typed@h");
    assert_eq!(join.port, Some(2));
    assert_eq!(join.net_ticktime, 11);
    assert_eq!(names(&join.peers), ["t@h"], "a list replaces the list below it");
    assert!(join.identity.access.hidden);
    let text = print(&settings);
    for line in ["port = 2  # DATA_PUBLISHER_PORT", "name = \"typed@h\"  # command line"] {
        assert!(text.lines().any(|printed| printed == line), "{text}");
    }
    assert!(text.contains(&format!("net-ticktime = 11  # {}:3", file.0.display())), "{text}");
}

#[test]
fn a_flag_can_be_taken_back_and_an_empty_variable_is_none() {
    let file = File::new("flags", "name = 'a@h'\nhidden = true\njson = true\n");
    let variables = [("DATA_PUBLISHER_JSON", "no"), ("DATA_PUBLISHER_NAME", "")];
    let (join, _) = join(&["--hidden=false", &file.option()], &variables);
    assert!(!join.identity.access.hidden && !join.json);
    assert_eq!(join.identity.name.as_str(), "a@h");
}

#[test]
fn what_excludes_an_option_replaces_it_where_that_counts_less() {
    let file =
        File::new("excluded", "name = 'a@h'\ncookie-file = '/no/file'\n[tls]\ncertfile = 'c'\n");
    let variables = [("DATA_PUBLISHER_COOKIE", "secret")];
    let (join, settings) = join(&["--tls-optfile", "o", &file.option()], &variables);
    let access = &join.identity.access;
    assert!(access.cookie.is_some() && access.cookie_file.is_none());
    let text = print(&settings);
    assert!(!text.contains("certfile") && text.contains("optfile = \"o\""), "{text}");

    let of_typed = ["join", "--name=a@h", "--cookie-file=x"];
    assert!(read_line(&of_typed, &variables).is_ok(), "typed counts more");
}

#[test]
fn lists_come_from_variables_by_what_stands_between_their_parts() {
    let variables = [
        ("DATA_PUBLISHER_PEERS", "a@h, b@h"),
        ("DATA_PUBLISHER_GROUP", "{room, 1}\nplain"),
        ("DATA_PUBLISHER_EPMD_HOSTS", "x,y"),
    ];
    let (join, _) = join(&["--name=r@h"], &variables);
    assert_eq!(names(&join.peers), ["a@h", "b@h"]);
    assert_eq!(
        join.group.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["{room,1}", "plain"]
    );
    assert_eq!(join.epmd_hosts, ["x", "y"]);
}

#[test]
fn a_variable_of_others_counts_less_than_our_own() {
    let both = [("ERL_EPMD_PORT", "1"), ("DATA_PUBLISHER_EPMD_PORT", "2"), ("RUST_LOG", "info")];
    let (first, _) = join(&["--name=r@h"], &both);
    assert_eq!(first.identity.access.epmd_port, 2);
    let (second, _) = join(&["--name=r@h"], &both[..1]);
    assert_eq!(second.identity.access.epmd_port, 1);
    let Ok(read) = read_line(&["ping", "a@h"], &both) else { panic!("it's all there") };
    assert_eq!(read.args.log.log_level, "info");
}

#[test]
fn other_commands_take_what_is_about_access_and_the_log_from_the_environment() {
    let variables = [
        ("DATA_PUBLISHER_COOKIE_FILE", "f"),
        ("DATA_PUBLISHER_HIDDEN", "yes"),
        ("DATA_PUBLISHER_NAME", "service@h"),
        ("DATA_PUBLISHER_LOG", "json"),
    ];
    let Ok(Read { args, .. }) = read_line(&["ping", "a@h"], &variables) else { panic!("fine") };
    assert_eq!(args.log.log, crate::logging::LogFormat::Json);
    let args::Command::Ping(ping) = args.command else { panic!("a ping") };
    assert_eq!(ping.guest.access.cookie_file.as_deref(), Some(Path::new("f")));
    assert!(ping.guest.access.hidden);
    assert_eq!(ping.guest.name, None, "or it would take the service's name");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line_and_key() {
    for (text, line, words) in [
        ("name = 'a@h'\nprot = 1\n", 2, &["unknown key `prot`", "`port`"][..]),
        ("[tls]\ncert-file = 'x'\n", 2, &["unknown key `tls.cert-file`", "`tls.certfile`"]),
        ("tls-certfile = 'x'\n", 1, &["unknown key `tls-certfile`", "`tls.certfile`"]),
        ("config = 'x'\n", 1, &["unknown key `config`"]),
        ("\n\nport = 'x'\n", 3, &["port: invalid value 'x'"]),
        ("port = 70000\n", 1, &["port: ", "70000"]),
        ("port = [1]\n", 1, &["port: it takes one value"]),
        ("peers = ['a@h', 'b']\n", 1, &["peers: ", "'b'"]),
        ("hidden = 'maybe'\n", 1, &["hidden: "]),
        ("[limit]\nmessage = '1 parsec'\n", 2, &["limit.message: "]),
        ("cookie = ['s3cret']\n", 1, &["cookie: it takes one value"]),
        ("cookie = 's3cret\n", 1, &["not TOML"]),
        ("cookei = 's3cret'\n", 1, &["unknown key `cookei`", "`cookie`"]),
    ] {
        let file = File::new("wrong", text);
        let complaint = complaint(&["join", "--name=a@h", &file.option()], &[]);
        let start = format!("{}:{line}: ", file.0.display());
        assert!(complaint.starts_with(&start), "{complaint}");
        for word in words {
            assert!(complaint.contains(word), "no {word}: {complaint}");
        }
        assert!(!complaint.contains("s3cret") && !complaint.contains('\n'), "{complaint}");
    }
    let complaint = complaint(&["join", "--name=a@h"], &[("DATA_PUBLISHER_PORT", "x")]);
    assert!(complaint.starts_with("DATA_PUBLISHER_PORT: port: invalid value 'x'"), "{complaint}");
}

#[test]
fn rules_between_options_hold_wherever_they_come_from() {
    let file = File::new("rules", "name = 'a@h'\nmodule = 'kv'\n");
    assert!(complaint(&["join", &file.option()], &[]).contains("--scope"));
    let file = File::new("both", "name = 'a@h'\ncookie = 'c'\ncookie-file = 'f'\n");
    assert!(complaint(&["join", &file.option()], &[]).contains("cannot be used with"));
    assert!(complaint(&["join"], &[("DATA_PUBLISHER_PORT", "1")]).contains("--name"));
}

#[cfg(unix)]
#[test]
fn a_file_with_a_cookie_that_others_can_read_is_refused() {
    let text = "name = 'a@h'\ncookie = 's3cret'\n";
    for mode in [0o644, 0o640, 0o604, 0o620] {
        let file = File::with_mode("exposed", text, mode);
        let complaint = complaint(&["join", &file.option()], &[]);
        assert!(complaint.contains("chmod 600") && !complaint.contains("s3cret"), "{complaint}");
    }
    let file = File::with_mode("exposed-without", "name = 'a@h'\n", 0o644);
    assert!(read_line(&["join", &file.option()], &[]).is_ok());
    let file = File::with_mode("closed", text, 0o400);
    assert!(read_line(&["join", &file.option()], &[]).is_ok());
}

/// Everything but where it comes from, and the cookie.
fn effective(settings: &Settings) -> BTreeSet<String> {
    let text = print(settings);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split("  # ").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn what_is_printed_gives_the_same_configuration_and_never_the_cookie() {
    let line = [
        "--name=a@h",
        "--cookie=s3cret",
        "b@h",
        "c@h",
        "--group={room, 1}",
        "--group=\"te\\\"xt\"",
        "--port=4000",
        "--listen=::1",
        "--limit-message=3MiB",
        "--limit-stall-time=0.5",
        "--no-mesh",
        "--dns=x.example",
        "--epmd-hosts=h1,h2",
        "--scope=7",
        "--log=json",
        "--tls-certfile=/c.pem",
        "--tls-cacertfile=/ca.pem",
    ];
    let (_, settings) = join(&line, &[]);
    let text = print(&settings);
    assert!(!text.contains("s3cret"), "{text}");
    assert!(text.contains("put it in a file for cookie-file"), "{text}");
    let file = File::new("printed", &text);
    let (again, settings_again) = join(&[&file.option()], &[]);
    assert_eq!(effective(&settings), effective(&settings_again));
    assert_eq!(again.group.len(), 2);
    assert!(again.no_mesh);
    let shown = format!("{settings:?} {again:?}");
    assert!(!format!("{again:?}").contains("s3cret"), "{shown}");
}

#[test]
fn options_end_at_two_dashes_and_values_may_be_called_as_commands() {
    let variables = [("DATA_PUBLISHER_PORT", "7")];
    let Ok(read) =
        read_line(&["--log-level", "join", "join", "--name=r@h", "--", "a@h"], &variables)
    else {
        panic!("fine")
    };
    let args::Command::Join(join) = read.args.command else { panic!("join") };
    assert_eq!((names(&join.peers), join.port), (vec!["a@h"], Some(7)));
}

#[test]
fn every_setting_has_its_key_variable_and_option_in_the_documentation() {
    let page = include_str!("../../../../docs/configuration.md");
    let mut command = command();
    command.build();
    let join = command.find_subcommand("join").unwrap();
    let rows: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    for arg in values::settings(join) {
        let key = format!("`{}`", values::key(arg));
        let option = arg.get_long().map_or("`PEER...`".to_owned(), |long| format!("`--{long}`"));
        let variable = format!("`{}`", environment::variable(arg));
        let has_all = |row: &&&str| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            [&key, &option, &variable].iter().all(|name| cells.contains(&name.as_str()))
        };
        assert!(rows.iter().any(|row| has_all(&row)), "no row | {key} | {option} | {variable} |");
    }
    let known: BTreeSet<String> = values::settings(join).map(environment::variable).collect();
    for word in page.split(|c: char| !c.is_ascii_uppercase() && c != '_') {
        let is_variable =
            word.starts_with("DATA_PUBLISHER_") && word.len() > "DATA_PUBLISHER_".len();
        assert!(!is_variable || known.contains(word) || word == "DATA_PUBLISHER_CONFIG", "{word}");
    }
}
