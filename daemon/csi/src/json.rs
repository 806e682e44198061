//! Requests and answers as JSON, for a person who calls a driver by hand; secrets go in and are never shown.

use crate::descriptor::is_secret;
use crate::methods::{Method, UnknownMethod};
use crate::redact;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _};
use std::fmt;

/// A message of a kind that is known at run time only. Shown (`Debug` and `Display`) without the values of its secrets.
#[derive(Clone, PartialEq)]
pub struct Message(DynamicMessage);

/// A call with what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The call.
    pub method: Method,
    /// What it takes.
    pub message: Message,
}

/// Why a text is no request.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// There is no such call.
    #[error(transparent)]
    Method(#[from] UnknownMethod),
    /// Not JSON.
    #[error("the text is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// The secrets are not what they must be. Says no more, since more could show one.
    #[error("`{field}` must be an object whose values are all strings")]
    Secrets {
        /// The field's name.
        field: String,
    },
    /// JSON, but not of this message.
    #[error("the text is not a {message}")]
    Shape {
        /// The message's name.
        message: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads the request of the call `rpc` (see [`Method::find`]) in protobuf's JSON form; an empty text is an empty request.
///
/// Fields may be spelled as in the specification or in camel case; an unknown one is an error.
pub fn request(rpc: &str, json: &str) -> Result<Request, JsonError> {
    let method = Method::find(rpc)?;
    let json = if json.trim().is_empty() { "{}" } else { json };
    let value: serde_json::Value = serde_json::from_str(json).map_err(JsonError::Syntax)?;
    check_secrets(method.request(), &value)?;
    let message = DynamicMessage::deserialize(method.request().clone(), value)
        .map_err(|source| JsonError::Shape { message: method.request().name().to_owned(), source })?;
    Ok(Request { method, message: Message(message) })
}

/// An error about the shape quotes what it found. Secrets therefore get their shape checked first, by a check that quotes nothing.
fn check_secrets(message: &MessageDescriptor, value: &serde_json::Value) -> Result<(), JsonError> {
    for field in message.fields().filter(is_secret) {
        let given = [field.name(), field.json_name()].into_iter().filter_map(|name| value.get(name));
        for given in given.filter(|given| !given.is_null()) {
            if !given.as_object().is_some_and(|entries| entries.values().all(serde_json::Value::is_string)) {
                return Err(JsonError::Secrets { field: field.name().to_owned() });
            }
        }
    }
    Ok(())
}

impl Message {
    /// The message as JSON in the form that protobuf prescribes, without the values of its secrets.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        redact::shown(self.0.clone())
    }

    /// The message as the compiler's type for it.
    pub fn decode<M: prost::Message + Default>(&self) -> Result<M, prost::DecodeError> {
        self.0.transcode_to()
    }

    pub(crate) fn new(message: DynamicMessage) -> Self {
        Self(message)
    }

    pub(crate) fn into_inner(self) -> DynamicMessage {
        self.0
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.to_json().map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.descriptor().name(), self.to_json().map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
#[path = "json/tests.rs"]
mod tests;
