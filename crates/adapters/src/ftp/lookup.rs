//! Whether a file is there, how big and how old it is: MLST, or SIZE and MDTM, or a listing.

use adapter::{AdapterError, Result, Sighting};

use super::control::Reply;
use super::listing::{self, is_file_by_facts, sighting_of_facts};
use super::login::Link;

/// What a command about a path answered.
enum Answer<T> {
    Yes(T),
    /// 550 and its kin: the file is missing, or we may not see it.
    No,
    /// The server does not have the command.
    Unsupported,
}

impl Link {
    /// Size and time of a file as exactly as the server can say; none when it is not there.
    ///
    /// 550 means "missing" as well as "denied", so one refusal is not believed: each command that
    /// the server has is asked before a file counts as gone. `Err(Unsupported)` of the inner
    /// result: the server has none of them, and only a listing can tell.
    pub(super) async fn sight(&mut self, path: &[u8]) -> Result<Result<Option<Sighting>, NoWay>> {
        let mut was_refused = false;
        if self.features.mlst {
            match self.mlst(path).await? {
                Answer::Yes(sighting) => return Ok(Ok(Some(sighting))),
                Answer::No => was_refused = true,
                Answer::Unsupported => self.features.mlst = false,
            }
        }
        let size = self.size(path).await?;
        let modified = self.modified(path).await?;
        let (bytes, modified_ms) = match (size, modified) {
            (Answer::Yes(bytes), Answer::Yes(modified)) => (Some(bytes), Some(modified)),
            (Answer::Yes(bytes), _) => (Some(bytes), None),
            (_, Answer::Yes(modified)) => (None, Some(modified)),
            (Answer::Unsupported, Answer::Unsupported) if !was_refused => return Ok(Err(NoWay)),
            (Answer::No | Answer::Unsupported, Answer::No | Answer::Unsupported) => {
                return Ok(Ok(None));
            }
        };
        Ok(Ok(Some(Sighting { bytes, modified_ms, coarse: false })))
    }

    /// The time of a file whose size is known; none when that cannot be had by one question.
    pub(super) async fn date(&mut self, path: &[u8], bytes: u64) -> Result<Option<Sighting>> {
        if self.features.mlst {
            return Ok(None);
        }
        Ok(match self.modified(path).await? {
            Answer::Yes(modified) => {
                let modified_ms = Some(modified);
                Some(Sighting { bytes: Some(bytes), modified_ms, coarse: false })
            }
            Answer::No | Answer::Unsupported => None,
        })
    }

    /// Whether a name is taken, by a file or a folder; asked by one command to be quick.
    pub(super) async fn is_taken(&mut self, path: &[u8]) -> Result<bool> {
        if self.features.mlst {
            let reply = self.control.ask("MLST", path).await?;
            return Ok(reply.is_done());
        }
        match self.size(path).await? {
            Answer::Yes(_) => Ok(true),
            Answer::No => Ok(false),
            Answer::Unsupported => Ok(matches!(self.modified(path).await?, Answer::Yes(_))),
        }
    }

    /// Whether the server has MDTM; asked with a file that was listed if FEAT did not say.
    pub(super) async fn has_times(&mut self, sample: &[u8]) -> Result<bool> {
        if self.features.mdtm.is_none() {
            self.modified(sample).await?;
        }
        Ok(self.features.mdtm == Some(true))
    }

    async fn mlst(&mut self, path: &[u8]) -> Result<Answer<Sighting>> {
        let reply = self.control.ask("MLST", path).await?;
        if !reply.is_done() {
            return self.negative(&reply, path);
        }
        let line = reply.inner_lines().next().unwrap_or_default().trim_ascii_start();
        let facts = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !is_file_by_facts(facts) {
            return Err(AdapterError::Item(format!("{} is no file", path.escape_ascii())));
        }
        let sighting = sighting_of_facts(facts);
        if sighting.bytes.is_none() && sighting.modified_ms.is_none() {
            return Ok(Answer::Unsupported); // answered in a form of its own
        }
        Ok(Answer::Yes(sighting))
    }

    async fn size(&mut self, path: &[u8]) -> Result<Answer<u64>> {
        if self.features.size == Some(false) {
            return Ok(Answer::Unsupported);
        }
        let reply = self.control.ask("SIZE", path).await?;
        self.features.size = Some(!reply.is_unknown_command());
        if reply.code != 213 {
            return self.negative(&reply, path);
        }
        match reply.text().get(4..).and_then(|digits| digits.trim().parse().ok()) {
            Some(bytes) => Ok(Answer::Yes(bytes)),
            None => Ok(Answer::Unsupported),
        }
    }

    async fn modified(&mut self, path: &[u8]) -> Result<Answer<i64>> {
        if self.features.mdtm == Some(false) {
            return Ok(Answer::Unsupported);
        }
        let reply = self.control.ask("MDTM", path).await?;
        self.features.mdtm = Some(!reply.is_unknown_command());
        if reply.code != 213 {
            return self.negative(&reply, path);
        }
        let moment = reply.text().get(4..).and_then(|at| listing::moment(at.trim().as_bytes()));
        match moment {
            Some(moment) => Ok(Answer::Yes(moment)),
            None => Ok(Answer::Unsupported),
        }
    }

    fn negative<T>(&self, reply: &Reply, path: &[u8]) -> Result<Answer<T>> {
        match reply.code {
            _ if reply.is_unknown_command() => Ok(Answer::Unsupported),
            400..500 => Err(AdapterError::Item(format!(
                "{} cannot say how big {} is now: {}",
                self.control.server,
                path.escape_ascii(),
                reply.text()
            ))),
            530 | 532 => Err(AdapterError::Refused(format!(
                "{} no longer takes us for logged in: {}",
                self.control.server,
                reply.text()
            ))),
            500..600 => Ok(Answer::No),
            // 2xx and 3xx are no answers to a question about a file.
            _ => Err(self.control.unavailable(format!("gave a wrong answer: {}", reply.text()))),
        }
    }
}

/// The server has no command that tells about one file.
#[derive(Debug)]
pub(super) struct NoWay;
