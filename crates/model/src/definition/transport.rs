//! What each adapter is told: one struct per protocol and direction.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// How a receive location receives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiveKind {
    /// Files of an FTP or FTPS server.
    Ftp(FtpReceive),
    /// Files of a folder of this machine or of a mounted share.
    File(FileReceive),
}

/// How a send port sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendKind {
    /// Files in a folder of this machine or of a mounted share.
    File(FileSend),
}

/// What happens to the source after the message is committed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterReceive {
    /// Delete it.
    #[default]
    Delete,
    /// Keep it; its receipt keeps it from being received again.
    Keep,
    /// Move it to this folder on the same server, under its own name.
    Move(String),
}

/// When an item counts as completely written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    /// Size and time are the same in two sightings at least this far apart.
    Sightings(Millis),
    /// At once: the partner writes under another name and renames.
    None,
}

impl Default for Stability {
    fn default() -> Self {
        Stability::Sightings(Millis::seconds(1))
    }
}

/// Receiving by FTP (RFC 959, 2428, 3659) or FTPS (RFC 4217).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FtpReceive {
    /// Name or address of the server.
    pub server: String,
    /// Control port. Default 21, or 990 with `tls: implicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Login. Default `anonymous`.
    #[serde(default = "anonymous")]
    pub user: String,
    /// Password in clear. Prefer `password_file`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// File on each possible owner whose first line is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Folder on the server. Default: the one after login.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// Which files: `*` and `?` as wildcards, upper and lower case alike. Default `*`.
    #[serde(default = "any_file")]
    pub file_mask: String,
    /// Encryption. Default `off`.
    #[serde(default)]
    pub tls: TlsMode,
    /// Newest TLS version to offer. Servers that demand session reuse may need `1.2`.
    #[serde(default)]
    pub tls_max: TlsVersion,
    /// PEM file of the authorities to trust instead of the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who opens data connections. Default `passive`.
    #[serde(default)]
    pub data_mode: DataMode,
    /// How folders are listed. Default `auto`: MLSD if the server has it, else LIST, else NLST.
    #[serde(default)]
    pub listing: ListingMode,
    /// Longest wait for a connection. Default 10s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Millis,
    /// Longest wait for a reply, and for the next bytes of a transfer. Default 30s.
    #[serde(default = "reply_timeout")]
    pub reply_timeout: Millis,
}

/// How an FTP connection is encrypted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Not at all.
    #[default]
    Off,
    /// Begun in clear, then AUTH TLS (RFC 4217).
    Explicit,
    /// From the first byte.
    Implicit,
}

/// A TLS version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[default]
    #[serde(rename = "1.3")]
    V1_3,
}

/// Who opens the data connection.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DataMode {
    /// We do: EPSV first, PASV if the server refuses it.
    #[default]
    Passive,
    /// We do, by PASV only.
    PassivePasv,
    /// The server does (PORT).
    Active,
}

/// How a folder is listed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ListingMode {
    /// The best that the server has.
    #[default]
    Auto,
    /// MLSD (RFC 3659).
    Mlsd,
    /// LIST, in the form of Unix or of DOS.
    List,
    /// NLST: names only.
    Nlst,
}

/// Receiving files of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileReceive {
    /// The folder.
    pub folder: PathBuf,
    /// Which files: `*` and `?` as wildcards, upper and lower case alike. Default `*`.
    #[serde(default = "any_file")]
    pub file_mask: String,
}

/// Sending files to a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSend {
    /// The folder.
    pub folder: PathBuf,
    /// Name of each file. Macros: `%MessageID%`, `%SourceFileName%`, `%datetime%`, `%time%`.
    /// Default `%MessageID%`.
    #[serde(default = "message_id")]
    pub file_name: String,
    /// What happens if the file exists. Default `create_new`.
    #[serde(default)]
    pub copy_mode: CopyMode,
}

/// What happens if the target file exists.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CopyMode {
    /// An error, retried by the port's policy.
    #[default]
    CreateNew,
    /// The new file takes its place.
    Overwrite,
}

fn anonymous() -> String {
    "anonymous".into()
}
fn any_file() -> String {
    "*".into()
}
fn message_id() -> String {
    "%MessageID%".into()
}
fn connect_timeout() -> Millis {
    Millis::seconds(10)
}
fn reply_timeout() -> Millis {
    Millis::seconds(30)
}
