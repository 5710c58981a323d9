//! What a node and its child processes say to each other: one JSON value a line, over a socket
//! that the child inherits as its standard input.
//!
//! During an upgrade the two may be of different versions: fields and messages that one does not
//! know are passed over.

use model::definition::ResourceSpec;
use model::{BootTime, Epoch, FailureReach, FenceToken, HostName, Millis, NodeName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line either side accepts: far above any message, far below what would hurt.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// From the node to its child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToChild {
    /// First of all to a host instance: who you are. Here and not among the arguments, because a
    /// store's URL may carry a password and arguments can be read by anybody on the machine.
    Configure(Configuration),
    /// First of all to a monitor: what you drive.
    Drive {
        /// All that it must know; it never reads the definitions.
        spec: Box<ResourceSpec>,
        /// On which node.
        node: NodeName,
    },
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
    /// Something that a newer node says.
    #[serde(other)]
    Unknown,
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

/// From a child to its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromChild {
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
    /// What it drives failed and has been taken down; the process ends after this.
    Failed {
        /// What failed, where, and how to mend it: a sentence.
        how: String,
        /// How far that reaches.
        reach: FailureReach,
    },
    /// What it drives cannot be stopped; it goes on trying.
    Stuck {
        /// Why not: a sentence.
        how: String,
    },
    /// What it drives works, but poorly.
    Degraded {
        /// What is poor about it: a sentence.
        how: String,
    },
    /// Something that a newer child says.
    #[serde(other)]
    Unknown,
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
            write(&mut writer, &FromChild::Active { epoch: Epoch(epoch) }).await.expect("written");
        }
        writer.write_all(b"not json\n").await.expect("written");
        let mut lines = Lines::new(reader);
        for epoch in 1..=3 {
            assert_eq!(lines.next().await, Some(FromChild::Active { epoch: Epoch(epoch) }));
        }
        assert_eq!(lines.next::<FromChild>().await, None);
    }

    #[test]
    fn what_another_version_adds_is_passed_over() {
        let more = r#"{"say": "trust", "trust_until": 7, "since": "version 9"}"#;
        let trust = ToChild::Trust { trust_until: BootTime(7) };
        assert_eq!(serde_json::from_str::<ToChild>(more).expect("a message"), trust);
        let unknown = r#"{"say": "sing", "song": "an old one"}"#;
        assert_eq!(serde_json::from_str::<ToChild>(unknown).expect("one"), ToChild::Unknown);
        assert_eq!(serde_json::from_str::<FromChild>(unknown).expect("one"), FromChild::Unknown);
    }
}
