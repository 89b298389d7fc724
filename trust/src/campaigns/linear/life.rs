//! One history: runs of a store on a simulated disk, ended by kills, power cuts and closings.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firstclaim::{Builder, Durability, Error, Limits, Store};

use super::history::{Asked, What};
use super::witness::{Event, Witness};
use super::workload::{BODY_LIMIT, Run, TENANT, Worker, default_lease, name_of, peeked};
use crate::disk::{Fate, Image, Keep, Op, SimDisk};
use crate::random::Random;

const THREADS: u64 = 8;
/// A history has at least so many calls.
pub const CALLS: u64 = 400;
/// A history that takes longer hangs; usually it takes some milliseconds.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// What was seen in a history.
pub struct Life {
    pub witness: Arc<Witness>,
    pub keys: usize,
    pub events: Vec<Event>,
    /// The first and the last moment of the runs whose latest changes may be lost.
    pub at_risk: Vec<(u64, u64)>,
    pub calls: u64,
    pub kills: u64,
    pub cuts: u64,
    pub closings: u64,
    /// Ends of runs, and of recoveries, that left outcomes unknown.
    pub unknown: u64,
    random: Random,
    setting: Setting,
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    durability: Durability,
    journal_bytes: u64,
    unit: Duration,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Cut(Keep),
    /// Closed, and opened again by the same process.
    Close,
    /// Closed, and then the power is cut.
    CloseAndCut(Keep),
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let durabilities = [
            Durability::PowerLoss,
            Durability::PowerLoss,
            Durability::ProcessCrash,
        ];
        let setting = Setting {
            durability: *random.pick(&durabilities),
            journal_bytes: *random.pick(&[16 * 1024, 32 * 1024]),
            // Generations of done records have buckets of a minute and more.
            unit: Duration::from_secs(*random.pick(&[1, 20, 300])),
        };
        Life {
            witness: Arc::new(Witness::new()),
            keys: 2 + random.below(3) as usize,
            events: Vec::new(),
            at_risk: Vec::new(),
            calls: 0,
            kills: 0,
            cuts: 0,
            closings: 0,
            unknown: 0,
            random,
            setting,
        }
    }

    /// Lives through the history of `seed`, with what went wrong other than in the order of the
    /// answers.
    ///
    /// # Errors
    /// It hangs, or panicked outside the store's calls.
    pub fn of(seed: u64) -> Result<(Self, Result<(), String>), String> {
        let (tell, told) = mpsc::channel();
        #[allow(clippy::disallowed_methods)] // so that it can be given up
        std::thread::spawn(move || {
            let mut life = Life::new(seed);
            let lived = life.live();
            let _ = tell.send((life, lived));
        });
        told.recv_timeout(LONGEST_LIFE).map_err(|error| {
            match error {
                mpsc::RecvTimeoutError::Timeout => "it hangs",
                mpsc::RecvTimeoutError::Disconnected => "opening or closing panicked",
            }
            .to_owned()
        })
    }

    fn live(&mut self) -> Result<(), String> {
        let mut disk = SimDisk::over(Image::default());
        let mut runs = 0;
        while self.calls < CALLS {
            disk = self.run(disk, runs)?;
            runs += 1;
        }
        let store = self.open(&disk)?;
        for key in 0..self.keys {
            let call = self.witness.moment();
            let peek = store.peek(TENANT, name_of(key));
            let peek = peek.map_err(|error| format!("the last peek failed: {error}"))?;
            let what = What::Ask(Asked::Peek, peeked(peek.as_ref()));
            let ret = self.witness.moment();
            self.note(key, call, ret, what);
        }
        let verified = store.verify();
        verified.map_err(|error| format!("the last verification failed: {error}"))?;
        store
            .close()
            .map_err(|error| format!("the last closing failed: {error}"))
    }

    fn note(&mut self, key: usize, call: u64, ret: u64, what: What) {
        self.events.push(Event {
            key,
            call,
            ret,
            what,
            is_optional: false,
        });
    }

    fn open(&self, disk: &SimDisk) -> Result<Store, String> {
        let opened = self.builder(disk).open();
        opened.map_err(|error| format!("the store does not open: {error}"))
    }

    fn builder(&self, disk: &SimDisk) -> Builder {
        Builder::on_disk(disk.as_disk())
            .durability(self.setting.durability)
            .journal_bytes(self.setting.journal_bytes)
            .lease_for(default_lease(self.setting.unit))
            .limits(Limits {
                response_bytes: BODY_LIMIT,
                recovery_point_bytes: BODY_LIMIT,
                ..Limits::default()
            })
            .base_cache_bytes(1 << 20)
            .sweep_every(Duration::from_millis(20))
            .checkpoint_every(Duration::from_millis(10))
            .queue_wait(2 * LONGEST_LIFE)
            .clock(self.witness.clock.clone())
    }

    /// One run; gives the disk that it leaves behind.
    fn run(&mut self, disk: SimDisk, number: u64) -> Result<SimDisk, String> {
        let end = self.any_end();
        let begin = self.witness.moment();
        let store = self.open(&disk)?;
        let dead = Arc::new(AtomicBool::new(false));
        self.plan_death(&disk, end, dead.clone());
        let run = Arc::new(Run {
            store,
            witness: self.witness.clone(),
            unit: self.setting.unit,
            leases: (0..self.keys).map(|_| Mutex::default()).collect(),
            dead: dead.clone(),
            closing: AtomicBool::new(false),
            left: AtomicI64::new(60 + self.random.below(200) as i64),
            ends_closed: end.is_closing(),
        });
        let worked = self.work(&run, number);
        let last = self.witness.moment();
        if !end.is_closing() {
            dead.store(true, Ordering::SeqCst);
        }
        drop(run);
        worked?;
        let next = self.end(disk, end, (begin, last));
        let ret = self.witness.moment();
        for key in 0..self.keys {
            self.note(key, last, ret, What::End);
        }
        next
    }

    fn any_end(&mut self) -> End {
        let keep = self.any_keep();
        match self.random.below(8) {
            0..=2 => End::Kill,
            3..=5 => End::Cut(keep),
            6 => End::Close,
            _ => End::CloseAndCut(keep),
        }
    }

    fn any_keep(&mut self) -> Keep {
        let seed = self.random.next();
        *self
            .random
            .pick(&[Keep::None, Keep::All, Keep::Some(seed), Keep::Some(seed)])
    }

    /// After some changes the disk answers nothing any more: the process is about to end.
    fn plan_death(&mut self, disk: &SimDisk, end: End, dead: Arc<AtomicBool>) {
        let mut left = match end.is_closing() {
            true => u64::MAX,
            false => 1 + self.random.below(400),
        };
        let mut random = Random::new(self.random.next());
        disk.set_plan(move |op, _, _| {
            if op != Op::Read {
                left = left.saturating_sub(1);
            }
            if left == 0 {
                dead.store(true, Ordering::SeqCst);
            }
            if dead.load(Ordering::SeqCst) {
                return Fate::Fails(std::io::ErrorKind::Other);
            }
            // Others gather behind a sync, as they do on a real disk.
            if op == Op::Sync && random.chance(2) {
                std::thread::yield_now();
            }
            Fate::Happens
        });
    }

    /// Lets the threads work until they end.
    #[allow(clippy::disallowed_methods)] // the threads of the campaign
    fn work(&mut self, run: &Arc<Run>, number: u64) -> Result<(), String> {
        let mut threads = Vec::new();
        for thread in 0..THREADS {
            let seed = self.random.next();
            let worker = Worker::new(run.clone(), number * THREADS + thread, seed);
            threads.push(std::thread::spawn(move || worker.work()));
        }
        let mut wrong = None;
        for thread in threads {
            match thread.join() {
                Ok(report) => {
                    self.calls += report.calls;
                    self.unknown += report.events.iter().filter(|e| e.is_optional).count() as u64;
                    self.events.extend(report.events);
                    wrong = wrong.or(report.wrong);
                }
                Err(_) => wrong = Some("a call panicked".to_owned()),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// What the end of a run makes of its disk.
    fn end(&mut self, disk: SimDisk, end: End, run: (u64, u64)) -> Result<SimDisk, String> {
        disk.clear_plan();
        let mut disk = match end {
            End::Close => disk,
            End::Kill => SimDisk::over(disk.image()),
            End::Cut(keep) | End::CloseAndCut(keep) => SimDisk::over(disk.image().cut(keep)),
        };
        match end {
            End::Kill => self.kills += 1,
            End::Cut(_) => self.cuts += 1,
            End::Close | End::CloseAndCut(_) => self.closings += 1,
        }
        let mut may_lose = matches!(end, End::Cut(_));
        if self.random.chance(4) {
            let keep = self.any_keep();
            disk = self.cut_in_recovery(&disk, keep);
            may_lose |= end == End::Kill;
        }
        if may_lose && self.setting.durability == Durability::ProcessCrash {
            self.at_risk.push(run);
            // Lost leases' fences are not given again because time has passed since.
            self.witness.advance(self.setting.unit);
        }
        Ok(disk)
    }

    /// The power is cut once more while the store opens; nothing has been answered by then.
    fn cut_in_recovery(&mut self, disk: &SimDisk, keep: Keep) -> SimDisk {
        let fate = Fate::Fails(std::io::ErrorKind::Other);
        disk.fail_from(|op| op != Op::Read, self.random.below(30), true, fate);
        let opened: Result<Store, Error> = self.builder(disk).open();
        drop(opened);
        self.cuts += 1;
        SimDisk::over(disk.image().cut(keep))
    }
}

impl End {
    fn is_closing(self) -> bool {
        matches!(self, End::Close | End::CloseAndCut(_))
    }
}
