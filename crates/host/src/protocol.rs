//! What a node and its host instance say to each other: one JSON value a line, over a socket that
//! the child inherits as its standard input.

use model::{BootTime, Epoch, HostName, Millis, NodeName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::FenceToken;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line either side accepts: far above any message, far below what would hurt.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// From the node to the host instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToHost {
    /// First of all: who you are. Here and not among the arguments, because a store's URL may
    /// carry a password and arguments can be read by anybody on the machine.
    Configure(Configuration),
    /// Work under this fence, until trust ends.
    Activate {
        /// The fence, to be checked with the store.
        token: FenceToken,
        /// When trust ends unless it is extended.
        trust_until: BootTime,
    },
    /// Trust is extended.
    Trust {
        /// When trust ends unless it is extended again.
        trust_until: BootTime,
    },
    /// Finish what you have begun, begin nothing new, and say `Inactive`.
    Deactivate {
        /// How long it may take; what is not finished then is given up.
        within: Millis,
    },
}

/// Who a host instance is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Which host.
    pub host: HostName,
    /// On which node.
    pub node: NodeName,
    /// The store's URL.
    pub store: String,
}

/// From the host instance to the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromHost {
    /// Up as a warm standby.
    Ready,
    /// Working under this epoch.
    Active {
        /// Which epoch.
        epoch: Epoch,
    },
    /// Stopped working; everything that was begun has returned.
    Inactive {
        /// The epoch it worked under.
        epoch: Epoch,
    },
    /// Alive and getting on.
    Progress,
}

/// The end that lines come in by.
pub struct Lines {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    /// Reads lines of a socket.
    pub fn new(half: OwnedReadHalf) -> Lines {
        Lines { reader: BufReader::new(half), line: Vec::new() }
    }

    /// The next message; none when the other side is gone or talks nonsense.
    ///
    /// Cancel-safe: a part of a line that has been read is kept for the next call.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            let available = self.reader.fill_buf().await.ok()?;
            if available.is_empty() {
                return None;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if self.line.len() > LINE_BYTES_MAX {
                tracing::error!("a line of more than {LINE_BYTES_MAX} bytes; giving up");
                return None;
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return match serde_json::from_slice(&line) {
                    Ok(message) => Some(message),
                    Err(error) => {
                        tracing::error!(%error, "not a message of this version of Baton");
                        None
                    }
                };
            }
        }
    }
}

/// Writes one message. An error means that the other side is gone.
pub async fn write<M: Serialize>(half: &mut OwnedWriteHalf, message: &M) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    half.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order() {
        let (here, there) = tokio::net::UnixStream::pair().expect("a pair");
        let (_reader, mut writer) = here.into_split();
        let (reader, _writer) = there.into_split();
        for epoch in 1..=3 {
            write(&mut writer, &FromHost::Active { epoch: Epoch(epoch) }).await.expect("written");
        }
        writer.write_all(b"not json\n").await.expect("written");
        let mut lines = Lines::new(reader);
        for epoch in 1..=3 {
            assert_eq!(lines.next().await, Some(FromHost::Active { epoch: Epoch(epoch) }));
        }
        assert_eq!(lines.next::<FromHost>().await, None);
    }
}
