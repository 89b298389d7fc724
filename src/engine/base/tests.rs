//! What letting go of the file does.

use super::*;
use crate::engine::disk::memory::MemoryDisk;

fn bytes(disk: &Arc<dyn Disk>) -> Vec<u8> {
    let file = disk.open(BASE_FILE).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn letting_go_of_the_file_writes_nothing_and_loses_nothing_and_closing_writes() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    Base::create(disk.clone(), 1 << 20, |t| t.make_table("a")).unwrap();
    let base = Base::open(disk.clone(), 1 << 20).unwrap();
    base.write(|t| t.put("a", b"k", b"v")).unwrap();
    let before = bytes(&disk);
    drop(base);
    assert!(before == bytes(&disk));

    let base = Base::open(disk.clone(), 1 << 20).unwrap();
    let found = base.read(|s| s.table("a")?.unwrap().find(b"k", <[u8]>::to_vec));
    assert_eq!(found.unwrap().unwrap(), b"v");
    let before = bytes(&disk);
    base.close();
    assert!(before != bytes(&disk));
}

#[test]
fn a_transaction_reads_what_it_has_changed_and_else_the_last_commit_and_makes_no_table() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    Base::create(disk.clone(), 1 << 20, |t| t.make_table("a")).unwrap();
    let base = Base::open(disk, 1 << 20).unwrap();
    base.write(|t| t.put("a", b"k", b"old")).unwrap();
    let rows = |t: &Transaction<'_>, table: &str| {
        let mut rows = Vec::new();
        let read = t.for_each(table, |key, value| {
            rows.push((key.to_vec(), value.to_vec()))
        });
        read.map(|()| rows)
    };
    base.write(|t| {
        assert_eq!(t.get("a", b"k")?.as_deref(), Some(b"old".as_slice()));
        assert_eq!(rows(t, "a")?, [(b"k".to_vec(), b"old".to_vec())]);
        assert!(t.put("a", b"k", b"new")?);
        assert_eq!(t.get("a", b"k")?.as_deref(), Some(b"new".as_slice()));
        assert_eq!(t.get("a", b"other")?, None);
        assert_eq!(rows(t, "a")?, [(b"k".to_vec(), b"new".to_vec())]);
        assert_eq!(t.get("b", b"k")?, None);
        assert_eq!(rows(t, "b")?, []);
        assert!(!t.remove("b", b"k")?);
        Ok(())
    })
    .unwrap();
    base.write(|t| {
        t.drop_table("a")?;
        assert_eq!(t.get("a", b"k")?, None);
        assert_eq!(rows(t, "a")?, []);
        assert!(!t.remove("a", b"k")?);
        Ok(())
    })
    .unwrap();
    let has = |name: &str| base.read(|s| Ok(s.table(name)?.is_some())).unwrap();
    assert!(!has("a") && !has("b"));
}
