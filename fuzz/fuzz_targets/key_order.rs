//! Names of records: encoding them is injective and can be undone, keeps a tenant's keys together
//! and in order, and what one tenant is shown is its own, all of it, and nothing else.
//!
//! Input: names, each as two byte strings and what becomes of the key.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use firstclaim::internals::RecordKey;
use firstclaim::{Builder, Claim, Limits, Store};
use firstclaim_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

const LONGEST_KEY: usize = 1024;
const MOST_NAMES: usize = 12;

type Name = (Vec<u8>, Vec<u8>);

fuzz_target!(|bytes: &[u8]| {
    if let Some(key) = RecordKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
        check_encoding(&(key.tenant().to_vec(), key.key().to_vec()));
    }
    let mut input = Input::new(bytes);
    let mut names = BTreeMap::new();
    while !input.is_empty() && names.len() < MOST_NAMES {
        let fate = input.byte();
        names.insert((string(&mut input), string(&mut input)), fate);
    }
    names.retain(|name, _| check_encoding(name));
    check_order(names.keys());
    check_tenants(&names);
});

/// A byte string: a few bytes, or many made of few.
fn string(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        len @ 0..128 => input.take(usize::from(len % 16)).to_vec(),
        few => {
            let len = input.below(LONGEST_KEY + 2);
            let pattern = input.take(1 + usize::from(few % 4));
            pattern.iter().copied().cycle().take(len).collect()
        }
    }
}

/// Whether the name is valid; if so, checks that it round-trips.
fn check_encoding((tenant, key): &Name) -> bool {
    let valid = (1..=255).contains(&tenant.len()) && (1..=LONGEST_KEY).contains(&key.len());
    let encoded = RecordKey::new(tenant, key, LONGEST_KEY);
    assert_eq!(encoded.is_ok(), valid, "{tenant:?}, {key:?}");
    if let Ok(encoded) = encoded {
        assert_eq!((encoded.tenant(), encoded.key()), (&tenant[..], &key[..]));
        let read = RecordKey::from_bytes(encoded.as_bytes());
        assert_eq!(read, Some(encoded));
    }
    valid
}

/// Names are apart once encoded; in the order of their bytes a tenant's are together, by key.
fn check_order<'a>(names: impl Iterator<Item = &'a Name> + Clone) {
    let encode = |(tenant, key): &Name| RecordKey::new(tenant, key, LONGEST_KEY).expect("valid");
    let encoded: BTreeSet<RecordKey> = names.clone().map(encode).collect();
    assert_eq!(encoded.len(), names.count());
    let mut tenants_seen = BTreeSet::new();
    for pair in encoded.iter().zip(encoded.iter().skip(1)) {
        let (before, after) = pair;
        if before.tenant() == after.tenant() {
            assert!(before.key() < after.key(), "{before:?}, {after:?}");
        } else {
            assert!(tenants_seen.insert(before.tenant()), "{before:?} is apart");
            assert!(!tenants_seen.contains(after.tenant()), "{after:?} is apart");
        }
    }
}

/// One store for all inputs, empty between them: making one takes longer than the checks.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let limits = Limits {
            key_bytes: LONGEST_KEY,
            ..Limits::default()
        };
        let opened = Builder::in_memory().limits(limits).open();
        opened.expect("a new store opens")
    })
}

/// Claims all names, completes some, and compares what each tenant and the store show.
fn check_tenants(names: &BTreeMap<Name, u8>) {
    let store = store();
    let mut leases = Vec::new();
    for ((tenant, key), fate) in names {
        let claim = store.claim(tenant, key).expect("a valid name");
        let Claim::Claimed(lease) = claim else {
            panic!("{tenant:?}, {key:?} is not vacant: {claim:?}");
        };
        match fate % 4 {
            0 => drop(lease),
            1 => lease.release().expect("it is current"),
            2 => leases.push(lease),
            _ => lease.complete(key).expect("it is current"),
        }
    }
    let unfinished = |name: &&Name| names[*name] % 4 != 3;
    let expected: Vec<&Name> = names.keys().filter(unfinished).collect();
    let tenants: BTreeSet<&Vec<u8>> = names.keys().map(|(tenant, _)| tenant).collect();
    for tenant in tenants {
        let shown = store.tenant(tenant).unfinished().expect("a valid tenant");
        let shown: Vec<_> = shown.iter().map(|u| (u.tenant(), u.key())).collect();
        let own = expected.iter().filter(|(other, _)| other == tenant);
        let own: Vec<_> = own.map(|(t, key)| (&t[..], &key[..])).collect();
        assert_eq!(shown, own);
    }
    let all = store.unfinished().expect("nothing is damaged");
    let all: BTreeSet<_> = all.iter().map(|u| (u.tenant(), u.key())).collect();
    let expected: BTreeSet<_> = expected.iter().map(|(t, key)| (&t[..], &key[..])).collect();
    assert_eq!(all, expected);
    drop(leases);
    for (tenant, key) in names.keys() {
        assert!(store.forget(tenant, key).expect("nobody holds it"));
    }
}
