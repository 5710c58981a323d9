//! A server that refuses TLS 1.3 on data connections, as ProFTPD does when it does not recognise
//! the session: Baton comes back with TLS 1.2 by itself, and remembers it.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use adapter::{Item, Sighting};
use common::fetch;
use model::definition::{ReceiveKind, TlsMode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// How the server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// 425 in place of 150.
    AtOnce,
    /// 150, then the data connection is closed in the middle of the handshake, then 425.
    InTheHandshake,
}

/// A certificate that is its own authority.
fn certificate(folder: &Path) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    if made.is_err() {
        testbed::skip_or_fail("openssl is not in PATH");
        return None;
    }
    let chain = vec![CertificateDer::from_pem_file(cert).expect("the certificate")];
    Some((chain, PrivateKeyDer::from_pem_file(key).expect("its key")))
}

struct Server {
    config: Arc<ServerConfig>,
    refusal: Refusal,
    logins: AtomicUsize,
}

impl Server {
    fn serve(&self, mut control: TcpStream) -> Option<()> {
        control.write_all(b"220 hello\r\n").ok()?;
        let mut line = String::new();
        BufReader::new(control.try_clone().ok()?).read_line(&mut line).ok()?;
        assert_eq!(line, "AUTH TLS\r\n");
        control.write_all(b"234 go\r\n").ok()?;
        let connection = ServerConnection::new(Arc::clone(&self.config)).ok()?;
        let mut control = BufReader::new(StreamOwned::new(connection, control));
        let mut data = None;
        loop {
            let mut line = String::new();
            if control.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let reply = match line.split_whitespace().next()? {
                "USER" => {
                    self.logins.fetch_add(1, Ordering::Relaxed);
                    "230 in".to_owned()
                }
                "FEAT" => "500 what".to_owned(),
                "EPSV" => {
                    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
                    let port = listener.local_addr().ok()?.port();
                    data = Some(listener);
                    format!("229 ok (|||{port}|)")
                }
                "RETR" => self.send(control.get_mut(), data.take()?)?,
                _ => "250 done".to_owned(),
            };
            control.get_mut().write_all(format!("{reply}\r\n").as_bytes()).ok()?;
        }
    }

    fn send(&self, control: &mut Tls, data: TcpListener) -> Option<String> {
        let is_1_3 = control.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let no = || Some("425 Unable to build data connection: Operation not permitted".to_owned());
        if is_1_3 && self.refusal == Refusal::AtOnce {
            return no();
        }
        let (mut data, _) = data.accept().ok()?;
        control.write_all(b"150 here\r\n").ok()?;
        if is_1_3 {
            let mut hello = [0; 16];
            data.read_exact(&mut hello).ok()?;
            drop(data);
            return no();
        }
        let connection = ServerConnection::new(Arc::clone(&self.config)).ok()?;
        let mut data = StreamOwned::new(connection, data);
        data.write_all(b"12345").ok()?;
        data.conn.send_close_notify();
        data.flush().ok()?;
        Some("226 done".to_owned())
    }
}

#[tokio::test]
async fn tls_1_2_is_tried_when_1_3_is_refused() {
    for refusal in [Refusal::AtOnce, Refusal::InTheHandshake] {
        let folder = tempfile::tempdir().expect("a folder");
        let Some((chain, key)) = certificate(folder.path()) else {
            return;
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        let config = Arc::new(config);
        let server = Arc::new(Server { config, refusal, logins: AtomicUsize::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            for control in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(control));
            }
        });
        let mut setting = common::ftp(port, "acme", "x");
        setting.tls = TlsMode::Explicit;
        setting.ca_file = Some(folder.path().join("cert.pem"));
        let source = adapters::source(&ReceiveKind::Ftp(setting)).expect("a source");
        let sighting = Sighting { bytes: Some(5), ..Sighting::default() };
        let item = Item { path: b"/files/a".to_vec(), name: "a".to_owned(), sighting };
        let mut logins = Vec::new();
        for _ in 0..2 {
            let mut session = source.connect().await.expect("a session");
            for _ in 0..3 {
                let bytes = fetch(&mut *session, &item, 0).await.expect("the file");
                assert_eq!(bytes, b"12345", "{refusal:?}");
            }
            logins.push(server.logins.load(Ordering::Relaxed));
        }
        // The first session logs in twice, the second one knows.
        assert_eq!(logins, [2, 3], "{refusal:?}");
    }
}
