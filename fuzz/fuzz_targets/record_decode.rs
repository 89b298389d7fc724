//! Reads bytes as a record under a key: never a panic, and what decodes encodes to the same bytes.
//! The same bytes once more behind a right checksum, so that the header is reached.
//!
//! Input: length of the key, key, bytes.

#![no_main]

use firstclaim::internals::{decode_record, encode_record};
use firstclaim_fuzz::input::Input;
use firstclaim_fuzz::segment::hash;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let key_bytes = usize::from(input.byte());
    let key = input.take(key_bytes);
    let sealed = input.take(usize::MAX);
    check(key, sealed);
    // A seed ends in a checksum of its own; without it, and with all bytes as content.
    for content in [sealed, &sealed[..sealed.len().saturating_sub(8)]] {
        let mut resealed = content.to_vec();
        resealed.extend_from_slice(&hash(hash(0, key), content).to_le_bytes());
        check(key, &resealed);
    }
});

fn check(key: &[u8], bytes: &[u8]) {
    if let Ok(record) = decode_record(key, bytes) {
        let mut again = Vec::new();
        encode_record(key, &record, &mut again);
        assert_eq!(again, bytes, "{record:?} from other bytes than its own");
    }
}
