//! From nothing to a session that is ready to list: connect, encrypt, log in, enter the folder.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adapter::{AdapterError, PATIENCE_MAX, Result};
use model::definition::{FtpReceive, TlsMode, TlsVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::control::{Control, Reply, is_forbidden};
use super::data::DataWay;
use super::tls;
use super::wire::Wire;

/// Longest login: a dozen replies, each of which has `reply_timeout`. Shorter than the time after
/// which a location without progress counts as stuck.
const LOGIN_MAX: Duration = Duration::from_secs(90);

/// What the server can do, as FEAT says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// MLSD and MLST with size and time.
    pub(super) mlst: bool,
    /// SIZE works; none when FEAT does not name it, which some servers forget: trying tells.
    pub(super) size: Option<bool>,
    /// MDTM works; the same.
    pub(super) mdtm: Option<bool>,
    utf8: bool,
    mlst_must_be_asked: bool,
}

/// A connection that is logged in, with binary transfers, in the folder.
pub(super) struct Link {
    pub(super) control: Control,
    pub(super) features: Features,
    pub(super) data: DataWay,
    /// The folder as a prefix of paths: `/out/`. Empty when the server's way to write paths is
    /// not ours; then names count from the folder that the session is in.
    pub(super) prefix: Vec<u8>,
}

impl Link {
    /// Logs in. A server that answers each step in time, but never comes to an end, is given up.
    pub(super) async fn open(shared: &Shared) -> Result<Link> {
        match timeout(LOGIN_MAX, Link::log_in(shared)).await {
            Ok(link) => link,
            Err(_) => Err(AdapterError::Unavailable(format!(
                "{} did not finish the login in {LOGIN_MAX:?}",
                shared.server()
            ))),
        }
    }

    async fn log_in(shared: &Shared) -> Result<Link> {
        let setting = &shared.setting;
        let tls_max = match shared.learned.tls_1_2_only.load(Ordering::Relaxed) {
            true => TlsVersion::V1_2,
            false => setting.tls_max,
        };
        let tls = match setting.tls {
            TlsMode::Off => None,
            TlsMode::Explicit | TlsMode::Implicit => {
                let connector = tls::connector(shared.roots().await?, tls_max)?;
                Some((connector, tls::server_name(&setting.server)?))
            }
        };
        let data = DataWay {
            mode: setting.data_mode,
            tls,
            connect_timeout: setting.connect_timeout.as_duration().min(PATIENCE_MAX),
            learned: Arc::clone(&shared.learned),
        };
        let connected = connect(shared, &data).await;
        if connected.is_err() {
            // A server that has left TLS 1.2 behind must not be lost for what another day showed.
            shared.learned.tls_1_2_only.store(false, Ordering::Relaxed);
        }
        let mut control = connected?;
        control.doubles_255 = shared.learned.doubles_255.load(Ordering::Relaxed);
        log_in(&mut control, setting).await?;
        let features = features(&mut control).await?;
        prepare(&mut control, features).await?;
        let prefix = enter(&mut control, &setting.folder).await?;
        Ok(Link { control, features, data, prefix })
    }
}

async fn connect(shared: &Shared, data: &DataWay) -> Result<Control> {
    let setting = &shared.setting;
    let server = shared.server();
    let host = setting.server.trim_start_matches('[').trim_end_matches(']');
    let connecting = TcpStream::connect((host, shared.port()));
    let tcp = match timeout(data.connect_timeout, connecting).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            return Err(AdapterError::Unavailable(format!("cannot reach {server}: {error}")));
        }
        Err(_) => {
            return Err(AdapterError::Unavailable(format!(
                "cannot reach {server}: no answer in {:?}",
                data.connect_timeout
            )));
        }
    };
    // Commands are one small packet each: waiting to fill a bigger one costs 40 ms a command.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%server, %error, "TCP_NODELAY is not available");
    }
    let mut control = Control::new(Wire::Plain(tcp), server, setting.reply_timeout.as_duration());
    if setting.tls == TlsMode::Implicit {
        control = encrypt(control, data).await?;
    }
    let greeting = control.greeting().await?;
    if !greeting.is_done() {
        return Err(control.unavailable(format!("turned us away: {}", greeting.text())));
    }
    if setting.tls == TlsMode::Explicit {
        let reply = control.ask("AUTH", b"TLS").await?;
        if !matches!(reply.code, 234 | 334) {
            return Err(AdapterError::Refused(format!(
                "{} does not offer TLS: {}. Check `tls` of the location.",
                control.server,
                reply.text()
            )));
        }
        control = encrypt(control, data).await?;
    }
    Ok(control)
}

async fn encrypt(control: Control, data: &DataWay) -> Result<Control> {
    let server = control.server.clone();
    let Some((connector, name)) = &data.tls else {
        return Ok(control);
    };
    match timeout(data.connect_timeout, control.encrypted(connector, name.clone())).await {
        Ok(Ok(control)) => Ok(control),
        Ok(Err(error)) => Err(tls::handshake_failed(&server, &error)),
        Err(_) => Err(AdapterError::Unavailable(format!(
            "{server} did not finish the TLS handshake in {:?}; is `tls` right for this port?",
            data.connect_timeout
        ))),
    }
}

async fn log_in(control: &mut Control, setting: &FtpReceive) -> Result<()> {
    if setting.tls != TlsMode::Off {
        // RFC 4217: before USER, and needed with implicit TLS too, or vsftpd waits for ever.
        for (verb, argument) in [("PBSZ", "0"), ("PROT", "P")] {
            let reply = control.ask(verb, argument.as_bytes()).await?;
            if !reply.is_done() {
                return Err(AdapterError::Refused(format!(
                    "{} refuses to encrypt data connections ({verb} {argument}: {})",
                    control.server,
                    reply.text()
                )));
            }
        }
    }
    let password = password(setting).await?;
    if password.bytes().any(is_forbidden) {
        return Err(AdapterError::Refused(
            "the password holds an end of line, which FTP can't send".to_owned(),
        ));
    }
    let mut reply = control.ask("USER", setting.user.as_bytes()).await?;
    if matches!(reply.code, 331 | 332) {
        reply = control.ask("PASS", password.as_bytes()).await?;
    }
    if reply.is_done() {
        return Ok(());
    }
    Err(login_refused(control, setting, &reply, &password))
}

fn login_refused(
    control: &Control,
    setting: &FtpReceive,
    reply: &Reply,
    password: &str,
) -> AdapterError {
    let mut said = reply.text();
    if !password.is_empty() {
        said = said.replace(password, "***"); // some servers repeat what they were told
    }
    let sentence = format!("{} refused the login of user {}: {said}", control.server, setting.user);
    if (400..500).contains(&reply.code) {
        return AdapterError::Unavailable(sentence);
    }
    AdapterError::Refused(format!("{sentence} Check user and password of the location."))
}

/// Read anew for each connection, so that a changed password needs no restart.
async fn password(setting: &FtpReceive) -> Result<String> {
    let Some(file) = &setting.password_file else {
        let is_guest = setting.password.is_empty() && setting.user == "anonymous";
        return Ok(if is_guest { "baton@".to_owned() } else { setting.password.clone() });
    };
    let text = tokio::fs::read_to_string(file).await.map_err(|error| {
        AdapterError::Refused(format!("cannot read password_file {}: {error}", file.display()))
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn features(control: &mut Control) -> Result<Features> {
    let reply = control.ask("FEAT", b"").await?;
    if !reply.is_done() {
        return Ok(Features::default());
    }
    Ok(understand(reply.inner_lines()))
}

fn understand<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Features {
    let mut features = Features::default();
    for line in lines {
        let line = String::from_utf8_lossy(line).trim().to_ascii_uppercase();
        let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match name {
            "SIZE" => features.size = Some(true),
            "MDTM" => features.mdtm = Some(true),
            "UTF8" => features.utf8 = true,
            "MLST" => {
                let has = |fact: &str| rest.split(';').any(|f| f.trim_end_matches('*') == fact);
                let chosen = |fact: &str| rest.split(';').any(|f| f == format!("{fact}*"));
                features.mlst = has("SIZE") && has("MODIFY");
                features.mlst_must_be_asked =
                    !(chosen("SIZE") && chosen("MODIFY") && chosen("TYPE"));
            }
            _ => {}
        }
    }
    features
}

async fn prepare(control: &mut Control, features: Features) -> Result<()> {
    if features.utf8 {
        // IIS replaces letters by `?` without it; servers that don't need it may refuse.
        control.ask("OPTS", b"UTF8 ON").await?;
    }
    if features.mlst && features.mlst_must_be_asked {
        control.ask("OPTS", b"MLST type;size;modify;").await?;
    }
    let reply = control.ask("TYPE", b"I").await?;
    if !reply.is_done() {
        return Err(control.unavailable(format!("has no binary transfers: {}", reply.text())));
    }
    Ok(())
}

/// Enters the folder and finds out what to put before the names in it.
async fn enter(control: &mut Control, folder: &str) -> Result<Vec<u8>> {
    if !folder.is_empty() {
        let reply = control.ask("CWD", folder.as_bytes()).await?;
        if !reply.is_done() {
            let (server, text) = (&control.server, reply.text());
            let sentence = format!("{server} does not let us into folder {folder}: {text}");
            return Err(if reply.code < 500 {
                AdapterError::Unavailable(sentence)
            } else {
                AdapterError::Refused(format!("{sentence} Check `folder` of the location."))
            });
        }
    }
    if folder.starts_with('/') {
        return Ok(with_slash(folder.as_bytes()));
    }
    let reply = control.ask("PWD", b"").await?;
    Ok(working_folder(&reply).map(|folder| with_slash(&folder)).unwrap_or_default())
}

fn with_slash(folder: &[u8]) -> Vec<u8> {
    let mut prefix = folder.to_vec();
    while prefix.last() == Some(&b'/') {
        prefix.pop();
    }
    prefix.push(b'/');
    prefix
}

/// `257 "/out" is the current directory`, quotes in the name doubled.
fn working_folder(reply: &Reply) -> Option<Vec<u8>> {
    if reply.code != 257 {
        return None;
    }
    let start = reply.raw.iter().position(|byte| *byte == b'"')? + 1;
    let mut folder = Vec::new();
    let mut rest = reply.raw[start..].iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte == b'"' && rest.next_if_eq(&b'"').is_none() {
            return folder.starts_with(b"/").then_some(folder);
        }
        folder.push(byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_as_servers_list_them() {
        let understand = |text: &str| understand(text.lines().map(str::as_bytes));
        let vsftpd = understand(" EPRT\n EPSV\n MDTM\n PASV\n REST STREAM\n SIZE\n TVFS");
        assert_eq!((vsftpd.mlst, vsftpd.size, vsftpd.mdtm), (false, Some(true), Some(true)));
        let proftpd = understand(" MLST modify*;perm*;size*;type*;unique*;\n UTF8\n SIZE");
        assert!(proftpd.mlst && proftpd.utf8 && !proftpd.mlst_must_be_asked);
        assert_eq!(proftpd.mdtm, None);
        let asked = understand(" MLST Type*;Size;Modify;");
        assert!(asked.mlst && asked.mlst_must_be_asked);
        assert!(!understand(" MLST type*;perm*;").mlst);
        assert_eq!(understand(""), Features::default());
    }

    #[test]
    fn folders_of_pwd() {
        for (text, folder) in [
            ("257 \"/out\" is the current directory\r\n", Some("/out")),
            ("257 \"/say \"\"hi\"\"\"\r\n", Some("/say \"hi\"")),
            ("257 \"/\"\r\n", Some("/")),
            ("257 \"DISK:[DIR]\" is current\r\n", None),
            ("257 /out\r\n", None),
            ("257 \"/out\r\n", None),
            ("550 \"/out\"\r\n", None),
        ] {
            let code = text[..3].parse().unwrap_or(0);
            let reply = Reply { code, raw: text.as_bytes().to_vec() };
            assert_eq!(working_folder(&reply), folder.map(|f| f.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(with_slash(b"/"), b"/");
        assert_eq!(with_slash(b"/a//"), b"/a/");
    }
}
