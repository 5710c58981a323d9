//! Pure-FTPd: logins from its own user database, no system users.

use std::process::Command;

use super::{FtpTls, Site};
use crate::packages::Unpacked;
use crate::process::{guarded, output_of};

pub(super) fn command(unpacked: &Unpacked, site: &Site) -> anyhow::Result<Command> {
    let database = user_database(unpacked, site)?;
    let own = site.folder.path();
    let mut command = guarded(&unpacked.program(), None);
    command
        .args(["--bind", &format!("127.0.0.1,{}", site.port)])
        .args(["--login", &format!("puredb:{}", database.display())])
        .args(["--pidfile", &own.join("pure-ftpd.pid").display().to_string()])
        // No anonymous logins, no reverse look-ups, no system log.
        .args(["--noanonymous", "--dontresolve", "--syslogfacility", "none"])
        .args(["--minuid", "1", "--maxclientsnumber", "200", "--maxclientsperip", "200"]);
    if let Some(certificate) = site.certificate {
        let both = format!("{}{}", certificate.key, certificate.chain);
        let file = site.write("certificate.pem", &both)?;
        // 3: both the control and the data connections must be encrypted.
        command.args(["--tls", "3", "--certfile", &file.display().to_string()]);
    }
    debug_assert_ne!(site.options.tls, FtpTls::Implicit, "refused by FtpServer::start");
    Ok(command)
}

fn user_database(unpacked: &Unpacked, site: &Site) -> anyhow::Result<std::path::PathBuf> {
    let account = &site.account;
    // "/./" ends the part that becomes the root folder of the session.
    let line = format!(
        "partner:{}:{}:{}::{}/./::::::::::::\n",
        site.password_hash()?,
        account.uid,
        account.gid,
        site.chroot.display()
    );
    let passwd = site.write("pureftpd.passwd", &line)?;
    let database = site.folder.path().join("pureftpd.pdb");
    let mut compile = Command::new(unpacked.path("usr/bin/pure-pw"));
    compile.env("LD_LIBRARY_PATH", unpacked.library_path());
    compile.arg("mkdb").arg(&database).arg("-f").arg(&passwd);
    output_of(compile)?;
    Ok(database)
}
