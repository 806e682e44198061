//! What is shown of a message: everything but the values of its secrets.

use crate::SERVICE_ACCOUNT_TOKENS;
use crate::descriptor::{is_secret, pool};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, SerializeOptions, Value};
use std::fmt;

/// What stands in the place of a secret's value.
pub(crate) const HIDDEN: &str = "***";

/// Writes a generated message as its name and its JSON, without the values of its secrets.
pub(crate) fn debug<M: Message + Name>(message: &M, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(M::NAME)?;
    let Some(descriptor) = pool().get_message_by_name(&M::full_name()) else { return Ok(()) };
    let mut copy = DynamicMessage::new(descriptor);
    copy.transcode_from(message).map_err(|_| fmt::Error)?;
    write!(f, " {}", shown(copy).map_err(|_| fmt::Error)?)
}

/// The message as JSON in the form that protobuf prescribes, without the values of its secrets.
pub(crate) fn shown(mut message: DynamicMessage) -> Result<serde_json::Value, serde_json::Error> {
    hide_in(&mut message);
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
}

fn hide_in(message: &mut DynamicMessage) {
    for (field, value) in message.fields_mut() {
        if is_secret(&field) {
            hide(value);
        } else {
            look_into(value);
        }
    }
}

/// Hides what lies deeper: marked fields of messages within, and kubelet's tokens in any map.
fn look_into(value: &mut Value) {
    match value {
        Value::Message(message) => hide_in(message),
        Value::List(items) => items.iter_mut().for_each(look_into),
        Value::Map(entries) => {
            for (key, value) in entries.iter_mut() {
                if matches!(key, MapKey::String(key) if key == SERVICE_ACCOUNT_TOKENS) {
                    hide(value);
                } else {
                    look_into(value);
                }
            }
        }
        _ => {}
    }
}

/// Hides every value below. A map keeps its keys: the names of secrets are no secret.
fn hide(value: &mut Value) {
    match value {
        Value::Map(entries) => entries.values_mut().for_each(hide),
        Value::List(items) => items.iter_mut().for_each(hide),
        Value::String(text) => *text = HIDDEN.to_owned(),
        Value::Bytes(bytes) => *bytes = HIDDEN.as_bytes().into(),
        Value::Message(message) => message.fields_mut().for_each(|(_, value)| hide(value)),
        Value::Bool(flag) => *flag = false,
        Value::I32(number) | Value::EnumNumber(number) => *number = 0,
        Value::I64(number) => *number = 0,
        Value::U32(number) => *number = 0,
        Value::U64(number) => *number = 0,
        Value::F32(number) => *number = 0.0,
        Value::F64(number) => *number = 0.0,
    }
}
