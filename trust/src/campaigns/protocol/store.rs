//! The store as the model has it: what is on the disk, what is in memory, and the steps between.

use firstclaim::internals::record::{Holder, Takeover};

use super::fault::Fault;
use super::record::{Brief, Entry, KEYS, Key};

/// Entries by key: the newest change of each, a tombstone being `Some(None)`.
pub type Layer = [Option<Entry>; KEYS];

/// Frames: what replaying them gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Frames {
    pub entries: Layer,
    pub fence: u8,
    pub time: u8,
}

/// The base: a key's unfinished record, and the copies of it in the generations, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Base {
    unfinished: [Entry; KEYS],
    done: [Vec<Copy>; KEYS],
    pub fence: u8,
    pub time: u8,
}

/// A copy in a generation; readers find it once the list that names the generation is out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Copy {
    brief: Brief,
    listed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub base: Base,
    /// The synced frames of the segment that a checkpoint is writing into the base.
    pub old: Option<Frames>,
    /// The synced frames of the segment in use.
    pub current: Frames,
    /// A frame that a killed process left in the page cache: visible, not durable.
    pub cached: Option<Frames>,
}

/// What is gone when the process ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    pub active: Layer,
    pub frozen: Option<Frozen>,
    /// The unfinished records, wherever else they are.
    pub unfinished: [Entry; KEYS],
    /// By key, a bit for every fence whose guard is out.
    holders: [u32; KEYS],
    /// The highest fence given.
    pub fence: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frozen {
    entries: Layer,
    /// The keys before this one are in the base.
    next: Key,
    listed: bool,
}

impl Frames {
    pub fn append(&mut self, frame: &Frames) {
        for (entry, newer) in self.entries.iter_mut().zip(frame.entries) {
            *entry = newer.or(*entry);
        }
        self.fence = self.fence.max(frame.fence);
        self.time = self.time.max(frame.time);
    }

    /// All but the entry of the last key.
    pub fn without_its_end(&self) -> Self {
        let mut cut = self.clone();
        cut.entries[KEYS - 1] = None;
        cut
    }
}

impl Base {
    /// The done record of `key`, by a look at all generations listed. Unfinished ones are all in
    /// memory, so whoever asks has looked there.
    fn find(&self, key: Key, now: u8, fault: Option<Fault>) -> Entry {
        let listed = self.done[key].iter().filter(|copy| copy.listed);
        let mut best: Entry = None;
        for copy in listed {
            if now >= copy.brief.expires_at {
                if fault == Some(Fault::ExpiredCopyEndsSearch) {
                    break;
                }
                continue;
            }
            let oldest = fault == Some(Fault::OldestCopyAnswers);
            best = best
                .filter(|best| oldest || best.fence > copy.brief.fence)
                .or(Some(copy.brief));
        }
        best
    }

    /// All there is of `key`, expired or not.
    fn raw(&self, key: Key) -> Entry {
        let newest = self.done[key].iter().map(|copy| copy.brief);
        newest
            .max_by_key(|brief| brief.fence)
            .or(self.unfinished[key])
    }

    /// Writes an entry in its place and removes every other copy of its key.
    fn write(&mut self, key: Key, entry: Entry, now: u8, fault: Option<Fault>) {
        self.unfinished[key] = entry.filter(|brief| !brief.is_done());
        let copies = &mut self.done[key];
        if !matches!(
            fault,
            Some(Fault::CopiesLeftBehind | Fault::ExpiredCopyEndsSearch | Fault::OldestCopyAnswers)
        ) {
            copies.clear();
        }
        let done = entry.filter(|brief| brief.is_done() && now < brief.expires_at);
        copies.extend(done.map(|brief| Copy {
            brief,
            listed: false,
        }));
    }

    fn list_all(&mut self) {
        self.done.iter_mut().flatten().for_each(|c| c.listed = true);
    }

    fn note(&mut self, fence: u8, time: u8) {
        self.fence = self.fence.max(fence);
        self.time = self.time.max(time);
    }

    /// The end of the oldest generation, if it is over.
    fn over(&self, now: u8) -> Option<u8> {
        let ends = self.done.iter().flatten().map(|copy| copy.brief.expires_at);
        ends.min().filter(|end| *end <= now)
    }

    pub fn can_be_swept(&self, now: u8) -> bool {
        self.over(now).is_some()
    }

    /// Drops the oldest generation.
    pub fn sweep(&mut self, now: u8, fault: Option<Fault>) {
        let Some(end) = self.over(now) else { return };
        for copies in &mut self.done {
            copies.retain(|copy| copy.brief.expires_at != end);
        }
        if fault != Some(Fault::RemovalWithoutTime) {
            self.note(0, now);
        }
    }
}

impl Disk {
    /// What a reopening after a power cut that keeps nothing would find.
    pub fn durable(&self, key: Key) -> Entry {
        let old = self.old.as_ref().and_then(|frames| frames.entries[key]);
        self.current.entries[key]
            .or(old)
            .unwrap_or_else(|| self.base.raw(key))
    }

    /// Everything that was written is synced.
    pub fn settle(&mut self) {
        if let Some(frame) = self.cached.take() {
            self.current.append(&frame);
        }
    }

    /// The frames that recovery reads.
    fn visible(&self) -> Frames {
        let mut frames = self.old.clone().unwrap_or_default();
        frames.append(&self.current);
        if let Some(cached) = &self.cached {
            frames.append(cached);
        }
        frames
    }

    /// The earliest time that a reopened store may begin at.
    pub fn persisted_time(&self, fault: Option<Fault>) -> u8 {
        if fault == Some(Fault::TimeResetAtReopening) {
            return self.base.time;
        }
        self.base.time.max(self.visible().time)
    }

    /// Recovery: the next transaction of those that write the frames into the base, from key
    /// `from` on. Gives the key to go on from, or the memory of the open store after the last.
    pub fn replay(&mut self, from: Key, now: u8, fault: Option<Fault>) -> Result<Memory, Key> {
        let frames = self.visible();
        if fault == Some(Fault::FenceResetAtReopening) {
            self.base.note(0, now);
        } else {
            self.base.note(frames.fence, now);
        }
        let mut next = (from..KEYS).filter(|key| frames.entries[*key].is_some());
        if let Some(key) = next.next() {
            let entry = frames.entries[key].flatten();
            self.base.write(key, entry, now, fault);
            if next.next().is_some() {
                if fault == Some(Fault::RecoveryEndsEarly) {
                    self.void_journal();
                }
                return Err(key + 1);
            }
        }
        self.void_journal();
        self.base.list_all();
        Ok(Memory {
            unfinished: self.base.unfinished,
            fence: self.base.fence,
            holders: match fault {
                Some(Fault::HoldersKeptAtReopening) => [u32::MAX; KEYS],
                _ => Default::default(),
            },
            ..Memory::default()
        })
    }

    fn void_journal(&mut self) {
        self.old = None;
        self.cached = None;
        self.current = Frames::default();
    }

    /// The end of the process; which generations were listed is forgotten with it.
    pub fn forget_lists(&mut self) {
        self.base.list_all();
    }
}

impl Memory {
    /// The record of `key` in memory, if that is for memory to say.
    pub fn overlay(&self, key: Key, fault: Option<Fault>) -> Option<Entry> {
        let frozen = self.frozen.as_ref().filter(|frozen| match fault {
            Some(Fault::FrozenDroppedBeforeCommit) => false,
            Some(Fault::FrozenDroppedBeforePublish) => !frozen.is_written(),
            _ => true,
        });
        let entry = self.active[key].or(frozen.and_then(|frozen| frozen.entries[key]));
        let entry = entry.filter(|e| fault != Some(Fault::TombstonePassedOver) || e.is_some());
        entry.or(self.unfinished[key].map(Some))
    }

    /// The record of `key`.
    pub fn find(&self, disk: &Disk, key: Key, now: u8, fault: Option<Fault>) -> Entry {
        let found = self.overlay(key, fault);
        found.unwrap_or_else(|| Memory::ask_base(disk, key, now, fault))
    }

    pub fn ask_base(disk: &Disk, key: Key, now: u8, fault: Option<Fault>) -> Entry {
        disk.base.find(key, now, fault)
    }

    /// Shows a batch.
    pub fn publish(&mut self, entries: &Layer) {
        for (key, entry) in entries.iter().enumerate() {
            if let Some(entry) = entry {
                self.active[key] = Some(*entry);
                self.unfinished[key] = entry.filter(|brief| !brief.is_done());
            }
        }
    }

    pub fn holder(&self, key: Key, fence: u8) -> Holder {
        if self.holders[key] & (1 << fence) == 0 {
            Holder::Gone
        } else {
            Holder::Alive
        }
    }

    pub fn register(&mut self, key: Key, fence: u8) {
        self.holders[key] |= 1 << fence;
    }

    pub fn unregister(&mut self, key: Key, fence: u8, fault: Option<Fault>) {
        if fault == Some(Fault::DropRemovesNewerHolder) {
            self.holders[key] = 0;
        }
        self.holders[key] &= !(1 << fence);
    }

    /// An unfinished record that a sweep would remove.
    pub fn expired_unfinished(&self, key: Key, policy: Takeover, now: u8) -> bool {
        self.unfinished[key]
            .is_some_and(|brief| brief.is_expired(policy, self.holder(key, brief.fence), now))
    }

    pub fn can_freeze(&self) -> bool {
        self.frozen.is_none() && self.active != Layer::default()
    }

    /// Freezes what is active and goes on in a new segment.
    pub fn freeze(&mut self, disk: &mut Disk) {
        self.frozen = Some(Frozen {
            entries: std::mem::take(&mut self.active),
            next: 0,
            listed: false,
        });
        disk.old = Some(std::mem::take(&mut disk.current));
    }

    /// The next step of the checkpoint under way: a transaction of the base, the first carrying
    /// fence and time and the last voiding the segment; the list; letting go.
    pub fn checkpoint(&mut self, disk: &mut Disk, now: u8, fault: Option<Fault>) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        if frozen.listed {
            self.frozen = None;
        } else if let Some((key, entry)) = frozen.next_entry() {
            disk.base.note(self.fence, now);
            disk.base.write(key, entry, now, fault);
            frozen.next = key + 1;
            if frozen.is_written() || fault == Some(Fault::SegmentVoidTooEarly) {
                disk.old = None;
            }
        } else {
            disk.base.list_all();
            frozen.listed = true;
        }
    }
}

impl Frozen {
    fn next_entry(&self) -> Option<(Key, Entry)> {
        let mut rest = (self.next..KEYS).filter_map(|key| Some((key, self.entries[key]?)));
        rest.next()
    }

    fn is_written(&self) -> bool {
        self.next_entry().is_none()
    }
}
