//! The base as the store uses it: unfinished records, generations of done ones, and what is known
//! about both.
//!
//! A key has at most one record in all tables: whatever a checkpoint writes removes the other copies
//! in the same transaction.

mod change;
mod checkpoint;
mod copies;
mod ledger;
mod list;
mod load;
mod rebuild;
mod staged;
mod sweep;
mod unfinished;
mod verify;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::checkpoint::Applied;
use self::ledger::Ledger;
pub(crate) use self::ledger::StoreRow;
use self::list::List;
use self::load::load_generations;
pub(crate) use self::rebuild::rebuild;
use self::unfinished::{UNFINISHED, belongs, for_each_row};
pub(crate) use self::verify::Verification;
use super::EngineOptions;
use super::base::{BASE_FILE, Base, Snapshot, SnapshotTable, Transaction};
use super::bucket;
use super::disk::Disk;
use super::filter::{Banks, Probe};
use super::generation::{Generation, Tally};
use super::overlay::Slot;
use crate::bugs::{self, Bug};
use crate::codec::{checksum, decode_record};
use crate::error::{Error, Result};
use crate::key::{KeyMap, RecordKey};
use crate::record::Record;
use crate::sync::{AtomicBool, AtomicU64, Bell, Mutex, Ordering, RwLock, both};
use crate::time::{Deadline, Timestamp};

/// A reader reopens a base that failed no more often than this.
const PAUSE_BETWEEN_HEALINGS: Duration = Duration::from_millis(50);

/// Fewer are not worth a thread. In unit tests, which have short ones, a few are.
const MANY_FILTER_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// The base, and in memory what readers need to ask it.
#[derive(Debug)]
pub(crate) struct Catalog {
    base: Base,
    transaction_records: usize,
    hash_seed: u64,
    /// Published after the base commit that changed it, and before the overlay drops what that
    /// commit took. Readers take it before their snapshot of the base.
    list: RwLock<Arc<List>>,
    /// Where filters lie.
    banks: Banks,
    /// The base's own account of itself. Whoever has it has the right to write the base.
    ledger: Mutex<Ledger>,
    /// A row of `unfinished` is lost or unreadable: a miss means nothing.
    unfinished_damaged: AtomicBool,
    /// Before then no reader reopens the base.
    next_heal: Mutex<Option<Deadline>>,
    /// Rung when tables were loaded that nobody has read through since.
    pub(crate) reloaded: Bell,
    /// `unfinished` was read through since it was loaded.
    unfinished_verified: AtomicBool,
    /// Some table was found damaged since the opening.
    damage_found: AtomicBool,
    /// How many look-ups the filters did not answer.
    reads: AtomicU64,
}

impl Catalog {
    /// Makes the base of a new store.
    pub(crate) fn create(disk: &Arc<dyn Disk>, cache_bytes: usize, store: StoreRow) -> Result<()> {
        Base::create(disk.clone(), cache_bytes, |transaction| {
            Ledger::new(store).write_all(transaction)
        })
    }

    /// Opens the base that is there, and runs `meanwhile` with what the base says of the store: while the filters
    /// are read, if they are long. Gives the catalog and what `meanwhile` gave.
    pub(crate) fn open<T>(
        disk: &Arc<dyn Disk>,
        options: &EngineOptions,
        meanwhile: impl FnOnce(&StoreRow) -> T,
    ) -> Result<(Self, T)> {
        let banks = Banks::default();
        // The filters are read once, and their pages are large: a cache would be left full of holes.
        let uncached = Base::open(disk.clone(), 0)?;
        let ledger = uncached.read(Ledger::read)?;
        let load = || {
            uncached.read(|snapshot| load_generations(snapshot, &ledger, &List::default(), &banks))
        };
        let meanwhile = || meanwhile(&ledger.store);
        let (list, other) = match ledger.filter_bytes() < MANY_FILTER_BYTES {
            true => (load()?, meanwhile()),
            false => {
                let (list, other) = both(load, meanwhile);
                (list?, other)
            }
        };
        // It has written nothing, and writes nothing now.
        drop(uncached);
        let base = Base::open(disk.clone(), options.base_cache_bytes)?;
        let catalog = Catalog {
            base,
            transaction_records: options.transaction_records.max(1),
            hash_seed: ledger.store.hash_seed,
            list: RwLock::new(Arc::new(list)),
            banks,
            ledger: Mutex::new(ledger),
            unfinished_damaged: AtomicBool::new(false),
            next_heal: Mutex::new(None),
            reloaded: Bell::default(),
            unfinished_verified: AtomicBool::new(false),
            damage_found: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        };
        Ok((catalog, other))
    }

    /// What the base says of the store as a whole.
    pub(crate) fn store(&self) -> StoreRow {
        self.ledger.lock().store
    }

    /// Reads all unfinished records.
    pub(crate) fn load_unfinished(&self) -> Result<KeyMap<Slot>> {
        let mut slots = KeyMap::default();
        let mut tally = Tally::default();
        let mut damaged = false;
        let expected = self.ledger.lock().unfinished;
        let scanned = self.base.read(|snapshot| {
            let Some(table) = snapshot.table(UNFINISHED)? else {
                return Ok(());
            };
            for_each_row(&table, |row_key, next_key, row| {
                let entries = bucket::entries(row);
                damaged |= entries.is_err();
                for entry in entries.into_iter().flatten() {
                    let Ok((name, bytes)) = entry else {
                        damaged = true;
                        continue;
                    };
                    let hash = checksum(self.hash_seed, name);
                    tally.add(hash);
                    // In another row it would be looked for in vain once it is to be changed.
                    let is_home = belongs(hash, row_key, next_key);
                    damaged |= !is_home;
                    match (RecordKey::from_bytes(name), decode_record(name, bytes)) {
                        (Some(key), Ok(record)) if is_home => {
                            slots.insert(key, Slot::Record(Arc::new(record)))
                        }
                        (Some(key), _) => slots.insert(key, Slot::Damaged),
                        (None, _) => {
                            damaged = true;
                            None
                        }
                    };
                }
                Ok(())
            })
        });
        match scanned {
            Err(Error::Corrupt { .. }) => damaged = true,
            other => other?,
        }
        self.unfinished_damaged
            .store(damaged || tally != expected, Ordering::SeqCst);
        Ok(slots)
    }

    /// The unexpired done record of `key`. Unfinished ones are all in memory, so the caller has
    /// looked there.
    ///
    /// # Errors
    /// `Corrupt` if its row is damaged, or if there is none where rows are known to be lost; an
    /// I/O error of the base.
    pub(crate) fn find(&self, key: &RecordKey, now: Timestamp) -> Result<Option<Record>> {
        let hash = self.hash(key);
        let list = self.list.read().clone();
        let probe = Probe::of(hash);
        let candidates = list.candidates(&probe);
        let look = || {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.base.read(|snapshot| {
                let mut best = None;
                for generation in &candidates {
                    keep_newer(&mut best, look_up(snapshot, generation, key, hash, now)?);
                    if bugs::is(Bug::SearchEndsAtExpiredCopy) {
                        break;
                    }
                }
                Ok(best)
            })
        };
        let best = match candidates.is_empty() {
            true => None,
            false => look().or_else(|error| match error {
                Error::Io(_) if self.heal_for_reader() => look(),
                other => Err(other),
            })?,
        };
        if best.is_none() && self.may_have_lost(&list, &probe, now) {
            return Err(Error::corrupt(
                BASE_FILE,
                format!("rows are lost, {key:?} may have been among them"),
            ));
        }
        Ok(best)
    }

    /// Whether any table is known to be damaged, or was: what a look found before then may not hold.
    pub(crate) fn has_found_damage(&self) -> bool {
        self.damage_found.load(Ordering::SeqCst)
    }

    /// Whether the base must be reopened.
    pub(crate) fn is_broken(&self) -> bool {
        self.base.is_broken() || self.ledger.lock().is_stale
    }

    /// Reopens the base if an error made that necessary, and reads its account of itself anew: a
    /// failed commit may have happened.
    pub(crate) fn heal(&self) -> Result<()> {
        let mut ledger = self.ledger.lock();
        self.heal_with(&mut ledger)
    }

    /// Reopens the base for a reader who met an error, so that replays go on; but not more often
    /// than now and then, since it holds up other readers. True if it is worth trying again.
    fn heal_for_reader(&self) -> bool {
        if !self.base.is_broken() {
            return true;
        }
        let mut next = self.next_heal.lock();
        if next.is_some_and(|next| !next.has_passed()) {
            return false;
        }
        *next = Some(Deadline::after(PAUSE_BETWEEN_HEALINGS));
        self.heal().is_ok()
    }

    /// Writes the base. Until that is known to have succeeded the base may differ from the ledger,
    /// so after an error both are read anew at once: readers need the base.
    fn write_base<T>(
        &self,
        ledger: &mut Ledger,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        ledger.is_stale = true;
        self.base.write(write).inspect_err(|_| {
            let _ = self.heal_with(ledger);
        })
    }

    /// Whether a transaction that failed so may succeed now that the base is open again: the next one finds
    /// pages free that the last one freed, and it may have failed because a reader met a bad page meanwhile.
    fn is_worth_another_try(&self, ledger: &Ledger, error: &Error) -> bool {
        let is_open_again = !self.base.is_broken() && !ledger.is_stale;
        is_open_again && matches!(error, Error::NoSpace | Error::Io(_))
    }

    fn heal_with(&self, ledger: &mut Ledger) -> Result<()> {
        if !self.base.is_broken() && !ledger.is_stale {
            return Ok(());
        }
        ledger.is_stale = true;
        self.base.reopen()?;
        let known = self.list.read().clone();
        let (read, list) = self.base.read(|snapshot| {
            let read = Ledger::read(snapshot)?;
            let list = load_generations(snapshot, &read, &known, &self.banks)?;
            Ok((read, list))
        })?;
        *ledger = read;
        *self.list.write() = Arc::new(list);
        if self.unverified() > 0 {
            self.reloaded.ring();
        }
        Ok(())
    }

    /// Closes the base's file, for good.
    pub(crate) fn close(&self) {
        self.base.close();
    }

    /// How many look-ups read the base since the opening.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many generations there are, and the rows and filter bytes of all.
    pub(crate) fn sizes(&self) -> (usize, u64, usize) {
        let list = self.list.read().clone();
        let rows = list.iter().map(|g| g.rows()).sum();
        (list.iter().len(), rows, list.filter_bytes())
    }

    fn hash(&self, key: &RecordKey) -> u64 {
        checksum(self.hash_seed, key.as_bytes())
    }

    fn may_have_lost(&self, list: &List, probe: &Probe, now: Timestamp) -> bool {
        if self.unfinished_damaged.load(Ordering::SeqCst) {
            return true;
        }
        let lost_in = |g: &Arc<Generation>| g.is_damaged() && g.may_contain(probe);
        let live = |g: &&Arc<Generation>| now < g.id.end();
        self.has_found_damage() && list.iter().filter(live).any(lost_in)
    }
}

/// The record of `key` in one generation, unless it has expired.
fn look_up(
    snapshot: &Snapshot,
    generation: &Generation,
    key: &RecordKey,
    hash: u64,
    now: Timestamp,
) -> Result<Option<Record>> {
    let Some(table) = open_table(snapshot, generation)? else {
        return Ok(None);
    };
    let name = key.as_bytes();
    let row_key = bucket::row_key(hash, generation.buckets);
    let found = table.find(&row_key, |row| {
        let found = bucket::find(&row_key, row, name)?;
        found.map(|bytes| decode_record(name, bytes)).transpose()
    })?;
    match found.transpose() {
        Ok(record) => Ok(record.flatten().filter(|record| now < record.expires_at)),
        Err(damage) => Err(Error::corrupt(
            format!("{} of {BASE_FILE}", generation.table),
            format!("the record of {key:?}: {damage}"),
        )),
    }
}

/// A generation's table; none if the snapshot shows that it was swept.
fn open_table(snapshot: &Snapshot, generation: &Generation) -> Result<Option<SnapshotTable>> {
    let table = snapshot.table(&generation.table)?;
    if table.is_none() && Ledger::lists(snapshot, generation.id)? {
        return Err(Error::corrupt(
            BASE_FILE,
            format!("table {} is missing", generation.table),
        ));
    }
    Ok(table)
}

/// The copy with the highest fence counts.
fn keep_newer(best: &mut Option<Record>, other: Option<Record>) {
    if let Some(record) = other
        && best.as_ref().is_none_or(|best| best.fence < record.fence)
    {
        *best = Some(record);
    }
}
