//! vsftpd: anonymous logins that may write, because its real logins need PAM and system users.

use std::process::Command;

use super::{FtpTls, Site};
use crate::packages::Unpacked;
use crate::process::guarded;

pub(super) fn command(unpacked: &Unpacked, site: &Site) -> anyhow::Result<Command> {
    let configuration = site.write("vsftpd.conf", &configuration(site)?)?;
    let mut command = guarded(&unpacked.program(), None);
    command.arg(configuration);
    Ok(command)
}

fn configuration(site: &Site) -> anyhow::Result<String> {
    let nowhere = site.folder.path().join("empty");
    super::make_folder(&nowhere)?;
    Ok(format!(
        "\
listen=YES
listen_address={address}
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
anon_root={root}
ftp_username={user}
secure_chroot_dir={nowhere}
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=NO
max_per_ip=0
{tls}",
        address = site.place.address,
        port = site.port,
        root = site.chroot.display(),
        user = site.account.name,
        nowhere = nowhere.display(),
        tls = tls(site)?,
    ))
}

fn tls(site: &Site) -> anyhow::Result<String> {
    let Some(certificate) = site.certificate else {
        return Ok(String::new());
    };
    let chain = site.write("chain.pem", &certificate.chain)?;
    let key = site.write("key.pem", &certificate.key)?;
    let yes_no = |yes| if yes { "YES" } else { "NO" };
    Ok(format!(
        "\
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
implicit_ssl={implicit}
require_ssl_reuse={reuse}
rsa_cert_file={chain}
rsa_private_key_file={key}
",
        implicit = yes_no(site.options.tls == FtpTls::Implicit),
        reuse = yes_no(site.options.session_reuse_required),
        chain = chain.display(),
        key = key.display(),
    ))
}
