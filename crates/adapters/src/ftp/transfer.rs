//! The bytes of a data connection: whole for a file, line by line for a listing.

use std::io::ErrorKind;
use std::time::Duration;

use adapter::{ChunkSink, Result};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::control::{Control, Reply};
use super::listing::LINE_BYTES_MAX;
use super::wire::Wire;

/// Bytes handed on at once: enough to make each step's cost vanish, little enough for a host with
/// hundreds of transfers.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The least buffer for a file, also when its size is said to be smaller.
const CHUNK_BYTES_MIN: usize = 4 * 1024;

/// A file that grew since it was listed is read to its end, which costs less than a new login, if
/// it grew by no more than this. A transfer without end must not fill the store.
const GROWN_BYTES_MAX: u64 = 1024 * 1024;

/// A transfer that is slower than so many bytes in so long is given up: a connection that trickles
/// would be held for ever. A large file goes on where it was.
const SLOW_BYTES: u64 = 64 * 1024;
const SLOW_WINDOW: Duration = Duration::from_secs(60);

/// Bytes of a listing read at once.
const LISTING_BYTES: usize = 32 * 1024;

/// The end of TLS on a data connection is a courtesy; a server that ignores it is not waited for.
const FAREWELL: Duration = Duration::from_millis(200);

/// A transfer that has begun.
pub(super) struct Transfer {
    pub(super) wire: Wire,
}

/// How the bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As they should.
    Clean,
    /// Without TLS's mark of the end: cut, or the server's bad habit. The completion reply and
    /// the number of bytes must tell.
    Unmarked,
}

impl Transfer {
    /// Gives all bytes to `into`, and returns how many there were.
    pub(super) async fn pour(
        &mut self,
        control: &Control,
        expected: Option<u64>,
        into: &mut dyn ChunkSink,
    ) -> Result<(u64, End)> {
        // One byte more than expected, so that the end is seen without another buffer.
        let room = expected.and_then(|bytes| usize::try_from(bytes).ok());
        let first = room.map_or(CHUNK_BYTES_MAX, |bytes| bytes.saturating_add(1));
        let first = first.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let mut buffer = BytesMut::with_capacity(first);
        let mut total = 0_u64;
        let mut pace = Pace { since: Instant::now(), total: 0 };
        loop {
            if buffer.len() == buffer.capacity() {
                into.chunk(buffer.freeze()).await?;
                buffer = BytesMut::with_capacity(CHUNK_BYTES_MAX);
            }
            let read = timeout(control.patience(), self.wire.read_buf(&mut buffer)).await;
            let end = match read {
                Err(_) => return Err(stalled(control)),
                Ok(Ok(0)) => End::Clean,
                Ok(Ok(count)) => {
                    total += count as u64;
                    pace.check(control, total, expected)?;
                    into.alive();
                    continue;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => End::Unmarked,
                Ok(Err(error)) => return Err(cut(control, &error)),
            };
            if !buffer.is_empty() {
                into.chunk(buffer.freeze()).await?;
            }
            return Ok((total, end));
        }
    }

    pub(super) fn lines(self, patience: Duration) -> Lines {
        Lines {
            transfer: self,
            patience,
            buffer: Vec::with_capacity(LISTING_BYTES),
            start: 0,
            is_skipping: false,
            end: None,
        }
    }

    /// Closes our side and reads the server's verdict.
    pub(super) async fn completion(self, control: &mut Control) -> Result<Reply> {
        let Transfer { mut wire } = self;
        if matches!(wire, Wire::Tls(_)) {
            // What becomes of the farewell is of no interest: all bytes have been read.
            let _ = timeout(FAREWELL, wire.shutdown()).await;
        }
        drop(wire);
        control.completion().await
    }
}

/// How fast a transfer is.
struct Pace {
    since: Instant,
    /// Bytes that had come by then.
    total: u64,
}

impl Pace {
    /// Gives up a transfer without end, and one that trickles.
    fn check(&mut self, control: &Control, total: u64, expected: Option<u64>) -> Result<()> {
        let grew = |expected: &u64| total.saturating_sub(*expected) > GROWN_BYTES_MAX;
        if let Some(expected) = expected.filter(grew) {
            let sentence = format!("sends far more than the {expected} bytes that it announced");
            return Err(control.unavailable(sentence));
        }
        if self.since.elapsed() < SLOW_WINDOW {
            return Ok(());
        }
        let came = total - self.total;
        if came < SLOW_BYTES {
            let sentence = format!("sent only {came} bytes in {SLOW_WINDOW:?}, and is given up");
            return Err(control.unavailable(sentence));
        }
        *self = Pace { since: Instant::now(), total };
        Ok(())
    }
}

/// A line of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    /// The beginning of a line that is longer than any name can be.
    TooLong(&'a [u8]),
}

/// The lines of a listing as they arrive. Memory does not grow with the listing.
pub(super) struct Lines {
    transfer: Transfer,
    patience: Duration,
    buffer: Vec<u8>,
    start: usize,
    is_skipping: bool,
    end: Option<End>,
}

impl Lines {
    pub(super) async fn next(&mut self, control: &Control) -> Result<Option<RawLine<'_>>> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let from = self.start;
                self.start += length + 1;
                if std::mem::take(&mut self.is_skipping) {
                    continue;
                }
                let line = &self.buffer[from..from + length];
                return Ok(Some(whole(line)));
            }
            if self.is_skipping {
                self.start = self.buffer.len();
            } else if unread.len() > LINE_BYTES_MAX {
                self.is_skipping = true;
                let from = self.start;
                self.start = self.buffer.len();
                return Ok(Some(RawLine::TooLong(&self.buffer[from..from + LINE_BYTES_MAX])));
            }
            if self.end.is_some() {
                let from = std::mem::replace(&mut self.start, self.buffer.len());
                let rest = &self.buffer[from..];
                return Ok((!rest.is_empty()).then(|| whole(rest)));
            }
            self.fill(control).await?;
        }
    }

    /// Reads more. What is unread, at most a line, moves to the front.
    async fn fill(&mut self, control: &Control) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(LISTING_BYTES.saturating_sub(self.buffer.len()).max(LINE_BYTES_MAX));
        let mut room = (&mut self.transfer.wire).take(LISTING_BYTES as u64);
        match timeout(self.patience, room.read_buf(&mut self.buffer)).await {
            Err(_) => Err(stalled(control)),
            Ok(Ok(0)) => {
                self.end = Some(End::Clean);
                Ok(())
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                self.end = Some(End::Unmarked);
                Ok(())
            }
            Ok(Err(error)) => Err(cut(control, &error)),
        }
    }

    /// The transfer, to be completed.
    pub(super) fn into_transfer(self) -> Transfer {
        self.transfer
    }
}

fn whole(line: &[u8]) -> RawLine<'_> {
    RawLine::Whole(line.strip_suffix(b"\r").unwrap_or(line))
}

fn stalled(control: &Control) -> adapter::AdapterError {
    control.unavailable(format!("sent no data for {:?}", control.patience()))
}

fn cut(control: &Control, error: &std::io::Error) -> adapter::AdapterError {
    control.unavailable(format!("cut the data connection: {error}"))
}
