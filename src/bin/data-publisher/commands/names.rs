//! `names`: what an EPMD knows.

use data_publisher::epmd::Epmd;

use crate::args::Names;
use crate::{Answer, output};

pub(super) async fn run(args: Names) -> anyhow::Result<Answer> {
    for (name, port) in Epmd::new(args.epmd_port).names(&args.host).await? {
        output::say(&format!("{name}\t{port}"))?;
    }
    Ok(Answer::Yes)
}
