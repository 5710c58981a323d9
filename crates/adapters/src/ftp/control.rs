//! The control connection: one command, its own reply, and never the reply of another command.
//!
//! A reply that is taken for another command's can lose a message: a `DELE` would seem to have
//! done what only a `NOOP` did. So the connection counts as dead from before a command is sent
//! until its reply is read and nothing lies behind it. A future that is dropped in between, an
//! error, a time-out, a reply too many: all leave it dead, and every later call says so.
//! (This is why there is an FTP client here: one that reads ahead into a buffer of its own can't
//! see the reply too many, and one that logs commands logs the password.)

use std::time::Duration;

use adapter::{AdapterError, PATIENCE_MAX, Result};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::wire::{Stray, Wire};

/// Bytes of one reply, all lines together. The longest in real life is FEAT with about 2 KiB, or
/// MLST with a path of 4 KiB; a server that sends more has lost its mind.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a reply that error messages repeat.
const REPLY_SHOWN_MAX: usize = 300;

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// All lines with their ends.
    pub(super) raw: Vec<u8>,
}

impl Reply {
    /// The last line for people: without control characters, and never long.
    pub(super) fn text(&self) -> String {
        let mut lines = self.raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let last = String::from_utf8_lossy(lines.next_back().unwrap_or_default());
        let printable = last.trim_end().chars().filter(|c| !c.is_control());
        printable.take(REPLY_SHOWN_MAX).collect()
    }

    /// The lines between the first and the last, as FEAT and MLST answer.
    pub(super) fn inner_lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.raw.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut inner: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).skip(1).collect();
        inner.pop();
        inner.into_iter()
    }

    /// The command was done.
    pub(super) fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The server does not know the command, or not with this argument.
    pub(super) fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500..=504 | 202)
    }
}

#[derive(Debug)]
pub(super) struct Control {
    wire: Wire,
    /// `partner.example:21`, for messages.
    pub(super) server: String,
    patience: Duration,
    /// Received but not yet understood.
    unread: Vec<u8>,
    /// From before a command is sent until its last reply is read with nothing behind it.
    owed: bool,
    /// The server reads commands as Telnet (RFC 854), where a byte 255 in a name is sent twice.
    pub(super) doubles_255: bool,
}

impl Control {
    pub(super) fn new(wire: Wire, server: String, patience: Duration) -> Control {
        let patience = patience.min(PATIENCE_MAX);
        // The greeting is owed.
        Control { wire, server, patience, unread: Vec::new(), owed: true, doubles_255: false }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// From now on every command answers that the connection is dead.
    pub(super) fn kill(&mut self) {
        self.owed = true;
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) async fn greeting(&mut self) -> Result<Reply> {
        loop {
            let reply = self.read_reply().await?;
            // 120: ready in n minutes; the real greeting follows.
            if reply.code >= 200 {
                return self.settled(reply);
            }
        }
    }

    /// The same connection encrypted. A reply sent in clear ahead of time can't slip in: the reply
    /// to AUTH was settled, so nothing lay behind it.
    pub(super) async fn encrypted(
        self,
        connector: &TlsConnector,
        name: ServerName<'static>,
    ) -> std::io::Result<Control> {
        let wire = match self.wire {
            Wire::Plain(tcp) => Wire::Tls(Box::new(connector.connect(name, tcp).await?)),
            encrypted @ Wire::Tls(_) => encrypted,
        };
        Ok(Control { wire, ..self })
    }

    /// Sends a command and reads its reply.
    pub(super) async fn ask(&mut self, verb: &str, argument: &[u8]) -> Result<Reply> {
        self.send(verb, argument).await?;
        let reply = self.read_reply().await?;
        if reply.code < 200 {
            return Err(self.nonsense(&reply.text(), verb));
        }
        self.settled(reply)
    }

    /// Sends a command whose replies [`Control::opening`] and [`Control::completion`] read. The
    /// connection is dead until then.
    pub(super) async fn send(&mut self, verb: &str, argument: &[u8]) -> Result<()> {
        let line = command_line(verb, argument, self.doubles_255)?;
        self.check_silence().await?;
        self.owed = true;
        match timeout(self.patience, self.wire.write_all(&line)).await {
            Err(_) => Err(self.unavailable(format!("took no command in {:?}", self.patience))),
            Ok(Err(error)) => Err(self.unavailable(format!("cut the connection: {error}"))),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// The first reply to a command with a data connection. When it is not preliminary (1xx) it is
    /// also the last.
    pub(super) async fn opening(&mut self) -> Result<Reply> {
        let reply = self.read_reply().await?;
        if reply.code < 200 { Ok(reply) } else { self.settled(reply) }
    }

    /// The reply that ends a transfer.
    pub(super) async fn completion(&mut self) -> Result<Reply> {
        let reply = self.read_reply().await?;
        if reply.code < 200 {
            return Err(self.nonsense(&reply.text(), "the transfer"));
        }
        self.settled(reply)
    }

    /// A reply that must not be the answer to anything: what a dying server says last.
    pub(super) async fn last_words(&mut self, patience: Duration) -> Option<Reply> {
        self.patience = patience;
        self.read_reply().await.ok()
    }

    /// Says good-bye and waits a moment for the answer, so that the server does not log a cut.
    pub(super) async fn quit(mut self, patience: Duration) {
        self.patience = patience;
        // Nothing depends on the answer.
        let _ = self.ask("QUIT", b"").await;
        let _ = timeout(patience, self.wire.shutdown()).await;
    }

    pub(super) fn unavailable(&self, what_it_did: impl std::fmt::Display) -> AdapterError {
        AdapterError::Unavailable(format!("{} {what_it_did}", self.server))
    }

    fn nonsense(&self, what: &str, after: &str) -> AdapterError {
        self.unavailable(format!("answered {after} with {what:?}, which is no answer to that"))
    }

    /// Nothing may have arrived since the last reply: it would be taken for the next one.
    async fn check_silence(&mut self) -> Result<()> {
        if self.owed {
            return Err(self.unavailable("is no longer connected: an earlier command was cut off"));
        }
        match self.wire.stray().await {
            Stray::Nothing => Ok(()),
            Stray::Closed => {
                self.owed = true;
                Err(self.unavailable("closed the connection"))
            }
            Stray::Bytes(bytes) => {
                self.owed = true;
                let said = Reply { code: 0, raw: bytes }.text();
                Err(self.unavailable(format!("said {said:?} without being asked")))
            }
        }
    }

    fn settled(&mut self, reply: Reply) -> Result<Reply> {
        if reply.code == 421 {
            return Err(self.unavailable(format!("ends the session: {}", reply.text())));
        }
        if !self.unread.is_empty() {
            let rest = Reply { code: 0, raw: self.unread.clone() }.text();
            return Err(self.unavailable(format!(
                "answered twice ({:?}, then {rest:?}), so neither answer can be trusted",
                reply.text()
            )));
        }
        self.owed = false;
        Ok(reply)
    }

    /// One reply with all its lines, in one time limit: a server that sends a byte now and then
    /// does not hold us for ever.
    async fn read_reply(&mut self) -> Result<Reply> {
        match timeout(self.patience, read_reply(&mut self.wire, &mut self.unread)).await {
            Err(_) => Err(self.unavailable(format!("did not answer in {:?}", self.patience))),
            Ok(Err(problem)) => Err(self.unavailable(problem)),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}

/// The line to send. A name with an end of line would smuggle in a second command.
fn command_line(verb: &str, argument: &[u8], doubles_255: bool) -> Result<Vec<u8>> {
    if argument.iter().any(|byte| is_forbidden(*byte)) {
        // A password is never shown, so `log_in` looks at it before it gets here.
        let shown = argument.escape_ascii();
        return Err(AdapterError::Item(format!(
            "the name {shown} holds an end of line, which FTP can't send"
        )));
    }
    let mut line = Vec::with_capacity(verb.len() + argument.len() + 3);
    line.extend_from_slice(verb.as_bytes());
    if !argument.is_empty() {
        line.push(b' ');
    }
    for byte in argument {
        line.push(*byte);
        if *byte == 255 && doubles_255 {
            line.push(255);
        }
    }
    line.extend_from_slice(b"\r\n");
    Ok(line)
}

/// Bytes that would end a command.
pub(super) fn is_forbidden(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

async fn read_reply(wire: &mut Wire, unread: &mut Vec<u8>) -> Result<Reply, String> {
    let mut scanned = 0;
    loop {
        if let Some((code, end)) = complete_reply(unread, &mut scanned)? {
            let rest = unread.split_off(end);
            return Ok(Reply { code, raw: std::mem::replace(unread, rest) });
        }
        if unread.len() > REPLY_BYTES_MAX {
            return Err(format!("sent a reply of more than {REPLY_BYTES_MAX} bytes"));
        }
        // Many a server writes two replies of one command one after the other (150, 226) and holds
        // the second back until the first is acknowledged, which this side would put off by 40 ms.
        // The setting lasts for one acknowledgement; without it all works, but slowly.
        let _ = rustix::net::sockopt::set_tcp_quickack(wire.tcp(), true);
        match wire.read_buf(unread).await {
            Ok(0) => return Err("closed the connection".to_owned()),
            Err(error) => return Err(format!("cut the connection: {error}")),
            Ok(_) => {}
        }
    }
}

/// The code and the end of the first whole reply in `bytes`. `scanned` remembers how many bytes
/// of whole lines were looked at, so that a long reply is not looked at again and again.
fn complete_reply(bytes: &[u8], scanned: &mut usize) -> Result<Option<(u16, usize)>, String> {
    while let Some(length) = bytes[*scanned..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[*scanned..*scanned + length];
        let is_first = *scanned == 0;
        *scanned += length + 1;
        let code = reply_code(&bytes[..*scanned]).ok_or_else(|| {
            let said = Reply { code: 0, raw: line.to_vec() }.text();
            format!("does not speak FTP: it said {said:?}")
        })?;
        let is_last = match line.get(3) {
            // The first line ends the reply unless it says `123-`.
            _ if is_first => line.get(3) != Some(&b'-'),
            Some(b' ') => reply_code(line) == Some(code),
            Some(b'\r') | None => line.len() >= 3 && reply_code(line) == Some(code),
            Some(_) => false,
        };
        if is_last {
            return Ok(Some((code, *scanned)));
        }
    }
    Ok(None)
}

fn reply_code(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    let code: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    ((100..600).contains(&code) && digits.iter().all(u8::is_ascii_digit)).then_some(code)
}
