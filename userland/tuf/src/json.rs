// SPDX-License-Identifier: GPL-2.0

//! Strict JSON, and its canonical form, which is what signatures are made of.
//!
//! The canonical form is the one of OLPC: names sorted by their code points, no space, no floats, and in strings only
//! the quotation mark and the backslash are escaped. All other characters stand for themselves, line ends too, so that
//! the canonical form of a text with control characters is no JSON.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::Malformed;

/// Reads one JSON text.
///
/// # Errors
///
/// [`Malformed::Utf8`], [`Malformed::Json`] (nesting of 128 and more, too), [`Malformed::DuplicateName`] and
/// [`Malformed::Number`].
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed::Utf8 {
        offset: error.valid_up_to(),
    })?;
    let reason = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { reason: &reason }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        reason.take().unwrap_or_else(|| Malformed::Json {
            line: error.line(),
            column: error.column(),
            reason: words(&error),
        })
    })
}

/// The parser's words without the place, which it puts behind them.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// The canonical form of `value`.
///
/// # Errors
///
/// [`Malformed::Number`] if a number is not whole.
pub fn canonical(value: &Value) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

/// [`canonical`] of an object.
pub(crate) fn canonical_object(object: &Map<String, Value>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    write_object(object, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_u64() || number.is_i64() => {
            out.extend(number.to_string().bytes());
        }
        Value::Number(number) => {
            return Err(Malformed::Number {
                found: number.to_string(),
            });
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, out)?,
    }
    Ok(())
}

fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    // The order of UTF-8 is that of code points. Sorted here because a feature of serde_json, which any crate of the
    // workspace might switch on, would keep the order of the file.
    let mut fields: Vec<_> = object.iter().collect();
    fields.sort_unstable_by_key(|&(name, _)| name);
    out.push(b'{');
    for (i, (name, value)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Builds a [`Value`], and notes its own reason where serde would have a text only.
#[derive(Clone, Copy)]
struct Strict<'a> {
    reason: &'a RefCell<Option<Malformed>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, reason: Malformed) -> E {
        let error = E::custom(&reason);
        self.reason.replace(Some(reason));
        error
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Err(self.refuse(Malformed::Number {
            found: format!("{value:?}"),
        }))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(self.refuse(Malformed::DuplicateName { name }));
            }
            let value = fields.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}
