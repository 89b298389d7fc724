//! Damage to the base's file as a whole.

use std::fs;

use super::*;

#[test]
fn a_missing_empty_truncated_or_foreign_base_is_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let base = path.join("base.redb");
    let whole = fs::read(&base).unwrap();

    fs::remove_file(&base).unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, b"").unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, b"not a database, but longer than nothing").unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(options(&path).open(), Err(Error::Corrupt { .. })));

    // Another store's base knows nothing of this journal.
    let other = tempfile::tempdir().unwrap();
    fs::copy(killed(other.path()).join("base.redb"), &base).unwrap();
    assert!(matches!(options(&path).open(), Err(Error::Corrupt { .. })));

    fs::write(&base, &whole).unwrap();
    assert_done(&options(&path).open().unwrap(), "base9", "response 9");
}

#[test]
fn a_lost_base_is_not_made_anew_while_anything_of_the_store_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let entries = fs::read_dir(&path).unwrap().map(|e| e.unwrap());
    let names = entries.map(|e| e.file_name().into_string().unwrap());
    let mut traces: Vec<String> = names
        .filter(|n| n.starts_with("journal-") || n.starts_with("base.seal"))
        .collect();
    traces.push("journal-spare".to_owned());
    assert!(
        traces.iter().any(|n| n.starts_with("base.seal")),
        "{traces:?}"
    );
    for (n, trace) in traces.iter().enumerate() {
        let left = temp.path().join(format!("left{n}"));
        fs::create_dir(&left).unwrap();
        match fs::read(path.join(trace)) {
            Ok(bytes) => fs::write(left.join(trace), bytes).unwrap(),
            Err(_) => fs::write(left.join(trace), b"").unwrap(),
        }
        assert_eq!(corrupt_place(&left), "base.redb", "{trace}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_base_gives_no_wrong_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let len = fs::metadata(path.join("base.redb")).unwrap().len();
    // A fixed sample of places; the campaigns of the trust suite try many more.
    for n in 0..60u64 {
        let copy = temp.path().join(format!("copy{n}"));
        copy_directory(&path, &copy);
        flip(&copy.join("base.redb"), (n * 7919 + n * n * 131) % len);
        if let Ok(store) = options(&copy).open() {
            let whole = store.verify().is_ok();
            for key in 0..300 {
                match store.claim("t", format!("base{key}")) {
                    Ok(Claim::Done(r)) => {
                        assert_eq!(r.bytes(), format!("response {key}").as_bytes());
                    }
                    Ok(other) => panic!("flip {n}, verified {whole}: base{key} is {other:?}"),
                    Err(Error::Corrupt { .. } | Error::Io(_)) => {}
                    Err(other) => panic!("flip {n}: {other}"),
                }
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    }
}
