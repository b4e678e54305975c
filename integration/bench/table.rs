//! The lines of the table, and how they are printed: as Markdown.

use std::fmt::Write as _;

use crate::plot::Plot;
use crate::stage::Kind;

/// A quantity that was measured on both targets, one value for each round.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// `P1` and so on.
    pub(crate) row: &'static str,
    /// What was done or seen.
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// What is to be reached, in words.
    pub(crate) goal: &'static str,
    /// The plot it's a point of, and where on its axis.
    pub(crate) point: Option<(Plot, u32)>,
    otp: Vec<f64>,
    rust: Vec<f64>,
}

impl Line {
    pub(crate) fn new(
        row: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        goal: &'static str,
    ) -> Self {
        let (otp, rust) = (Vec::new(), Vec::new());
        Self { row, what: what.into(), unit, goal, point: None, otp, rust }
    }

    pub(crate) fn at(self, plot: Plot, x: u32) -> Self {
        Self { point: Some((plot, x)), ..self }
    }

    pub(crate) fn push(&mut self, kind: Kind, value: f64) {
        match kind {
            Kind::Otp => self.otp.push(value),
            Kind::Rust => self.rust.push(value),
        }
    }

    pub(crate) fn values(&self, kind: Kind) -> &[f64] {
        match kind {
            Kind::Otp => &self.otp,
            Kind::Rust => &self.rust,
        }
    }

    /// The middle one of the values.
    pub(crate) fn median(&self, kind: Kind) -> Option<f64> {
        median(self.values(kind))
    }

    fn cell(&self, kind: Kind) -> String {
        let values = self.values(kind);
        let least = values.iter().copied().reduce(f64::min);
        let most = values.iter().copied().reduce(f64::max);
        match (self.median(kind), least, most) {
            (Some(median), Some(least), Some(most)) => {
                let (median, least, most) = (figure(median), figure(least), figure(most));
                format!("{median} ({least} to {most})")
            }
            _ => String::from("-"),
        }
    }

    /// How many times as much the BEAM takes.
    fn ratio(&self) -> String {
        match (self.median(Kind::Otp), self.median(Kind::Rust)) {
            (Some(otp), Some(rust)) if rust > 0.0 => format!("{}x", figure(otp / rust)),
            _ => String::from("-"),
        }
    }
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 50)
}

/// The value below which are so many of a hundred.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let place = values.len().checked_sub(1)? * percent / 100;
    values.get(place).copied()
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub(crate) fn print(lines: &[Line]) -> String {
    let mut text = String::from(
        "| | work | unit | OTP 29 | Rust | OTP/Rust | to reach |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines {
        let (otp, rust) = (line.cell(Kind::Otp), line.cell(Kind::Rust));
        let Line { row, what, unit, goal, .. } = line;
        let ratio = line.ratio();
        let _ = writeln!(text, "| {row} | {what} | {unit} | {otp} | {rust} | {ratio} | {goal} |");
    }
    text
}
