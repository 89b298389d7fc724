//! What the child tells the parent: one line each, over its standard output.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use crate::payment::Payment;

/// Something that happened in the child. Written only after the call that it tells of returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The store is open, and what the last life left has been settled.
    Ready,
    /// A request was charged and completed.
    Executed(Payment, String),
    /// A request was answered with the stored receipt.
    Replayed(Payment, String),
    /// A request met another one that is running.
    InFlight(Payment),
    /// A request met an attempt that was cut short and is not settled yet.
    Interrupted(Payment),
    /// A charge was refused, the lease released.
    Released(Payment),
    /// A charge's answer was lost, the lease dropped.
    Lost(Payment),
    /// An attempt that was cut short is completed now.
    Settled(Payment, String),
    /// A client has its receipt.
    Answered(Payment, String),
    /// A client did not wait for the answer.
    TimedOut(Payment),
}

impl Report {
    /// Sends the report to the parent, as one write.
    pub(crate) fn send(&self) {
        let line = format!("{self}\n");
        // The parent is gone: so is all interest in this life.
        if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
            std::process::exit(i32::from(crate::child::FAILED));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Ready => write!(f, "ready"),
            Report::Executed(payment, receipt) => write!(f, "executed {payment} {receipt}"),
            Report::Replayed(payment, receipt) => write!(f, "replayed {payment} {receipt}"),
            Report::InFlight(payment) => write!(f, "in-flight {payment}"),
            Report::Interrupted(payment) => write!(f, "interrupted {payment}"),
            Report::Released(payment) => write!(f, "released {payment}"),
            Report::Lost(payment) => write!(f, "lost {payment}"),
            Report::Settled(payment, receipt) => write!(f, "settled {payment} {receipt}"),
            Report::Answered(payment, receipt) => write!(f, "answered {payment} {receipt}"),
            Report::TimedOut(payment) => write!(f, "timed-out {payment}"),
        }
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["ready"] => Report::Ready,
            ["executed", payment, receipt] => Report::Executed(payment.parse()?, receipt.into()),
            ["replayed", payment, receipt] => Report::Replayed(payment.parse()?, receipt.into()),
            ["in-flight", payment] => Report::InFlight(payment.parse()?),
            ["interrupted", payment] => Report::Interrupted(payment.parse()?),
            ["released", payment] => Report::Released(payment.parse()?),
            ["lost", payment] => Report::Lost(payment.parse()?),
            ["settled", payment, receipt] => Report::Settled(payment.parse()?, receipt.into()),
            ["answered", payment, receipt] => Report::Answered(payment.parse()?, receipt.into()),
            ["timed-out", payment] => Report::TimedOut(payment.parse()?),
            _ => return Err(format!("not a report: {line:?}")),
        })
    }
}
