//! A certificate for 127.0.0.1 and the authority that signed it, made once per process by openssl.
//!
//! Two certificates, because rustls (rightly) refuses an authority that serves as a server.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};

use crate::Unavailable;
use crate::process::{Folder, output_of};

const AUTHORITY: &str = "\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = Baton testbed authority
[extensions]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
";

const SERVER: &str = "\
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
authorityKeyIdentifier = keyid
";

/// PEM texts.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// What a client must trust.
    pub(crate) authority: String,
    /// The server's certificate and then the authority's.
    pub(crate) chain: String,
    /// The server's private key.
    pub(crate) key: String,
}

/// The certificate that all servers of this process use.
pub(crate) fn shared() -> anyhow::Result<&'static Certificate> {
    static SHARED: OnceLock<Result<Certificate, String>> = OnceLock::new();
    if Command::new("openssl").arg("version").output().is_err() {
        return Err(Unavailable {
            what: "TLS".to_owned(),
            why: "openssl is not in PATH".to_owned(),
            remedy: "`cargo xtask deps` installs it".to_owned(),
        }
        .into());
    }
    let made = SHARED.get_or_init(|| make().map_err(|error| format!("{error:?}")));
    made.as_ref().map_err(|story| anyhow!("no certificate: {story}"))
}

fn make() -> anyhow::Result<Certificate> {
    let folder = Folder::new("certificate")?;
    let dir = folder.path();
    std::fs::write(dir.join("authority.cnf"), AUTHORITY)?;
    std::fs::write(dir.join("server.ext"), SERVER)?;
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -days 30 -config authority.cnf \
         -keyout authority.key -out authority.pem",
    )?;
    openssl(
        dir,
        "req -newkey rsa:2048 -nodes -config authority.cnf -subj /CN=localhost \
         -keyout server.key -out server.csr",
    )?;
    openssl(
        dir,
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
         -days 30 -extfile server.ext -out server.pem",
    )?;
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name)).with_context(|| format!("openssl made no {name}"))
    };
    let authority = read("authority.pem")?;
    let chain = read("server.pem")? + &authority;
    Ok(Certificate { authority, chain, key: read("server.key")? })
}

fn openssl(dir: &Path, arguments: &str) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(dir);
    output_of(command)?;
    Ok(())
}
