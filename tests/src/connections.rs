//! The TCP connections of a process, as Linux lists them.

use anyhow::{Context, Result};
use std::{collections::HashSet, fs};

/// The tables of connections. A machine without IPv6 has only the first.
const TABLES: [&str; 2] = ["tcp", "tcp6"];
/// The state of an established connection in these tables.
const ESTABLISHED: &str = "01";

/// The number of established connections of a process to a port.
pub fn established(process: u32, port: u16) -> Result<usize> {
    let folder = format!("/proc/{process}/fd");
    let mut sockets = HashSet::new();
    for descriptor in fs::read_dir(&folder).with_context(|| folder.clone())? {
        // A descriptor that was closed meanwhile has no target.
        if let Ok(target) = fs::read_link(descriptor?.path()) {
            sockets.insert(target.to_string_lossy().into_owned());
        }
    }
    let tables = TABLES.map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    Ok(connected(lines, port, &sockets).len())
}

/// Those of the sockets that are established connections to a port, from the lines of the tables. Linux may list a
/// connection twice if others are opened while a table is read.
fn connected<'l>(
    lines: impl Iterator<Item = &'l str>,
    port: u16,
    sockets: &HashSet<String>,
) -> HashSet<String> {
    lines
        .filter_map(|line| socket_connected_to(line, port))
        .filter(|socket| sockets.contains(socket))
        .collect()
}

/// The socket of a line of a table, if it is an established connection to a port.
fn socket_connected_to(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, remote, state, _, _, _, _, _, inode, ..] = fields[..] else {
        return None;
    };
    let (_, remote_port) = remote.rsplit_once(':')?;
    let remote_port = u16::from_str_radix(remote_port, 16).ok()?;
    (state == ESTABLISHED && remote_port == port).then(|| format!("socket:[{inode}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections from and to port 9092, and a socket that listens.
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 0100007F:A1B2 0100007F:2384 01 00000000:00000000 00:00000000 00000000     0        0 101 1 0 20 4 30 10 -1
   2: 0100007F:2384 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0 20 4 30 10 -1
   3: 0100007F:A1B4 0100007F:2384 06 00000000:00000000 00:00000000 00000000     0        0 103 1 0 20 4 30 10 -1
";

    #[test]
    fn only_established_connections_of_the_process_to_the_port_count() {
        let count = |inodes: &[u32]| {
            let sockets = inodes.iter().map(|inode| format!("socket:[{inode}]"));
            let sockets: HashSet<String> = sockets.collect();
            connected(TABLE.lines(), 9092, &sockets).len()
        };
        assert_eq!(count(&[100, 101, 102, 103]), 1);
        assert_eq!(count(&[100, 102, 103]), 0);
    }

    #[test]
    fn a_connection_that_is_listed_twice_counts_once() {
        let sockets = HashSet::from(["socket:[101]".to_owned()]);
        let lines = TABLE.lines().chain(TABLE.lines());
        assert_eq!(connected(lines, 9092, &sockets), sockets);
    }

    #[test]
    fn a_connection_of_this_process_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connection = std::net::TcpStream::connect(address).unwrap();
        let process = std::process::id();
        assert_eq!(established(process, address.port()).unwrap(), 1);
        drop(connection);
    }
}
