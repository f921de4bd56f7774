//! A TCP proxy in front of one server. While it is closed, it refuses and drops every connection, like a crashed
//! server. While it hangs, it keeps connections and accepts new ones, but passes nothing on, like a suspended server.
//! The server itself keeps running, so tests that run at the same time are not disturbed.
//!
//! Kafka's clients connect to the addresses in the broker's answers, so the proxy replaces the broker's address
//! there with its own. It reads whole frames for that; the other protocols pass as bytes.

use crate::{environment::Environment, free_address::free_address, servers::Server};
use anyhow::{Context, Result};
use std::{net::SocketAddr, pin::pin};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The proxy of one server; open at first.
pub struct FaultProxy {
    server: Server,
    /// The server's address.
    target: String,
    /// The proxy's address, the same after each opening.
    address: SocketAddr,
    /// Accepts connections and holds them; `None` while closed.
    serving: Option<JoinHandle<()>>,
    /// Whether it hangs.
    hangs: watch::Sender<bool>,
}

impl FaultProxy {
    /// Starts a proxy in front of a server.
    pub async fn before(server: Server, environment: &Environment) -> Result<Self> {
        let target = server.address(environment)?;
        let mut proxy = Self {
            server,
            target,
            address: free_address()?,
            serving: None,
            hangs: watch::Sender::new(false),
        };
        proxy.open().await?;
        Ok(proxy)
    }

    /// The server behind it.
    pub fn server(&self) -> Server {
        self.server
    }

    /// Replaces the server's address with the proxy's.
    pub fn redirect(&self, environment: &mut Environment) {
        let address = self.address.to_string();
        let setting = self.server.setting(environment);
        *setting = setting.replace(&self.target, &address);
    }

    /// Accepts connections again, after it was closed or has hung. Earlier connections are dropped.
    pub async fn open(&mut self) -> Result<()> {
        self.close().await;
        self.hangs.send_replace(false);
        let listener = TcpListener::bind(self.address).await;
        let listener = listener.with_context(|| format!("a proxy at {}", self.address))?;
        let (server, target) = (self.server, self.target.clone());
        let addresses = KafkaAddresses::new(&target, self.address);
        let hangs = self.hangs.subscribe();
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, addresses) = (target.clone(), addresses.clone());
                let relaying = async move {
                    let server_side = TcpStream::connect(&target).await?;
                    client.set_nodelay(true)?;
                    server_side.set_nodelay(true)?;
                    match server {
                        Server::Kafka => addresses.relay(client, server_side).await,
                        Server::Registry | Server::Postgres | Server::Cassandra => {
                            relay(client, server_side).await
                        }
                    }
                };
                connections.spawn(unless_it_hangs(relaying, hangs.clone()));
                // Connections that have ended are removed, so they take no memory.
                while connections.try_join_next().is_some() {}
            }
        }));
        Ok(())
    }

    /// Passes nothing on, until it is opened or closed.
    pub fn hang(&self) {
        self.hangs.send_replace(true);
    }

    /// Drops all connections and refuses new ones.
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // The listener and the connections are closed once the task has ended.
            let _cancelled = serving.await;
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// Runs a relay while the proxy does not hang. Its connections stay open meanwhile.
async fn unless_it_hangs(
    relaying: impl Future<Output = std::io::Result<()>>,
    mut hangs: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut relaying = pin!(relaying);
    loop {
        let is_hanging = *hangs.borrow_and_update();
        tokio::select! {
            relayed = &mut relaying, if !is_hanging => return relayed,
            changed = hangs.changed() => if changed.is_err() {
                // The proxy was dropped.
                return Ok(());
            },
        }
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The broker's address and the proxy's in the form of Kafka's answers: the host's text, then the port in four
/// bytes. Both have the same length, so lengths in the frame stay correct.
#[derive(Clone)]
struct KafkaAddresses {
    broker: Vec<u8>,
    proxy: Vec<u8>,
}

impl KafkaAddresses {
    fn new(broker: &str, proxy: SocketAddr) -> Self {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        let port: u16 = port.parse().unwrap_or_default();
        let bytes = |port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
        Self {
            broker: bytes(port),
            proxy: bytes(proxy.port()),
        }
    }

    async fn relay(&self, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = async {
            loop {
                let size = from_server.read_u32().await?;
                let mut frame = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
                from_server.read_exact(&mut frame).await?;
                self.replace(&mut frame);
                to_client.write_u32(size).await?;
                to_client.write_all(&frame).await?;
            }
        };
        tokio::select! {
            copied = copy(&mut from_client, &mut to_server) => copied.map(drop),
            ended = answers => ended,
        }
    }

    fn replace(&self, frame: &mut [u8]) {
        let length = self.broker.len();
        let mut start = 0;
        while start + length <= frame.len() {
            if frame[start] == self.broker[0] && frame[start..start + length] == self.broker {
                frame[start..start + length].copy_from_slice(&self.proxy);
            }
            start += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_address_is_replaced_in_a_frame() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 20_001));
        let addresses = KafkaAddresses::new("127.0.0.1:19092", proxy);
        let address = |port: u32| [b"\x0a127.0.0.1".as_slice(), &port.to_be_bytes()].concat();
        let mut frame = [address(19_092), address(19_093), address(19_092)].concat();
        addresses.replace(&mut frame);
        let expected = [address(20_001), address(19_093), address(20_001)].concat();
        assert_eq!(frame, expected);
    }

    #[tokio::test]
    async fn a_closed_proxy_drops_connections_and_an_open_one_accepts_again() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let mut proxy = FaultProxy {
            server: Server::Postgres,
            target: target.to_string(),
            address: free_address().unwrap(),
            hangs: watch::Sender::new(false),
            serving: None,
        };
        proxy.open().await.unwrap();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut question = [0; 8];
        accepted.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");

        proxy.close().await;
        assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0);
        TcpStream::connect(proxy.address).await.unwrap_err();
        proxy.open().await.unwrap();
        TcpStream::connect(proxy.address).await.unwrap();
    }
}
