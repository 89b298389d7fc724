//! What the child tells the parent, one line each, written after the call it tells of returned
//! (or, for [`Line::Ending`] and [`Line::Begin`], before the call was made).

use std::fmt;
use std::io::Write;
use std::str::FromStr;

/// How a holder is about to end its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Release,
    Drop,
}

/// Work that a kill may be aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Job {
    Open,
    Checkpoint,
    Sweep,
    Close,
}

/// A key of the test's only tenant whose records last.
pub(crate) type Key = String;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Begin(Job),
    End(Job),
    /// A lease was given, with its fence and attempt.
    Claimed(Key, u64, u32),
    /// A recovery point was saved under a fence.
    Saved(Key, u64),
    /// The holder of a fence is about to end its lease.
    Ending(Key, u64, Ending),
    /// It has.
    Ended(Key, u64, Ending),
    /// A claim was answered with what the holder of a fence completed with.
    Replayed(Key, u64),
    /// A fence was given on a key whose record does not last.
    Fence(u64),
}

/// In front of every line, after whatever the test harness has printed on it.
const MARK: char = '@';

impl Line {
    /// Writes the line to standard output, as one write.
    pub(crate) fn send(&self) {
        let line = format!("{MARK}{self}\n");
        std::io::stdout()
            .lock()
            .write_all(line.as_bytes())
            .expect("the parent listens");
    }

    /// The key that the line is about, if it is about one.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Line::Claimed(key, ..)
            | Line::Saved(key, _)
            | Line::Ending(key, ..)
            | Line::Ended(key, ..)
            | Line::Replayed(key, _) => Some(key),
            Line::Begin(_) | Line::End(_) | Line::Fence(_) => None,
        }
    }

    /// Reads what the child printed: `None` for lines of the test harness.
    pub(crate) fn read(text: &str) -> Option<Result<Self, String>> {
        text.split_once(MARK).map(|(_, line)| line.parse())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Begin(job) => write!(f, "begin {job:?}"),
            Line::End(job) => write!(f, "end {job:?}"),
            Line::Claimed(key, fence, attempt) => write!(f, "claimed {key} {fence} {attempt}"),
            Line::Saved(key, fence) => write!(f, "saved {key} {fence}"),
            Line::Ending(key, fence, how) => write!(f, "ending {key} {fence} {how:?}"),
            Line::Ended(key, fence, how) => write!(f, "ended {key} {fence} {how:?}"),
            Line::Replayed(key, fence) => write!(f, "replayed {key} {fence}"),
            Line::Fence(fence) => write!(f, "fence {fence}"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.parse::<u64>().map_err(|error| error.to_string());
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words[..] {
            ["begin", job] => Line::Begin(job.parse()?),
            ["end", job] => Line::End(job.parse()?),
            ["claimed", key, fence, attempt] => {
                Line::Claimed(key.into(), number(fence)?, number(attempt)? as u32)
            }
            ["saved", key, fence] => Line::Saved(key.into(), number(fence)?),
            ["ending", key, fence, how] => Line::Ending(key.into(), number(fence)?, how.parse()?),
            ["ended", key, fence, how] => Line::Ended(key.into(), number(fence)?, how.parse()?),
            ["replayed", key, fence] => Line::Replayed(key.into(), number(fence)?),
            ["fence", fence] => Line::Fence(number(fence)?),
            _ => return Err(format!("not a line of the child: {text:?}")),
        })
    }
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Ending::Complete, Ending::Release, Ending::Drop]
            .into_iter()
            .find(|ending| format!("{ending:?}") == text)
            .ok_or_else(|| format!("not an ending: {text:?}"))
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Job::Open, Job::Checkpoint, Job::Sweep, Job::Close]
            .into_iter()
            .find(|job| format!("{job:?}") == text)
            .ok_or_else(|| format!("not a job: {text:?}"))
    }
}
