//! A payment provider as they are: slow at times, failing at times, before or after the charge.
//!
//! It knows nothing of the store. Its log is the only truth about what was charged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use crate::payment::Payment;
use crate::random::Random;

/// Answers that come within a client's patience.
const USUAL_US: std::ops::Range<u64> = 100..1_500;
/// Answers for which a client does not wait.
const SLOW_US: std::ops::Range<u64> = 30_000..90_000;
const SLOW_PERCENT: u64 = 2;
const REFUSED_PERCENT: u64 = 6;
const ANSWER_LOST_PERCENT: u64 = 3;

/// One line of the charge log: money has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) payment: Payment,
    /// Another one for every charge, so that a second charge could not pass for the first.
    pub(crate) receipt: String,
}

/// What a caller learns when a charge does not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was charged: the provider said so.
    Refused,
    /// The connection broke: charged or not, the caller cannot know.
    AnswerLost,
    /// The log could not be written: a fault of this demonstration, not a part of it.
    Log(io::Error),
}

/// The flaky charge routine.
#[derive(Debug)]
pub(crate) struct Provider {
    log: File,
}

impl Provider {
    /// A kill may have cut the last line off within it. That charge was not made: the next line must not
    /// go on from it.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = log_path(dir);
        let log = OpenOptions::new().append(true).create(true).open(&path)?;
        log.set_len(whole_lines(&fs::read_to_string(path)?).len() as u64)?;
        Ok(Provider { log })
    }

    /// Charges, or fails, or does both. Returns the receipt.
    pub(crate) fn charge(&self, payment: Payment, random: &mut Random) -> Result<String, Failure> {
        let slow = random.chance(SLOW_PERCENT);
        thread::sleep(random.micros(if slow { SLOW_US } else { USUAL_US }));
        if random.chance(REFUSED_PERCENT) {
            return Err(Failure::Refused);
        }
        let receipt = format!("receipt-{:016x}", random.next_u64());
        self.append(payment, &receipt).map_err(Failure::Log)?;
        thread::sleep(random.micros(USUAL_US));
        if random.chance(ANSWER_LOST_PERCENT) {
            return Err(Failure::AnswerLost);
        }
        Ok(receipt)
    }

    /// This is the charge, made once the line is whole. One write in append mode, so that the lines of
    /// threads do not mix.
    fn append(&self, payment: Payment, receipt: &str) -> io::Result<()> {
        let line = format!("{payment} {} {receipt}\n", payment.cents());
        (&self.log).write_all(line.as_bytes())?;
        self.log.sync_data()
    }
}

pub(crate) fn log_path(dir: &Path) -> PathBuf {
    dir.join("charges.log")
}

/// Every charge made so far, in order.
pub(crate) fn read_log(path: &Path) -> io::Result<Vec<Charge>> {
    let log = fs::read_to_string(path)?;
    whole_lines(&log)
        .lines()
        .map(|line| parse(line).ok_or_else(|| io::Error::other(format!("not a charge: {line:?}"))))
        .collect()
}

/// Without a line that a kill has cut off.
fn whole_lines(log: &str) -> &str {
    &log[..log.rfind('\n').map_or(0, |end| end + 1)]
}

fn parse(line: &str) -> Option<Charge> {
    let mut words = line.split(' ');
    let payment: Payment = words.next()?.parse().ok()?;
    let cents: u32 = words.next()?.parse().ok()?;
    let receipt = words.next()?.to_owned();
    (cents == payment.cents()).then_some(Charge { payment, receipt })
}
