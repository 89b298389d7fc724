//! JSON without what has no meaning: the order of members, white space, the spelling of strings
//! and numbers.
//!
//! After RFC 8785, but a number is its decimal value, not the nearest double: two amounts that
//! differ in their last digit stay apart.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;

/// The most arrays and objects within each other.
const MAX_DEPTH: usize = 127;

/// A JSON value. Of one body at a time, up to the layer's limit on request bodies; about thirty
/// times the body at the worst.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Object(BTreeMap<Cow<'a, str>, Json<'a>>),
    Array(Vec<Json<'a>>),
    String(Cow<'a, str>),
    Number(Decimal),
    /// `null`, `true` or `false`.
    Word(&'a str),
}

/// `digits` times ten to the `exponent`: without zeros at either end, nothing at all for zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl<'a> Json<'a> {
    /// `None` if the text is not JSON, is nested deeper than 127 levels, or has an object that
    /// names a member twice, whose meaning is anybody's.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        // Says that what follows is JSON, but not how deep it is nested.
        serde_json::from_slice::<IgnoredAny>(text).ok()?;
        let text = std::str::from_utf8(text).ok()?;
        let mut scanner = Scanner {
            text,
            at: 0,
            depth: 0,
        };
        scanner.value()
    }

    /// The value that an RFC 6901 pointer names, or that the member of this name has.
    pub(super) fn find(&self, field: &str) -> Option<&Self> {
        let Some(pointer) = field.strip_prefix('/') else {
            return self.member(field);
        };
        pointer.split('/').try_fold(self, |value, part| {
            let part = part.replace("~1", "/").replace("~0", "~");
            match value {
                Json::Array(items) => items.get(part.parse::<usize>().ok()?),
                _ => value.member(&part),
            }
        })
    }

    fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Json::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// Writes the value so that equal values have equal bytes and others have others.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Word(word) => out.extend_from_slice(word.as_bytes()),
            Json::Number(number) => number.write(out),
            Json::String(string) => write_string(string, out),
            Json::Array(items) => {
                out.push(b'[');
                for item in items {
                    item.write(out);
                    out.push(b',');
                }
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (name, value) in members {
                    write_string(name, out);
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// With its length before it, so that nothing in it needs an escape.
fn write_string(string: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&(string.len() as u64).to_le_bytes());
    out.extend_from_slice(string.as_bytes());
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i64 = exponent.parse().ok()?;
        let digits = [whole, fraction].concat();
        let without_end = digits.trim_end_matches('0');
        let zeros_cut = digits.len() - without_end.len();
        let digits = without_end.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Decimal {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        Some(Decimal {
            negative,
            digits: digits.to_owned(),
            exponent: i128::from(exponent) - fraction.len() as i128 + zeros_cut as i128,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let sign = if self.negative { "-" } else { "" };
        let number = format!("{sign}{}e{}", self.digits, self.exponent);
        out.extend_from_slice(number.as_bytes());
    }
}

/// Walks over a text that is known to be JSON. What does not fit is `None` all the same.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Of the arrays and objects around `at`. Each takes some of the stack.
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn value(&mut self) -> Option<Json<'a>> {
        match self.peek()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string().map(Json::String),
            b'-' | b'0'..=b'9' => Decimal::of(self.word()).map(Json::Number),
            _ => Some(Json::Word(self.word())),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Option<Json<'a>>) -> Option<Json<'a>> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Some(value)
    }

    fn object(&mut self) -> Option<Json<'a>> {
        let mut members = BTreeMap::new();
        self.at += 1;
        while self.peek()? != b'}' {
            let name = self.string()?;
            self.skip(b':')?;
            if members.insert(name, self.value()?).is_some() {
                return None;
            }
            self.skip_comma()?;
        }
        self.at += 1;
        Some(Json::Object(members))
    }

    fn array(&mut self) -> Option<Json<'a>> {
        let mut items = Vec::new();
        self.at += 1;
        while self.peek()? != b']' {
            items.push(self.value()?);
            self.skip_comma()?;
        }
        self.at += 1;
        Some(Json::Array(items))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let start = self.at;
        let mut escaped = false;
        let inside = self.text.get(start + 1..)?;
        let end = inside.bytes().position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            is_end
        })?;
        self.at = start + end + 2;
        let inside = &inside[..end];
        if !inside.contains('\\') {
            return Some(Cow::Borrowed(inside));
        }
        let quoted = self.text.get(start..self.at)?;
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    }

    /// A number, `null`, `true` or `false`.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_over = |c: char| c.is_ascii_whitespace() || ",]}".contains(c);
        let word = &rest[..rest.find(is_over).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_comma(&mut self) -> Option<()> {
        if self.peek()? == b',' {
            self.at += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        Json::parse(text.as_bytes())?.write(&mut out);
        Some(out)
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        for (a, b) in [
            (
                r#"{"a":1,"b":[true,null]}"#,
                " {\n\"b\" : [ true , null ] ,\t\"a\" : 1 }",
            ),
            (r#""caf\u00e9 \"\n""#, "\"caf\u{e9} \\\"\\u000a\""),
            (r#"{"\u0061":0}"#, r#"{"a":-0.0e7}"#),
            ("100", "1e2"),
            ("100", "1.00E+2"),
            ("0.5", "5e-1"),
            ("[]", " [ ] "),
        ] {
            assert_eq!(canonical(a).unwrap(), canonical(b).unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn what_means_another_thing_is_not() {
        for (a, b) in [
            ("1", "-1"),
            ("1", "\"1\""),
            ("9007199254740992", "9007199254740993"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("18446744073709551616", "18446744073709551617"),
            ("[1,2]", "[2,1]"),
            ("[[1],2]", "[[1,2]]"),
            ("[1,2]", "[12]"),
            (r#"{"a":"b"}"#, r#"{"a":"b","c":null}"#),
            (r#"["a","b"]"#, r#"["a\",\"b"]"#),
            ("null", "false"),
            ("{}", "[]"),
        ] {
            assert_ne!(canonical(a).unwrap(), canonical(b).unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn what_is_not_json_or_names_a_member_twice_has_no_canonical_form() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(canonical(&deep(MAX_DEPTH)).is_some());
        assert_eq!(canonical(&deep(MAX_DEPTH + 1)), None);
        assert_eq!(canonical(&deep(500_000)), None);
        for text in ["", "{", "[1,]", "01", "{'a':1}", "nul", "1 2"] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert_eq!(canonical(r#"{"a":1,"\u0061":2}"#), None);
        assert_eq!(Json::parse(b"\"\xff\""), None);
    }

    #[test]
    fn fields_are_found_by_name_and_by_pointer() {
        let json = Json::parse(br#"{"a":{"b/c":[10,{"~":2}]},"d":3}"#).unwrap();
        let number = |field: &str| match json.find(field) {
            Some(Json::Number(number)) => Some((number.digits.clone(), number.exponent)),
            _ => None,
        };
        assert_eq!(number("d"), Some(("3".to_owned(), 0)));
        assert_eq!(number("/a/b~1c/0"), Some(("1".to_owned(), 1)));
        assert_eq!(number("/a/b~1c/1/~0"), Some(("2".to_owned(), 0)));
        for missing in ["a/b", "/a/x", "/a/b~1c/7", "/d/e", ""] {
            assert_eq!(number(missing), None, "{missing}");
        }
    }
}
