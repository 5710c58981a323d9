//! One FTP session as the driver sees it: list, look, fetch, remove, move.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adapter::{AdapterError, ChunkSink, Item, Listed, Result, Session, Sighting};
use async_trait::async_trait;
use tokio::sync::mpsc;

use super::Shared;
use super::data::{Begun, Refusal};
use super::login::Link;
use super::lookup::NoWay;
use super::transfer::{End, Transfer};
use crate::mask::readable;

/// Names with a number that `move_to` tries: `x.1` to `x.99`. Whoever has more files of one name
/// in a folder needs another folder; each try costs a round trip.
const NUMBERS_MAX: u32 = 99;

/// The longest that a good-bye may take.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct FtpSession {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
}

impl FtpSession {
    pub(super) async fn open(shared: Arc<Shared>) -> Result<FtpSession> {
        let link = Link::open(&shared).await?;
        Ok(FtpSession { shared, link })
    }

    /// After an error that is not about one item, the connection is not to be trusted.
    fn judged<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(AdapterError::Unavailable(_) | AdapterError::Refused(_)) = result {
            self.link.control.kill();
        }
        result
    }
}

#[async_trait]
impl Session for FtpSession {
    async fn list(&mut self, items: mpsc::Sender<Item>) -> Result<Listed> {
        let listed = self.list_best(items).await;
        self.judged(listed)
    }

    async fn look(&mut self, item: &Item) -> Result<Sighting> {
        // A LIST gives exact sizes and coarse times: one question instead of two.
        if let (Some(bytes), true) = (item.sighting.bytes, item.sighting.coarse) {
            let dated = self.link.date(&item.path, bytes).await;
            if let Some(sighting) = self.judged(dated)? {
                return Ok(sighting);
            }
        }
        let sighting = self.sight(&item.path).await;
        self.judged(sighting)?.ok_or_else(|| gone(item))
    }

    async fn fetch(&mut self, item: &Item, offset: u64, into: &mut dyn ChunkSink) -> Result<()> {
        let fetched = self.retrieve(item, offset, into).await;
        self.judged(fetched)
    }

    async fn remove(&mut self, item: &Item) -> Result<()> {
        let removed = self.delete(item).await;
        self.judged(removed)
    }

    async fn move_to(&mut self, item: &Item, folder: &str) -> Result<()> {
        let moved = self.rename(item, folder).await;
        self.judged(moved)
    }

    async fn keep_alive(&mut self) -> Result<()> {
        // Any answer but 421 comes from a living server.
        let answered = self.link.control.ask("NOOP", b"").await;
        self.judged(answered).map(|_| ())
    }

    async fn close(self: Box<Self>) {
        self.link.control.quit(QUIT_PATIENCE).await;
    }
}

impl FtpSession {
    /// Begins a transfer. When the server turns out to refuse TLS 1.3 on data connections, logs
    /// in again with 1.2 and tries once more; the source remembers it.
    pub(super) async fn begin(
        &mut self,
        verb: &'static str,
        argument: &[u8],
        offset: u64,
    ) -> Result<Result<Transfer, Refusal>> {
        for _ in 0..2 {
            let link = &mut self.link;
            match link.data.begin(&mut link.control, verb, argument, offset).await? {
                Begun::Data(wire) => return Ok(Ok(Transfer { wire })),
                Begun::Refusal(refusal) => return Ok(Err(refusal)),
                Begun::NeedsTls12 => {
                    let server = &link.control.server;
                    tracing::info!(%server, "refuses TLS 1.3 on data connections; using 1.2");
                    link.control.kill();
                    self.link = Link::open(&self.shared).await?;
                }
            }
        }
        Err(self.link.control.unavailable("refuses data connections with TLS 1.3 and 1.2"))
    }

    /// Size and time of a file; none when it is not there.
    async fn sight(&mut self, path: &[u8]) -> Result<Option<Sighting>> {
        let seen = self.sight_as_is(path).await?;
        let control = &mut self.link.control;
        if seen.is_some() || !path.contains(&255) || control.doubles_255 {
            return Ok(seen);
        }
        // Some servers read a byte 255 as the beginning of a Telnet command, others do not.
        control.doubles_255 = true;
        let seen = self.sight_as_is(path).await?;
        self.link.control.doubles_255 = seen.is_some();
        self.shared.learned.doubles_255.fetch_or(seen.is_some(), Ordering::Relaxed);
        Ok(seen)
    }

    async fn sight_as_is(&mut self, path: &[u8]) -> Result<Option<Sighting>> {
        match self.link.sight(path).await? {
            Ok(sighting) => Ok(sighting),
            Err(NoWay) => self.find_in_listing(path).await,
        }
    }

    /// Whether a name that was refused was sent in the wrong spelling, which is now corrected.
    async fn can_be_spelled_anew(&mut self, item: &Item) -> Result<bool> {
        if !item.path.contains(&255) || self.link.control.doubles_255 {
            return Ok(false);
        }
        self.sight(&item.path).await?;
        Ok(self.link.control.doubles_255)
    }

    /// What a refusal of a command about an item means.
    async fn refused(&mut self, item: &Item, refusal: Refusal) -> AdapterError {
        let Refusal { to, reply } = refusal;
        let server = &self.link.control.server;
        let sentence = match to {
            "REST" => format!("{server} cannot resume {}: {}", item.name, reply.text()),
            _ => format!("{server} refuses {to} of {}: {}", item.name, reply.text()),
        };
        match reply.code {
            425 | 426 | 421 => AdapterError::Unavailable(sentence),
            530 | 532 => AdapterError::Refused(sentence),
            _ if matches!(to, "PASV" | "PORT") => AdapterError::Unavailable(sentence),
            _ if matches!(to, "REST") => AdapterError::Item(sentence),
            500..600 => match self.sight(&item.path).await {
                Ok(None) => gone(item),
                Ok(Some(_)) | Err(AdapterError::Item(_)) => AdapterError::Item(sentence),
                Err(error) => error,
            },
            _ => AdapterError::Item(sentence),
        }
    }

    async fn retrieve(&mut self, item: &Item, offset: u64, into: &mut dyn ChunkSink) -> Result<()> {
        let mut begun = self.begin("RETR", &item.path, offset).await?;
        if begun.is_err() && self.can_be_spelled_anew(item).await? {
            begun = self.begin("RETR", &item.path, offset).await?;
        }
        let mut transfer = match begun {
            Ok(transfer) => transfer,
            Err(refusal) => return Err(self.refused(item, refusal).await),
        };
        let rest = item.sighting.bytes.map(|bytes| bytes.saturating_sub(offset));
        let control = &mut self.link.control;
        let poured = transfer.pour(control, rest, into).await;
        // The reply is owed: an error in between, ours or the server's, ends the session.
        let (count, end) = poured.inspect_err(|_| control.kill())?;
        let reply = transfer.completion(control).await?;
        if !matches!(reply.code, 226 | 250) {
            let text = reply.text();
            return Err(control.unavailable(format!("broke off {}: {text}", item.name)));
        }
        let is_as_listed = rest.map(|rest| rest == count);
        match (is_as_listed, end) {
            (Some(true), _) | (None, End::Clean) => Ok(()),
            (_, End::Unmarked) => Err(control.unavailable(format!(
                "ended the transfer of {} after {count} bytes without TLS's mark of the end",
                item.name
            ))),
            (Some(false), End::Clean) => Err(AdapterError::Item(format!(
                "{} has another size than when it was listed: {} bytes instead of {}",
                item.name,
                offset + count,
                item.sighting.bytes.unwrap_or_default()
            ))),
        }
    }

    async fn delete(&mut self, item: &Item) -> Result<()> {
        let mut reply = self.link.control.ask("DELE", &item.path).await?;
        if reply.code >= 500 && self.can_be_spelled_anew(item).await? {
            reply = self.link.control.ask("DELE", &item.path).await?;
        }
        match reply.code {
            250 | 200 => Ok(()),
            400..600 => Err(self.refused(item, Refusal { to: "DELE", reply }).await),
            _ => Err(self.wrong_answer("DELE", &reply.text())),
        }
    }

    async fn rename(&mut self, item: &Item, folder: &str) -> Result<()> {
        let name = match item.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &item.path[slash + 1..],
            None => &item.path[..],
        };
        let mut base = if folder.starts_with('/') { Vec::new() } else { self.link.prefix.clone() };
        base.extend_from_slice(folder.trim_end_matches('/').as_bytes());
        base.push(b'/');
        base.extend_from_slice(name);
        for number in 0..=NUMBERS_MAX {
            let mut target = base.clone();
            if number > 0 {
                target.extend_from_slice(format!(".{number}").as_bytes());
            }
            // Many servers overwrite the target of RNTO without a word.
            if self.link.is_taken(&target).await? {
                continue;
            }
            return self.rename_to(item, &target).await;
        }
        Err(AdapterError::Item(format!(
            "folder {folder} holds {} and 99 more with a number: clear it up, or choose another",
            item.name
        )))
    }

    async fn rename_to(&mut self, item: &Item, target: &[u8]) -> Result<()> {
        let mut reply = self.link.control.ask("RNFR", &item.path).await?;
        if reply.code >= 500 && self.can_be_spelled_anew(item).await? {
            reply = self.link.control.ask("RNFR", &item.path).await?;
        }
        if reply.code != 350 {
            return Err(match reply.code {
                400..600 => self.refused(item, Refusal { to: "RNFR", reply }).await,
                _ => self.wrong_answer("RNFR", &reply.text()),
            });
        }
        let reply = self.link.control.ask("RNTO", target).await?;
        match reply.code {
            250 | 200 => Ok(()),
            400..600 => Err(AdapterError::Item(format!(
                "{} cannot move {} to {}: {} Does the folder exist, and may user {} write to it?",
                self.link.control.server,
                item.name,
                readable(target),
                reply.text(),
                self.shared.setting.user
            ))),
            _ => Err(self.wrong_answer("RNTO", &reply.text())),
        }
    }

    fn wrong_answer(&self, verb: &str, text: &str) -> AdapterError {
        self.link.control.unavailable(format!("answered {verb} with {text:?}, which is no answer"))
    }
}

fn gone(item: &Item) -> AdapterError {
    AdapterError::Gone(format!("{} is no longer there", item.name))
}
