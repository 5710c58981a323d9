//! What a program prints, on its way to the log: bounded in length and in rate.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest line that is logged; the rest of it is passed over. Longer lines are dumps.
const LINE_BYTES_MAX: usize = 2048;

/// Lines that are logged in a window of time: a program that prints more is not read by people,
/// and must not fill the disk.
const LINES_PER_WINDOW: u32 = 200;

/// The window.
const WINDOW: Duration = Duration::from_secs(10);

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Last words kept for the sentence that says how it failed.
const TAIL_BYTES: usize = 400;

/// The way of one stream to the log.
pub(crate) struct Flow {
    resource: String,
    line: Vec<u8>,
    last_line: String,
    window_began: Instant,
    logged: u32,
    passed_over: u64,
}

impl Flow {
    /// For the output of this resource.
    pub fn new(resource: &str) -> Flow {
        Flow {
            resource: resource.to_owned(),
            line: Vec::new(),
            last_line: String::new(),
            window_began: Instant::now(),
            logged: 0,
            passed_over: 0,
        }
    }

    /// Reads a stream to its end. Keeps at most `keep` bytes of it.
    pub async fn drink(&mut self, mut stream: impl AsyncRead + Unpin, keep: &mut Kept) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return self.end(),
                Ok(read) => {
                    keep.add(&buffer[..read]);
                    self.take(&buffer[..read]);
                }
            }
        }
    }

    /// The last line that was not empty.
    pub fn last_line(&self) -> &str {
        &self.last_line
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.last_line = text.chars().take(TAIL_BYTES).collect();
        if self.window_began.elapsed() >= WINDOW {
            if self.passed_over > 0 {
                tracing::warn!(resource = self.resource, "{} lines passed over", self.passed_over);
            }
            (self.window_began, self.logged, self.passed_over) = (Instant::now(), 0, 0);
        }
        if self.logged < LINES_PER_WINDOW {
            self.logged += 1;
            tracing::info!(resource = self.resource, "{text}");
        } else {
            if self.passed_over == 0 {
                tracing::warn!(
                    resource = self.resource,
                    "it prints more than {LINES_PER_WINDOW} lines in {WINDOW:?}; the rest is not \
                     logged"
                );
            }
            self.passed_over += 1;
        }
    }
}

/// The beginning of what a program printed.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What there is of it.
    pub bytes: Vec<u8>,
    /// How much is kept at most.
    pub limit: usize,
    /// Whether there was more.
    pub cut: bool,
}

impl Kept {
    /// Keeps at most so many bytes.
    pub fn at_most(limit: usize) -> Kept {
        Kept { limit, ..Kept::default() }
    }

    /// Reads a stream to its end, for no log.
    pub async fn drink(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            self.add(&buffer[..read]);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_bounded() {
        let mut flow = Flow::new("r");
        let mut kept = Kept::at_most(10);
        let flood = "x".repeat(10_000) + "\n" + &"line\n".repeat(100_000) + "the end";
        flow.drink(flood.as_bytes(), &mut kept).await;
        assert_eq!(flow.logged, LINES_PER_WINDOW);
        assert_eq!(flow.passed_over, 100_002 - u64::from(LINES_PER_WINDOW));
        assert_eq!(flow.last_line(), "the end");
        assert_eq!((kept.bytes.len(), kept.cut), (10, true));
        assert!(flow.line.capacity() <= 2 * LINE_BYTES_MAX);
    }
}
