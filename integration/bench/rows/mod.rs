//! The rows of the table, each a function that measures both targets and checks what they have done.

mod codec;
mod connections;
mod growth;
mod joins;
mod leaves;
mod reads;
mod snapshot;
mod updates;

use anyhow::{Result, bail};

use crate::stage::Bench;
use crate::table::Line;

/// All rows; several are printed as several lines.
pub(crate) const ROWS: [&str; 11] =
    ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11"];

pub(crate) async fn measure(row: &str, bench: &Bench) -> Result<Vec<Line>> {
    match row {
        "P1" => updates::own_groups(bench).await,
        "P2" => updates::shared_groups(bench).await,
        "P3" => snapshot::local_data(bench).await,
        "P4" => leaves::one_by_one(bench).await,
        "P5" => joins::published(bench).await,
        "P6" => joins::until_visible(bench).await,
        "P7" => snapshot::reconnect(bench).await,
        "P8" => reads::beside_a_writer(bench).await,
        "P9" => codec::of_an_update(bench).await,
        "P10" => growth::of_the_view(bench).await,
        "P11" => connections::idle_and_new(bench).await,
        _ => bail!("there's no row `{row}`; there are {}", ROWS.join(", ")),
    }
}

/// Microseconds each, of nanoseconds for all.
fn micros_each(nanos: f64, count: u32) -> f64 {
    nanos / 1e3 / f64::from(count)
}
