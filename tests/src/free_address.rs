//! Free addresses of this machine, for nodes and proxies.

use anyhow::Result;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::Mutex,
};

/// Ports below those of outgoing connections.
const PORTS: Range<u16> = 20_000..32_000;
/// Index of the last port that was given.
static LAST_PORT: Mutex<Option<usize>> = Mutex::new(None);

/// An address that is free now. No other caller in this process and no outgoing connection gets it.
pub fn free_address() -> Result<SocketAddr> {
    let mut last = LAST_PORT.lock().expect("no holder of this lock panics");
    // Test programs that run at the same time begin at different ports.
    let mut index = last.unwrap_or(usize::try_from(std::process::id())? * 101);
    for _ in 0..PORTS.len() {
        index = (index + 1) % PORTS.len();
        let port = PORTS.start + u16::try_from(index)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            *last = Some(index);
            return Ok(address);
        }
    }
    anyhow::bail!("no free port in {PORTS:?}")
}

/// Free addresses; see [`free_address`].
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    (0..count).map(|_| free_address()).collect()
}
