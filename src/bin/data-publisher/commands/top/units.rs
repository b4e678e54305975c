//! Numbers as short as a column of a terminal wants them.

use std::time::Duration;

/// `7.5`, `1234`, `12.3 k`, `4.5 M`.
pub(super) fn short(value: f64) -> String {
    match value {
        ..0.05 => "0".to_owned(),
        ..10.0 => format!("{value:.1}"),
        ..10_000.0 => format!("{value:.0}"),
        ..1e6 => format!("{:.1} k", value / 1e3),
        _ => format!("{:.1} M", value / 1e6),
    }
}

/// `17 B`, `12.3 kB`, `4.5 MB`.
pub(super) fn bytes(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0} B"),
        ..1e6 => format!("{:.1} kB", value / 1e3),
        ..1e9 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// `250 µs`, `1.5 ms`, `2.0 s`; `-` if it isn't known.
pub(super) fn time(value: Option<Duration>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match value.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", value.as_secs_f64()),
    }
}

/// `12 s`, `5 min`, `3 h 7 min`, `12 d`.
pub(super) fn long(value: Duration) -> String {
    match value.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_short_and_has_its_unit() {
        assert_eq!(
            [0.0, 7.54, 1234.0, 12_345.0, 4.5e6].map(short),
            ["0", "7.5", "1234", "12.3 k", "4.5 M"]
        );
        assert_eq!(
            [17.0, 12_345.0, 4.5e6, 2e9].map(bytes),
            ["17 B", "12.3 kB", "4.5 MB", "2.0 GB"]
        );
        let times = [Some(250), Some(1_500), Some(2_000_000), None];
        let times = times.map(|micros| time(micros.map(Duration::from_micros)));
        assert_eq!(times, ["250 µs", "1.5 ms", "2.0 s", "-"]);
        let spans = [12, 300, 11_220, 1_036_800].map(|seconds| long(Duration::from_secs(seconds)));
        assert_eq!(spans, ["12 s", "5 min", "3 h 7 min", "12 d"]);
    }
}
