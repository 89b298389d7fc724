//! Bytes of records and of the base's own rows: the only file that names bincode.
//!
//! A sealed value is: version byte, header (bincode), body (raw), checksum (XXH3-64 over key,
//! version, header and body, little-endian). The checksum covers the key, so that a value under
//! a damaged key does not pass either. docs/format.md specifies every byte.

use std::sync::Arc;
use std::time::Duration;

use bincode::config::{self, Config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::fingerprint::Fingerprint;
use crate::record::{Fence, Interruption, Record, State, Takeover};
use crate::time::{Timestamp, micros};

/// The version byte of records written now.
const RECORD_VERSION: u8 = 1;
/// The version byte of rows written now.
const ROW_VERSION: u8 = 1;
/// No header is longer; a decoder reads no further.
const MAX_HEADER_BYTES: usize = 256;
const CHECKSUM_BYTES: usize = 8;
/// What a record adds to its response or recovery point, at most.
pub(crate) const MAX_RECORD_OVERHEAD_BYTES: usize = 1 + MAX_HEADER_BYTES + CHECKSUM_BYTES;

/// XXH3-64 with a seed.
pub fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// What is wrong with bytes that do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Cut off, or bytes left over.
    #[error("wrong length")]
    Length,
    /// The checksum does not match.
    #[error("wrong checksum")]
    Checksum,
    /// The checksum matches, but the version byte is not one this version knows.
    #[error("unknown version {0}")]
    Version(u8),
    /// The checksum matches, but the header makes no sense.
    #[error("malformed header")]
    Header,
}

#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    fence: u64,
    attempt: u32,
    takeover: TakeoverV1,
    retain_for_us: u64,
    fingerprint: Option<[u8; 32]>,
    since_us: u64,
    expires_at_us: u64,
    interrupted: Option<InterruptionV1>,
    recovery_point_bytes: Option<u32>,
    state: StateV1,
}

#[derive(Serialize, Deserialize)]
enum TakeoverV1 {
    Gone,
    GoneOrExpired,
    Expired,
    Never,
}

#[derive(Serialize, Deserialize)]
struct InterruptionV1 {
    since_us: u64,
    ends_at_us: u64,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    InFlight {
        ends_at_us: u64,
    },
    Released,
    Done {
        completed_at_us: u64,
        response_bytes: u32,
    },
}

/// Appends the sealed bytes of `record` under `key` to `out`.
pub fn encode_record(key: &[u8], record: &Record, out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(RECORD_VERSION);
    write_header(&header_of(record), out);
    if let Some(point) = &record.recovery_point {
        out.extend_from_slice(point);
    }
    if let State::Done { response, .. } = &record.state {
        out.extend_from_slice(response);
    }
    seal(key, begin, out);
}

/// Reads what [`encode_record`] wrote under the same `key`.
///
/// # Errors
/// [`Damage`] if these are not exactly such bytes.
pub fn decode_record(key: &[u8], bytes: &[u8]) -> Result<Record, Damage> {
    let (version, content) = unseal(key, bytes)?;
    if version != RECORD_VERSION {
        return Err(Damage::Version(version));
    }
    let (header, body) = read_header::<HeaderV1>(content)?;
    record_of(header, body)
}

/// The sealed bytes of a row of the base's `meta` table.
pub(crate) fn encode_row<T: Serialize>(key: &[u8], row: &T) -> Vec<u8> {
    let mut out = vec![ROW_VERSION];
    write_header(row, &mut out);
    seal(key, 0, &mut out);
    out
}

/// Reads what [`encode_row`] wrote under the same `key`.
pub(crate) fn decode_row<T: Serialize + DeserializeOwned>(
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Damage> {
    let (version, content) = unseal(key, bytes)?;
    if version != ROW_VERSION {
        return Err(Damage::Version(version));
    }
    match read_header(content)? {
        (row, []) => Ok(row),
        _ => Err(Damage::Length),
    }
}

/// Seals raw bytes as a row: no header, all body.
pub(crate) fn seal_bytes(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    seal_row(key, bytes.len(), |row| row.extend_from_slice(bytes))
}

/// Seals what `write` appends, `len` bytes, as a row.
pub(crate) fn seal_row(key: &[u8], len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + len + CHECKSUM_BYTES);
    out.push(ROW_VERSION);
    write(&mut out);
    seal(key, 0, &mut out);
    out
}

/// The raw bytes that [`seal_bytes`] sealed under the same `key`.
pub(crate) fn open_bytes<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    match unseal(key, bytes)? {
        (ROW_VERSION, content) => Ok(content),
        (version, _) => Err(Damage::Version(version)),
    }
}

fn seal(key: &[u8], begin: usize, out: &mut Vec<u8>) {
    let sum = checksum(checksum(0, key), &out[begin..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The version byte and what follows it, once the checksum is found right.
fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Result<(u8, &'a [u8]), Damage> {
    let (content, sum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Damage::Length)?;
    if checksum(checksum(0, key), content) != u64::from_le_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    let (version, content) = content.split_first().ok_or(Damage::Length)?;
    Ok((*version, content))
}

fn layout() -> impl Config {
    config::standard().with_limit::<MAX_HEADER_BYTES>()
}

fn write_header<T: Serialize>(header: &T, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail, and every type above fits the limit. Were it to fail all
    // the same, the bytes would be sealed without a header, and reading them is `Damage::Header`.
    let written = bincode::serde::encode_into_std_write(header, out, layout());
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Reads a header that is written the one way it can be: bincode itself would also take a number
/// that is longer than it need be.
fn read_header<T: Serialize + DeserializeOwned>(content: &[u8]) -> Result<(T, &[u8]), Damage> {
    let (header, bytes): (T, usize) =
        bincode::serde::decode_from_slice(content, layout()).map_err(|_| Damage::Header)?;
    let (read, body) = content.split_at_checked(bytes).ok_or(Damage::Length)?;
    let mut again = [0; MAX_HEADER_BYTES];
    let written = bincode::serde::encode_into_slice(&header, &mut again, layout());
    match written {
        Ok(written) if again.get(..written) == Some(read) => Ok((header, body)),
        _ => Err(Damage::Header),
    }
}

fn header_of(record: &Record) -> HeaderV1 {
    HeaderV1 {
        fence: record.fence.as_u64(),
        attempt: record.attempt,
        takeover: match record.takeover {
            Takeover::Gone => TakeoverV1::Gone,
            Takeover::GoneOrExpired => TakeoverV1::GoneOrExpired,
            Takeover::Expired => TakeoverV1::Expired,
            Takeover::Never => TakeoverV1::Never,
        },
        retain_for_us: micros(record.retain_for),
        fingerprint: record.fingerprint.map(|f| *f.as_bytes()),
        since_us: record.since.as_micros(),
        expires_at_us: record.expires_at.as_micros(),
        interrupted: record.interrupted.map(|i| InterruptionV1 {
            since_us: i.since.as_micros(),
            ends_at_us: i.ends_at.as_micros(),
        }),
        recovery_point_bytes: record.recovery_point.as_ref().map(|p| p.len() as u32),
        state: match &record.state {
            State::InFlight { ends_at } => StateV1::InFlight {
                ends_at_us: ends_at.as_micros(),
            },
            State::Released => StateV1::Released,
            State::Done {
                completed_at,
                response,
            } => StateV1::Done {
                completed_at_us: completed_at.as_micros(),
                response_bytes: response.len() as u32,
            },
        },
    }
}

fn record_of(header: HeaderV1, body: &[u8]) -> Result<Record, Damage> {
    let point_bytes = header.recovery_point_bytes.unwrap_or(0) as usize;
    let (point, rest) = body.split_at_checked(point_bytes).ok_or(Damage::Length)?;
    let response_bytes = match header.state {
        StateV1::Done { response_bytes, .. } => response_bytes as usize,
        _ => 0,
    };
    if rest.len() != response_bytes {
        return Err(Damage::Length);
    }
    Ok(Record {
        fence: Fence::from_u64(header.fence),
        attempt: header.attempt,
        takeover: match header.takeover {
            TakeoverV1::Gone => Takeover::Gone,
            TakeoverV1::GoneOrExpired => Takeover::GoneOrExpired,
            TakeoverV1::Expired => Takeover::Expired,
            TakeoverV1::Never => Takeover::Never,
        },
        retain_for: Duration::from_micros(header.retain_for_us),
        fingerprint: header.fingerprint.map(Fingerprint::from),
        since: Timestamp::from_micros(header.since_us),
        expires_at: Timestamp::from_micros(header.expires_at_us),
        interrupted: header.interrupted.map(|i| Interruption {
            since: Timestamp::from_micros(i.since_us),
            ends_at: Timestamp::from_micros(i.ends_at_us),
        }),
        recovery_point: header.recovery_point_bytes.map(|_| Arc::from(point)),
        state: match header.state {
            StateV1::InFlight { ends_at_us } => State::InFlight {
                ends_at: Timestamp::from_micros(ends_at_us),
            },
            StateV1::Released => State::Released,
            StateV1::Done {
                completed_at_us, ..
            } => State::Done {
                completed_at: Timestamp::from_micros(completed_at_us),
                response: Arc::from(rest),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let state = prop_oneof![
            any::<u64>().prop_map(|us| State::InFlight {
                ends_at: Timestamp::from_micros(us)
            }),
            Just(State::Released),
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(us, bytes)| {
                State::Done {
                    completed_at: Timestamp::from_micros(us),
                    response: bytes.into(),
                }
            }),
        ];
        let takeover = prop_oneof![
            Just(Takeover::Gone),
            Just(Takeover::GoneOrExpired),
            Just(Takeover::Expired),
            Just(Takeover::Never)
        ];
        let point = prop::option::of(prop::collection::vec(any::<u8>(), 0..100));
        let numbers = (
            any::<u64>(),
            any::<u32>(),
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
        );
        let interrupted = prop::option::of((any::<u64>(), any::<u64>()));
        (
            numbers,
            takeover,
            any::<Option<[u8; 32]>>(),
            interrupted,
            point,
            state,
        )
            .prop_map(
                |((fence, attempt, retain, since, expires), takeover, print, cut, point, state)| {
                    Record {
                        fence: Fence::from_u64(fence),
                        attempt,
                        takeover,
                        retain_for: Duration::from_micros(retain),
                        fingerprint: print.map(Fingerprint::from),
                        since: Timestamp::from_micros(since),
                        expires_at: Timestamp::from_micros(expires),
                        interrupted: cut.map(|(since, ends_at)| Interruption {
                            since: Timestamp::from_micros(since),
                            ends_at: Timestamp::from_micros(ends_at),
                        }),
                        recovery_point: point.map(Arc::from),
                        state,
                    }
                },
            )
    }

    fn sealed(key: &[u8], record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_record(key, record, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn records_round_trip(record in any_record(), key in prop::collection::vec(any::<u8>(), 3..40)) {
            let bytes = sealed(&key, &record);
            prop_assert_eq!(decode_record(&key, &bytes).unwrap(), record.clone());
            let body = record.response().map_or(0, <[u8]>::len)
                + record.recovery_point.as_ref().map_or(0, |p| p.len());
            prop_assert!(bytes.len() <= body + MAX_RECORD_OVERHEAD_BYTES);
        }

        #[test]
        fn every_flipped_bit_is_noticed(record in any_record(), at in any::<prop::sample::Index>()) {
            let mut bytes = sealed(b"\x01tk", &record);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_record(b"\x01tk", &bytes).is_err());
        }

        #[test]
        fn every_other_length_is_noticed(record in any_record(), at in any::<prop::sample::Index>()) {
            let mut bytes = sealed(b"\x01tk", &record);
            let shorter = at.index(bytes.len());
            prop_assert!(decode_record(b"\x01tk", &bytes[..shorter]).is_err());
            bytes.push(0);
            prop_assert!(decode_record(b"\x01tk", &bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_record(b"\x01tk", &bytes);
            // The same behind a right checksum, so that the header is reached.
            let mut resealed = bytes;
            seal(b"\x01tk", 0, &mut resealed);
            let _ = decode_record(b"\x01tk", &resealed);
        }
    }

    #[test]
    fn a_record_under_another_key_is_damage() {
        let record = any_record_fixed();
        let bytes = sealed(b"\x01tk", &record);
        assert_eq!(decode_record(b"\x01tj", &bytes), Err(Damage::Checksum));
    }

    #[test]
    fn trailing_bytes_behind_a_right_checksum_are_damage() {
        let mut bytes = sealed(b"\x01tk", &any_record_fixed());
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes.push(0);
        seal(b"\x01tk", 0, &mut bytes);
        assert_eq!(decode_record(b"\x01tk", &bytes), Err(Damage::Length));
    }

    #[test]
    fn a_number_longer_than_it_need_be_is_damage() {
        let bytes = sealed(b"\x01tk", &any_record_fixed());
        assert_eq!(bytes[1], 7, "the fence, in one byte");
        let mut longer = vec![bytes[0], 251, 7, 0];
        longer.extend_from_slice(&bytes[2..bytes.len() - CHECKSUM_BYTES]);
        seal(b"\x01tk", 0, &mut longer);
        assert_eq!(decode_record(b"\x01tk", &longer), Err(Damage::Header));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = vec![9, 1, 2, 3];
        seal(b"\x01tk", 0, &mut bytes);
        assert_eq!(decode_record(b"\x01tk", &bytes), Err(Damage::Version(9)));
    }

    fn any_record_fixed() -> Record {
        Record {
            fence: Fence::from_u64(7),
            attempt: 1,
            takeover: Takeover::Gone,
            retain_for: Duration::from_secs(60),
            fingerprint: None,
            since: Timestamp::from_micros(1),
            expires_at: Timestamp::from_micros(2),
            interrupted: None,
            recovery_point: None,
            state: State::Released,
        }
    }
}
