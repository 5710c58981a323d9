//! Listing a folder: the best form that works, read line by line while it arrives.

use std::sync::atomic::{AtomicBool, Ordering};

use adapter::{AdapterError, Item, Listed, Result, Sighting};
use model::definition::ListingMode;
use tokio::sync::mpsc;

use super::Shared;
use super::control::{Control, Reply};
use super::data::Refusal;
use super::listing::{self, Line};
use super::session::FtpSession;
use super::transfer::{Lines, RawLine, Transfer};
use crate::mask::readable;

/// Lines that were not understood and are reported; more of them say nothing new.
const STRANGE_LINES_MAX: usize = 50;

/// Characters of such a line that are reported.
const STRANGE_CHARS_MAX: usize = 200;

/// Lines of a listing, also those that are thrown away after the receiver has heard enough (which
/// is cheaper than a new login for any sane folder). After that the session is given up: each name
/// costs the receiver some hundred bytes.
const LINES_MAX: u64 = 1_000_000;

/// The three ways to list, from the best down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Mlsd,
    List,
    Nlst,
}

impl Form {
    fn verb(self) -> &'static str {
        match self {
            Form::Mlsd => "MLSD",
            Form::List => "LIST",
            Form::Nlst => "NLST",
        }
    }
}

impl FtpSession {
    fn forms(&self) -> Vec<Form> {
        let learned = &self.shared.learned;
        let works = |flag: &AtomicBool| !flag.load(Ordering::Relaxed);
        match self.shared.setting.listing {
            ListingMode::Mlsd => vec![Form::Mlsd],
            ListingMode::List => vec![Form::List],
            ListingMode::Nlst => vec![Form::Nlst],
            ListingMode::Auto => {
                let mut forms = Vec::new();
                if self.link.features.mlst && works(&learned.mlsd_useless) {
                    forms.push(Form::Mlsd);
                }
                if works(&learned.list_useless) {
                    forms.push(Form::List);
                }
                forms.push(Form::Nlst);
                forms
            }
        }
    }

    /// Lists in the best form that works, and remembers for the source which one does not.
    pub(super) async fn list_best(&mut self, items: mpsc::Sender<Item>) -> Result<Listed> {
        self.enter_anew().await?;
        let forms = self.forms();
        let mut said = String::new();
        let mut listed = Listed::default();
        for (at, form) in forms.iter().enumerate() {
            let is_last = at + 1 == forms.len();
            let transfer = match self.begin(form.verb(), b"", 0).await? {
                Ok(transfer) => transfer,
                Err(refusal) if is_empty_folder(*form, &refusal) => return Ok(listed),
                Err(refusal) if refusal.reply.is_unknown_command() => {
                    self.give_up(*form);
                    said = refusal.reply.text();
                    continue;
                }
                Err(refusal) => return Err(self.list_refused(&refusal)),
            };
            let mut reader = Reader::new(self, *form);
            self.read_listing(transfer, &mut reader, Some(&items)).await?;
            let makes_no_sense = reader.understood == 0 && reader.strange > 0;
            listed = reader.listed;
            if makes_no_sense && !is_last {
                self.give_up(*form);
                continue;
            }
            listed.weak_identity = self.weak_identity(*form, reader.sample.as_deref()).await?;
            return Ok(listed);
        }
        Err(AdapterError::Refused(format!(
            "{} cannot list a folder in the way that `listing` asks for: {said}",
            self.link.control.server
        )))
    }

    /// Enters the folder by its name once more: if it was replaced since the login, many servers
    /// would go on to list the old one, which is empty, and all would look well.
    async fn enter_anew(&mut self) -> Result<()> {
        let prefix = &self.link.prefix;
        let folder = match prefix.strip_suffix(b"/").unwrap_or(prefix) {
            b"" if prefix.is_empty() => return Ok(()),
            b"" => b"/".to_vec(),
            folder => folder.to_vec(),
        };
        let reply = self.link.control.ask("CWD", &folder).await?;
        // What PWD said, some servers do not take back as a name.
        if reply.is_done() || !self.shared.setting.folder.starts_with('/') {
            return Ok(());
        }
        Err(AdapterError::Unavailable(format!(
            "{} does not let us into folder {} any more: {}",
            self.link.control.server,
            self.shared.setting.folder,
            reply.text()
        )))
    }

    fn give_up(&self, form: Form) {
        let learned = &self.shared.learned;
        match form {
            Form::Mlsd => learned.mlsd_useless.store(true, Ordering::Relaxed),
            Form::List => learned.list_useless.store(true, Ordering::Relaxed),
            Form::Nlst => {}
        }
    }

    fn list_refused(&self, refusal: &Refusal) -> AdapterError {
        let server = &self.link.control.server;
        let text = refusal.reply.text();
        let sentence = format!("{server} does not list the folder ({}: {text})", refusal.to);
        match refusal.reply.code {
            550..=553 | 530 | 532 if !matches!(refusal.to, "PASV" | "PORT") => {
                AdapterError::Refused(sentence)
            }
            _ => AdapterError::Unavailable(sentence),
        }
    }

    async fn weak_identity(&mut self, form: Form, sample: Option<&[u8]>) -> Result<Option<String>> {
        let Some(sample) = sample.filter(|_| form != Form::Mlsd) else {
            return Ok(None);
        };
        let has_times = match self.link.has_times(sample).await {
            Err(AdapterError::Item(_)) | Ok(true) => true,
            Ok(false) => false,
            Err(error) => return Err(error),
        };
        Ok((!has_times).then(|| {
            "the server has neither MLSD nor MDTM, so a file that replaces another of the same \
             name and size cannot be told from it"
                .to_owned()
        }))
    }

    /// Reads a listing to its end, and sends what matches to `items`.
    async fn read_listing(
        &mut self,
        transfer: Transfer,
        reader: &mut Reader,
        items: Option<&mpsc::Sender<Item>>,
    ) -> Result<()> {
        let control = &mut self.link.control;
        let mut lines = transfer.lines(control.patience());
        let read = read_lines(control, &mut lines, reader, &self.shared, items).await;
        read.inspect_err(|_| control.kill())?;
        let reply = lines.into_transfer().completion(control).await?;
        if !matches!(reply.code, 226 | 250) {
            return Err(control.unavailable(format!("broke off the listing: {}", reply.text())));
        }
        reader.hear_completion(&reply);
        Ok(())
    }

    /// For servers that can tell nothing about a single file.
    pub(super) async fn find_in_listing(&mut self, path: &[u8]) -> Result<Option<Sighting>> {
        let Some(name) = path.strip_prefix(&self.link.prefix[..]) else {
            return Ok(None);
        };
        let Some(form) = self.forms().first().copied() else {
            return Ok(None);
        };
        let transfer = match self.begin(form.verb(), b"", 0).await? {
            Ok(transfer) => transfer,
            Err(refusal) if is_empty_folder(form, &refusal) => return Ok(None),
            Err(refusal) => return Err(self.list_refused(&refusal)),
        };
        let mut reader = Reader::new(self, form);
        reader.wanted = Some(name.to_vec());
        self.read_listing(transfer, &mut reader, None).await?;
        Ok(reader.found)
    }
}

async fn read_lines(
    control: &Control,
    lines: &mut Lines,
    reader: &mut Reader,
    shared: &Shared,
    items: Option<&mpsc::Sender<Item>>,
) -> Result<()> {
    let mut is_heard = items.is_some();
    let mut count = 0;
    while let Some(line) = lines.next(control).await? {
        count += 1;
        if count > LINES_MAX {
            return Err(control.unavailable("sends a listing without end"));
        }
        let item = reader.understand(line).filter(|item| shared.mask.matches(&item.name));
        if let (Some(item), Some(items), true) = (item, items, is_heard) {
            is_heard = items.send(item).await.is_ok();
        }
    }
    Ok(())
}

/// Turns the lines of one listing into items.
struct Reader {
    form: Form,
    prefix: Vec<u8>,
    folder: Vec<u8>,
    today: jiff::civil::Date,
    understood: u64,
    strange: u64,
    listed: Listed,
    /// A file that was seen, to try commands on.
    sample: Option<Vec<u8>>,
    /// A name that is looked for, and what was found.
    wanted: Option<Vec<u8>>,
    found: Option<Sighting>,
}

impl Reader {
    fn new(session: &FtpSession, form: Form) -> Reader {
        let prefix = session.link.prefix.clone();
        let folder = prefix.strip_suffix(b"/").unwrap_or_default().to_vec();
        Reader {
            form,
            prefix,
            folder,
            today: jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date(),
            understood: 0,
            strange: 0,
            listed: Listed::default(),
            sample: None,
            wanted: None,
            found: None,
        }
    }

    fn understand(&mut self, line: RawLine<'_>) -> Option<Item> {
        let (raw, line) = match line {
            RawLine::TooLong(start) => (start, Line::Strange),
            RawLine::Whole(line) => (
                line,
                match self.form {
                    Form::Mlsd => listing::mlsd(line),
                    Form::List => listing::list(line, self.today),
                    Form::Nlst => listing::nlst(line, &self.folder),
                },
            ),
        };
        let (name, sighting) = match line {
            Line::Other => {
                self.understood += u64::from(!raw.is_empty());
                return None;
            }
            Line::Strange => {
                self.strange += 1;
                self.report(raw);
                return None;
            }
            Line::File { name, sighting } => (name, sighting),
        };
        self.understood += 1;
        if self.wanted.as_ref() == Some(&name) {
            self.found = Some(sighting);
        }
        let path = [&self.prefix[..], &name[..]].concat();
        if self.sample.is_none() {
            self.sample = Some(path.clone());
        }
        Some(Item { path, name: readable(&name), sighting })
    }

    /// Pure-FTPd lists 10,000 names at most, says so here, and ends as if all were well.
    fn hear_completion(&mut self, reply: &Reply) {
        let lines = reply.raw.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for line in lines.filter(|line| readable(line).to_lowercase().contains("truncated")) {
            self.report(line);
        }
    }

    fn report(&mut self, raw: &[u8]) {
        let reported = &mut self.listed.not_understood;
        if reported.len() < STRANGE_LINES_MAX {
            let shown = readable(raw).chars().take(STRANGE_CHARS_MAX).collect::<String>();
            reported.push(shown.escape_debug().to_string());
        } else if reported.len() == STRANGE_LINES_MAX {
            reported.push("and more such lines".to_owned());
        }
    }
}

/// Some servers answer 450 or 550 when there is nothing to list.
fn is_empty_folder(form: Form, refusal: &Refusal) -> bool {
    let text = refusal.reply.text().to_ascii_lowercase();
    let says_empty = ["no files", "no matches", "empty"].iter().any(|said| text.contains(said))
        // "No such file or directory" may mean that the folder itself has gone.
        || text.contains("no such file") && !text.contains("directory");
    matches!(refusal.reply.code, 450 | 550) && refusal.to == form.verb() && says_empty
}
