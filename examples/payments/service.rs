//! The service: pays once, and settles what was cut short.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use firstclaim::{Claim, Lease, Store, Takeover, UnfinishedState};

use crate::payment::Payment;
use crate::provider::{self, Failure, Provider};
use crate::random::Random;
use crate::report::Report;

const TENANT: &str = "shop";

/// What a client is told.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Paid, with the receipt: for the first request and for every later one.
    Paid(String),
    /// Not now; send the same request again.
    TryAgain,
}

/// What became of a charge, as far as the service knows.
enum Outcome {
    Charged(String),
    /// Nothing was charged.
    Refused,
    /// Perhaps.
    Unknown,
}

/// A failure that the service cannot work around: it stops, and is started again.
#[derive(Debug)]
pub(crate) enum Fatal {
    Store(firstclaim::Error),
    Log(io::Error),
}

/// The store and the provider.
#[derive(Debug)]
pub(crate) struct Service {
    store: Store,
    provider: Provider,
    log: PathBuf,
}

impl Service {
    /// Opens the store in `dir`, recovering whatever a kill left there.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fatal> {
        Ok(Service {
            store: Store::open(dir.join("store"))?,
            provider: Provider::open(dir)?,
            log: provider::log_path(dir),
        })
    }

    /// One request of a client.
    pub(crate) fn pay(&self, payment: Payment, random: &mut Random) -> Result<Answer, Fatal> {
        let claim = self
            .store
            .request(TENANT, payment.key())
            .fingerprint(payment.fingerprint())
            .takeover(Takeover::Never)
            .claim()?;
        let report = match claim {
            Claim::Claimed(lease) => match self.charge(payment, lease, random)? {
                Outcome::Charged(receipt) => Report::Executed(payment, receipt),
                Outcome::Refused => Report::Released(payment),
                Outcome::Unknown => Report::Lost(payment),
            },
            Claim::InFlight(running) if running.is_interrupted() => Report::Interrupted(payment),
            // Over HTTP: 409 with `Retry-After: running.retry_after()`.
            Claim::InFlight(_) => Report::InFlight(payment),
            Claim::Done(response) => {
                let receipt = String::from_utf8_lossy(response.bytes()).into_owned();
                Report::Replayed(payment, receipt)
            }
        };
        report.send();
        Ok(match report {
            Report::Executed(_, receipt) | Report::Replayed(_, receipt) => Answer::Paid(receipt),
            _ => Answer::TryAgain,
        })
    }

    /// Charges under `lease`, and ends it by what is known of the outcome.
    fn charge(
        &self,
        payment: Payment,
        lease: Lease,
        random: &mut Random,
    ) -> Result<Outcome, Fatal> {
        match self.provider.charge(payment, random) {
            Ok(receipt) => {
                lease.complete(&receipt)?;
                Ok(Outcome::Charged(receipt))
            }
            // Surely nothing happened, so the claim is undone: another attempt may try.
            Err(Failure::Refused) => {
                lease.release()?;
                Ok(Outcome::Refused)
            }
            // Nobody knows: the key stays in flight, interrupted, until it is settled.
            Err(Failure::AnswerLost) => {
                drop(lease);
                Ok(Outcome::Unknown)
            }
            Err(Failure::Log(error)) => Err(error.into()),
        }
    }

    /// Settles the payments whose attempt was cut short, by a kill or by a lost answer.
    ///
    /// First every lease, then the log: once a lease is in hand, no other attempt can charge, so
    /// what the log says of that payment is final.
    pub(crate) fn settle(&self, random: &mut Random) -> Result<(), Fatal> {
        let mut leases = Vec::new();
        for record in self.store.unfinished()? {
            if record.state() != UnfinishedState::Interrupted {
                continue;
            }
            if let Some(Claim::Claimed(lease)) =
                self.store.resolve(record.tenant(), record.key())?
            {
                leases.push((payment_of(record.key())?, lease));
            }
        }
        if leases.is_empty() {
            return Ok(());
        }
        let receipts: HashMap<Payment, String> = provider::read_log(&self.log)?
            .into_iter()
            .map(|charge| (charge.payment, charge.receipt))
            .collect();
        for (payment, lease) in leases {
            let outcome = match receipts.get(&payment) {
                Some(receipt) => {
                    lease.complete(receipt)?;
                    Outcome::Charged(receipt.clone())
                }
                None => self.charge(payment, lease, random)?,
            };
            // Any other outcome leaves the key interrupted, to be settled again.
            if let Outcome::Charged(receipt) = outcome {
                Report::Settled(payment, receipt).send();
            }
        }
        Ok(())
    }

    pub(crate) fn close(&self) -> Result<(), Fatal> {
        Ok(self.store.close()?)
    }
}

fn payment_of(key: &[u8]) -> Result<Payment, io::Error> {
    String::from_utf8_lossy(key)
        .parse()
        .map_err(io::Error::other)
}

impl From<firstclaim::Error> for Fatal {
    fn from(error: firstclaim::Error) -> Self {
        Fatal::Store(error)
    }
}

impl From<io::Error> for Fatal {
    fn from(error: io::Error) -> Self {
        Fatal::Log(error)
    }
}

impl std::error::Error for Fatal {}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fatal::Store(error) => write!(f, "the store failed: {error}"),
            Fatal::Log(error) => write!(f, "the charge log failed: {error}"),
        }
    }
}
