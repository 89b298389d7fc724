//! Directories that are none, may not be written, hold links, or hold half a store.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use firstclaim::{Error, Store};
use tempfile::TempDir;

use super::{answered, assert_usable, claimed};

/// A closed store with one key done.
fn closed_store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    claimed(store.claim("tenant", "key")).complete("r").unwrap();
    store.close().unwrap();
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_path_that_is_a_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "precious").unwrap();
    let refusal = Store::open(&path);
    assert!(matches!(refusal, Err(Error::Io(_))), "{refusal:?}");
    let refusal = Store::open(path.join("below"));
    assert!(matches!(refusal, Err(Error::Io(_))), "{refusal:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn missing_directories_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert_usable(&Store::open(&path).unwrap());
    assert!(path.is_dir());
}

#[test]
fn half_created_stores_are_finished() {
    let left_behind: [&[(&str, &[u8])]; 5] = [
        &[],
        &[("lock", b"")],
        &[("base.new", b"")],
        &[("lock", b""), ("base.new", b"redb, cut off")],
        &[("base.new", &[0; 8192])],
    ];
    for names in left_behind {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in names {
            fs::write(dir.path().join(name), content).unwrap();
        }
        for _ in 0..2 {
            let store = Store::open(dir.path()).unwrap();
            assert_usable(&store);
            store.close().unwrap();
        }
        assert!(!dir.path().join("base.new").exists());
    }
}

#[test]
fn a_base_being_created_beside_a_whole_one_is_ignored() {
    let dir = closed_store();
    fs::write(dir.path().join("base.new"), "left behind").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"r");
}

#[test]
fn segments_without_a_base_are_not_an_empty_store() {
    let dir = closed_store();
    fs::remove_file(dir.path().join("base.redb")).unwrap();
    let before = files(dir.path()).len();
    for _ in 0..2 {
        let refusal = Store::open(dir.path());
        assert!(matches!(refusal, Err(Error::Corrupt { .. })), "{refusal:?}");
    }
    assert!(files(dir.path()).len() >= before, "nothing is cleared away");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_read_only_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let allow = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        allow(0o500);
        match File::create(dir.path().join("probe")) {
            // The superuser may write anywhere, and is not refused.
            Ok(_) => fs::remove_file(dir.path().join("probe")).unwrap(),
            Err(_) => {
                let refusal = Store::open(dir.path());
                assert!(matches!(refusal, Err(Error::Io(_))), "{refusal:?}");
            }
        }
        allow(0o700);
        assert_usable(&Store::open(dir.path()).unwrap());
    }

    #[test]
    fn links_in_place_of_the_stores_files_are_refused() {
        let dir = closed_store();
        let files = files(dir.path());
        assert!(files.len() >= 3, "{files:?}");
        for link in &files {
            let elsewhere = tempfile::tempdir().unwrap();
            let target = elsewhere.path().join("target");
            fs::copy(link, &target).unwrap();
            fs::remove_file(link).unwrap();
            symlink(&target, link).unwrap();
            let before = fs::read(&target).unwrap();

            let refusal = Store::open(dir.path());
            assert!(
                matches!(refusal, Err(Error::Io(_) | Error::Corrupt { .. })),
                "{}: {refusal:?}",
                link.display()
            );
            assert_eq!(fs::read(&target).unwrap(), before, "{}", link.display());

            fs::remove_file(link).unwrap();
            fs::copy(&target, link).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(answered(store.claim("tenant", "key")), b"r");
    }

    #[test]
    fn a_link_waiting_where_the_base_is_created_is_not_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("precious");
        fs::write(&target, "precious").unwrap();
        symlink(&target, dir.path().join("base.new")).unwrap();
        // Refused or replaced, but never written through.
        let _ = Store::open(dir.path());
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn the_directory_and_its_files_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        assert_usable(&store);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        let files = files(&path);
        assert!(!files.is_empty());
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}
