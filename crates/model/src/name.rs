//! Names that operators give: nodes, groups, resources, hosts, ports and locations.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in bytes: names become parts of lease rows, file names and log lines.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a valid {kind} name: use 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or \
     '-', starting with a letter or a digit"
)]
pub struct InvalidName {
    kind: &'static str,
    text: String,
}

fn is_valid(text: &str) -> bool {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on_well =
        bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    starts_well && goes_on_well && text.len() <= NAME_BYTES_MAX
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and makes it a name.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                if is_valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { kind: $kind, text })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
                })
            }
        }
    )*};
}

names! {
    /// A machine that runs `baton node` (WSFC: node).
    NodeName = "node";
    /// A failover-cluster group: resources that live together on one owner node (WSFC: role).
    GroupName = "group";
    /// What a group brings online: a host by its own name, or a resource of another kind (WSFC:
    /// resource). Hosts and resources share one space of names.
    ResourceName = "resource";
    /// A container of receive locations and send ports (BizTalk: host).
    HostName = "host";
    /// A receive port or a send port (BizTalk: port).
    PortName = "port";
    /// A receive location of a receive port (BizTalk: receive location).
    LocationName = "location";
}

impl From<HostName> for ResourceName {
    fn from(host: HostName) -> ResourceName {
        ResourceName(host.0)
    }
}

impl From<ResourceName> for HostName {
    fn from(resource: ResourceName) -> HostName {
        HostName(resource.0)
    }
}

impl PartialEq<HostName> for ResourceName {
    fn eq(&self, host: &HostName) -> bool {
        self.0 == host.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_plain_text() {
        for good in ["a", "node-1", "N.2_x", &"x".repeat(64)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "ä", "a/b", "../x", &"x".repeat(65)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }
}
