//! The key as its header says it.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Item, Parser};

/// The longest key, in characters.
const MAX_KEY_CHARS: usize = 255;

/// The key of a request: the characters that its header's value stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(Box<str>);

/// Why a request has no key that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The header is not there.
    Missing,
    /// It is there, but says no key; why, for the client.
    Malformed(&'static str),
}

impl Key {
    /// The key in the header `name`: a structured field string (RFC 9651) or, as most clients send
    /// it, the bare characters.
    pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Self, NoKey> {
        let mut values = headers.get_all(name).iter();
        let value = values.next().ok_or(NoKey::Missing)?;
        if values.next().is_some() {
            return Err(NoKey::Malformed("the header is there more than once"));
        }
        Self::parse(value).map_err(NoKey::Malformed)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(value: &HeaderValue) -> Result<Self, &'static str> {
        let value = value.as_bytes().trim_ascii();
        let key = match value.first() {
            Some(b'"') => quoted(value)?,
            _ => bare(value)?,
        };
        match key.len() {
            0 => Err("the key is empty"),
            1..=MAX_KEY_CHARS => Ok(Key(key)),
            _ => Err("the key is longer than 255 characters"),
        }
    }
}

/// A structured field string; its parameters say nothing about a key.
fn quoted(value: &[u8]) -> Result<Box<str>, &'static str> {
    match Parser::new(value).parse::<Item>() {
        Ok(Item {
            bare_item: BareItem::String(key),
            ..
        }) => Ok(key.as_str().into()),
        _ => Err("the value begins as a structured field string and is not one"),
    }
}

fn bare(value: &[u8]) -> Result<Box<str>, &'static str> {
    let is_of_a_key = |c: &u8| c.is_ascii_graphic() && !b"\",;\\".contains(c);
    match std::str::from_utf8(value) {
        Ok(key) if value.iter().all(is_of_a_key) => Ok(key.into()),
        _ => Err(
            "the value is neither a structured field string nor made of visible ASCII characters \
             without quote, comma, semicolon and backslash alone",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("idempotency-key");

    fn key(values: &[&[u8]]) -> Result<String, NoKey> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value).unwrap());
        }
        Key::of(&headers, &NAME).map(|key| key.as_str().to_owned())
    }

    #[track_caller]
    fn is_malformed(values: &[&[u8]]) {
        assert!(
            matches!(key(values), Err(NoKey::Malformed(_))),
            "{values:?}"
        );
    }

    #[test]
    fn both_forms_mean_the_same_key() {
        for value in [
            &b"9f1c-42"[..],
            b"\"9f1c-42\"",
            b"\"9f1c-42\";a=1;b",
            b" 9f1c-42 ",
            b" \"9f1c-42\" ",
        ] {
            assert_eq!(key(&[value]).unwrap(), "9f1c-42", "{value:?}");
        }
    }

    #[test]
    fn a_key_is_there_once_and_whole() {
        assert_eq!(key(&[]), Err(NoKey::Missing));
        is_malformed(&[b""]);
        is_malformed(&[b"\"\""]);
        is_malformed(&[b"a", b"a"]);
        is_malformed(&[b"\"a", b"b\""]);
        is_malformed(&[b"a, b"]);
        is_malformed(&[b"\"a\", \"b\""]);
        is_malformed(&[b"a;p=1"]);
        is_malformed(&[b"a b"]);
        is_malformed(&[b"a\\b"]);
        is_malformed(&[b"a\"b"]);
        is_malformed(&[b"caf\xc3\xa9"]);
        is_malformed(&[b"\"a\tb\""]);
        is_malformed(&[b"\"a\" b"]);
        is_malformed(&[b"\"a\";"]);
    }

    #[test]
    fn a_key_has_up_to_255_characters_in_both_forms() {
        let longest = "k".repeat(255);
        assert_eq!(key(&[longest.as_bytes()]).unwrap(), longest);
        let quoted = format!("\"{longest}\"");
        assert_eq!(key(&[quoted.as_bytes()]).unwrap(), longest);
        is_malformed(&["k".repeat(256).as_bytes()]);
        is_malformed(&[format!("\"{}\"", "k".repeat(256)).as_bytes()]);
        // An escaped character is one.
        let escaped = format!("\"{}\"", "\\\"".repeat(255));
        assert_eq!(key(&[escaped.as_bytes()]).unwrap(), "\"".repeat(255));
    }

    #[test]
    fn every_visible_character_but_four_may_stand_bare() {
        for c in 0x21..=0x7e_u8 {
            let value = [b'k', c];
            let forbidden = b"\",;\\".contains(&c);
            assert_eq!(key(&[&value]).is_err(), forbidden, "{}", char::from(c));
        }
    }
}
