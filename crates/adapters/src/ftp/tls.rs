//! What TLS needs: whom to trust, which versions to offer, and a session to resume.

use std::io;
use std::path::Path;
use std::sync::Arc;

use adapter::{AdapterError, Result};
use model::definition::TlsVersion;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

/// Sessions that one FTP session may resume: the control connection's, and those that data
/// connections leave behind.
const SESSIONS_MAX: usize = 16;

/// A connector for one FTP session. Its memory of TLS sessions is not shared with other FTP
/// sessions: a server that demands reuse wants the session of *this* control connection back.
pub(super) fn connector(roots: Arc<RootCertStore>, newest: TlsVersion) -> Result<TlsConnector> {
    let versions: &[&rustls::SupportedProtocolVersion] = match newest {
        TlsVersion::V1_2 => &[&rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    // The provider is named, not taken from the process: other code may have installed another.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| AdapterError::Refused(format!("TLS can't be used: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The authorities to trust: those of `ca_file`, else the machine's own.
pub(super) async fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>> {
    let ca_file = ca_file.map(Path::to_path_buf);
    let read = tokio::task::spawn_blocking(move || match ca_file {
        Some(file) => roots_of_file(&file),
        None => roots_of_machine(),
    });
    let roots = read.await.map_err(|error| AdapterError::Unavailable(error.to_string()))?;
    roots.map(Arc::new).map_err(AdapterError::Refused)
}

/// The name that the server's certificate must carry.
pub(super) fn server_name(server: &str) -> Result<ServerName<'static>> {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        AdapterError::Refused(format!("{server:?} is neither a host name nor an IP address"))
    })
}

/// A failed handshake in words. A certificate that is not trusted stays so until someone acts.
pub(super) fn handshake_failed(server: &str, error: &io::Error) -> AdapterError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => AdapterError::Refused(format!(
            "the certificate of {server} is not accepted: {reason}. Check the name in `server`, \
             and set `ca_file` to the authority that signed the certificate."
        )),
        Some(reason) => AdapterError::Refused(format!(
            "{server} and Baton could not agree on TLS: {reason}. Check `tls` and `tls_max`."
        )),
        None => AdapterError::Unavailable(format!("{server} broke off the TLS handshake: {error}")),
    }
}

fn roots_of_file(file: &Path) -> Result<RootCertStore, String> {
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|error| format!("cannot read ca_file {shown}: {error}"))?;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| format!("ca_file {shown} is not in PEM form: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("ca_file {shown} holds an unusable certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("ca_file {shown} holds no certificate"));
    }
    Ok(roots)
}

fn roots_of_machine() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Machines carry a few certificates that rustls can't use; the others still count.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!(
            "this machine trusts no certificate authority {why}: install ca-certificates, or set \
             `ca_file`"
        ));
    }
    Ok(roots)
}
