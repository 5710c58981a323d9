//! Data connections: opened by us (EPSV, PASV) or by the server (PORT, EPRT).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapter::{AdapterError, Result};
use model::definition::DataMode;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::control::{Control, Reply};
use super::wire::Wire;

/// Strangers that knock at our port in active mode before the server does.
const STRANGERS_MAX: usize = 8;

/// After a failed TLS handshake the server may still say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What was learned about the server and holds for later connections of the source too.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// EPSV is refused, or its connections do not come through.
    pub(super) epsv_useless: AtomicBool,
    /// Data connections fail under TLS 1.3: the server does not recognise the session.
    pub(super) tls_1_2_only: AtomicBool,
    /// MLSD is announced and does not work.
    pub(super) mlsd_useless: AtomicBool,
    /// LIST comes in a form that is not understood.
    pub(super) list_useless: AtomicBool,
    /// A byte 255 in a name must be sent twice.
    pub(super) doubles_255: AtomicBool,
}

/// How a session opens its data connections.
#[derive(Clone)]
pub(super) struct DataWay {
    pub(super) mode: DataMode,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) connect_timeout: Duration,
    pub(super) learned: Arc<Learned>,
}

/// A command that the server refused, and its words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) to: &'static str,
    pub(super) reply: Reply,
}

/// A transfer that has begun.
pub(super) enum Begun {
    /// The server sends.
    Data(Wire),
    /// The server refuses a command; the session lives on.
    Refusal(Refusal),
    /// The server refuses data connections under TLS 1.3; another session with 1.2 may work.
    NeedsTls12,
}

impl DataWay {
    /// Sends a command with a data connection, at an offset.
    pub(super) async fn begin(
        &self,
        control: &mut Control,
        verb: &'static str,
        argument: &[u8],
        offset: u64,
    ) -> Result<Begun> {
        let end = match self.prepare(control).await? {
            Prepared::End(end) => end,
            Prepared::Refusal(refusal) => return Ok(Begun::Refusal(refusal)),
        };
        if offset > 0 {
            let reply = control.ask("REST", offset.to_string().as_bytes()).await?;
            if reply.code != 350 {
                return Ok(Begun::Refusal(Refusal { to: "REST", reply }));
            }
        }
        // The command travels while the connection is made: one round trip less for each file.
        let connecting = self.connect(&end);
        let (connected, sent) = tokio::join!(connecting, control.send(verb, argument));
        sent?;
        let opening = match (control.opening().await, &connected) {
            (Ok(opening), _) => opening,
            (Err(_), Err(problem)) => return Err(self.unreachable(control, problem)),
            (Err(error), Ok(_)) => return Err(error),
        };
        if opening.code >= 400 {
            return Ok(self.refused(control, Refusal { to: verb, reply: opening }));
        }
        if opening.code >= 200 {
            // An end without a beginning: perhaps the end of something else.
            let text = opening.text();
            return Err(control.unavailable(format!("answered {verb} with {text:?} at once")));
        }
        let tcp = match (connected, end) {
            (Err(problem), _) => return Err(self.unreachable(control, &problem)),
            (Ok(Some(tcp)), _) => tcp,
            (Ok(None), End::Theirs(_)) => return Err(control.unavailable("was not connected")),
            (Ok(None), End::Ours(listener)) => self.accept(control, &listener).await?,
        };
        self.encrypt(control, tcp).await
    }

    fn refused(&self, control: &Control, refusal: Refusal) -> Begun {
        // 522: session reuse required (vsftpd). 425: can't open data connection.
        if matches!(refusal.reply.code, 425 | 522) && control.wire().is_tls_1_3() {
            self.learned.tls_1_2_only.store(true, Ordering::Relaxed);
            return Begun::NeedsTls12;
        }
        Begun::Refusal(refusal)
    }

    async fn encrypt(&self, control: &mut Control, tcp: TcpStream) -> Result<Begun> {
        let Some((connector, name)) = &self.tls else {
            return Ok(Begun::Data(Wire::Plain(tcp)));
        };
        let handshake = connector.connect(name.clone(), tcp);
        let problem = match timeout(self.connect_timeout, handshake).await {
            Ok(Ok(tls)) => {
                return Ok(Begun::Data(Wire::Tls(Box::new(tls))));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {:?}", self.connect_timeout),
        };
        let said = control.last_words(LAST_WORDS).await;
        if control.wire().is_tls_1_3()
            && said.as_ref().is_none_or(|reply| matches!(reply.code, 425 | 426 | 522))
        {
            self.learned.tls_1_2_only.store(true, Ordering::Relaxed);
            return Ok(Begun::NeedsTls12);
        }
        let said = said.map(|reply| reply.text()).unwrap_or_default();
        Err(control.unavailable(format!(
            "did not encrypt the data connection: {problem}. {said} If it demands that sessions \
             are reused, try `tls_max: \"1.2\"`."
        )))
    }

    async fn prepare(&self, control: &mut Control) -> Result<Prepared> {
        match self.mode {
            DataMode::Active => listen(control).await,
            DataMode::PassivePasv => pasv(control).await,
            DataMode::Passive if self.learned.epsv_useless.load(Ordering::Relaxed) => {
                let prepared = pasv(control).await;
                if !matches!(prepared, Ok(Prepared::End(_))) {
                    self.learned.epsv_useless.store(false, Ordering::Relaxed);
                }
                prepared
            }
            DataMode::Passive => {
                let reply = control.ask("EPSV", b"").await?;
                match epsv_port(&reply) {
                    Some(port) => server_port(control, port),
                    None => {
                        // A passing refusal says nothing about the next time.
                        let unknown = matches!(reply.code, 500..=504 | 522);
                        self.learned.epsv_useless.store(unknown, Ordering::Relaxed);
                        pasv(control).await
                    }
                }
            }
        }
    }

    /// Our connection to the server's port; none when the server connects to ours.
    async fn connect(&self, end: &End) -> Result<Option<TcpStream>, String> {
        let End::Theirs(address) = end else {
            return Ok(None);
        };
        match timeout(self.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => Ok(Some(tcp)),
            Ok(Err(error)) => Err(format!("{address}: {error}")),
            Err(_) => Err(format!("{address}: no answer in {:?}", self.connect_timeout)),
        }
    }

    fn unreachable(&self, control: &Control, problem: &str) -> AdapterError {
        if self.mode == DataMode::Passive {
            // Some firewalls open the port only if they have seen PASV, some only for EPSV: the
            // next connection tries the other.
            self.learned.epsv_useless.fetch_xor(true, Ordering::Relaxed);
        }
        control.unavailable(format!(
            "offered a data connection that can't be opened, {problem}. A firewall may be in \
             between; let the passive ports through, or try `data_mode: active`."
        ))
    }

    /// In active mode anyone may connect to our port; only the server is let in.
    async fn accept(&self, control: &Control, listener: &TcpListener) -> Result<TcpStream> {
        let server = control.wire().peer().map_err(|error| control.unavailable(error))?.ip();
        let accept = async {
            for _ in 0..STRANGERS_MAX {
                let (tcp, from) = listener.accept().await?;
                if from.ip() == server {
                    return Ok(tcp);
                }
            }
            Err(std::io::Error::other("only strangers connected"))
        };
        let problem = match timeout(self.connect_timeout, accept).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not come in {:?}", self.connect_timeout),
        };
        Err(control.unavailable(format!(
            "should open the data connection: {problem}. A firewall may be in between; try \
             `data_mode: passive`."
        )))
    }
}

enum Prepared {
    End(End),
    Refusal(Refusal),
}

enum End {
    Theirs(SocketAddr),
    Ours(TcpListener),
}

async fn pasv(control: &mut Control) -> Result<Prepared> {
    let reply = control.ask("PASV", b"").await?;
    match pasv_port(&reply) {
        Some(port) => server_port(control, port),
        None if reply.is_done() => Err(control
            .unavailable(format!("answered PASV with {:?}, which names no port", reply.text()))),
        None => Ok(Prepared::Refusal(Refusal { to: "PASV", reply })),
    }
}

/// A port of the server at the address that the control connection already uses. The address in
/// PASV's reply is ignored: behind NAT it is private, and a hostile one would aim us at others.
fn server_port(control: &Control, port: u16) -> Result<Prepared> {
    let peer = control.wire().peer().map_err(|error| control.unavailable(error))?;
    Ok(Prepared::End(End::Theirs(SocketAddr::new(peer.ip(), port))))
}

async fn listen(control: &mut Control) -> Result<Prepared> {
    let bound = async {
        let local = control.wire().tcp().local_addr()?;
        let listener = TcpListener::bind(SocketAddr::new(local.ip(), 0)).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    let (listener, address) = bound.await.map_err(|error| {
        AdapterError::Unavailable(format!("cannot listen for a data connection: {error}"))
    })?;
    let port = address.port();
    let reply = match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let [high, low] = port.to_be_bytes();
            let argument = format!("{a},{b},{c},{d},{high},{low}");
            control.ask("PORT", argument.as_bytes()).await?
        }
        IpAddr::V6(ip) => control.ask("EPRT", format!("|2|{ip}|{port}|").as_bytes()).await?,
    };
    Ok(if reply.is_done() {
        Prepared::End(End::Ours(listener))
    } else {
        Prepared::Refusal(Refusal { to: "PORT", reply })
    })
}

/// `229 Entering Extended Passive Mode (|||6446|)`; the delimiter may be any character.
fn epsv_port(reply: &Reply) -> Option<u16> {
    if reply.code != 229 {
        return None;
    }
    let text = reply.text();
    let inner = &text[text.rfind('(')? + 1..];
    let delimiter = inner.chars().next()?;
    let mut fields = inner.split(delimiter);
    let port = fields.nth(3)?.parse().ok()?;
    (port != 0).then_some(port)
}

/// `227 Entering Passive Mode (192,168,1,2,4,10)`; the words and brackets vary.
fn pasv_port(reply: &Reply) -> Option<u16> {
    if reply.code != 227 {
        return None;
    }
    let text = reply.text();
    let rest = text.get(3..)?;
    let numbers = rest.split(|c: char| !c.is_ascii_digit() && c != ',');
    let six = numbers.map(|run| run.trim_matches(',')).find(|run| run.split(',').count() == 6)?;
    let fields: Option<Vec<u8>> = six.split(',').map(|field| field.parse().ok()).collect();
    let fields = fields?;
    let port = u16::from_be_bytes([fields[4], fields[5]]);
    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        Reply { code: text[..3].parse().unwrap_or(0), raw: format!("{text}\r\n").into_bytes() }
    }

    #[test]
    fn ports_of_epsv() {
        for (text, port) in [
            ("229 Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("229 Entering Extended Passive Mode (|||6446|).", Some(6446)),
            ("229 ok (!!!21!)", Some(21)),
            ("229 (|1|10.0.0.1|6446|)", Some(6446)),
            ("229 Entering Extended Passive Mode", None),
            ("229 (|||0|)", None),
            ("229 (|||70000|)", None),
            ("229 (", None),
            ("500 no (|||6446|)", None),
        ] {
            assert_eq!(epsv_port(&reply(text)), port, "{text}");
        }
    }

    #[test]
    fn ports_of_pasv() {
        for (text, port) in [
            ("227 Entering Passive Mode (192,168,1,2,4,10)", Some(1034)),
            ("227 Entering Passive Mode (192,168,1,2,4,10).", Some(1034)),
            ("227 Entering Passive Mode 127,0,0,1,255,255", Some(65535)),
            ("227 =127,0,0,1,4,1", Some(1025)),
            ("227 10 files, (1,2,3,4,5,6)", Some(1286)),
            ("227 Entering Passive Mode (1,2,3,4,5)", None),
            ("227 Entering Passive Mode (1,2,3,4,256,6)", None),
            ("227 Entering Passive Mode (1,2,3,4,0,0)", None),
            ("425 (1,2,3,4,5,6)", None),
        ] {
            assert_eq!(pasv_port(&reply(text)), port, "{text}");
        }
    }
}
