//! Everything newer than the base, in memory.
//!
//! `active` takes what is committed. A checkpoint freezes it and begins an empty one; until the
//! frozen records are in the base and published there, readers still find them here. A hit is
//! final: expired, tombstone or not, nothing older is asked.

use std::sync::Arc;

use crate::key::{KeyMap, RecordKey};
use crate::record::Record;
use crate::sync::{AtomicU64, Ordering, RwLock};

/// A record, or the tombstone of one.
pub(crate) type Entry = Option<Arc<Record>>;

/// What the overlay knows of a key.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Its record is this, or it has none.
    Entry(Entry),
    /// Its record is in the table of unfinished ones, and damaged there.
    Damaged,
    /// Ask the base. The answer counts only if the number of freezes is still this afterwards.
    AskBase {
        /// How many freezes there had been.
        freezes: u64,
    },
}

/// What became of a key of which nothing was known.
#[derive(Debug, Clone)]
pub(crate) enum Since {
    /// Its record is this, or it has none any more.
    Entry(Entry),
    /// Nothing.
    Nothing,
    /// It is not known without another look at everything.
    AskAgain,
}

/// An unfinished record, as found in memory.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// It is this.
    Record(Arc<Record>),
    /// Its row in the base is damaged.
    Damaged,
}

/// The records of a frozen overlay, and what to tell the base when it has taken them.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) entries: KeyMap<Entry>,
    /// The last batch in it.
    pub(crate) through: u64,
    /// The segment that comes after.
    pub(crate) next_segment: u64,
    /// The file of the segment it came from, if there is one to use again.
    pub(crate) old_segment: Option<String>,
}

/// The overlay, and beside it every unfinished record of the store, wherever it is kept.
#[derive(Debug)]
pub(crate) struct Overlay {
    layers: RwLock<Layers>,
    /// How many freezes there have been. Changed while `layers` are.
    freezes: AtomicU64,
}

#[derive(Debug)]
struct Layers {
    active: KeyMap<Entry>,
    frozen: Option<Arc<Frozen>>,
    /// In flight or released, by what was last published, and those found damaged at opening. In
    /// shards, so that they can be gone through a part at a time.
    unfinished: Vec<KeyMap<Slot>>,
    unfinished_count: usize,
    /// The bytes of keys and recovery points in `unfinished`.
    unfinished_bytes: usize,
}

impl Overlay {
    /// Of a million unfinished records, four thousand are in each.
    pub(crate) const SHARDS: usize = 256;

    /// An overlay over a base with these unfinished records.
    pub(crate) fn over(unfinished: impl IntoIterator<Item = (RecordKey, Slot)>) -> Self {
        let mut layers = Layers {
            active: KeyMap::default(),
            frozen: None,
            unfinished: (0..Self::SHARDS).map(|_| KeyMap::default()).collect(),
            unfinished_count: 0,
            unfinished_bytes: 0,
        };
        for (key, slot) in unfinished {
            layers.set_unfinished(&key, Some(slot));
        }
        Overlay {
            layers: RwLock::new(layers),
            freezes: AtomicU64::new(0),
        }
    }

    /// What is known of `key`.
    pub(crate) fn find(&self, key: &RecordKey) -> Found {
        let layers = self.layers.read();
        if let Some(entry) = layers.active.get(key) {
            return Found::Entry(entry.clone());
        }
        let frozen = layers.frozen.as_ref();
        if let Some(entry) = frozen.and_then(|frozen| frozen.entries.get(key)) {
            return Found::Entry(entry.clone());
        }
        match layers.unfinished[key.shard(Self::SHARDS)].get(key) {
            Some(Slot::Record(record)) => Found::Entry(Some(record.clone())),
            Some(Slot::Damaged) => Found::Damaged,
            None => Found::AskBase {
                freezes: self.freezes(),
            },
        }
    }

    /// What is known of a key that nothing was known of, here or in the base, as of `freezes` freezes: if
    /// there were none since, what was committed to it since then is active, and nothing else can be known.
    pub(crate) fn find_since(&self, key: &RecordKey, freezes: u64) -> Since {
        let layers = self.layers.read();
        match layers.active.get(key) {
            Some(entry) => Since::Entry(entry.clone()),
            None if self.freezes() == freezes => Since::Nothing,
            None => Since::AskAgain,
        }
    }

    /// How many freezes there have been.
    pub(crate) fn freezes(&self) -> u64 {
        self.freezes.load(Ordering::SeqCst)
    }

    /// Shows a batch that is durable, all at once.
    pub(crate) fn publish(&self, batch: impl IntoIterator<Item = (RecordKey, Entry)>) {
        let mut layers = self.layers.write();
        for (key, entry) in batch {
            layers.note_unfinished(&key, &entry);
            layers.active.insert(key, entry);
        }
    }

    /// Notes changes that are in the base already. Only at an opening, before anything is looked for: see
    /// [`find_since`](Self::find_since).
    pub(crate) fn note_in_base(&self, changes: impl IntoIterator<Item = (RecordKey, Entry)>) {
        let mut layers = self.layers.write();
        for (key, entry) in changes {
            layers.note_unfinished(&key, &entry);
        }
    }

    /// Whether nothing has been committed since the last freeze.
    pub(crate) fn active_is_empty(&self) -> bool {
        self.layers.read().active.is_empty()
    }

    /// Freezes what is active; there must be nothing frozen. Only at a batch boundary.
    pub(crate) fn freeze(&self, through: u64, next_segment: u64, old_segment: Option<String>) {
        // As much will come again: a table that grows holds up everybody while it is moved.
        let mut active = KeyMap::default();
        active.reserve(self.layers.read().active.len());
        let mut layers = self.layers.write();
        debug_assert!(layers.frozen.is_none());
        let entries = std::mem::replace(&mut layers.active, active);
        self.freezes.fetch_add(1, Ordering::SeqCst);
        layers.frozen = Some(Arc::new(Frozen {
            entries,
            through,
            next_segment,
            old_segment,
        }));
    }

    /// What is frozen.
    pub(crate) fn frozen(&self) -> Option<Arc<Frozen>> {
        self.layers.read().frozen.clone()
    }

    /// Drops what is frozen, once the base has it and has published it.
    pub(crate) fn drop_frozen(&self) {
        // Outside the lock: freeing many records takes a while.
        let frozen = self.layers.write().frozen.take();
        drop(frozen);
    }

    /// The unfinished records of one shard whose encoded names begin with `prefix`. A shard at a
    /// time, so that a long list does not hold up commits.
    pub(crate) fn unfinished_in(&self, shard: usize, prefix: &[u8]) -> Vec<(RecordKey, Slot)> {
        let layers = self.layers.read();
        let all = layers.unfinished[shard].iter();
        all.filter(|(key, _)| key.as_bytes().starts_with(prefix))
            .map(|(key, slot)| (key.clone(), slot.clone()))
            .collect()
    }

    /// How many unfinished records there are, and the bytes of their keys and recovery points.
    pub(crate) fn unfinished_size(&self) -> (usize, usize) {
        let layers = self.layers.read();
        (layers.unfinished_count, layers.unfinished_bytes)
    }

    /// How many records and tombstones are in memory, active and frozen.
    pub(crate) fn entries(&self) -> usize {
        let layers = self.layers.read();
        layers.active.len() + layers.frozen.as_ref().map_or(0, |f| f.entries.len())
    }
}

impl Layers {
    fn note_unfinished(&mut self, key: &RecordKey, entry: &Entry) {
        let unfinished = entry.as_ref().filter(|record| record.is_unfinished());
        self.set_unfinished(key, unfinished.map(|record| Slot::Record(record.clone())));
    }

    fn set_unfinished(&mut self, key: &RecordKey, slot: Option<Slot>) {
        let shard = &mut self.unfinished[key.shard(Overlay::SHARDS)];
        let before = match slot {
            Some(slot) => {
                self.unfinished_count += 1;
                self.unfinished_bytes += slot_bytes(key, &slot);
                shard.insert(key.clone(), slot)
            }
            None => shard.remove(key),
        };
        if let Some(before) = before {
            self.unfinished_count -= 1;
            self.unfinished_bytes -= slot_bytes(key, &before);
        }
    }
}

/// What an unfinished record counts against the limit.
pub(crate) fn unfinished_bytes(key: &RecordKey, record: &Record) -> usize {
    key.as_bytes().len()
        + record
            .recovery_point
            .as_ref()
            .map_or(0, |point| point.len())
}

fn slot_bytes(key: &RecordKey, slot: &Slot) -> usize {
    match slot {
        Slot::Record(record) => unfinished_bytes(key, record),
        Slot::Damaged => key.as_bytes().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> RecordKey {
        RecordKey::new(b"t", name.as_bytes(), 255).unwrap()
    }

    #[test]
    fn what_is_frozen_stays_to_be_found_until_it_is_dropped() {
        let overlay = Overlay::over([]);
        assert!(overlay.active_is_empty());
        overlay.publish([(key("a"), None), (key("b"), None), (key("c"), None)]);
        assert!(!overlay.active_is_empty());
        overlay.freeze(3, 2, None);
        assert!(overlay.active_is_empty());
        assert_eq!(overlay.freezes(), 1);
        overlay.publish([(key("d"), None)]);
        assert_eq!(overlay.entries(), 4);
        assert!(matches!(overlay.find(&key("a")), Found::Entry(None)));
        overlay.drop_frozen();
        assert_eq!(overlay.entries(), 1);
        let found = overlay.find(&key("a"));
        assert!(matches!(found, Found::AskBase { freezes: 1 }));
        overlay.freeze(4, 3, None);
        assert_eq!(overlay.freezes(), 2);
    }

    #[test]
    fn what_is_known_since_a_look_is_what_was_committed_if_nothing_was_frozen() {
        let overlay = Overlay::over([]);
        let since = |freezes| overlay.find_since(&key("a"), freezes);
        assert!(matches!(since(0), Since::Nothing));
        overlay.publish([(key("a"), None)]);
        assert!(matches!(since(0), Since::Entry(None)));
        overlay.freeze(1, 2, None);
        assert!(matches!(since(0), Since::AskAgain));
        overlay.drop_frozen();
        assert!(matches!(since(0), Since::AskAgain));
        assert!(matches!(since(1), Since::Nothing));
    }
}
