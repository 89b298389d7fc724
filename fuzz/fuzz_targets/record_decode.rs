//! Reads bytes as a record under a key: never a panic, and what decodes encodes to the same bytes.
//! The same bytes once more behind a right checksum, so that the header is reached. And as a bucket of
//! records: what is put into it is found there, and nothing else of it is lost.
//!
//! Input: length of the key, key, bytes.

#![no_main]

use firstclaim::internals::bucket::{Contents, entries};
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
    check_bucket(key, sealed);
    // A seed ends in a checksum of its own; without it, and with all bytes as content.
    for content in [sealed, &sealed[..sealed.len().saturating_sub(8)]] {
        let mut resealed = content.to_vec();
        resealed.extend_from_slice(&hash(hash(0, key), content).to_le_bytes());
        check(key, &resealed);
        check_bucket(key, &resealed);
    }
});

fn check_bucket(name: &[u8], row: &[u8]) {
    let names = |row: &[u8]| -> Vec<Vec<u8>> {
        let entries = entries(row).into_iter().flatten().flatten();
        entries.map(|(name, _)| name.to_vec()).collect()
    };
    let mut contents = Contents::of(row);
    contents.set(name, Some(b"record"));
    let changed = contents.row(b"key").expect("there is one record");
    let found = names(&changed);
    assert!(found.iter().any(|found| found == name));
    assert!(names(row).iter().all(|name| found.contains(name)));
    let again = Contents::of(&changed).row(b"key");
    assert_eq!(again.as_ref(), Some(&changed));
}

fn check(key: &[u8], bytes: &[u8]) {
    if let Ok(record) = decode_record(key, bytes) {
        let mut again = Vec::new();
        encode_record(key, &record, &mut again);
        assert_eq!(again, bytes, "{record:?} from other bytes than its own");
    }
}
