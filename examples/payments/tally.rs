//! What the parent heard, as numbers, and the verdict of the charge log.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::payment::Payment;
use crate::provider::Charge;
use crate::random::Random;
use crate::report::Report;

/// Of the payments that have their receipt, so many in 100 are sent again by the next life.
const SENT_AGAIN_PERCENT: u64 = 20;
/// The progress line moves once in so many answers.
const PROGRESS_EVERY: usize = 100;

/// The counts, and the first receipt heard for every payment.
#[derive(Debug)]
pub(crate) struct Tally {
    receipts: Vec<Option<String>>,
    answered: Vec<bool>,
    answered_count: usize,
    /// Receipts that were not the first one heard for their payment.
    differing: u64,
    executed: u64,
    replayed: u64,
    in_flight: u64,
    interrupted: u64,
    released: u64,
    lost: u64,
    settled: u64,
    timed_out: u64,
    pub(crate) kills: u32,
    lives: u32,
    worked: Duration,
}

impl Tally {
    pub(crate) fn new(payments: u32) -> Self {
        Tally {
            receipts: vec![None; payments as usize],
            answered: vec![false; payments as usize],
            answered_count: 0,
            differing: 0,
            executed: 0,
            replayed: 0,
            in_flight: 0,
            interrupted: 0,
            released: 0,
            lost: 0,
            settled: 0,
            timed_out: 0,
            kills: 0,
            lives: 0,
            worked: Duration::ZERO,
        }
    }

    /// What the next life is to send: all that has no receipt, and some that has, in any order.
    pub(crate) fn to_send(&self, random: &mut Random) -> Vec<Payment> {
        let mut list: Vec<Payment> = (0..self.answered.len())
            .filter(|&number| !self.answered[number] || random.chance(SENT_AGAIN_PERCENT))
            .map(|number| Payment(number as u32))
            .collect();
        random.shuffle(&mut list);
        list
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered_count
    }

    pub(crate) fn all_answered(&self) -> bool {
        self.answered_count == self.answered.len()
    }

    pub(crate) fn note(&mut self, report: Report) {
        match report {
            Report::Ready => {}
            Report::Executed(payment, receipt) => {
                self.executed += 1;
                self.compare(payment, receipt);
            }
            Report::Replayed(payment, receipt) => {
                self.replayed += 1;
                self.compare(payment, receipt);
            }
            Report::Settled(payment, receipt) => {
                self.settled += 1;
                self.compare(payment, receipt);
            }
            Report::Answered(payment, receipt) => {
                self.compare(payment, receipt);
                if !std::mem::replace(&mut self.answered[payment.0 as usize], true) {
                    self.answered_count += 1;
                    self.show_progress();
                }
            }
            Report::InFlight(_) => self.in_flight += 1,
            Report::Interrupted(_) => self.interrupted += 1,
            Report::Released(_) => self.released += 1,
            Report::Lost(_) => self.lost += 1,
            Report::TimedOut(_) => self.timed_out += 1,
        }
    }

    /// `opening` is how long the life took to open its store and to settle, if it came so far.
    pub(crate) fn life_ended(&mut self, opening: Option<Duration>, worked: Duration, killed: bool) {
        self.lives += 1;
        self.kills += u32::from(killed);
        self.worked += worked;
        let begin = match opening {
            Some(took) => format!("ready after {:>4} ms", took.as_millis()),
            None => "was not ready yet  ".to_owned(),
        };
        let end = if killed { "killed" } else { "finished" };
        println!(
            "\rlife {:>2}  {begin}  {:>6} of {} answered  {end}",
            self.lives,
            self.answered_count,
            self.answered.len(),
        );
    }

    /// Prints the table, whatever went wrong, and the count that matters; whether nothing did.
    pub(crate) fn print_verdict(&self, charges: &[Charge], planned_kills: u32) -> bool {
        self.print_table();
        let mut charged: HashMap<Payment, Vec<&str>> = HashMap::new();
        for charge in charges {
            charged
                .entry(charge.payment)
                .or_default()
                .push(&charge.receipt);
        }
        let twice = charged
            .values()
            .filter(|receipts| receipts.len() > 1)
            .count();
        let other_receipt = self.heard().filter(|(payment, receipt)| {
            charged
                .get(payment)
                .is_none_or(|receipts| !receipts.contains(receipt))
        });
        let faults = [
            (
                self.answered.len() - charged.len(),
                "payments missing from the charge log",
            ),
            (
                self.answered.len() - self.answered_count,
                "payments never answered",
            ),
            (
                self.differing as usize,
                "answers differing from the first one",
            ),
            (
                other_receipt.count(),
                "receipts that the charge log does not have",
            ),
            (
                planned_kills.saturating_sub(self.kills) as usize,
                "kills that did not happen",
            ),
        ];
        for (count, fault) in faults.iter().filter(|(count, _)| *count > 0) {
            println!("{fault}: {count}");
        }
        println!("charged twice: {twice}");
        twice == 0 && faults.iter().all(|(count, _)| *count == 0)
    }

    fn print_table(&self) {
        let requests = self.requests();
        let per_second = requests as f64 / self.worked.as_secs_f64().max(0.001);
        println!();
        for (name, count) in [
            ("requests", requests),
            ("  executed", self.executed),
            ("  replayed", self.replayed),
            ("  in flight", self.in_flight),
            ("  interrupted", self.interrupted),
            ("  refused, released", self.released),
            ("  answer lost", self.lost),
            ("interrupted and settled", self.settled),
            ("client time-outs", self.timed_out),
            ("kills", u64::from(self.kills)),
            ("claims per second", per_second as u64),
        ] {
            println!("{name:<26}{count:>8}");
        }
        println!();
    }

    /// Every request is one claim.
    fn requests(&self) -> u64 {
        self.executed
            + self.replayed
            + self.in_flight
            + self.interrupted
            + self.released
            + self.lost
    }

    fn compare(&mut self, payment: Payment, receipt: String) {
        let first = self.receipts[payment.0 as usize].get_or_insert_with(|| receipt.clone());
        self.differing += u64::from(*first != receipt);
    }

    fn heard(&self) -> impl Iterator<Item = (Payment, &str)> {
        self.receipts
            .iter()
            .enumerate()
            .filter_map(|(number, receipt)| Some((Payment(number as u32), receipt.as_deref()?)))
    }

    /// One line, written over and over; only for people.
    fn show_progress(&self) {
        let mut output = std::io::stdout();
        if self.answered_count.is_multiple_of(PROGRESS_EVERY) && output.is_terminal() {
            print!(
                "\r{:>38}{:>6} of {} answered",
                "",
                self.answered_count,
                self.answered.len()
            );
            let _ = output.flush();
        }
    }
}
