//! A response as the store keeps it; docs/format.md specifies the bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The version of the layout.
const VERSION: u8 = 1;
const ANSWER: u8 = 0;
const NOT_REPLAYABLE: u8 = 1;

/// What the record of a completed request holds.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(super) enum Stored {
    /// The whole answer.
    Answer(Answer),
    /// The operation was carried out, and its answer, with this status, cannot be given again.
    NotReplayable(StatusCode),
}

/// A response, whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) trailers: HeaderMap,
    pub(super) body: Bytes,
}

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Stored::Answer(answer) => answer.encode(),
            Stored::NotReplayable(status) => {
                let mut bytes = vec![VERSION, NOT_REPLAYABLE];
                bytes.extend_from_slice(&status.as_u16().to_le_bytes());
                bytes
            }
        }
    }

    /// `None` if the bytes are none of this layer's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let [VERSION, kind] = rest.array()? else {
            return None;
        };
        let status = StatusCode::from_u16(u16::from_le_bytes(rest.array()?)).ok()?;
        match kind {
            ANSWER => Some(Stored::Answer(Answer {
                status,
                headers: rest.headers()?,
                trailers: rest.headers()?,
                body: Bytes::copy_from_slice(rest.0),
            })),
            NOT_REPLAYABLE if rest.0.is_empty() => Some(Stored::NotReplayable(status)),
            _ => None,
        }
    }
}

impl Answer {
    /// How many bytes `encode` makes.
    pub(super) fn encoded_len(&self) -> usize {
        let fields = |map: &HeaderMap| -> usize {
            let field = |(name, value): (&HeaderName, &HeaderValue)| {
                2 + name.as_str().len() + 4 + value.len()
            };
            4 + map.iter().map(field).sum::<usize>()
        };
        4 + fields(&self.headers) + fields(&self.trailers) + self.body.len()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend_from_slice(&[VERSION, ANSWER]);
        bytes.extend_from_slice(&self.status.as_u16().to_le_bytes());
        write_headers(&self.headers, &mut bytes);
        write_headers(&self.trailers, &mut bytes);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// In the map's order, each value of a repeated name for itself. Names and values are shorter than
/// their length fields can say: `http` holds names under 64 KiB and maps under 32,768 entries, and
/// the whole is under the store's limit.
fn write_headers(headers: &HeaderMap, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(&(name.as_str().len() as u16).to_le_bytes());
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let count = u32::from_le_bytes(self.array()?);
        let mut headers = HeaderMap::new();
        for _ in 0..count {
            let name = usize::from(u16::from_le_bytes(self.array()?));
            let name = HeaderName::from_bytes(self.take(name)?).ok()?;
            let value = u32::from_le_bytes(self.array()?) as usize;
            let value = HeaderValue::from_bytes(self.take(value)?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in [("b", "1"), ("link", "x"), ("a", "2"), ("link", "y")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append("latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let mut trailers = HeaderMap::new();
        trailers.append("checksum", HeaderValue::from_static("7"));
        Answer {
            status: StatusCode::CREATED,
            headers,
            trailers,
            body: Bytes::from_static(b"{\"id\":7}"),
        }
    }

    #[test]
    fn a_response_comes_back_as_it_was_in_its_order() {
        let stored = Stored::Answer(answer());
        let bytes = stored.encode();
        assert_eq!(bytes.len(), answer().encoded_len());
        let Some(Stored::Answer(read)) = Stored::decode(&bytes) else {
            panic!("{bytes:?}");
        };
        assert_eq!(read, answer());
        let order = |map: &HeaderMap| -> Vec<_> {
            map.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
        };
        assert_eq!(order(&read.headers), order(&answer().headers));
        let marker = Stored::NotReplayable(StatusCode::OK);
        assert_eq!(Stored::decode(&marker.encode()), Some(marker));
    }

    /// Changing this is changing the format: a new version byte, and these bytes beside the new.
    #[test]
    fn version_1_is_these_bytes() {
        let mut small = answer();
        small.headers = HeaderMap::new();
        small.headers.append("a", HeaderValue::from_static("2"));
        small.trailers = HeaderMap::new();
        small.body = Bytes::from_static(b"ok");
        let bytes = b"\x01\x00\xc9\x00\x01\0\0\0\x01\0a\x01\0\0\x002\0\0\0\0ok";
        assert_eq!(Stored::Answer(small).encode(), bytes);
        let marker = Stored::NotReplayable(StatusCode::OK).encode();
        assert_eq!(marker, b"\x01\x01\xc8\x00");
    }

    #[test]
    fn bytes_that_are_cut_or_of_another_make_are_refused() {
        let bytes = Stored::Answer(answer()).encode();
        let before_the_body = bytes.len() - answer().body.len();
        for cut in 0..before_the_body {
            assert_eq!(Stored::decode(&bytes[..cut]), None, "{cut}");
        }
        for other in [
            &b""[..],
            b"charged",
            b"\x02\x00\xc8\x00",
            b"\x01\x02\xc8\x00",
        ] {
            assert_eq!(Stored::decode(other), None);
        }
        assert_eq!(Stored::decode(b"\x01\x01\xc8\x00more"), None);
    }
}
