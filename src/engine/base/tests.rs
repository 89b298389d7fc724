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
