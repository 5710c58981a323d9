//! The context of a message: named properties, on which subscriptions filter.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest promoted value in bytes that filters see (BizTalk: 255 characters).
pub const VALUE_BYTES_MAX: usize = 1024;

/// The value of a context property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

/// Properties by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(pub BTreeMap<String, Value>);

impl Context {
    /// The value of a property, if the message has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a property as text, if the message has it as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            Value::Boolean(_) | Value::Integer(_) => None,
        }
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

/// Names of the properties that Baton itself sets (BizTalk's names where it has them).
pub mod property {
    /// The receive port a message came in by.
    pub const RECEIVE_PORT_NAME: &str = "BTS.ReceivePortName";
    /// The receive location a message came in by.
    pub const RECEIVE_LOCATION_NAME: &str = "BTS.ReceiveLocationName";
    /// The address it came from, without credentials.
    pub const INBOUND_TRANSPORT_LOCATION: &str = "BTS.InboundTransportLocation";
    /// The adapter it came by, such as `FTP`.
    pub const INBOUND_TRANSPORT_TYPE: &str = "BTS.InboundTransportType";
    /// The file's name without its folder.
    pub const RECEIVED_FILE_NAME: &str = "FILE.ReceivedFileName";
    /// Bytes of the body.
    pub const BODY_BYTES: &str = "Baton.BodyBytes";
    /// The lease under which it was published.
    pub const PUBLISHED_UNDER: &str = "Baton.PublishedUnder";
    /// The epoch under which it was published.
    pub const PUBLISHED_EPOCH: &str = "Baton.PublishedEpoch";
}
