//! The limits of a node as options, `--limit-hard-mark` and the like; docs/limits.md says what each is for.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Args as Group;
use data_publisher::node::Limits;

static DEFAULT: LazyLock<Limits> = LazyLock::new(Limits::default);

/// See [`Limits`]; `tick_time` is `--net-ticktime`.
#[derive(Debug, Group)]
#[expect(clippy::struct_field_names, reason = "the options are called so")]
#[command(
    next_help_heading = "Limits, see docs/limits.md; sizes as 4096, 64 KiB, 1.5 MiB, times in seconds"
)]
pub(crate) struct LimitArgs {
    /// Queued for one peer before senders wait
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.soft_mark), hide_short_help = true)]
    limit_soft_mark: Size,
    /// Queued for one peer before it is shed
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.hard_mark), hide_short_help = true)]
    limit_hard_mark: Size,
    /// Queued for all peers; then the longest queue is shed
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.all_queues), hide_short_help = true)]
    limit_all_queues: Size,
    /// Come over a connection and not yet handled
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.unhandled), hide_short_help = true)]
    limit_unhandled: Size,
    /// The same of messages above the soft mark
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.unhandled_large), hide_short_help = true)]
    limit_unhandled_large: Size,
    /// One message from a peer
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.message), hide_short_help = true)]
    limit_message: Size,
    /// Messages from one peer that have begun and aren't complete
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT.fragmented, hide_short_help = true)]
    limit_fragmented: usize,
    /// The bytes of these
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT.fragment_bytes), hide_short_help = true)]
    limit_fragment_bytes: Size,
    /// Our silence before a tick [default: 5, or a quarter of --net-ticktime if that is less]
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    limit_tick_interval: Option<Seconds>,
    /// For how long a peer's socket may take nothing
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(DEFAULT.stall_time), hide_short_help = true)]
    limit_stall_time: Seconds,
    /// How long connecting may take, from look-up to the last word of the handshake
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(DEFAULT.setup_time), hide_short_help = true)]
    limit_setup_time: Seconds,
    /// Connections that are being accepted
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT.handshakes, hide_short_help = true)]
    limit_handshakes: usize,
    /// Connections
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT.connections, hide_short_help = true)]
    limit_connections: usize,
    /// Monitors, and links, of one peer on our processes
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT.watches, hide_short_help = true)]
    limit_watches: usize,
    /// Events that a subscriber of a scope may be behind
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT.subscriber, hide_short_help = true)]
    limit_subscriber: usize,
    /// The longest pause before a node is dialled again
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(DEFAULT.redial_time), hide_short_help = true)]
    limit_redial_time: Seconds,
}

impl LimitArgs {
    /// The limits, for this tick time.
    pub(crate) fn limits(&self, tick_time: Duration) -> Limits {
        let mut limits = Limits::default();
        limits.soft_mark = self.limit_soft_mark.0;
        limits.hard_mark = self.limit_hard_mark.0;
        limits.all_queues = self.limit_all_queues.0;
        limits.unhandled = self.limit_unhandled.0;
        limits.unhandled_large = self.limit_unhandled_large.0;
        limits.message = self.limit_message.0;
        limits.fragmented = self.limit_fragmented;
        limits.fragment_bytes = self.limit_fragment_bytes.0;
        limits.tick_time = tick_time;
        let interval = self.limit_tick_interval.map(|seconds| seconds.0);
        limits.tick_interval = interval.unwrap_or(limits.tick_interval.min(tick_time / 4));
        limits.stall_time = self.limit_stall_time.0;
        limits.setup_time = self.limit_setup_time.0;
        limits.handshakes = self.limit_handshakes;
        limits.connections = self.limit_connections;
        limits.watches = self.limit_watches;
        limits.subscriber = self.limit_subscriber;
        limits.redial_time = self.limit_redial_time.0;
        limits
    }
}

/// A number of bytes: `4096`, `64 KiB`, `1.5MiB`, `1 MB`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: bytesize::ByteSize = text.parse()?;
        usize::try_from(size.as_u64()).map(Self).map_err(|_| "too large".to_owned())
    }
}

/// Exact, unlike `bytesize`'s own.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(bytes, _)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((bytes, unit)) => write!(f, "{} {unit}", self.0 / bytes),
            None => self.0.fmt(f),
        }
    }
}

/// A time: `15`, `0.5`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "it takes seconds, as 15 or 0.5";
        let seconds: f64 = text.parse().map_err(|_| wrong)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| wrong)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs_f64().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    fn command() -> Command {
        LimitArgs::augment_args(Command::new("limits"))
    }

    #[test]
    fn each_limit_of_a_node_has_an_option_and_the_same_default() {
        let shown = format!("{:#?}", Limits::default());
        let fields = shown.lines().filter_map(|line| line.trim().split_once(':'));
        let fields: Vec<_> =
            fields.map(|(field, _)| field).filter(|field| *field != "tick_time").collect();
        let command = command();
        let options: Vec<_> = (command.get_arguments())
            .filter_map(|arg| arg.get_id().as_str().strip_prefix("limit_"))
            .collect();
        assert_eq!(options, fields);

        let args = <LimitArgs as clap::FromArgMatches>::from_arg_matches(
            &command.get_matches_from(["limits"]),
        );
        let default = Limits::default();
        assert_eq!(args.unwrap().limits(default.tick_time), default);
    }

    #[test]
    fn each_option_sets_its_own_limit() {
        let default = Limits::default();
        for arg in command().get_arguments() {
            let given = [format!("--{}", arg.get_long().unwrap()), "3".to_owned()];
            let line = ["limits".to_owned()].into_iter().chain(given);
            let args = <LimitArgs as clap::FromArgMatches>::from_arg_matches(
                &command().get_matches_from(line),
            );
            let limits = args.unwrap().limits(default.tick_time);
            let (set, unset) = (format!("{limits:#?}"), format!("{default:#?}"));
            let changed: Vec<_> = set
                .lines()
                .zip(unset.lines())
                .filter(|(a, b)| a != b)
                .map(|(a, _)| a.trim())
                .collect();
            let name = arg.get_id().as_str().trim_start_matches("limit_");
            assert!(
                changed == [format!("{name}: 3,")] || changed == [format!("{name}: 3s,")],
                "{name}: {changed:?}"
            );
        }
    }

    #[test]
    fn sizes_are_printed_as_they_are_read() {
        for (text, bytes, printed) in [
            ("4096", 4096, "4 KiB"),
            ("1.5 MiB", 3 << 19, "1536 KiB"),
            ("64kib", 65536, "64 KiB"),
            ("1MB", 1_000_000, "1000000"),
            ("0", 0, "0"),
            ("256 MiB", 256 << 20, "256 MiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size, &size.to_string()[..]), (Size(bytes), printed), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for bad in ["", "x", "-1", "1 parsec"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        for bad in ["", "x", "-1", "inf", "NaN", "1e300"] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad}");
        }
        assert_eq!("0.5".parse::<Seconds>().unwrap().to_string(), "0.5");
    }
}
