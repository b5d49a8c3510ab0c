//! `--listen`: a server of metrics, and what is told of it.

use std::{net::SocketAddr, time::Duration};

use crate::serve::{ServeError, Server};

/// A server at work on `address`; a page is due every `interval`.
///
/// # Errors
/// When the address cannot be had.
pub(super) fn listen(
    address: SocketAddr,
    interval: Duration,
    quiet: bool,
) -> Result<Server, ServeError> {
    let server = Server::start(address, interval)?;
    let address = server.address();
    if !quiet {
        eprintln!("metrics: http://{address}/metrics");
    }
    if !address.ip().is_loopback() {
        log::warn!("--listen {address} is not loopback: whoever reaches it can read the metrics");
    }
    Ok(server)
}
