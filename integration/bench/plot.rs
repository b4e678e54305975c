//! Figures over something that grows, one picture for each, both axes logarithmic.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::stage::Kind;
use crate::table::Line;

/// A picture; its file is named as it is here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Plot {
    UpdatesByGroups,
    UpdatesByMembers,
    Leaves,
    Joins,
}

impl Plot {
    const ALL: [Self; 4] =
        [Self::UpdatesByGroups, Self::UpdatesByMembers, Self::Leaves, Self::Joins];

    fn file(self) -> &'static str {
        match self {
            Self::UpdatesByGroups => "updates-by-groups.svg",
            Self::UpdatesByMembers => "updates-by-members.svg",
            Self::Leaves => "leaves-by-members.svg",
            Self::Joins => "joins-by-peers.svg",
        }
    }

    /// What one operation is, and what grows.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::UpdatesByGroups => ("an update from a peer (P1)", "groups"),
            Self::UpdatesByMembers => ("an update from a peer (P1)", "members of each group"),
            Self::Leaves => ("a leave at a peer (P4)", "members of each group"),
            Self::Joins => ("a local join (P5)", "peers"),
        }
    }
}

/// Draws all pictures for which there are at least two points.
pub(crate) fn draw_all(lines: &[Line], folder: &Path) -> Result<()> {
    for plot in Plot::ALL {
        let series = Kind::BOTH.map(|kind| points(lines, plot, kind));
        if series.iter().all(|points| points.len() > 1) {
            let drawn = draw(plot, &series, &folder.join(plot.file()));
            drawn.map_err(|error| anyhow!("{}: {error}", plot.file()))?;
        }
    }
    Ok(())
}

type Point = (f64, f64);

fn points(lines: &[Line], plot: Plot, kind: Kind) -> Vec<Point> {
    let of_plot = lines.iter().filter_map(|line| {
        let (_, x) = line.point.filter(|(of, _)| *of == plot)?;
        Some((f64::from(x), line.median(kind).filter(|y| *y > 0.0)?))
    });
    of_plot.collect()
}

fn draw(
    plot: Plot,
    series: &[Vec<Point>; 2],
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    const SIZE: (u32, u32) = (640, 400);
    const GREY: RGBColor = RGBColor(120, 120, 120);
    const COLOURS: [RGBColor; 2] = [RGBColor(169, 5, 51), RGBColor(32, 96, 160)];

    let all = || series.iter().flatten().copied();
    let range = |of: fn(Point) -> f64, room: f64| {
        let least = all().map(of).fold(f64::INFINITY, f64::min);
        let most = all().map(of).fold(0.0, f64::max);
        least / room..most * room
    };
    let (operation, growing) = plot.words();
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    // No colour of its own would be unreadable on a dark page.
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("CPU time of {operation}"), ("sans-serif", 17))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(
            range(|(x, _)| x, 1.3).log_scale(),
            range(|(_, y)| y, 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.3))
        .x_desc(growing)
        .y_desc("microseconds")
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style(("sans-serif", 13))
        .draw()?;
    for ((points, colour), kind) in series.iter().zip(COLOURS).zip(Kind::BOTH) {
        let name = if kind == Kind::Otp { "OTP 29" } else { "Rust" };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 2)], colour.filled()));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(GREY)
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it's called so")]
fn label(value: &f64) -> String {
    if *value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}
