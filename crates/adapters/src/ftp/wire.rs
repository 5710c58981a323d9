//! A connection's bytes, in clear or encrypted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// TLS records without application data (session tickets, key updates) that one look skips.
const SILENT_RECORDS_MAX: usize = 16;

/// Time for tokio to notice what the kernel has already got; a machine under load needs some.
const A_MOMENT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What lies unread on a connection that ought to be silent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stray {
    Nothing,
    Bytes(Vec<u8>),
    Closed,
}

impl Wire {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(tcp) => tcp,
            Wire::Tls(tls) => tls.get_ref().0,
        }
    }

    pub(super) fn peer(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Whether the other side speaks TLS 1.3, the version in which some servers can't recognise
    /// the session of the control connection on a data connection.
    pub(super) fn is_tls_1_3(&self) -> bool {
        match self {
            Wire::Plain(_) => false,
            Wire::Tls(tls) => {
                tls.get_ref().1.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
            }
        }
    }

    /// Takes what has arrived without anyone having asked for it. Never waits for the network.
    pub(super) async fn stray(&mut self) -> Stray {
        let mut bytes = vec![0; 512];
        for _ in 0..SILENT_RECORDS_MAX {
            // The kernel is asked directly: tokio learns of new bytes only when it next polls.
            let arrived =
                match recv(self.tcp(), &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                    Ok((0, _)) => return Stray::Closed,
                    Ok(_) => true,
                    Err(rustix::io::Errno::AGAIN) => false,
                    Err(_) => return Stray::Closed,
                };
            if matches!(self, Wire::Plain(_)) && !arrived {
                return Stray::Nothing;
            }
            // The kernel has told so; tokio will in a moment.
            if arrived && !matches!(timeout(A_MOMENT, self.tcp().readable()).await, Ok(Ok(()))) {
                return Stray::Closed;
            }
            match tokio::task::unconstrained(self.read(&mut bytes)).now_or_never() {
                Some(Ok(0)) | Some(Err(_)) => return Stray::Closed,
                Some(Ok(count)) => {
                    bytes.truncate(count);
                    return Stray::Bytes(bytes);
                }
                None if arrived => {} // a record of TLS itself, now consumed, or half a record
                None => return Stray::Nothing,
            }
        }
        Stray::Nothing
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
