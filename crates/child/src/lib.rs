//! What a node and its child processes share.
//!
//! A node has one child for each host (`baton host`) and one for each other resource (`baton
//! monitor`). Both are driven over an inherited socket ([`protocol`]) and let go by themselves
//! when their trust in the lease ends ([`trust`]), by the one clock that counts suspend
//! ([`clock`]); the tasks of both ends stand in [`tasks`].

pub mod clock;
pub mod protocol;
pub mod tasks;
pub mod trust;

use std::os::fd::AsFd;

use tokio::net::UnixStream;

/// The socket to the node: this process has inherited it as its standard input.
///
/// # Errors
/// When standard input is no socket: it was started by hand.
pub fn inherited_socket() -> std::io::Result<UnixStream> {
    let inherited = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = std::os::unix::net::UnixStream::from(inherited);
    socket.set_nonblocking(true)?;
    socket.peer_addr()?;
    UnixStream::from_std(socket)
}
