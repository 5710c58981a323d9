//! The network between one node and the store, which can be cut: bytes then go nowhere, as in a
//! split network, and nobody is told.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes on their way in one direction of one connection.
const BUFFER_BYTES: usize = 64 * 1024;

/// A wire. The connections through it end when it is dropped.
pub struct Wire {
    /// The store's URL, by way of this wire.
    pub url: String,
    whole: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// A wire to the server of a URL. None if it has no single address to be relayed: a file, a
    /// socket, several hosts, or a certificate that names the host.
    pub async fn to(url: &str) -> Result<Option<Wire>> {
        let Some((before, address, after)) = parts(url) else { return Ok(None) };
        let address = address.to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let ours: SocketAddr = listener.local_addr().context("the wire of a node")?;
        let (whole, state) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, address, state));
        Ok(Some(Wire { url: format!("{before}{ours}{after}"), whole, _tasks: tasks }))
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Mends it: what was on its way arrives.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

/// What stands before, at and after `host:port` in the URL of a PostgreSQL server.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let scheme = url.split_inclusive("://").next()?;
    if !scheme.starts_with("postgres") || url.contains("sslmode=verify") {
        return None;
    }
    let rest = url.strip_prefix(scheme)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let begin = rest[..end].rfind('@').map_or(0, |at| at + 1);
    let address = &rest[begin..end];
    let (host, port) = address.rsplit_once(':')?;
    let single = !host.is_empty() && !host.contains([',', '%']) && port.parse::<u16>().is_ok();
    single.then(|| (&url[..scheme.len() + begin], address, &rest[end..]))
}

async fn accept(listener: TcpListener, address: String, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    connections.spawn(relay(near, address.clone(), whole.clone()));
                }
                Err(error) => tracing::warn!(%error, "the wire cannot accept a connection"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(near: TcpStream, address: String, mut whole: watch::Receiver<bool>) {
    if whole.wait_for(|whole| *whole).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(&address).await else { return };
    // A relay that waits for more to send would cost what it is meant to measure.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let other = whole.clone();
    // Whichever end closes ends both.
    tokio::select! {
        () = copy(near_reader, far_writer, whole) => {}
        () = copy(far_reader, near_writer, other) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut whole: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(bytes @ 1..) = from.read(&mut buffer).await else { return };
        if whole.wait_for(|whole| *whole).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_address_can_be_relayed() {
        let check = |url: &str, address: Option<&str>| {
            assert_eq!(parts(url).map(|(_, address, _)| address), address, "{url}");
        };
        check("postgresql://u:p@h:5432/d?connect_timeout=3", Some("h:5432"));
        check("postgres://127.0.0.1:1/d", Some("127.0.0.1:1"));
        check("postgresql://u@[::1]:5432", Some("[::1]:5432"));
        check("postgresql://u@h1:1,h2:2/d", None);
        check("postgresql://u@h/d", None);
        check("postgresql://u@h:1/d?sslmode=verify-full", None);
        check("sqlite:/a/b.db", None);
    }
}
