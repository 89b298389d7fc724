//! Opening a store: making a new one, or recovering what an earlier run left.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::append::Writer;
use super::base::{BASE_FILE, UNFINISHED_BASE_FILE};
use super::catalog::{Applied, Catalog, StoreRow, rebuild};
use super::disk::Disk;
use super::entropy::fresh_u64;
use super::holders::Holders;
use super::journal::frame::FrameBuilder;
use super::journal::recovery::{Origin, Recovered, recover};
use super::journal::segment::{SPARE_FILE, can_be_recycled, number_of};
use super::journal::{Journal, JournalTerms, Spares, shortest_segment};
use super::overlay::{Entry, Overlay, Slot};
use super::pace::Pace;
use super::seal::{self, Seal};
use super::{Counters, Engine, EngineOptions};
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::key::{KeyMap, RecordKey};
use crate::record::Fence;
use crate::sync::{AtomicBool, AtomicU64, Bell, Mutex};
use crate::time::{StoreTime, Timestamp};

/// However far ahead a clock is, fences do not run out.
const MAX_CLOCK_FENCE: u64 = u64::MAX / 4;

/// No count of ours gets there; what says so is damaged, and adding to it would overflow.
const MAX_COUNT: u64 = u64::MAX - (1 << 50);
/// No journal holds so many leases: a frame that says so is damaged.
const MAX_FENCES_IN_JOURNAL: u64 = 1 << 48;

impl Engine {
    /// Opens the store on `disk`, making it if the disk is empty. The caller has the directory to
    /// itself.
    ///
    /// Nothing is answered before all that the journal held is in the base and older segments are
    /// void, so that an outcome, once shown, cannot be unsaid by a later stop.
    ///
    /// # Errors
    /// `Corrupt` if bytes are damaged or missing, `Format` if the store is of a newer format,
    /// `NoSpace` or `Io` if the disk says so.
    pub fn open(disk: Arc<dyn Disk>, mut options: EngineOptions) -> Result<Self> {
        let names = disk.list()?;
        if !names.iter().any(|name| name == BASE_FILE) {
            // A spare and a seal too are made only after the base: a store was here.
            let is_trace = |n: &String| n.starts_with("journal-") || n.starts_with("base.seal");
            if names.iter().any(is_trace) {
                return Err(Error::corrupt(
                    BASE_FILE,
                    "the file is missing, but the journal is there",
                ));
            }
            Catalog::create(&disk, options.base_cache_bytes, new_store(&options))?;
        }
        if names.iter().any(|name| name == UNFINISHED_BASE_FILE) {
            // Left by an opening that was cut short, and made anew above or not needed.
            let _ = disk.remove(UNFINISHED_BASE_FILE);
        }
        let seal = seal::check(&*disk)?;
        if seal == Seal::Broken {
            // If it was not, as much is known as without a seal.
            let _rebuilt = rebuild(&disk, options.base_cache_bytes)?;
        }
        if seal != Seal::Broken {
            seal::remove(&*disk)?;
        }
        let read_journal = |before: &StoreRow| read_journal(&*disk, before);
        let (catalog, recovered) = Catalog::open(&disk, &options, read_journal)?;
        let (before, mut recovered) = (catalog.store(), recovered?);
        let unfinished = catalog.load_unfinished()?;
        let longest_body = longest_body(&options, &unfinished, &recovered);
        options.journal_bytes = options.journal_bytes.max(shortest_segment(longest_body));
        let overlay = Overlay::over(unfinished);

        let now = Timestamp::from(options.clock.now());
        let floor = Timestamp::from_micros(before.time_us).max(recovered.time);
        let time = StoreTime::starting_at(options.clock.clone(), floor);
        // Above every fence given before, and above the clock, so that a store made anew in the
        // place of a lost one does not give the lost one's fences again.
        let fence = before
            .fence
            .max(recovered.fence.as_u64())
            .max(now.as_micros().min(MAX_CLOCK_FENCE));

        // Segments outside the chain are void, whatever their numbers.
        let newest_segment = recovered.last_segment.max(before.first_segment);
        check_counts(&before, &recovered, newest_segment.unwrap_or(0))?;
        let fence = if bugs::is(Bug::FenceResetAtReopening) {
            0
        } else {
            fence
        };

        let spares = Arc::new(Spares::default());
        // What the chain does not need is void: it can be used for the new run's first segment.
        let chain = (before.first_segment, recovered.last_segment);
        let is_void = |number: Option<u64>| match (number, chain) {
            (Some(number), (Some(first), Some(last))) => !(first..=last).contains(&number),
            _ => true,
        };
        retire_segments(&*disk, &spares, options.journal_bytes, is_void)?;
        let number = newest_segment.unwrap_or(0) + 1;
        let terms = JournalTerms {
            store: before.store,
            run: before.run + 1,
            segment_bytes: options.journal_bytes,
            durability: options.durability,
        };
        let batch = recovered.batch;
        let journal = Journal::begin(disk.clone(), terms, spares.clone(), number, batch)?;

        let mut trouble = None;
        let changes = std::mem::take(&mut recovered.changes);
        let entries = changes.into_iter().map(|(k, r)| (k, r.map(Arc::new)));
        let entries: BTreeMap<RecordKey, Entry> = entries.collect();
        let applied = Applied {
            new_run: Some(before.run + 1),
            first_segment: number,
            through: batch,
        };
        let applied = match bugs::is(Bug::OldSegmentsNotVoided) {
            true => Applied {
                new_run: None,
                first_segment: before.first_segment.unwrap_or(number),
                through: before.applied,
            },
            false => applied,
        };
        let due = || f64::INFINITY;
        catalog.apply(entries.iter(), applied, fence, time.now(), &due)?;
        overlay.note_in_base(entries);
        if seal == Seal::Broken {
            // Before anything is answered; what it finds it marks.
            let found = catalog.verify(&AtomicBool::new(false), &Pace::hurried())?;
            trouble = found.first_damage;
            // Not earlier: an opening that is cut short must not hide from the next one that the base
            // was damaged.
            seal::remove(&*disk)?;
        }
        let is_void = |other| other != Some(number);
        retire_segments(&*disk, &spares, options.journal_bytes, is_void)?;

        Ok(Engine {
            disk,
            options,
            time,
            overlay,
            holders: Arc::new(Holders::default()),
            catalog,
            longest_body,
            room: AtomicU64::new(journal.room()),
            failure: Mutex::new(None),
            writer: Mutex::new(Writer {
                journal,
                frame: FrameBuilder::default(),
            }),
            checkpointing: Mutex::new(()),
            spares,
            fence: AtomicU64::new(fence),
            poisoned: AtomicBool::new(false),
            unsettled: Mutex::default(),
            trouble: Mutex::new(trouble),
            counters: Counters::default(),
            checkpoint_bell: Bell::default(),
            stopping: AtomicBool::new(false),
        })
    }
}

/// Refuses counts that only damage can have made, before anything is added to them.
fn check_counts(before: &StoreRow, recovered: &Recovered, newest_segment: u64) -> Result<()> {
    let counts = [before.fence, before.run, recovered.batch, newest_segment];
    let leases = recovered.fence.as_u64().saturating_sub(before.fence);
    if counts.iter().any(|count| *count > MAX_COUNT) || leases > MAX_FENCES_IN_JOURNAL {
        return Err(Error::corrupt("the store", "a count is out of range"));
    }
    Ok(())
}

/// The longest body that a record may have: by the limits, or by what an earlier run with higher
/// limits left unfinished, which a takeover must be able to write again.
fn longest_body(
    options: &EngineOptions,
    unfinished: &KeyMap<Slot>,
    recovered: &Recovered,
) -> usize {
    let slots = unfinished.values().filter_map(|slot| match slot {
        Slot::Record(record) => Some(record.as_ref()),
        Slot::Damaged => None,
    });
    let records = slots.chain(recovered.changes.values().flatten());
    let points = records.filter_map(|record| record.recovery_point.as_ref());
    let longest = points.map(|point| point.len()).max();
    options.limits.longest_body().max(longest.unwrap_or(0))
}

fn new_store(options: &EngineOptions) -> StoreRow {
    let mut store = [0; 16];
    store[..8].copy_from_slice(&fresh_u64().to_le_bytes());
    store[8..].copy_from_slice(&fresh_u64().to_le_bytes());
    StoreRow {
        store,
        hash_seed: options.hash_seed.unwrap_or_else(fresh_u64),
        run: 0,
        first_segment: None,
        applied: 0,
        fence: 0,
        time_us: 0,
        generations: 0,
    }
}

fn read_journal(disk: &dyn Disk, store: &StoreRow) -> Result<Recovered> {
    let Some(first_segment) = store.first_segment else {
        return Ok(Recovered {
            changes: BTreeMap::new(),
            batch: store.applied,
            time: Timestamp::default(),
            fence: Fence::from_u64(0),
            last_segment: None,
        });
    };
    recover(
        disk,
        Origin {
            store: store.store,
            run: store.run,
            first_segment,
            applied: store.applied,
        },
    )
}

/// Keeps one void segment of the right length to be used again, and removes the others.
fn retire_segments(
    disk: &dyn Disk,
    spares: &Spares,
    len: u64,
    is_void: impl Fn(Option<u64>) -> bool,
) -> Result<()> {
    for name in disk.list()? {
        let number = number_of(&name);
        if (number.is_none() && name != SPARE_FILE) || !is_void(number) || spares.has(&name) {
            continue;
        }
        if can_be_recycled(disk, &name, len)? {
            spares.keep(disk, name)?;
        } else {
            disk.remove(&name)?;
        }
    }
    Ok(())
}
