//! One module per protocol. [`ADAPTERS`] lists them; [`source`] and [`sink`] make what a
//! definition asks for.

mod file;
mod ftp;
mod mask;

use adapter::{Adapter, PolledSource, Result, Sink};
use model::definition::{ReceiveKind, SendKind};

/// Every adapter, one line each.
pub static ADAPTERS: &[&dyn Adapter] = &[&ftp::Ftp, &file::File];

/// The adapter of a receive location.
pub fn adapter_of(kind: &ReceiveKind) -> &'static dyn Adapter {
    match kind {
        ReceiveKind::Ftp(_) => &ftp::Ftp,
        ReceiveKind::File(_) => &file::File,
    }
}

/// The source of a receive location. Nothing is connected or read yet.
///
/// # Errors
/// When a setting can't mean anything.
pub fn source(kind: &ReceiveKind) -> Result<Box<dyn PolledSource>> {
    Ok(match kind {
        ReceiveKind::Ftp(setting) => Box::new(ftp::FtpSource::new(setting)?),
        ReceiveKind::File(setting) => Box::new(file::FileSource::new(setting)?),
    })
}

/// The sink of a send port. Nothing is opened yet.
///
/// # Errors
/// When a setting can't mean anything.
pub fn sink(kind: &SendKind) -> Result<Box<dyn Sink>> {
    Ok(match kind {
        SendKind::File(setting) => Box::new(file::FileSink::new(setting)?),
    })
}
