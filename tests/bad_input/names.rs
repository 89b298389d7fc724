//! Tenants and keys that are empty, too long, or any bytes at all.

use std::convert::Infallible;

use firstclaim::{Builder, Error, Limits, RunError, Store};

use super::{answered, assert_usable, claimed, store_and_clock};

/// What every call that takes a name says to this one.
fn refusals(store: &Store, tenant: &[u8], key: &[u8]) -> Vec<Option<Error>> {
    let run = store.run(tenant, key, |_| -> Result<&str, Infallible> {
        panic!("run under a bad name")
    });
    let view_run = store
        .tenant(tenant)
        .run(key, |_| -> Result<&str, Infallible> {
            panic!("run under a bad name")
        });
    let not_run = |error| match error {
        RunError::NotRun(error) => error,
        other => panic!("not a refusal: {other:?}"),
    };
    let view = store.tenant(tenant);
    vec![
        store.claim(tenant, key).err(),
        store.request(tenant, key).claim().err(),
        run.map_err(not_run).err(),
        store.peek(tenant, key).err(),
        store.forget(tenant, key).err(),
        store.forget_held(tenant, key).err(),
        store.resolve(tenant, key).err(),
        view.claim(key).err(),
        view.request(key).claim().err(),
        view_run.map_err(not_run).err(),
        view.peek(key).err(),
        view.forget(key).err(),
        view.forget_held(key).err(),
        view.resolve(key).err(),
    ]
}

#[test]
fn empty_and_oversized_names_are_refused_by_every_call() {
    let (store, _) = store_and_clock();
    let long = [b'x'; 256];
    for (tenant, key) in [
        (&b""[..], &b"key"[..]),
        (b"tenant", b""),
        (b"", b""),
        (&long, b"key"),
        (b"tenant", &long),
    ] {
        for refusal in refusals(&store, tenant, key) {
            assert!(matches!(refusal, Some(Error::InvalidKey(_))), "{refusal:?}");
        }
    }
    for tenant in [&b""[..], &long] {
        let refusal = store.tenant(tenant).unfinished();
        assert!(matches!(refusal, Err(Error::InvalidKey(_))), "{refusal:?}");
    }
    assert!(store.unfinished().unwrap().is_empty());
    assert_usable(&store);
}

#[test]
fn the_longest_names_are_taken() {
    let (store, _) = store_and_clock();
    let longest = [0xff; 255];
    claimed(store.claim(longest, longest))
        .complete("r")
        .unwrap();
    assert_eq!(answered(store.claim(longest, longest)), b"r");
}

#[test]
fn the_key_limit_can_be_raised_to_1024_bytes() {
    let limits = |key_bytes| Limits {
        key_bytes,
        ..Limits::default()
    };
    let store = Builder::in_memory().limits(limits(1024)).open().unwrap();
    claimed(store.claim("tenant", [7; 1024]))
        .complete("r")
        .unwrap();
    assert_eq!(answered(store.claim("tenant", [7; 1024])), b"r");
    let refusal = store.claim("tenant", [7; 1025]);
    assert!(matches!(refusal, Err(Error::InvalidKey(_))), "{refusal:?}");

    let refusal = Builder::in_memory().limits(limits(1025)).open();
    assert!(
        matches!(refusal, Err(Error::InvalidOption(_))),
        "{refusal:?}"
    );
}

#[test]
fn binary_names_are_names_like_others() {
    let (store, _) = store_and_clock();
    let names: [&[u8]; 7] = [
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xfe\x00",
        b"\r\n",
        b"a/b",
        b"\x80a",
    ];
    for tenant in names {
        for key in names {
            claimed(store.claim(tenant, key))
                .complete([tenant, b"|", key].concat())
                .unwrap();
        }
    }
    for tenant in names {
        for key in names {
            assert_eq!(
                answered(store.claim(tenant, key)),
                [tenant, b"|", key].concat()
            );
        }
    }
}

#[test]
fn names_that_read_alike_end_to_end_are_apart() {
    let (store, _) = store_and_clock();
    let one = claimed(store.claim("a", "bc"));
    let other = claimed(store.claim("ab", "c"));
    one.complete("one").unwrap();
    other.complete("other").unwrap();
    assert_eq!(answered(store.claim("a", "bc")), b"one");
    assert_eq!(answered(store.claim("ab", "c")), b"other");
}
