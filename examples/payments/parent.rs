//! The parent: starts the child, listens to it, kills it, starts it again.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::FAILED;
use crate::options::{Options, Orders};
use crate::payment::Payment;
use crate::random::Random;
use crate::report::Report;
use crate::tally::Tally;

/// A child that says nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(30);

/// When a life ends.
#[derive(Debug, Clone, Copy)]
enum KillAt {
    /// While it opens, recovers or settles: so long after its start.
    Start(Duration),
    /// While it works: so long after so many of its payments were answered.
    Answers(usize, Duration),
    /// Never: it may finish.
    Never,
}

/// Runs children until the planned kills have happened and every payment is answered.
pub(crate) fn run(options: &Options, dir: &Path) -> Result<Tally, Box<dyn Error>> {
    let mut random = Random::seeded(options.seed);
    let mut tally = Tally::new(options.payments);
    while tally.kills < options.kills || !tally.all_answered() {
        let kill_at = plan(options, &tally, &mut random);
        let orders = Orders {
            dir: dir.to_owned(),
            seed: random.next_u64(),
        };
        let list = tally.to_send(&mut random);
        live_once(&orders, &list, kill_at, &mut tally)?;
        if matches!(kill_at, KillAt::Never) {
            break;
        }
    }
    Ok(tally)
}

/// Every third kill is early. The others are spread so that the payments last for all of them.
fn plan(options: &Options, tally: &Tally, random: &mut Random) -> KillAt {
    if tally.kills >= options.kills {
        return KillAt::Never;
    }
    if tally.kills % 3 == 2 {
        return KillAt::Start(random.micros(500..40_000));
    }
    let share = u64::from(options.payments / (options.kills + 1));
    let answers = random.within(share / 2..share) as usize;
    KillAt::Answers(answers, random.micros(0..5_000))
}

/// One life of the child, from its start to its end; adds what it reported to the tally.
fn live_once(
    orders: &Orders,
    list: &[Payment],
    kill_at: KillAt,
    tally: &mut Tally,
) -> Result<(), Box<dyn Error>> {
    let mut running = Running::start(orders, list)?;
    let answered_before = tally.answered();
    let started = Instant::now();
    let mut ready = None;
    let mut deadline = match kill_at {
        KillAt::Start(after) => Some(started + after),
        KillAt::Answers(..) | KillAt::Never => None,
    };
    loop {
        let left = deadline.map_or(SILENCE, |at| at.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            running.child.kill()?;
            break;
        }
        match running.reports.recv_timeout(left) {
            Ok(report) => {
                if report == Report::Ready {
                    ready = Some(Instant::now());
                }
                tally.note(report);
            }
            Err(RecvTimeoutError::Timeout) if deadline.is_some() => {}
            Err(RecvTimeoutError::Timeout) => return Err("the child is stuck".into()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let KillAt::Answers(answers, after) = kill_at
            && deadline.is_none()
            && tally.answered() - answered_before >= answers
        {
            deadline = Some(Instant::now() + after);
        }
    }
    // What it had written when it died still counts: those calls had returned.
    let (left_over, status) = running.finish()?;
    left_over.into_iter().for_each(|report| tally.note(report));
    let worked = ready.map_or(Duration::ZERO, |since| since.elapsed());
    if status.code() == Some(i32::from(FAILED)) {
        return Err("the child failed".into());
    }
    let opening = ready.map(|ready| ready - started);
    tally.life_ended(opening, worked, !status.success());
    Ok(())
}

/// A child that runs; killed, should the parent fail before it ends.
struct Running {
    child: Child,
    reports: Receiver<Report>,
}

impl Running {
    fn start(orders: &Orders, list: &[Payment]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(orders.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let numbers: String = list
            .iter()
            .map(|payment| format!("{}\n", payment.0))
            .collect();
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, reports) = mpsc::channel();
        let running = Running { child, reports };
        let (Some(mut input), Some(output)) = (input, output) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        input.write_all(numbers.as_bytes())?;
        thread::Builder::new().spawn(move || {
            // A line that the kill cut off was not reported.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(report) = line.parse() else { break };
                if sender.send(report).is_err() {
                    break;
                }
            }
        })?;
        Ok(running)
    }

    /// Waits for the end; returns the reports not yet taken.
    fn finish(mut self) -> io::Result<(Vec<Report>, ExitStatus)> {
        let reports = self.reports.iter().collect();
        Ok((reports, self.child.wait()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
