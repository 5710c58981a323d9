//! ProFTPD: logins from a password file of our own, no system users.

use std::process::Command;

use super::{FtpTls, Site};
use crate::packages::Unpacked;
use crate::process::guarded;

pub(super) fn command(unpacked: &Unpacked, site: &Site) -> anyhow::Result<Command> {
    let configuration = site.write("proftpd.conf", &configuration(unpacked, site)?)?;
    let mut command = guarded(&unpacked.program(), None);
    command.arg("--nodaemon").arg("--config").arg(configuration);
    Ok(command)
}

fn configuration(unpacked: &Unpacked, site: &Site) -> anyhow::Result<String> {
    let account = &site.account;
    let passwd = format!(
        "partner:{}:{}:{}::{}:/bin/sh\n",
        site.password_hash()?,
        account.uid,
        account.gid,
        site.chroot.display()
    );
    Ok(format!(
        "\
ServerName baton
ServerType standalone
DefaultAddress 127.0.0.1
UseIPv6 off
Port {port}
User {user}
Group nogroup
ModulePath {modules}
LoadModule mod_tls.c
AuthUserFile {passwd}
AuthOrder mod_auth_file.c
AuthPAM off
RequireValidShell off
UseFtpUsers off
DefaultRoot ~
PidFile {own}/proftpd.pid
ScoreboardFile {own}/proftpd.scoreboard
SystemLog {own}/server.out
TransferLog none
WtmpLog off
DelayEngine off
UseReverseDNS off
AllowOverwrite on
AllowStoreRestart on
AllowRetrieveRestart on
TimesGMT on
MaxInstances 200
{tls}",
        port = site.port,
        user = account.name,
        modules = unpacked.path("usr/lib/proftpd").display(),
        passwd = site.write("proftpd.passwd", &passwd)?.display(),
        own = site.folder.path().display(),
        tls = tls(site)?,
    ))
}

fn tls(site: &Site) -> anyhow::Result<String> {
    let Some(certificate) = site.certificate else {
        return Ok(String::new());
    };
    let mut options = Vec::new();
    if site.options.tls == FtpTls::Implicit {
        options.push("UseImplicitSSL");
    }
    if !site.options.session_reuse_required {
        options.push("NoSessionReuseRequired");
    }
    let options = match options.as_slice() {
        [] => String::new(),
        some => format!("TLSOptions {}\n", some.join(" ")),
    };
    Ok(format!(
        "\
TLSEngine on
TLSRequired on
TLSLog {own}/tls.log
TLSRSACertificateFile {chain}
TLSRSACertificateKeyFile {key}
{options}",
        own = site.folder.path().display(),
        chain = site.write("chain.pem", &certificate.chain)?.display(),
        key = site.write("key.pem", &certificate.key)?.display(),
    ))
}
