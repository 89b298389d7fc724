//! One life of a child, as the parent sees it: its lines, and its end.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{ORDERS, Orders};
use crate::line::{Job, Line};
use crate::random::Random;

/// A child that says nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;

/// What the parent saw of one life.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) lines: Vec<Line>,
    /// Killed, and not ended by itself before that.
    pub(crate) killed: bool,
    /// Jobs that had begun and not ended when it was killed.
    pub(crate) interrupted: BTreeSet<Job>,
    /// How long opening took, if it came so far.
    pub(crate) opening: Option<Duration>,
}

impl Life {
    /// Whether a claim had returned before the end.
    pub(crate) fn worked(&self) -> bool {
        self.lines
            .iter()
            .any(|line| matches!(line, Line::Claimed(..)))
    }
}

/// Starts a child and kills it: at a random moment of its work, or of the job aimed at. `opening`
/// is about how long opening takes.
pub(crate) fn live(orders: &Orders, opening: Duration, random: &mut Random) -> Life {
    let mut running = Running::start(orders);
    let mut aim = Aim::at(orders.job, opening, random);
    let mut lines = Vec::new();
    let mut deadline = None;
    loop {
        let left = deadline.map_or(SILENCE, |at: Instant| {
            at.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            running.child.kill().unwrap();
            break;
        }
        match running.lines.recv_timeout(left) {
            Ok((at, line)) => {
                if aim.is_met_by(&line) {
                    deadline.get_or_insert(at + aim.delay);
                }
                lines.push((at, line));
            }
            Err(RecvTimeoutError::Timeout) if deadline.is_some() => {}
            Err(RecvTimeoutError::Timeout) => panic!("the child is stuck after {:?}", lines.last()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    running.end(lines, orders)
}

/// What has to be seen before the time to the kill begins to run.
struct Aim {
    job: Option<Job>,
    /// So many beginnings of the job.
    begins: u64,
    /// So many claims.
    claims: u64,
    delay: Duration,
}

impl Aim {
    fn at(job: Option<Job>, opening: Duration, random: &mut Random) -> Self {
        let (begins, claims, delay_us) = match job {
            None => (0, 1, 0..60_000),
            Some(Job::Open) => (1, 0, 0..opening.as_micros() as u64 + 1_000),
            Some(Job::Checkpoint) => (random.within(1..6), 1, 0..6_000),
            Some(Job::Sweep) => (random.within(1..20), 1, 0..3_000),
            Some(Job::Close) => (1, 1, 0..12_000),
        };
        let delay = random.micros(delay_us);
        Aim {
            job,
            begins,
            claims,
            delay,
        }
    }

    fn is_met_by(&mut self, line: &Line) -> bool {
        match line {
            Line::Begin(job) if Some(*job) == self.job => {
                self.begins = self.begins.saturating_sub(1);
            }
            Line::Claimed(..) => self.claims = self.claims.saturating_sub(1),
            _ => {}
        }
        (self.begins, self.claims) == (0, 0)
    }
}

/// A child that runs; killed, should the test fail before it ends.
struct Running {
    child: Child,
    lines: Receiver<(Instant, Line)>,
}

impl Running {
    fn start(orders: &Orders) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ORDERS, orders.to_variable())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            // A line that the kill cut off has no end, and was not reported.
            while output.read_line(&mut text).is_ok() && text.ends_with('\n') {
                if let Some(line) = Line::read(text.trim_end()) {
                    sender.send((Instant::now(), line.unwrap())).ok();
                }
                text.clear();
            }
        });
        Running { child, lines }
    }

    /// Reads to the end of the child, which must have come by the kill or as ordered.
    fn end(mut self, mut lines: Vec<(Instant, Line)>, orders: &Orders) -> Life {
        lines.extend(self.lines.iter());
        let status = self.child.wait().unwrap();
        let killed = status.signal() == Some(SIGKILL);
        let closed = status.success() && orders.job == Some(Job::Close);
        assert!(killed || closed, "the child failed: {status}, {orders:?}");
        let time_of = |wanted: Line| {
            lines
                .iter()
                .find(|(_, line)| *line == wanted)
                .map(|(at, _)| *at)
        };
        let opening = time_of(Line::End(Job::Open))
            .zip(time_of(Line::Begin(Job::Open)))
            .map(|(end, begin)| end - begin);
        let lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
        let mut interrupted = BTreeSet::new();
        for line in lines.iter().filter(|_| killed) {
            match line {
                Line::Begin(job) => drop(interrupted.insert(*job)),
                Line::End(job) => drop(interrupted.remove(job)),
                _ => {}
            }
        }
        Life {
            lines,
            killed,
            interrupted,
            opening,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
