//! A certificate that is wrong: no connection, and both sides' logs say why.

use anyhow::Result;
use data_publisher::node::{ConnectError, TlsError, TlsVersion};

use super::{erl, rust};
use crate::cli::Cli;
use crate::otp::{Seen, on_each_release};
use crate::support::{Certificates, ErlNode, Otp, SOON, Security, wait_until};

on_each_release! {
    try_all
}

async fn try_all(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    for shows in ["stranger", "expired", "future", "elsewhere", "address"] {
        let (epmd, a) = erl(otp, &certificates, &Security::good()).await?;
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let security = Security::good().shows(shows).versions(&[version]);
            let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
            println!(
                "OTP {otp} ours {shows} {version:?}: we dial: {:?}",
                node.connect("a@127.0.0.1").await
            );
            node.disconnect(&"a@127.0.0.1".parse()?);
            println!(
                "OTP {otp} ours {shows} {version:?}: a dials: {:?}",
                a.eval("net_kernel:connect_node('r@127.0.0.1')").await
            );
            node.stop().await;
        }
        println!("{}", a.output());
        let (epmd, a) = erl(otp, &certificates, &Security::good().shows(shows)).await?;
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let security = Security::good().versions(&[version]);
            let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
            println!(
                "OTP {otp} theirs {shows} {version:?}: we dial: {:?}",
                node.connect("a@127.0.0.1").await
            );
            node.disconnect(&"a@127.0.0.1".parse()?);
            println!(
                "OTP {otp} theirs {shows} {version:?}: a dials: {:?}",
                a.eval("net_kernel:connect_node('r@127.0.0.1')").await
            );
            node.stop().await;
        }
        println!("{}", a.output());
    }
    Ok(())
}
