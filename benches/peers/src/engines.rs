//! What is measured: every engine behind the same two traits.

pub mod firstclaim;
mod fjall;
mod limit;
mod postgres;
mod redb;
mod redis;
mod row;
mod server;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::firstclaim::Durability;
use anyhow::{Result, bail};

use self::firstclaim::Embedded;
use crate::cell::{Cell, Work};
use crate::key::Key;

pub type BoxFuture<'f, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// A response as a payment service would store it.
pub const RESPONSE: [u8; 200] = [b'r'; 200];

/// How long the keys of a filled store are kept.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All of them, in the order of the tables.
pub const ALL: [&str; 9] = [
    "firstclaim",
    "firstclaim-process-crash",
    TASKS,
    "limit",
    "redb",
    "sqlite",
    "fjall",
    "postgres",
    "redis",
];

/// The one whose clients are async tasks.
pub const TASKS: &str = "firstclaim-tasks";

/// What a key is, to somebody who claims it and is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    InFlight,
    Done { bytes: usize },
}

/// A store, open.
pub trait Peer: Send + Sync {
    /// A client of it, for one thread.
    fn client(&self) -> Result<Box<dyn Client + '_>>;

    /// Claims and completes keys `0..keys`, which expire over the coming day as if they had come in
    /// over the last one.
    fn fill(&mut self, keys: u64) -> Result<()>;

    /// Clears away what the measurement of a cell has left and the store does not clear away by itself
    /// before the next one.
    fn tidy(&self, _: Cell) -> Result<()> {
        Ok(())
    }

    /// Set if its clients are tasks, not threads.
    fn tasks(&self) -> Option<Arc<dyn Tasks>> {
        None
    }

    /// How many keys it stores at the moment, those that have expired included, if it can tell.
    fn stored_keys(&self) -> Option<u64> {
        None
    }

    /// The processes of its server, if it has one.
    fn server(&self) -> Vec<u32> {
        Vec::new()
    }
}

/// One thread's access.
pub trait Client {
    /// Claims a key that nobody has; an error if somebody has.
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()>;

    /// Completes the key that was claimed last.
    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()>;

    /// Lets go of the keys that it has claimed and not completed, without any I/O.
    fn abandon(&mut self) {}

    /// Claims a key that somebody has.
    fn ask(&mut self, key: &Key) -> Result<Seen>;
}

/// Access for tasks.
pub trait Tasks: Send + Sync {
    /// Carries a work out on a new key.
    fn work(&self, work: Work, key: Key, retain_for: Duration) -> BoxFuture<'static, Result<()>>;
}

/// Opens an engine in an empty directory.
pub fn open(name: &str, directory: &Path) -> Result<Box<dyn Peer>> {
    Ok(match name {
        "firstclaim" => Box::new(Embedded::open(directory, Durability::PowerLoss)?),
        "firstclaim-process-crash" => {
            Box::new(Embedded::open(directory, Durability::ProcessCrash)?)
        }
        TASKS => Box::new(Embedded::open(directory, Durability::PowerLoss)?.with_tasks()),
        "limit" => Box::new(limit::Limit::open(directory)?),
        "redb" => Box::new(redb::Redb::open(directory)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(directory)?),
        "fjall" => Box::new(fjall::Fjall::open(directory)?),
        "postgres" => Box::new(postgres::Postgres::open()?),
        "redis" => Box::new(redis::Redis::open()?),
        _ => bail!("no engine {name}"),
    })
}
